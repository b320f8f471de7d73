//! The program on an interface.

use aya::programs::{
    ProgramError, Xdp, XdpMode,
    links::{FdLink, PinnedLink},
    xdp::XdpLink,
};

use super::{
    error::{DataPathError, os_error},
    interfaces,
    pins::PinDir,
};
use crate::config::AttachMode;

/// Where in the receive path the program runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hook {
    /// In the driver, before a socket buffer exists.
    Driver,
    /// In the network stack, after it does.
    Generic,
}

impl Hook {
    /// Its name in pins and in `status`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Driver => "driver",
            Self::Generic => "generic",
        }
    }

    const fn mode(self) -> XdpMode {
        match self {
            Self::Driver => XdpMode::Driver,
            Self::Generic => XdpMode::Skb,
        }
    }
}

/// What was obtained on an interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attached {
    /// Name of the interface.
    pub interface: String,
    /// Its index.
    pub ifindex: u32,
    /// Where the program runs.
    pub hook: Hook,
    /// Why it runs there and not where it was wanted.
    pub why: Option<String>,
}

/// An attached program.
pub(super) struct Attachment {
    pub(super) attached: Attached,
    /// The link where it is not pinned: it ends with this process.
    loose: Option<FdLink>,
}

impl Attachment {
    pub(super) const fn is_pinned(&self) -> bool {
        self.loose.is_none()
    }

    pub(super) fn pin(&mut self, pins: &PinDir) -> Result<(), DataPathError> {
        if let Some(link) = self.loose.take() {
            let path = pins.link(self.attached.ifindex, self.attached.hook);
            link.pin(&path).map_err(|source| DataPathError::Pin { path, source })?;
        }
        Ok(())
    }
}

/// Attaches to an interface on which no pinned link is; that one is for [`adopt`].
pub(super) fn attach(program: &mut Xdp, interface: &str, mode: AttachMode) -> Result<Attachment, DataPathError> {
    let ifindex = index(interface)?;
    let attachment = |hook, why, link| Attachment {
        attached: Attached { interface: interface.to_owned(), ifindex, hook, why },
        loose: Some(link),
    };
    let (hook, why) = match mode {
        AttachMode::Driver => (Hook::Driver, None),
        AttachMode::Generic => (Hook::Generic, None),
        AttachMode::Auto => match attach_hook(program, interface, ifindex, Hook::Driver) {
            Ok(link) => return Ok(attachment(Hook::Driver, None, link)),
            Err(DataPathError::Attach { source, .. }) => {
                (Hook::Generic, Some(format!("the driver's hook was refused: {}", root(&source))))
            }
            Err(error) => return Err(error),
        },
    };
    let link = attach_hook(program, interface, ifindex, hook)?;
    Ok(attachment(hook, why, link))
}

/// Switches a pinned link over to the new program in one step. `None` where there is none, or a dead one, whose device
/// went away: its pin is removed.
pub(super) fn adopt(program: &mut Xdp, pins: &PinDir, interface: &str) -> Result<Option<Attachment>, DataPathError> {
    let ifindex = index(interface)?;
    let Some((path, hook)) = pins.find_link(ifindex) else { return Ok(None) };
    let link_error = |source| DataPathError::Link { interface: interface.to_owned(), source };
    let pinned = PinnedLink::from_pin(&path).map_err(link_error)?;
    let link = XdpLink::try_from(FdLink::from(pinned)).map_err(link_error)?;
    match program.attach_to_link(link) {
        Ok(id) => {
            // The pin keeps the link; this process need not.
            drop(program.take_link(id));
        }
        Err(source) if os_error(&source) == Some(nix::Error::ENOLINK as i32) => {
            std::fs::remove_file(&path).map_err(|source| DataPathError::Pins { path, source })?;
            return Ok(None);
        }
        Err(source) => return Err(DataPathError::Attach { interface: interface.to_owned(), mode: "adopted", source }),
    }
    let programs = on_device(ifindex)?;
    let id = program.info().map_err(DataPathError::verifier)?.id();
    if !programs.contains(&id) {
        // The index is that of a device in another network namespace, where this link is at work.
        return Err(DataPathError::OtherNamespace(path));
    }
    let attached = Attached { interface: interface.to_owned(), ifindex, hook, why: None };
    Ok(Some(Attachment { attached, loose: None }))
}

fn index(interface: &str) -> Result<u32, DataPathError> {
    nix::net::if_::if_nametoindex(interface).map_err(|_no_such_device| DataPathError::NoInterface(interface.to_owned()))
}

fn on_device(ifindex: u32) -> Result<Vec<u32>, DataPathError> {
    let devices = interfaces::list().map_err(DataPathError::Devices)?;
    let device = devices.into_iter().find(|device| device.index == ifindex);
    Ok(device.map(|device| device.xdp_programs).unwrap_or_default())
}

fn attach_hook(program: &mut Xdp, interface: &str, ifindex: u32, hook: Hook) -> Result<FdLink, DataPathError> {
    let refused = |source: ProgramError| {
        let code = os_error(&source);
        if [nix::Error::EBUSY as i32, nix::Error::EEXIST as i32].into_iter().any(|busy| code == Some(busy)) {
            let programs = on_device(ifindex).unwrap_or_default();
            DataPathError::Busy { interface: interface.to_owned(), programs }
        } else {
            DataPathError::Attach { interface: interface.to_owned(), mode: hook.as_str(), source }
        }
    };
    let id = program.attach_to_if_index(ifindex, hook.mode()).map_err(refused)?;
    let link = program.take_link(id).map_err(refused)?;
    FdLink::try_from(link).map_err(|_netlink| DataPathError::NotPinnable(interface.to_owned()))
}

/// The innermost cause, which is the kernel's word.
fn root(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
