//! `target/ebpf/toolchain`: lines of `key=value`, read by `jpat-userspace/build.rs` as well.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::{Route, directory};
use crate::cargo;

/// A compiler that knows the BPF target.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Toolchain {
    pub(crate) route: Route,
    /// The cargo that belongs to [`Self::rustc`].
    pub(crate) cargo: PathBuf,
    pub(crate) rustc: PathBuf,
    /// Whether `core` has to be built from rust-src; otherwise it lies ready in the sysroot.
    pub(crate) build_std: bool,
    /// The `libLLVM` of this compiler; the linker is built over it.
    pub(crate) llvm: PathBuf,
    /// What `rustc --version` says: another answer makes the record void.
    pub(crate) version: String,
}

impl Toolchain {
    /// What an earlier run recorded.
    pub(crate) fn recorded() -> Option<Self> {
        Self::parse(&fs::read_to_string(path()).ok()?)
    }

    /// Makes an earlier record void, until [`Self::record`].
    pub(crate) fn forget() -> Result<()> {
        match fs::remove_file(path()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", path().display()))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    pub(crate) fn record(&self) -> Result<()> {
        let path = path();
        fs::write(&path, self.render()).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Whether the compiler is still the recorded one.
    pub(crate) fn still_works(&self) -> bool {
        self.cargo.exists() && self.llvm.exists() && version(&self.rustc).is_some_and(|now| now == self.version)
    }

    /// The lint driver that belongs to this compiler, if it is installed.
    pub(crate) fn clippy(&self) -> Option<PathBuf> {
        let drivers = ["cargo-clippy", "clippy-driver"].map(|name| self.cargo.with_file_name(name));
        drivers.iter().all(|driver| driver.exists()).then(|| drivers[0].clone())
    }

    fn render(&self) -> String {
        format!(
            "route={}\ncargo={}\nrustc={}\nbuild-std={}\nllvm={}\nversion={}\n",
            self.route.name(),
            self.cargo.display(),
            self.rustc.display(),
            if self.build_std { "yes" } else { "no" },
            self.llvm.display(),
            self.version,
        )
    }

    fn parse(text: &str) -> Option<Self> {
        let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        Some(Self {
            route: [Route::Rustup, Route::Debian].into_iter().find(|route| value("route") == Some(route.name()))?,
            cargo: value("cargo")?.into(),
            rustc: value("rustc")?.into(),
            build_std: value("build-std")? == "yes",
            llvm: value("llvm")?.into(),
            version: value("version")?.to_owned(),
        })
    }
}

/// The first line of `rustc --version`.
pub(super) fn version(rustc: &Path) -> Option<String> {
    let answer = cargo::ask(cargo::foreign(rustc).arg("--version"))?;
    Some(answer.lines().next()?.to_owned())
}

fn path() -> PathBuf {
    directory().join("toolchain")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Toolchain {
        Toolchain {
            route: Route::Debian,
            cargo: "/usr/bin/cargo".into(),
            rustc: "/usr/bin/rustc".into(),
            build_std: false,
            llvm: "/usr/lib/x86_64-linux-gnu/libLLVM.so.22.1".into(),
            version: "rustc 1.96.0 (ac68faa20 2026-05-25)".into(),
        }
    }

    #[test]
    fn a_record_reads_back_as_it_was_written() {
        assert_eq!(Toolchain::parse(&example().render()), Some(example()));
    }

    #[test]
    fn a_record_without_one_of_its_keys_is_void() {
        for key in ["route", "cargo", "rustc", "build-std", "llvm", "version"] {
            let (whole, prefix) = (example().render(), format!("{key}="));
            let text = whole.lines().filter(|line| !line.starts_with(&prefix)).collect::<Vec<_>>();
            assert_eq!(Toolchain::parse(&text.join("\n")), None, "without {key}");
        }
    }

    #[test]
    fn a_compiler_that_is_gone_makes_the_record_void() {
        let gone = Toolchain { rustc: "/nonexistent/rustc".into(), ..example() };
        assert!(!gone.still_works());
    }
}
