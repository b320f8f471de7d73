//! Why the attacher did not do what it was asked.

use std::path::PathBuf;

use aya::programs::ProgramError;
use serde::{Deserialize, Serialize};

use super::super::{attach::Hook, error::os_error};

/// A refused order, as plain as the order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum Refused {
    /// No such device, or another one by now.
    #[error("there is no interface `{0}`\n  remedy: see `ip link`, and correct `listen.interfaces`")]
    NoInterface(String),
    /// Its packets do not begin with what the order says.
    #[error("{0} is another kind of device by now\n  remedy: it is tried again")]
    Changed(String),
    /// Somebody else's program is there.
    #[error(
        "another XDP program is attached to {interface}: {}\n  remedy: {}",
        Foreign::list(programs),
        Foreign::remedy(interface, programs)
    )]
    Busy {
        /// The interface.
        interface: String,
        /// What is on it.
        programs: Vec<Foreign>,
    },
    /// The pins are those of an instance elsewhere.
    #[error("the link pinned as {} is at work in another network namespace\n  remedy: give each instance its own `pins`", .0.display())]
    OtherNamespace(PathBuf),
    /// The hook cannot be had.
    #[error("attaching to {interface} ({} mode): {cause}{}", hook.as_str(), remedy(*hook))]
    Hook {
        /// The interface.
        interface: String,
        /// Driver or generic.
        hook: Hook,
        /// What the kernel said.
        cause: Cause,
    },
    /// The kernel has no BPF links for XDP (before 5.9), so nothing would outlive this process.
    #[error(
        "{0}: this kernel cannot pin an XDP link, so the protection would end with this process\n  remedy: Linux 5.10 or newer"
    )]
    NotPinnable(String),
    /// A link operation failed.
    #[error("link to {interface}: {cause}")]
    Link {
        /// The interface.
        interface: String,
        /// What the kernel said.
        cause: Cause,
    },
    /// A pin cannot be made or removed.
    #[error("pin {}: {cause}", path.display())]
    Pin {
        /// Where.
        path: PathBuf,
        /// What the system said.
        cause: Cause,
    },
    /// The object lacks a program, or the kernel refused it.
    #[error("the XDP program `{program}`: {cause}")]
    Program {
        /// Its name.
        program: String,
        /// What the kernel said.
        cause: Cause,
    },
    /// The devices cannot be listed.
    #[error("listing the network devices: {0}")]
    Devices(Cause),
}

/// Somebody else's program on a device.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Foreign {
    /// The kernel's id of it.
    pub id: u32,
    /// What its maker called it, where the kernel tells (it keeps 15 bytes).
    pub name: Option<String>,
    /// The user who loaded it.
    pub user: Option<u32>,
    /// The BPF link that holds it there, where one does.
    pub link: Option<u32>,
}

/// An error of the system.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Cause {
    /// Its number, where it has one.
    pub code: Option<i32>,
    /// Its text.
    pub text: String,
}

impl Cause {
    /// The innermost cause, which is the kernel's word.
    pub(super) fn of(error: &(dyn std::error::Error + 'static)) -> Self {
        let mut innermost = error;
        while let Some(next) = innermost.source() {
            innermost = next;
        }
        // The last words of a verifier's log say what it is; the rest fills pages.
        let text = innermost.to_string().lines().next().unwrap_or_default().to_owned();
        Self { code: os_error(error), text }
    }

    pub(super) fn is(&self, codes: &[nix::Error]) -> bool {
        codes.iter().any(|code| self.code == Some(*code as i32))
    }
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl Refused {
    pub(super) fn program(program: &str, error: &ProgramError) -> Self {
        Self::Program { program: program.to_owned(), cause: Cause::of(error) }
    }
}

const fn remedy(hook: Hook) -> &'static str {
    match hook {
        Hook::Driver => "\n  remedy: set listen.attach = \"auto\", or lower the interface's MTU",
        Hook::Generic => "",
    }
}

impl Foreign {
    fn list(programs: &[Self]) -> String {
        let of = |program: &Self| {
            let name = program.name.as_deref().map_or_else(|| "name unknown".to_owned(), |name| format!("`{name}`"));
            let user = program.user.map_or_else(String::new, |user| format!(", loaded by uid {user}"));
            let link = program.link.map_or_else(String::new, |link| format!(", held by BPF link {link}"));
            format!("{name} (id {}{user}{link})", program.id)
        };
        programs.iter().map(of).collect::<Vec<_>>().join("; ")
    }

    fn remedy(interface: &str, programs: &[Self]) -> String {
        let is_ours = |program: &Self| program.name.as_deref().is_some_and(|name| name.starts_with("jpat"));
        if programs.iter().any(is_ours) {
            return format!(
                "it is JPAT's own: another instance protects {interface}; end that one with its `jpatd detach`, or leave {interface} out of `listen.interfaces`"
            );
        }
        let link = programs.iter().find_map(|program| program.link);
        let detach = match link {
            Some(link) => format!("stop what attached it, or `bpftool link detach id {link}`"),
            None => format!("stop what attached it, or `ip link set dev {interface} xdp off`"),
        };
        format!("{detach}; or leave {interface} out of `listen.interfaces`")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_program_is_named_with_what_takes_it_away() {
        let foreign = |name: &str, link| Foreign { id: 7, name: Some(name.into()), user: Some(0), link };
        let text = |foreign| Refused::Busy { interface: "eth0".into(), programs: vec![foreign] }.to_string();
        assert_eq!(
            text(foreign("cil_xdp_entry", Some(3))),
            "another XDP program is attached to eth0: `cil_xdp_entry` (id 7, loaded by uid 0, held by BPF link 3)\n  \
             remedy: stop what attached it, or `bpftool link detach id 3`; or leave eth0 out of `listen.interfaces`"
        );
        assert!(text(foreign("xdp_dispatcher", None)).contains("`ip link set dev eth0 xdp off`"));
        assert!(text(foreign("jpat_frags", None)).contains("another instance"));
    }
}
