//! Debian packages of any suite, without touching the system: apt with lists and a cache of its own, and `dpkg-deb -x`.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use super::directory;
use crate::{cargo, output};

const DEFAULT_MIRROR: &str = "http://deb.debian.org/debian";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// One suite of Debian.
pub(super) struct Suite {
    name: String,
    config: PathBuf,
    debs: PathBuf,
}

impl Suite {
    /// Reads the suite's lists anew.
    pub(super) fn open(name: &str) -> Result<Self> {
        let home = directory().join("apt").join(name);
        let (lists, debs) = (home.join("lists"), home.join("debs"));
        for dir in [lists.join("partial"), debs.join("partial")] {
            fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        }
        let signed_by = if Path::new(KEYRING).exists() { format!("signed-by={KEYRING} ") } else { String::new() };
        let sources = home.join("sources.list");
        let source = format!("deb [{signed_by}target=Packages] {} {name} main\n", mirror());
        fs::write(&sources, source).with_context(|| format!("cannot write {}", sources.display()))?;
        // Hooks of the system's configuration are for the system's packages. Nothing else is changed: proxies stay.
        let config = home.join("apt.conf");
        let text = format!(
            "#clear APT::Update::Post-Invoke;\n#clear APT::Update::Post-Invoke-Success;\n#clear DPkg::Post-Invoke;\n\
             Dir::Etc::sourcelist \"{sources}\";\nDir::Etc::sourceparts \"/dev/null\";\n\
             Dir::State::lists \"{lists}\";\nDir::Cache \"{home}\";\nDir::Cache::archives \"{debs}\";\n\
             Debug::NoLocking \"true\";\nAPT::Sandbox::User \"\";\nAcquire::Languages \"none\";\n",
            sources = sources.display(),
            lists = lists.display(),
            home = home.display(),
            debs = debs.display(),
        );
        fs::write(&config, text).with_context(|| format!("cannot write {}", config.display()))?;
        let suite = Self { name: name.to_owned(), config, debs };
        cargo::succeed(suite.apt("apt-get").args(["update", "--quiet=2"])).with_context(|| {
            format!("the package lists of Debian's {name} (needs apt, and the package debian-archive-keyring)")
        })?;
        Ok(suite)
    }

    /// Downloads `package` and what it needs of the kernel's own packages, and unpacks them.
    pub(super) fn unpack_kernel(&self, package: &str, to: &Path) -> Result<()> {
        let mut wanted = BTreeSet::new();
        let mut open = vec![package.to_owned()];
        while let Some(next) = open.pop() {
            let mut depends = self.apt("apt-cache");
            depends.args(["depends", "--no-recommends", "--no-suggests", &next]);
            let text = cargo::ask(&mut depends).with_context(|| format!("{} has no package {next}", self.name))?;
            open.extend(kernel_packages(&text).filter(|package| wanted.insert(package.clone())));
        }
        ensure!(!wanted.is_empty(), "{package} of {} names no kernel", self.name);
        output::step(format_args!("vm: downloads {} of Debian's {}", join(&wanted), self.name));
        self.clear()?;
        let mut download = self.apt("apt-get");
        cargo::succeed(download.args(["download", "--quiet=2"]).args(&wanted).current_dir(&self.debs))?;
        self.unpack(to)
    }

    /// Downloads packages with all they need that is not installed, and unpacks them without installing.
    pub(super) fn unpack_with_dependencies(&self, packages: &[&str], to: &Path) -> Result<()> {
        output::step(format_args!("vm: downloads {} of Debian's {}", packages.join(" "), self.name));
        self.clear()?;
        let mut install = self.apt("apt-get");
        install.args(["install", "--download-only", "--yes", "--quiet=2", "--no-install-recommends"]).args(packages);
        cargo::succeed(&mut install)?;
        self.unpack(to)
    }

    /// Forgets packages of an earlier run.
    fn clear(&self) -> Result<()> {
        for deb in self.debs()? {
            fs::remove_file(&deb).with_context(|| format!("cannot remove {}", deb.display()))?;
        }
        Ok(())
    }

    fn unpack(&self, to: &Path) -> Result<()> {
        fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
        let debs = self.debs()?;
        ensure!(!debs.is_empty(), "apt downloaded nothing of {}", self.name);
        for deb in debs {
            cargo::succeed(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(to))?;
        }
        self.clear()
    }

    fn debs(&self) -> Result<Vec<PathBuf>> {
        let entries = fs::read_dir(&self.debs).with_context(|| format!("cannot read {}", self.debs.display()))?;
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        Ok(paths.filter(|path| path.extension().is_some_and(|extension| extension == "deb")).collect())
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = cargo::foreign(Path::new(program));
        command.arg("-c").arg(&self.config).env("LC_ALL", "C").env("DEBIAN_FRONTEND", "noninteractive");
        command
    }
}

/// The mirror that the system's own apt uses for Debian.
fn mirror() -> String {
    let mut targets = cargo::foreign(Path::new("apt-get"));
    targets.args(["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]);
    let uris = cargo::ask(&mut targets).unwrap_or_default();
    debian_mirror(&uris).unwrap_or(DEFAULT_MIRROR).to_owned()
}

fn debian_mirror(uris: &str) -> Option<&str> {
    uris.lines().map(|uri| uri.trim_end_matches('/')).find(|uri| uri.ends_with("/debian"))
}

/// The packages that hold the kernel, among what `apt-cache depends` prints.
fn kernel_packages(depends: &str) -> impl Iterator<Item = String> {
    const PARTS: [&str; 3] = ["linux-image-", "linux-binary-", "linux-modules-"];
    depends
        .lines()
        .filter_map(|line| line.trim_start().trim_start_matches('|').split_once("Depends: "))
        .map(|(_, package)| package.trim().to_owned())
        .filter(|package| PARTS.iter().any(|part| package.starts_with(part)))
}

fn join(words: &BTreeSet<String>) -> String {
    words.iter().map(String::as_str).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_own_mirror_is_taken() {
        let uris =
            "https://example.org/tools/\nhttp://mirror.example/debian-security/\nhttp://mirror.example/debian/\n";
        assert_eq!(debian_mirror(uris), Some("http://mirror.example/debian"));
        assert_eq!(debian_mirror("https://example.org/ubuntu/\n"), None);
    }

    #[test]
    fn a_kernel_is_followed_through_its_own_packages_alone() {
        let depends = "linux-image-1-cloud\n  PreDepends: linux-base\n  Depends: kmod\n |Depends: dracut\n  \
                       Depends: linux-binary-1-cloud\n  Depends: linux-modules-1-cloud\n  Conflicts: linux-image-0\n";
        let found: Vec<_> = kernel_packages(depends).collect();
        assert_eq!(found, ["linux-binary-1-cloud", "linux-modules-1-cloud"]);
    }
}
