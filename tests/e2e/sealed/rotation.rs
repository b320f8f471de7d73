//! Keys of servers and groups change without a gap.

use std::{fs, os::unix::fs::PermissionsExt as _};

use anyhow::{Context, Result, ensure};
use jpat_tests::{
    knocker::Knocker,
    network::{Family, Member},
};
use jpat_userspace::knock::proof::Kind;
use libtest_mimic::Trial;

use super::{Counted, PLAIN, SERVER, config, opened, refused_in_silence, start};
use crate::{stage::Stage, trial};

pub(super) fn trials() -> Vec<Trial> {
    let bound = || config("replay = \"bind-source\"");
    vec![
        trial::on("p6_server_and_knock_keys_rotate_without_a_gap", bound, rotate),
        trial::on("p6_a_reload_with_a_bad_key_keeps_the_old_ones", bound, bad_key),
    ]
}

fn rotate(stage: &mut Stage) -> Result<()> {
    let old = start(stage)?;
    opened(stage, &old.seal(&stage.token()?, PLAIN)?, Family::V4, &["web"])?;
    let new = Knocker::new(SERVER, Kind::Ed25519)?.with_knock_key(2)?;
    fs::rename(stage.path("server.key"), stage.path("old.key"))?;
    new.write_keys(stage.dir.path())?;
    let was = stage.config.rest.clone();
    stage.config.rest = was.replace("keys = [\"server.key\"]", "keys = [\"server.key\", \"old.key\"]")
        + "[[knock_key]]\nid = 2\ngroup = \"staff-2\"\nfile = \"knock-2.key\"\n";
    stage.write_config()?;
    stage.admin_ok(&["reload"])?;
    for (knocker, whose) in [(&old, "old"), (&new, "new")] {
        opened(stage, &knocker.seal(&stage.token()?, PLAIN)?, Family::V4, &["web"])
            .with_context(|| format!("the {whose} keys, while both are there"))?;
    }
    stage.config.rest = was.replace(
        "id = 1\ngroup = \"staff\"\nfile = \"knock-1.key\"",
        "id = 2\ngroup = \"staff-2\"\nfile = \"knock-2.key\"",
    );
    stage.write_config()?;
    stage.admin_ok(&["reload"])?;
    let refused = old.seal(&stage.token()?, PLAIN)?;
    refused_in_silence(stage, Member::Client, Family::V4, &refused.datagram, Counted::Packet("knock_unknown_key"))?;
    opened(stage, &new.seal(&stage.token()?, PLAIN)?, Family::V4, &["web"]).context("the new keys alone")
}

fn bad_key(stage: &mut Stage) -> Result<()> {
    let knocker = start(stage)?;
    fs::set_permissions(stage.path("server.key"), fs::Permissions::from_mode(0o644))?;
    let refused = stage.admin(&["reload"])?;
    ensure!(!refused.status.success() && refused.output.contains("server.key"), "{}", refused.output);
    opened(stage, &knocker.seal(&stage.token()?, PLAIN)?, Family::V4, &["web"])
}
