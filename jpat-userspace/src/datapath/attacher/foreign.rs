//! Who else has a program on a device.

use aya::programs::{ProgramInfo, loaded_links, loaded_programs};

use super::refused::Foreign;

/// What can be told of these programs. Their names need CAP_SYS_ADMIN.
pub(super) fn describe(ids: &[u32]) -> Vec<Foreign> {
    let programs: Vec<ProgramInfo> =
        loaded_programs().filter_map(Result::ok).filter(|program| ids.contains(&program.id())).collect();
    let links: Vec<_> = loaded_links().filter_map(Result::ok).map(|link| (link.program_id(), link.id())).collect();
    let of = |id: &u32| {
        let program = programs.iter().find(|program| program.id() == *id);
        let name = program.and_then(ProgramInfo::name_as_str).map(crate::output::printable);
        Foreign {
            id: *id,
            name: name.filter(|name| !name.is_empty()),
            user: program.and_then(ProgramInfo::created_by_uid),
            link: links.iter().find(|(program, _)| program == id).map(|(_, link)| *link),
        }
    };
    ids.iter().map(of).collect()
}
