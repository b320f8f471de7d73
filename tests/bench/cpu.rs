//! What a flood on a protected port costs the host, and what it leaves of a transfer beside it.
//!
//! Two namespaces, a veth between them, the program on the host's end. The other end sends TCP SYNs from random
//! sources, out of the kernel (`BPF_PROG_TEST_RUN` with a program that redirects), and is a client with a grant at the
//! same time. The host's end is served by a kernel thread (threaded NAPI), so that what it takes is known by itself:
//! the processor time of that thread, driver and program together, and the stack too where there is a transfer.
//!
//! The flood is made on one CPU, where the generator runs all the time, at whatever rate; the host's thread and both ends
//! of the transfer share another. What arrives is what the device counted. Frames that find the ring of the veth full
//! never get there: that is a limit of this wire, and it costs the transfer as well.

mod flood;
mod receiver;
mod transfer;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jpat_common::settings::FLAG_GRANT_HINTS;
use jpat_tests::{
    bpffs, leftovers,
    netns::NetNs,
    world::{GRANTED, HOST4, World},
};
use jpat_userspace::clock;

use self::{flood::Flood, receiver::Receiver, transfer::Transfer};
use crate::datapath::{
    stay_on,
    subject::{Program, Subject},
    table::Spread,
};

/// How long and how often.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Times that every row is measured
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Seconds of every measurement
    #[arg(long, default_value_t = 2)]
    seconds: u64,
}

/// The flood runs here.
const FLOOD_CPU: usize = 0;
/// Everything else runs here.
const HOST_CPU: usize = 1;

/// Packets per second; the last is whatever the machine can.
const RATES: [u32; 5] = [0, 100_000, 500_000, 1_000_000, u32::MAX];

/// One line of the table.
#[derive(Default)]
struct Row {
    program: &'static str,
    rate: u32,
    arrived: Vec<f64>,
    cpu: Vec<f64>,
    transfer: Vec<f64>,
}

#[expect(clippy::print_stdout, reason = "the figures are what it is for")]
pub(crate) fn run(options: &Options) -> Result<()> {
    ensure!(
        std::thread::available_parallelism()?.get() > HOST_CPU,
        "the flood needs a CPU of its own: there is one only"
    );
    bpffs::ensure_mounted()?;
    let prefix = leftovers::prefix(0);
    let (host, wire) = (NetNs::create(&format!("{prefix}-host"))?, NetNs::create(&format!("{prefix}-wire"))?);
    connect(&host, &wire)?;
    let mut world = World::new(clock::now().boot.0).keeping();
    world.settings.flags = FLAG_GRANT_HINTS;
    // No controller counts the connections that are gone.
    world.settings.flows_per_grant = u32::MAX;
    let mut subject = Subject::load(&world, 0)?;
    let machine = crate::datapath::machine()?;
    stay_on(HOST_CPU)?;

    let mut rows = Vec::new();
    for (program, name) in [(Program::BareDrop, "bare XDP_DROP"), (Program::Jpat, "jpat")] {
        let receiver = Receiver::attach(&host, subject.program_mut(program)?)?;
        let mut of_program: Vec<_> = RATES.map(|rate| Row { program: name, rate, ..Row::default() }).into();
        for _round in 0..options.rounds {
            for row in &mut of_program {
                measure(row, &subject, &host, &wire, &receiver, Duration::from_secs(options.seconds))?;
            }
        }
        rows.extend(of_program);
        receiver.detach(subject.program_mut(program)?)?;
    }
    println!("TCP SYNs of 60 bytes from random sources to a protected port, over a veth");
    println!("{machine}");
    println!("{} rounds of {} s; median (least to greatest)\n", options.rounds, options.seconds);
    print!("{}", render(&rows));
    Ok(())
}

fn connect(host: &NetNs, wire: &NetNs) -> Result<()> {
    let [client, server] = [GRANTED.v4, HOST4].map(std::net::Ipv4Addr::from);
    host.ip(&format!(
        "link add name eth0 type veth peer name eth0 netns {}\nlink set eth0 up\naddr add {server}/32 dev eth0",
        wire.name()
    ))?;
    wire.ip(&format!("link set eth0 up\naddr add {client}/32 dev eth0\nroute add {server} dev eth0 src {client}"))?;
    host.ip(&format!("route add {client} dev eth0 src {server}"))
}

/// The flood alone, then with a transfer beside it.
fn measure(
    row: &mut Row,
    subject: &Subject,
    host: &NetNs,
    wire: &NetNs,
    receiver: &Receiver<'_>,
    time: Duration,
) -> Result<()> {
    let flood = Flood { subject, wire, rate: row.rate };
    flood.during(|| {
        let before = receiver.read()?;
        let begin = clock::now().boot;
        std::thread::sleep(time);
        let seconds = begin.until(clock::now().boot).as_secs_f64();
        let after = receiver.read()?;
        row.arrived.push((after.packets - before.packets) as f64 / seconds);
        row.cpu.push((after.busy - before.busy).as_secs_f64() / seconds);
        Ok(())
    })?;
    if row.program == "jpat" {
        let transfer = Transfer::open(host, wire).context("a client with a grant")?;
        flood.during(|| {
            row.transfer.push(transfer.bytes_per_second(time)?);
            Ok(())
        })?;
    }
    Ok(())
}

fn render(rows: &[Row]) -> String {
    let mut text = format!(
        "{:<15}{:>10}{:>10}{:>22}{:>16}{:>26}\n",
        "", "offered/s", "arrived/s", "CPU of the host's end", "per M arrived/s", "transfer beside it, MB/s"
    );
    for row in rows {
        let offered = match row.rate {
            u32::MAX => "all".to_owned(),
            rate => thousands(f64::from(rate)),
        };
        let spread = |figures: &[f64], factor| Spread::of(figures.iter().map(|figure| figure * factor));
        let shown = |spread: Option<Spread>| spread.map_or_else(String::new, |spread| spread.to_string());
        let arrived = spread(&row.arrived, 1.0).map_or(0.0, |spread| spread.median);
        let per_million = row.arrived.iter().zip(&row.cpu).filter(|(arrived, _)| **arrived > 1e3);
        let per_million = Spread::of(per_million.map(|(arrived, cpu)| cpu * 100.0 / (arrived / 1e6)));
        text += &format!(
            "{:<15}{offered:>10}{:>10}{:>20} %{:>14} %{:>26}\n",
            row.program,
            thousands(arrived),
            shown(spread(&row.cpu, 100.0)),
            per_million.map_or_else(String::new, |spread| format!("{:.1}", spread.median)),
            shown(spread(&row.transfer, 1e-6)),
        );
    }
    text + "per M arrived/s: processor time of one CPU for every million packets per second; at low rates most of it\n\
            wakes the thread, which bare XDP_DROP shows as well\n"
}

fn thousands(packets: f64) -> String {
    format!("{:.0} k", packets / 1e3)
}
