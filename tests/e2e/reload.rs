//! A reload is all or nothing, and no grant moves to another service by it.

use anyhow::{Context, Result, ensure};
use jpat_tests::{
    network::{Family, Member},
    probe::Port,
    wait,
};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;

use crate::{
    config::{Config, DB, FREE, HTTPS, db, web},
    stage::Stage,
    trial,
};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial::on("p2_services_reordered_and_reloaded_move_no_grant", minutes, reordered),
        trial::on("p2_services_reordered_and_restarted_move_no_grant", minutes, reordered_restart),
        trial::on("p2_a_service_that_changed_loses_its_grants", minutes, changed),
        trial::on("p4_an_invalid_reload_keeps_the_old_configuration", minutes, invalid),
    ]
}

fn minutes() -> Config {
    Config { services: vec![web("60s"), db("60s")], ..Config::default() }
}

fn new_service() -> String {
    format!("[[service]]\nname = \"new\"\nports = [\"tcp/{FREE}\"]\nttl = \"60s\"\nallow = '''false'''\n")
}

/// Signals the controller and waits until it has taken the file.
fn hang_up(stage: &Stage) -> Result<()> {
    let before = stage.metrics()?.sum("jpat_config_generation", &[]);
    stage.signal(Signal::SIGHUP)?;
    wait::for_true("the reload", wait::PATIENCE, || Ok(stage.metrics()?.sum("jpat_config_generation", &[]) > before))
}

fn reordered(stage: &mut Stage) -> Result<()> {
    stage.start(&[])?;
    stage.knock(Member::Client, Family::V4, &stage.token()?, "granted")?;
    stage.config.services = vec![new_service(), db("60s"), web("60s")];
    stage.write_config()?;
    hang_up(stage)?;
    only_web(stage)?;
    stage.expect_tcp(Member::Client, Family::V4, FREE, Port::Silent).context("the new service")
}

fn reordered_restart(stage: &mut Stage) -> Result<()> {
    stage.start(&[])?;
    stage.knock(Member::Client, Family::V4, &stage.token()?, "granted")?;
    stage.end(Signal::SIGKILL)?;
    stage.config.services = vec![new_service(), db("60s"), web("60s")];
    stage.write_config()?;
    stage.start(&[])?;
    only_web(stage)?;
    stage.expect_tcp(Member::Client, Family::V4, FREE, Port::Silent).context("the new service")
}

fn only_web(stage: &Stage) -> Result<()> {
    stage.expect_tcp(Member::Client, Family::V4, HTTPS, Port::Open)?;
    stage.expect_tcp(Member::Client, Family::V4, DB, Port::Silent)?;
    stage.expect_tcp(Member::Stranger, Family::V4, HTTPS, Port::Silent)?;
    stage.expect_tcp(Member::Stranger, Family::V4, DB, Port::Silent)
}

fn changed(stage: &mut Stage) -> Result<()> {
    stage.start(&[])?;
    stage.knock(Member::Client, Family::V4, &stage.token()?, "granted")?;
    // A longer life takes nothing away; another rule does.
    stage.config.services = vec![web("90s"), db("60s")];
    stage.write_config()?;
    stage.admin_ok(&["reload"])?;
    stage.expect_tcp(Member::Client, Family::V4, HTTPS, Port::Open).context("after a change of ttl")?;
    stage.config.services = vec![web("90s").replace("employee:", "admin:"), db("60s")];
    stage.write_config()?;
    stage.admin_ok(&["reload"])?;
    stage.expect_tcp(Member::Client, Family::V4, HTTPS, Port::Silent).context("after a change of allow")?;
    stage.knock(Member::Client, Family::V4, &stage.token()?, "not_allowed").map(drop)
}

fn invalid(stage: &mut Stage) -> Result<()> {
    stage.start(&[])?;
    stage.knock(Member::Client, Family::V4, &stage.token()?, "granted")?;
    let good = std::fs::read_to_string(stage.path("jpat.toml"))?;
    for bad in ["mode = \"open\"".to_owned(), good.replace("claims.sub", "claims.("), format!("{good}\n[nonsense]\n")] {
        std::fs::write(stage.path("jpat.toml"), bad)?;
        let ended = stage.admin(&["reload"])?;
        ensure!(ended.status.code() == Some(1), "{}: {}", ended.status, ended.output);
        only_web(stage)?;
    }
    stage.knock(Member::Client, Family::V4, &stage.token()?, "granted").map(drop)
}
