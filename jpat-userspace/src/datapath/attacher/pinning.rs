//! Pins of links. A refused pin leaves the link held, and its device judged.

use std::{fs, io, path::Path};

use super::{Attacher, Cause, Held, Refused, Target};

impl Attacher {
    pub(super) fn pin_all(&mut self) -> Result<(), Refused> {
        let held: Vec<_> = self.held.iter().map(|held| held.attached.ifindex).collect();
        let mut result = Ok(());
        for ifindex in held {
            result = self.pin(ifindex).and(result);
        }
        result
    }

    /// Pins a link that is held. Where that is refused, it is held as before, without a pin.
    pub(super) fn pin(&mut self, ifindex: u32) -> Result<(), Refused> {
        let Some(at) = self.held.iter().position(|held| held.attached.ifindex == ifindex) else { return Ok(()) };
        let Held { attached, is_pinned, .. } = &mut self.held[at];
        let path = self.pins.link(ifindex, attached.hook);
        if *is_pinned && path.exists() {
            return Ok(());
        }
        *is_pinned = false;
        let (name, hook) = (attached.program.clone(), attached.hook);
        let refused =
            |error: &(dyn std::error::Error + 'static)| Refused::Pin { path: path.clone(), cause: Cause::of(error) };
        self.pins.create().map_err(|error| refused(&error))?;
        self.rehearse(&name, ifindex, &path)?;
        let Held { attached, link, .. } = self.held.remove(at);
        match link.pin(&path) {
            Ok(link) => {
                self.held.insert(at, Held { attached, link: link.into(), is_pinned: true });
                Ok(())
            }
            Err(error) => {
                // The library closed the link, for a cause that came up after the rehearsal.
                let refusal = refused(&error);
                let (interface, link_layer) = (attached.interface.clone(), attached.link_layer);
                let (link, program_id) = self.try_hook(&Target { ifindex, interface, link_layer }, &name, hook)?;
                self.held
                    .insert(at, Held { attached: super::Attached { program_id, ..attached }, link, is_pinned: false });
                Err(refusal)
            }
        }
    }

    /// Finds out whether a pin can be made, with one of the program beside it: the library closes a link that it cannot
    /// pin, which opens the device. The pin's name is that of a link, so that no start stumbles over one left behind.
    fn rehearse(&mut self, program: &str, ifindex: u32, path: &Path) -> Result<(), Refused> {
        let refused =
            |error: &(dyn std::error::Error + 'static)| Refused::Pin { path: path.to_owned(), cause: Cause::of(error) };
        if fs::symlink_metadata(path).is_ok() {
            return Err(refused(&io::Error::from_raw_os_error(nix::Error::EEXIST as i32)));
        }
        let beside = path.with_file_name(format!("link-{ifindex}-rehearsal"));
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(refused(&error)),
            Ok(()) | Err(_) => {}
        }
        let (program, _) = self.programs.loaded(program)?;
        program.pin(&beside).map_err(|error| refused(&error))?;
        fs::remove_file(&beside).map_err(|error| refused(&error))
    }
}
