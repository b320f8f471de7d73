//! The story that `--once` plays: each step is checked, and the first that is not as it should be ends it.

use std::{net::SocketAddr, process::Command, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use jpat_tests::{
    network::{Family, Member},
    probe,
    process::Process,
    signals::Signals,
    wait,
};
use jpat_userspace::clock::BootTime;

use crate::{
    output,
    stage::{self, PORT, Stage},
};

/// One timer tick at 100 Hz, the coarsest kernel.
const TICK: Duration = Duration::from_millis(10);
/// A look at the service this long before the end still finds it.
const BEFORE: Duration = Duration::from_millis(500);

/// Plays it over IPv4 and then over IPv6.
pub(crate) fn play(stage: &Stage, signals: &Signals, ttl: Duration) -> Result<()> {
    let start = wait::now();
    for family in Family::ALL {
        Story { stage, signals, ttl, family }.play()?;
    }
    let took = start.until(wait::now());
    output::say(format_args!("The story went as it should, over IPv4 and IPv6, in {:.1} s.", took.as_secs_f64()));
    Ok(())
}

struct Story<'a> {
    stage: &'a Stage,
    signals: &'a Signals,
    ttl: Duration,
    family: Family,
}

impl Story<'_> {
    fn play(&self) -> Result<()> {
        self.step("stranger refused", || self.refused(Member::Stranger))?;
        self.step("client refused", || self.refused(Member::Client))?;
        let sent = wait::now();
        self.step("knock", || self.knock())?;
        let granted = wait::now();
        self.step("client served", || self.served(Member::Client))?;
        self.step("stranger still refused", || self.refused(Member::Stranger))?;
        self.step("grant ends", || self.ends(sent, granted))?;
        self.step("client refused", || self.refused(Member::Client))
    }

    fn step(&self, name: &str, act: impl FnOnce() -> Result<String>) -> Result<()> {
        if self.signals.caught() {
            bail!("interrupted");
        }
        let start = wait::now();
        let family = self.family.as_str();
        let outcome = act().with_context(|| format!("{family}: step \"{name}\" is not as it should be"))?;
        let took = start.until(wait::now());
        output::say(format_args!("{family}  {name:<22}  {:>6.0} ms  {outcome}", took.as_secs_f64() * 1e3));
        Ok(())
    }

    fn refused(&self, who: Member) -> Result<String> {
        match probe::https_get(self.stage.net.of(who), self.service())? {
            None => Ok(format!("no answer within {} ms", probe::SILENCE.as_millis())),
            Some(page) => bail!("was served: {}", page.trim()),
        }
    }

    fn served(&self, who: Member) -> Result<String> {
        let page = probe::https_get(self.stage.net.of(who), self.service())?.context("no answer")?;
        let visitor = who.address(self.family).to_string();
        ensure!(page.contains(&visitor), "the page is not for {visitor}: {}", page.trim());
        Ok(page.trim().to_owned())
    }

    fn knock(&self) -> Result<String> {
        let mut command = Command::new(self.stage.jpat());
        command.arg("knock").arg(Member::Host.address(self.family).to_string());
        command.arg("--profile").arg(stage::profile()).arg("--wait").arg(format!("tcp/{PORT}"));
        let ended = Process::run(&self.stage.net.client, "jpat knock", command)?;
        ensure!(ended.status.success(), "jpat knock: {}\n{}", ended.status, ended.output);
        let [reply, open] = ended.output.lines().collect::<Vec<_>>()[..] else { bail!("{}", ended.output) };
        ensure!(reply.starts_with("opened commerce-listings for "), "the reply is {reply}");
        Ok(format!("{reply}; {open}"))
    }

    /// Served just before the end, not just after: the grant was written between `sent` and `granted`.
    fn ends(&self, sent: BootTime, granted: BootTime) -> Result<String> {
        wait::until(BootTime(sent.after(self.ttl).0.saturating_sub(nanos(BEFORE))));
        self.served(Member::Client).with_context(|| format!("{} ms before the end", BEFORE.as_millis()))?;
        wait::until(granted.after(self.ttl + TICK));
        let after = granted.after(self.ttl).until(wait::now());
        self.refused(Member::Client).with_context(|| format!("{} ms after the end", after.as_millis()))?;
        Ok(format!("served {} ms before the end, refused {} ms after", BEFORE.as_millis(), after.as_millis()))
    }

    const fn service(&self) -> SocketAddr {
        SocketAddr::new(Member::Host.address(self.family), PORT)
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
