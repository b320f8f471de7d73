//! The part that puts the program on devices. It needs capabilities for as long as devices may come, so it takes plain
//! data and gives plain data, reads no packet and no token, and can be a process of its own.

mod foreign;
mod order;
mod pinning;
mod programs;
mod refused;
mod take_over;

use self::programs::Programs;
pub use self::{
    order::{Answer, Earlier, Order},
    refused::{Cause, Foreign, Refused},
};
use super::{
    attach::{Attached, Hook},
    error::DataPathError,
    interfaces::{self, Device, LinkLayer, Target},
    pins::PinDir,
};
use crate::config::AttachMode;
use aya::{
    Ebpf,
    programs::{XdpMode, links::FdLink},
};

/// Programs, links and their pins.
pub struct Attacher {
    programs: Programs,
    pins: PinDir,
    held: Vec<Held>,
}

/// A link of ours. Its descriptor stays open: whoever removes the pin does not take the program away with it.
struct Held {
    attached: Attached,
    link: FdLink,
    is_pinned: bool,
}

impl Attacher {
    /// Takes over an object whose maps are in place.
    ///
    /// # Errors
    /// A missing privilege, or a program that the kernel refuses.
    pub(super) fn new(ebpf: Ebpf, pins: PinDir) -> Result<Self, DataPathError> {
        Ok(Self { programs: Programs::load(ebpf)?, pins, held: Vec::new() })
    }

    /// Does what it is asked.
    ///
    /// # Errors
    /// Why not; nothing was done then.
    pub fn handle(&mut self, order: &Order) -> Result<Answer, Refused> {
        match order {
            Order::Attach { target, mode, earlier, pin } => self.attach(target, *mode, *earlier, *pin),
            Order::Release { ifindex } => {
                self.held.retain(|held| held.attached.ifindex != *ifindex);
                self.remove_links(|pinned| pinned == *ifindex)
            }
            Order::ReleaseOthers => {
                let held: Vec<_> = self.held.iter().map(|held| held.attached.ifindex).collect();
                self.remove_links(|pinned| !held.contains(&pinned))
            }
            Order::Pin => self.pin_all().map(|()| Answer::Pinned),
        }
    }

    /// What this kernel does without, and what that means.
    #[must_use]
    pub fn degraded(&self) -> Vec<String> {
        self.programs.degraded()
    }

    /// What is attached, and how.
    pub fn attached(&self) -> impl Iterator<Item = &Attached> {
        self.held.iter().map(|held| &held.attached)
    }

    /// Whether every link is pinned, and its pin still there.
    #[must_use]
    pub fn is_pinned(&self) -> bool {
        self.held.iter().all(|held| held.is_pinned && self.pins.find_link(held.attached.ifindex).is_some())
    }

    #[cfg(feature = "debug-log")]
    pub(super) const fn ebpf(&mut self) -> &mut Ebpf {
        self.programs.ebpf()
    }

    fn attach(&mut self, target: &Target, mode: AttachMode, earlier: Earlier, pin: bool) -> Result<Answer, Refused> {
        let device = device(target)?;
        if device.link_layer() != Ok(target.link_layer) {
            return Err(Refused::Changed(device.name));
        }
        let target = Target { interface: device.name.clone(), ..target.clone() };
        let ours = self.held.iter().position(|held| held.attached.ifindex == target.ifindex);
        let standing = match ours.map(|at| self.held.remove(at)) {
            Some(held) => self.put_back(held, &target)?,
            None => match (self.pins.find_link(target.ifindex), earlier) {
                (Some(_), Earlier::Leave) => return Ok(Answer::Left),
                (Some((path, hook)), Earlier::TakeOver) => self.take_over(&target, mode, &path, hook)?,
                (None, Earlier::Leave | Earlier::TakeOver) => None,
            },
        };
        let held = match standing {
            Some(held) => held,
            None => self.attach_new(&target, &device, mode)?,
        };
        let attached = held.attached.clone();
        self.held.push(held);
        if pin {
            self.pin(target.ifindex)?;
        }
        Ok(Answer::Attached(attached))
    }

