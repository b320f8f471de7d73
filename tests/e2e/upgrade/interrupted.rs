//! Every state that an upgrade can be left in, made by hand, and a start from it. Two devices, so that one can be ahead of
//! the other.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use aya::maps::{HashMap, Map, MapData};
use jpat_common::{
    addr,
    grant::{GrantKey, GrantValue},
    map_name,
};
use jpat_tests::{
    earlier::{self, Earlier, Layout},
    wait,
};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;

use super::{is_upgraded, trial};
use crate::{
    stage::Stage,
    traffic::{PORTS, Traffic},
};

/// Whose grant is in the layout that is not in force.
const NOBODY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 77);

/// Where the controller died.
#[derive(Clone, Copy, Debug)]
enum Died {
    BeforeAnything,
    WhilePinningMaps,
    BeforeTheFirstLink,
    BetweenLinks,
    BeforeTheFirstProgram,
    BetweenPrograms,
    BeforeUnpinning,
    WhileUnpinning,
}

pub(super) fn trials(layout: Layout) -> Vec<Trial> {
    let states = [
        (Died::BeforeAnything, "before_anything"),
        (Died::WhilePinningMaps, "while_pinning_maps"),
        (Died::BeforeTheFirstLink, "before_the_first_link_was_moved"),
        (Died::BetweenLinks, "between_two_links"),
        (Died::BeforeTheFirstProgram, "before_the_first_program_was_replaced"),
        (Died::BetweenPrograms, "between_two_programs"),
        (Died::BeforeUnpinning, "before_the_old_maps_were_unpinned"),
        (Died::WhileUnpinning, "while_the_old_maps_were_unpinned"),
    ];
    let named = |(died, name): (Died, &str)| {
        trial(&format!("p4_an_upgrade_that_died_{name}_is_finished"), layout, move |stage, layout| {
            interrupted(stage, layout, died)
        })
    };
    states.into_iter().map(named).collect()
}

fn interrupted(stage: &mut Stage, layout: Layout, died: Died) -> Result<()> {
    stage.net.host.ip("link add name eth1 type veth peer name eth1p\nlink set eth1 up\nlink set eth1p up")?;
    let text = fs::read_to_string(stage.path("jpat.toml"))?;
    fs::write(stage.path("jpat.toml"), text.replace("[\"eth0\"]", "[\"eth0\", \"eth1\"]"))?;
    stage.start(&[])?;
    let traffic = Traffic::start(stage)?;
    stage.end(Signal::SIGKILL)?;
    make(stage, layout, died).context("making the state")?;
    for start in ["the start from it", "the start after that"] {
        stage.start(&[]).context(start)?;
        is_upgraded(stage, layout).context(start)?;
        ensure!(earlier::links(&earlier::now(&stage.pins))?.len() == 2, "a link is missing");
        let grants = stage.admin_ok(&["grants", "list"])?;
        ensure!(!grants.contains(&NOBODY.to_string()), "{start}: a grant of what is not in force: {grants}");
        stage.end(Signal::SIGKILL)?;
    }
    traffic.finish(stage)
}

/// From an upgrade that is done, back to where it `died`.
fn make(stage: &Stage, layout: Layout, died: Died) -> Result<()> {
    let (new, old) = (earlier::now(&stage.pins), layout.before(&stage.pins));
    let links = earlier::links(&new)?;
    let mut program = Earlier::from(layout, &new, &PORTS)?;
    program.pin(&old)?;
    let back = |link: &PathBuf| fs::rename(link, old.join(link.file_name().unwrap_or_default()));
    // Layout 2 has the very map of grants.
    let add = |dir: &Path| if layout == Layout::V1 { add_grant(dir) } else { Ok(()) };
    match died {
        Died::BeforeAnything => {
            links.iter().try_for_each(|link| program.take(link))?;
            links.iter().try_for_each(back)?;
            fs::remove_dir_all(&new)?;
        }
        Died::WhilePinningMaps => {
            links.iter().try_for_each(|link| program.take(link))?;
            links.iter().try_for_each(back)?;
            add(&new)?;
            map_name::PINNED.iter().skip(4).try_for_each(|name| fs::remove_file(new.join(name)))?;
        }
        Died::BeforeTheFirstLink => {
            links.iter().try_for_each(|link| program.take(link))?;
            links.iter().try_for_each(back)?;
            add(&new)?;
        }
        Died::BetweenLinks => {
            links.iter().try_for_each(|link| program.take(link))?;
            links.iter().skip(1).try_for_each(back)?;
            add(&old)?;
        }
        Died::BeforeTheFirstProgram => {
            links.iter().try_for_each(|link| program.take(link))?;
            add(&old)?;
        }
        Died::BetweenPrograms => {
            links.iter().skip(1).try_for_each(|link| program.take(link))?;
            add(&old)?;
        }
        Died::BeforeUnpinning => add(&old)?,
        Died::WhileUnpinning => {
            layout.maps().iter().take(3).try_for_each(|name| fs::remove_file(old.join(name)))?;
        }
    }
    Ok(())
}

fn add_grant(dir: &Path) -> Result<()> {
    let data = MapData::from_pin(dir.join(map_name::GRANTS))?;
    let mut grants: HashMap<_, GrantKey, GrantValue> = HashMap::try_from(Map::LruHashMap(data))?;
    let source = addr::from_v4(NOBODY.octets());
    let generation = grants.iter().next().context("no grant")??.1.generation();
    let end = wait::now().after(std::time::Duration::from_secs(600)).0;
    grants.insert(GrantKey::new(&source, &addr::mask(128), 1), GrantValue::new(end, generation), 0)?;
    Ok(())
}
