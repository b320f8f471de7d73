//! How many knocks one core takes, beside what the cryptography and the policy alone cost on that core.
//!
//! The controller has one CPU, whoever knocks has another. So many knocks are under way that the controller never waits; how
//! many are through, its audit log says. The cryptography is the calls of the libraries that the controller makes for one
//! knock and nothing else, on other knocks of the same kind.
//!
//! A guest may have to ask its hypervisor for memory that it has not used for a while. That takes its time, which is not the
//! controller's: it is asked for before, and how long that took is told.
//!
//! Other work on the machine takes time from the controller. So a knock's cost is processor time, the kernel's part
//! included; the rate by the clock stands beside it.

mod alone;
mod ledger;

use std::{hint::black_box, net::UdpSocket, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use jpat_tests::{leftovers, metrics::Metrics};
use jpat_userspace::clock;
use nix::{
    errno::Errno,
    sys::socket::{setsockopt, sockopt},
};

use self::alone::Alone;
pub(crate) use self::ledger::Ledger;
use crate::{
    controller::{Algorithm, Controller, Form, Setup},
    datapath::{stay_on, table::Spread},
    wire::{Wire, send_from, source},
};

/// Of the controller and of the cryptography alone.
const HOST_CPU: usize = 1;
/// Of whoever knocks.
const CLIENT_CPU: usize = 0;
/// Knocks that were sent and are not through.
const UNDER_WAY: usize = 128;
/// Longest standstill.
const LIMIT: Duration = Duration::from_secs(5);
/// Least share of what the cryptography alone allows.
const BAR: f64 = 0.8;

/// Memory that is had from the hypervisor before a measurement.
const MEMORY: usize = 256 << 20;

const LIMITS: &str =
    "knocks_per_second = 1000000\nbare_per_second = 1000000\nqueue = 4096\nreplay_entries = 1000000\ngrants = 262144\n";

/// One round.
struct Measured {
    /// Processor time of a knock.
    cost: Duration,
    per_second: f64,
    /// How long [`MEMORY`] took.
    memory: Duration,
}

#[expect(clippy::print_stdout, reason = "the figures are what it is for")]
pub(crate) fn run(knocks: u32, rounds: u32) -> Result<()> {
    ensure!(std::thread::available_parallelism()?.get() > HOST_CPU, "whoever knocks needs a CPU of its own");
    println!(
        "\nknocks that one core takes: ES256, one service, {knocks} distinct knocks of as many sources, {rounds} rounds\n\
         processor time of a knock, microseconds: median (least, greatest)\n"
    );
    for form in [Form::Bare, Form::Sealed, Form::Proof] {
        let (mut all, mut crypto, mut policy, mut worker) = (vec![], vec![], vec![], vec![]);
        let (mut shares, mut rates, mut memory) = (vec![], vec![], vec![]);
        for round in 0..rounds {
            let prefix = leftovers::prefix(round);
            let wire = Wire::create(&prefix)?;
            wire.receive_on_first_cpu()?;
            let setup = Setup { algorithm: Algorithm::Es256, form, ttl: "10m", limits: LIMITS, cpu: Some(HOST_CPU) };
            let controller = Controller::start(&wire.host, &prefix, &setup)?;
            let alone = on(HOST_CPU, || Alone::measure(&controller))?;
            let measured = measure(&wire, &controller, knocks)?;
            let again = on(HOST_CPU, || Alone::measure(&controller))?;
            let cryptography = (alone.cryptography + again.cryptography) / 2;
            all.push(micros(measured.cost));
            crypto.push(micros(cryptography));
            policy.push(micros((alone.policy + again.policy) / 2));
            worker.push(micros((alone.worker + again.worker) / 2));
            shares.push(cryptography.as_secs_f64() / measured.cost.as_secs_f64());
            rates.push(measured.per_second);
            memory.push(micros(measured.memory) / 1e3);
            controller.stop()?;
        }
        let name = form.as_str();
        println!("{name}: controller {}", spread(&all)?);
        println!("{name}: cryptography alone {}", spread(&crypto)?);
        println!("{name}: policy alone {}, all that a worker does {}", spread(&policy)?, spread(&worker)?);
        println!("{name}: {} MiB of memory before it took {} ms", MEMORY >> 20, spread(&memory)?);
        let by_clock = Spread::of(rates.clone()).context("no rounds")?.median;
        let by_time = Spread::of(all.clone()).context("no rounds")?.median;
        println!("{name}: {:.0} knocks per second of the core; by the clock {by_clock:.0}", 1e6 / by_time);
        let share = Spread::of(shares.clone()).context("no rounds")?.median;
        let verdict = if share >= BAR { "met" } else { "MISSED" };
        println!("{name}: {:.0} % of what the cryptography alone allows; at least 80 %: {verdict}\n", share * 100.0);
    }
    Ok(())
}

fn measure(wire: &Wire, controller: &Controller<'_>, knocks: u32) -> Result<Measured> {
    let warm_up = knocks as usize / 10;
    let datagrams = (0..knocks).map(|number| controller.knock(&format!("k{number}"))).collect::<Result<Vec<_>>>()?;
    let mut ledger = Ledger::of(&controller.audit())?;
    let asked = clock::now().boot;
    drop(black_box(vec![1_u8; MEMORY]));
    let memory = asked.until(clock::now().boot);
    let send = || {
        stay_on(CLIENT_CPU)?;
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        // Without it a full device is no error.
        setsockopt(&socket, sockopt::Ipv4RecvErr, &true)?;
        let (mut sent, mut through, mut begin) = (0, 0, None);
        let mut moved = clock::now().boot;
        while through < datagrams.len() {
            if sent < datagrams.len() && sent - through < UNDER_WAY {
                match send_from(&socket, source(sent as u32 + 1), &datagrams[sent]) {
                    Ok(()) => sent += 1,
                    Err(Errno::ENOBUFS) => {}
                    Err(error) => return Err(error).context("send a knock"),
                }
                if !sent.is_multiple_of(8) {
                    continue;
                }
            }
            let new = ledger.more()?.granted;
            through += new;
            let now = clock::now().boot;
            if new > 0 {
                moved = now;
            }
            if begin.is_none() && through >= warm_up {
                begin = Some((now, through, controller.processor_time()?));
            }
            if moved.until(now) > LIMIT {
                let counts = controller.metrics()?;
                let lost =
                    ["jpat_packets_total", "jpat_knocks_total"].map(|name| counts.changes(&Metrics::default(), name));
                bail!("{sent} knocks were sent, and {through} are through: {lost:?}");
            }
        }
        let end = (clock::now().boot, controller.processor_time()?);
        let (began, before, used) = begin.context("no knocks")?;
        let measured = u32::try_from(datagrams.len() - before)?;
        let per_second = f64::from(measured) / began.until(end.0).as_secs_f64();
        Ok(Measured { cost: (end.1 - used) / measured, per_second, memory })
    };
    let measured = wire.far.run(send)?;
    let granted = controller.metrics()?.knocks("granted");
    ensure!(granted == f64::from(knocks), "{granted} of {knocks} knocks were granted");
    Ok(measured)
}

/// Runs `work` on a thread that stays on a CPU.
fn on<T: Send>(cpu: usize, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            stay_on(cpu)?;
            work()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn spread(figures: &[f64]) -> Result<String> {
    let Spread { median, least, greatest } = Spread::of(figures.to_vec()).context("no rounds")?;
    Ok(format!("{median:.1} ({least:.1}, {greatest:.1})"))
}
