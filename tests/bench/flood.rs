//! What a flood at the knock port costs those who may come in.
//!
//! Two namespaces and a veth. Somebody with a good key knocks 30 times a second with a new token each time, and beside it
//! a flood comes over the same wire as fast as this machine makes it. The generator has a CPU of its own, on which the
//! kernel also runs the program for most of what arrives. A frame that finds the ring of the device full is lost on the wire:
//! the sender of a good knock hears of that, and it is counted apart. Everything else reached the program, whose counters
//! are shown. Which knocks ended in a grant, the audit log says.

mod client;
mod insider;
mod stranger;

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use anyhow::{Context, Result};
use jpat_common::settings::FLAG_GRANT_HINTS;
use jpat_tests::{bpffs, leftovers, metrics::Metrics, world::World};
use jpat_userspace::clock;

use self::{
    client::{Client, Pause},
    insider::Insider,
    stranger::Stranger,
};
use crate::{
    controller::{Algorithm, Controller, Form, Setup},
    datapath::subject::Subject,
    wire::Wire,
};

/// Of the generator.
const FLOOD_CPU: usize = 0;

/// How long and how often.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Seconds of every flood
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Good knocks a second
    #[arg(long, default_value_t = 30)]
    rate: u32,
    /// Only rows with this in their name
    #[arg(long)]
    only: Option<String>,
}

/// Who sends what.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flood {
    Nobody,
    Garbage,
    Replays,
    Insider,
    /// And the controller is stopped for two seconds.
    InsiderAndPause,
}

impl Flood {
    const ALL: [Self; 5] = [Self::Nobody, Self::Garbage, Self::Replays, Self::Insider, Self::InsiderAndPause];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Nobody => "no flood",
            Self::Garbage => "strangers: random bytes, and wrong tags at 800 bytes",
            Self::Replays => "replays of one captured knock",
            Self::Insider => "insider: right tags, wrong signatures",
            Self::InsiderAndPause => "the same, and the controller stopped for 2 s",
        }
    }

    /// Least share of the good knocks that reached the program. What comes while the controller is stopped waits in the ring
    /// as long as that has room.
    const fn bar(self) -> Option<f64> {
        match self {
            Self::Nobody | Self::Garbage | Self::Replays => Some(0.999),
            Self::Insider => Some(0.99),
            Self::InsiderAndPause => None,
        }
    }
}

#[expect(clippy::print_stdout, reason = "the figures are what it is for")]
pub(crate) fn run(options: &Options) -> Result<()> {
    bpffs::ensure_mounted()?;
    let mut world = World::new(clock::now().boot.0);
    world.settings.flags = FLAG_GRANT_HINTS;
    let subject = Subject::load(&world, 0)?;
    println!("{}", crate::datapath::machine()?);
    println!("{} good sealed ES256 knocks a second beside each flood, {} s each\n", options.rate, options.seconds);
    for (number, flood) in (0..).zip(Flood::ALL) {
        if options.only.as_ref().is_none_or(|only| flood.as_str().contains(only.as_str())) {
            one(number, flood, &subject, options)?;
        }
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the figures are what it is for")]
fn one(number: u32, flood: Flood, subject: &Subject, options: &Options) -> Result<()> {
    let prefix = leftovers::prefix(number);
    let wire = Wire::create(&prefix)?;
    let setup = Setup { algorithm: Algorithm::Es256, form: Form::Sealed, ttl: "10m", limits: "", cpu: None };
    let controller = Controller::start(&wire.host, &prefix, &setup)?;
    let insider = match flood {
        Flood::Insider | Flood::InsiderAndPause => Some(Insider::prepare(&controller, options.seconds)?),
        Flood::Nobody | Flood::Garbage | Flood::Replays => None,
    };
    let mut client = Client::new(&controller, &wire)?;
    let captured = client.knock_and_wait()?;
    let pause = (flood == Flood::InsiderAndPause)
        .then_some(Pause { after: Duration::from_secs(5), time: Duration::from_secs(2) });
    let before = (controller.metrics()?, controller.processor_time()?, clock::now().boot);
    let sent = AtomicU64::new(0);
    let report = during(
        |stop| match flood {
            Flood::Nobody => Ok(()),
            Flood::Garbage => Stranger { subject, wire: &wire }.garbage(&controller, &sent, stop),
            Flood::Replays => Stranger { subject, wire: &wire }.replays(&captured, &sent, stop),
            Flood::Insider | Flood::InsiderAndPause => {
                insider.as_ref().context("nobody is inside")?.send(&wire, &sent, stop)
            }
        },
        || client.run(options.rate, Duration::from_secs(options.seconds), pause),
    )?;
    let seconds = before.2.until(clock::now().boot).as_secs_f64();
    let busy = (controller.processor_time()? - before.1).as_secs_f64() / seconds;
    let report = client.finish(report)?;
    let after = controller.metrics()?;
    let flooded = sent.load(Ordering::Relaxed);
    let reached = reached(&before.0, &after) - f64::from(report.reached());
    println!("{}", flood.as_str());
    if flood != Flood::Nobody {
        println!(
            "  flood: {flooded} sent, {:.0}/s; {reached:.0} reached the program, {:.0}/s",
            flooded as f64 / seconds,
            reached / seconds
        );
    }
    println!("  the program: {}", changes(&before.0, &after, "jpat_packets_total", "reason"));
    println!(
        "  the controller: {}CPU {:.1} %",
        changes(&before.0, &after, "jpat_knocks_total", "result"),
        busy * 100.0
    );
    println!("{}", report.render(flood.bar()));
    controller.stop()
}

/// Knocks that the program counted in between.
fn reached(before: &Metrics, after: &Metrics) -> f64 {
    let count = |metrics: &Metrics| -> f64 {
        let values = metrics.values("jpat_packets_total", "reason");
        values.iter().filter(|(reason, _)| reason.starts_with("knock_")).map(|(_, value)| value).sum()
    };
    count(after) - count(before)
}

fn changes(before: &Metrics, after: &Metrics, name: &str, label: &str) -> String {
    let before = before.values(name, label);
    let changes = after.values(name, label).into_iter().filter_map(|(key, value)| {
        let change = value - before.get(&key).copied().unwrap_or(0.0);
        let is_of_knocks = label != "reason" || key.starts_with("knock_");
        (change > 0.0 && is_of_knocks).then(|| format!("{key} {change:.0}, "))
    });
    changes.collect()
}

/// Runs `flood` on a thread as long as `work` takes.
fn during<T>(
    flood: impl FnOnce(&std::sync::atomic::AtomicBool) -> Result<()> + Send,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| flood(&stop));
        let done = work();
        stop.store(true, Ordering::Relaxed);
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)).context("flood")?;
        done
    })
}
