//! From the program that a link has to ours, in one step, with the link at work whatever comes of it.

use std::path::Path;

use aya::programs::{
    Xdp,
    links::{FdLink, PinnedLink},
    xdp::XdpLink,
};

use super::{
    super::{
        attach::{Attached, Hook},
        interfaces::{LinkLayer, Target},
    },
    Attacher, Cause, Held, Refused, device,
};
use crate::config::AttachMode;

/// A link with one of our programs behind it.
struct Switched {
    link: FdLink,
    program: &'static str,
    program_id: u32,
    /// Why it is not the best one.
    why: Option<String>,
}

impl Attacher {
    /// Switches our own link back to our program. `None` where the link is dead; its pin is removed. A pinned link stays
    /// held where that is refused; one that is not is given up, to be made anew.
    pub(super) fn put_back(&mut self, held: Held, target: &Target) -> Result<Option<Held>, Refused> {
        let interface = target.interface.clone();
        let path = self.pins.link(held.attached.ifindex, held.attached.hook);
        if held.is_pinned && path.exists() {
            return match self.switch_pinned(target, &path) {
                Ok(Some(Switched { link, program, program_id, why })) => {
                    let why = why.or(held.attached.why);
                    let program = program.to_owned();
                    let attached = Attached { interface, program, program_id, why, ..held.attached };
                    Ok(Some(Held { attached, link, is_pinned: true }))
                }
                Ok(None) => Ok(None),
                Err(refused) => {
                    self.held.push(held);
                    Err(refused)
                }
            };
        }
        let (program, program_id) = match self.programs.loaded(&held.attached.program) {
            Ok(loaded) => loaded,
            Err(refused) => {
                self.held.push(held);
                return Err(refused);
            }
        };
        let Held { attached, link, .. } = held;
        if let Ok(Some(link)) = switch(program, link, &interface) {
            return Ok(Some(Held { attached: Attached { interface, program_id, ..attached }, link, is_pinned: false }));
        }
        self.remove_links(|pinned| pinned == attached.ifindex)?;
        Ok(None)
    }

    /// Switches an earlier controller's link over. `None` where it is dead, because its device went away; its pin is
    /// removed. Where every program is refused, the earlier one stays at work behind the pin, and a later start tries again.
    pub(super) fn take_over(
        &mut self,
        target: &Target,
        mode: AttachMode,
        path: &Path,
        hook: Hook,
    ) -> Result<Option<Held>, Refused> {
        let Some(Switched { link, program, program_id, why }) = self.switch_pinned(target, path)? else {
            return Ok(None);
        };
        if !device(target)?.xdp_programs.contains(&program_id) {
            // The index is that of a device in another network namespace, where this link is at work.
            return Err(Refused::OtherNamespace(path.to_owned()));
        }
        let wanted = match (target.link_layer, mode) {
            (LinkLayer::Ip, _) | (LinkLayer::Ethernet, AttachMode::Generic) => Hook::Generic,
            (LinkLayer::Ethernet, AttachMode::Auto | AttachMode::Driver) => Hook::Driver,
        };
        let attached = Attached {
            interface: target.interface.clone(),
            ifindex: target.ifindex,
            link_layer: target.link_layer,
            hook,
            program: program.to_owned(),
            program_id,
            why: why.or_else(|| (hook != wanted).then(|| "as an earlier controller obtained it".to_owned())),
        };
        Ok(Some(Held { attached, link, is_pinned: true }))
    }

    /// Tries the programs in the order of their worth.
    fn switch_pinned(&mut self, target: &Target, path: &Path) -> Result<Option<Switched>, Refused> {
        let open = || PinnedLink::from_pin(path).map_err(|error| link_error(&target.interface, &error));
        // A refused update closes the descriptor it was given. This one keeps the link, also where its pin goes meanwhile.
        let _kept = open()?;
        let mut first = None;
        for name in self.programs.candidates(target.link_layer) {
            let loaded = self.programs.loaded(name);
            let switched = loaded.and_then(|(program, program_id)| {
                Ok(switch(program, FdLink::from(open()?), &target.interface)?.map(|link| (link, program_id)))
            });
            match switched {
                Ok(Some((link, program_id))) => {
                    let why = first.map(|refused: Refused| format!("a better program was refused: {refused}"));
                    return Ok(Some(Switched { link, program: name, program_id, why }));
                }
                Ok(None) => {
                    self.remove_links(|pinned| pinned == target.ifindex)?;
                    return Ok(None);
                }
                Err(refused) => first = first.or(Some(refused)),
            }
        }
        Err(first.unwrap_or_else(|| Refused::NoInterface(target.interface.clone())))
    }
}

/// Switches a link to this program in one step; `None` where its device or its attachment is gone.
fn switch(program: &mut Xdp, link: FdLink, interface: &str) -> Result<Option<FdLink>, Refused> {
    let link = XdpLink::try_from(link).map_err(|error| link_error(interface, &error))?;
    let id = match program.attach_to_link(link) {
        Ok(id) => id,
        Err(error) if Cause::of(&error).is(&[nix::Error::ENOLINK]) => return Ok(None),
        Err(error) => return Err(link_error(interface, &error)),
    };
    let link = program.take_link(id).map_err(|error| link_error(interface, &error))?;
    FdLink::try_from(link).map(Some).map_err(|error| link_error(interface, &error))
}

fn link_error(interface: &str, error: &(dyn std::error::Error + 'static)) -> Refused {
    Refused::Link { interface: interface.to_owned(), cause: Cause::of(error) }
}