    /// Tries the programs and hooks in the order of their worth.
    fn attach_new(&mut self, target: &Target, device: &Device, mode: AttachMode) -> Result<Held, Refused> {
        let (hooks, mut why): (&[Hook], _) = match (target.link_layer, mode) {
            (LinkLayer::Ethernet, AttachMode::Auto) => (&[Hook::Driver, Hook::Generic], None),
            (LinkLayer::Ethernet, AttachMode::Driver) => (&[Hook::Driver], None),
            (LinkLayer::Ethernet, AttachMode::Generic) => (&[Hook::Generic], None),
            (LinkLayer::Ip, AttachMode::Generic) => (&[Hook::Generic], None),
            (LinkLayer::Ip, AttachMode::Auto | AttachMode::Driver) => {
                (&[Hook::Generic], Some("a device without an Ethernet header has no driver hook".to_owned()))
            }
        };
        let mut last = None;
        for hook in hooks {
            if let Some(Refused::Hook { cause, .. }) = &last {
                why = Some(format!("the driver's hook was refused: {cause} (MTU {})", device.mtu));
            }
            let mut first = None;
            for name in self.programs.candidates(target.link_layer) {
                match self.try_hook(target, name, *hook) {
                    Ok((link, program_id)) => {
                        let attached = Attached {
                            interface: target.interface.clone(),
                            ifindex: target.ifindex,
                            link_layer: target.link_layer,
                            hook: *hook,
                            program: (*name).to_owned(),
                            program_id,
                            why,
                        };
                        return Ok(Held { attached, link, is_pinned: false });
                    }
                    // What is said to a program that can do less is not why the better one was refused.
                    Err(refusal @ Refused::Hook { .. }) => first = first.or(Some(refusal)),
                    Err(other) => return Err(other),
                }
            }
            last = first;
        }
        Err(last.unwrap_or_else(|| Refused::NoInterface(target.interface.clone())))
    }

    fn try_hook(&mut self, target: &Target, name: &str, hook: Hook) -> Result<(FdLink, u32), Refused> {
        let (program, id) = self.programs.loaded(name)?;
        let refused = |error: &(dyn std::error::Error + 'static)| {
            let (interface, cause) = (target.interface.clone(), Cause::of(error));
            if cause.is(&[nix::Error::EBUSY, nix::Error::EEXIST]) {
                let programs = device(target).map(|device| device.xdp_programs).unwrap_or_default();
                return Refused::Busy { interface, programs: foreign::describe(&programs) };
            }
            Refused::Hook { interface, hook, cause }
        };
        let mode = match hook {
            Hook::Driver => XdpMode::Driver,
            Hook::Generic => XdpMode::Skb,
        };
        let link = program.attach_to_if_index(target.ifindex, mode).map_err(|error| refused(&error))?;
        let link = program.take_link(link).map_err(|error| refused(&error))?;
        let link = FdLink::try_from(link).map_err(|_netlink| Refused::NotPinnable(target.interface.clone()))?;
        Ok((link, id))
    }

    fn remove_links(&self, which: impl Fn(u32) -> bool) -> Result<Answer, Refused> {
        let removed = self.pins.remove_links(which);
        removed
            .map(Answer::Released)
            .map_err(|error| Refused::Pin { path: self.pins.directory().to_owned(), cause: Cause::of(&error) })
    }
}

/// The device as it is now.
fn device(target: &Target) -> Result<Device, Refused> {
    let devices = interfaces::list().map_err(|error| Refused::Devices(Cause::of(&error)))?;
    let device = devices.into_iter().find(|device| device.index == target.ifindex);
    device.ok_or_else(|| Refused::NoInterface(target.interface.clone()))
}

#[cfg(test)]
mod tests;
