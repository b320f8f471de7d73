//! QEMU and busybox: the host's QEMU where there is one, else Debian's, unpacked and not installed.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};

use super::{apt::Suite, directory};

const QEMU: &str = "qemu-system-x86_64";
/// Whose busybox goes into every guest: it is static, so the host's own release does not matter.
const BUSYBOX_SUITE: &str = "bookworm";

/// What boots a guest, and what the guest boots into.
pub(super) struct Tools {
    qemu: Qemu,
    busybox: PathBuf,
}

enum Qemu {
    Installed(PathBuf),
    /// The root of what was unpacked.
    Unpacked(PathBuf),
}

impl Tools {
    pub(super) fn bring() -> Result<Self> {
        Ok(Self { qemu: Qemu::bring()?, busybox: busybox()? })
    }

    /// A static busybox.
    pub(super) fn busybox(&self) -> &Path {
        &self.busybox
    }

    /// QEMU, which ends when xtask does, however that ends.
    pub(super) fn qemu(&self) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        match &self.qemu {
            Qemu::Installed(path) => {
                command.arg(path);
            }
            Qemu::Unpacked(root) => {
                let libraries = [root.join("usr/lib/x86_64-linux-gnu"), root.join("lib/x86_64-linux-gnu")];
                let mut setting = OsString::from("LD_LIBRARY_PATH=");
                setting.push(env::join_paths(libraries).unwrap_or_default());
                command.arg("env").arg(setting).arg(root.join("usr/bin").join(QEMU));
                for data in ["usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu"] {
                    command.arg("-L").arg(root.join(data));
                }
            }
        }
        command
    }
}

impl Qemu {
    fn bring() -> Result<Self> {
        if let Some(path) = find(QEMU) {
            return Ok(Self::Installed(path));
        }
        let root = directory().join("qemu");
        if !root.join("complete").exists() {
            let Some(suite) = debian_codename(&fs::read_to_string("/etc/os-release").unwrap_or_default()) else {
                bail!("there is no {QEMU}: install your distribution's QEMU for x86-64");
            };
            Suite::open(&suite)?.unpack_with_dependencies(&["qemu-system-x86"], &root)?;
            complete(&root)?;
        }
        Ok(Self::Unpacked(root))
    }
}

fn busybox() -> Result<PathBuf> {
    let root = directory().join("busybox");
    if !root.join("complete").exists() {
        Suite::open(BUSYBOX_SUITE)?.unpack_with_dependencies(&["busybox-static"], &root)?;
        complete(&root)?;
    }
    let path = ["bin/busybox", "usr/bin/busybox"].map(|path| root.join(path)).into_iter().find(|path| path.exists());
    path.with_context(|| format!("no busybox under {}", root.display()))
}

/// Says of a directory that all of it is there.
pub(super) fn complete(root: &Path) -> Result<()> {
    fs::write(root.join("complete"), "").with_context(|| format!("cannot write into {}", root.display()))
}

/// A program of the host, also where the user's `PATH` leaves the administrator's programs out.
pub(super) fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let directories = env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    directories.map(|directory| directory.join(name)).find(|path| path.is_file())
}

/// The shared objects that a program is loaded with.
pub(super) fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).output().context("cannot start ldd")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(!text.contains("not found"), "{} lacks libraries here:\n{text}", program.display());
    Ok(text.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect())
}

fn debian_codename(os_release: &str) -> Option<String> {
    let value = |key: &str| os_release.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    (value("ID")? == "debian").then(|| value("VERSION_CODENAME").unwrap_or("sid").trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_debian_brings_debians_qemu() {
        assert_eq!(debian_codename("ID=debian\nVERSION_CODENAME=trixie\n").as_deref(), Some("trixie"));
        assert_eq!(debian_codename("ID=debian\nNAME=\"Debian GNU/Linux\"\n").as_deref(), Some("sid"));
        assert_eq!(debian_codename("ID=ubuntu\nVERSION_CODENAME=noble\n"), None);
        assert_eq!(debian_codename(""), None);
    }
}
