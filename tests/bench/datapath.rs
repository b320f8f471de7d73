//! What a packet costs: JPAT's program beside the floor and beside what people use today, in one run.
//!
//! The kernel runs a program on a frame again and again (`BPF_PROG_TEST_RUN`) and says how long a run took on average.
//! *Plain* runs call the program alone, over one frame in the cache. *Live* frames go through what a driver does as
//! well: a page for each, the program, and then back into the pool, or up the stack of the namespace. There a frame for
//! the program's own comparison ends at once, because its Ethernet address is another host's; a frame for iptables or
//! nftables has the host's address, so that it gets to their hooks, and bare `XDP_PASS` in front. Their figures are the
//! whole way, as JPAT's are.
//!
//! Other work on the machine only ever adds, and comes and goes. All rows are measured in turn, once a round, and each
//! ratio is of two figures of the same round. Shown are median, least and greatest of the rounds.
//!
//! One test run has one frame, so a grant of its own for every packet is made by a program in front, which writes a
//! random source into the frame and tail-calls the one that is measured. What it costs is a row of its own. The bare
//! look-up behind it asks the very map that JPAT's program asks.

mod bars;
mod plan;
mod rivals;
mod rounds;
pub(crate) mod subject;
pub(crate) mod table;

use anyhow::{Context, Result, ensure};
use jpat_common::settings::FLAG_GRANT_HINTS;
use jpat_tests::{bpffs, leftovers, netns::NetNs, world::World};
use jpat_userspace::clock;
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};

use self::{plan::Plan, rivals::Rivals, subject::Subject};

/// Ethernet address of `eth0` in every namespace.
const HOST_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 1];

/// How long and how often.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Times that every row is measured
    #[arg(long, default_value_t = 15)]
    rounds: u32,
    /// Packets per measurement
    #[arg(long, default_value_t = 200_000)]
    packets: u32,
    /// The CPU that everything runs on
    #[arg(long, default_value_t = 0)]
    cpu: usize,
    /// Most grants to look among
    #[arg(long, default_value_t = 1_000_000)]
    grants: u32,
    /// Only rows with this in their name (the bars need all)
    #[arg(long)]
    only: Option<String>,
}

#[expect(clippy::print_stdout, reason = "the figures are what it is for")]
pub(crate) fn run(options: &Options) -> Result<()> {
    ensure!(options.rounds > 0 && options.packets > 0, "nothing to measure");
    bpffs::ensure_mounted()?;
    let prefix = leftovers::prefix(0);
    let host = host(&prefix, "host")?;
    let mut world = World::new(clock::now().boot.0);
    world.settings.flags = FLAG_GRANT_HINTS;
    let keeping = world.keeping();
    plan::flows(&keeping);
    let (subject, keeping) = (Subject::load(&world, 0)?, Subject::load(&keeping, 0)?);
    let sizes = [1, 1_000, 100_000, 1_000_000].into_iter().filter(|&size| size <= options.grants);
    let crowded = sizes.map(|grants| Subject::load(&world, grants)).collect::<Result<Vec<_>>>()?;
    let rivals = Rivals::prepare(&prefix, &subject)?;
    let mut plan = Plan::new(&host, &subject, &keeping, &crowded, &rivals)?;
    if let Some(only) = &options.only {
        plan.rows.retain(|row| row.name.contains(only.as_str()) || plan::FLOORS.contains(&row.name.as_str()));
    }
    println!("{}", machine()?);
    let Options { rounds, packets, .. } = options;
    println!("{rounds} rounds of {packets} packets a row; ns per packet: median (least to greatest)");
    for skipped in &rivals.skipped {
        println!("skipped: {skipped}");
    }
    let figures = rounds::measure(&plan, options)?;
    print!("\n{}", table::render(&plan, &figures));
    print!("\n{}", bars::render(&figures));
    Ok(())
}

/// A namespace with one device `eth0` that takes live frames, and an address that is not that of the frames' sources.
fn host(prefix: &str, name: &str) -> Result<NetNs> {
    let host = NetNs::create(&format!("{prefix}-{name}"))?;
    let mac = HOST_MAC.map(|byte| format!("{byte:02x}")).join(":");
    host.ip(&format!(
        "link add name eth0 address {mac} type veth peer name wire\n\
         link set wire up\n\
         link set eth0 up\n\
         addr add 192.0.2.1/24 dev eth0"
    ))?;
    Ok(host)
}

/// Keeps this thread, and those it starts, on one CPU.
pub(crate) fn stay_on(cpu: usize) -> Result<()> {
    let mut cpus = CpuSet::new();
    cpus.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &cpus).with_context(|| format!("stay on CPU {cpu}"))
}

/// Kernel and processor.
pub(crate) fn machine() -> Result<String> {
    let read = |path| std::fs::read_to_string(path).with_context(|| format!("read {path}"));
    let cpuinfo = read("/proc/cpuinfo")?;
    let model =
        cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).unwrap_or_default().1;
    let jit = read("/proc/sys/net/core/bpf_jit_enable")
        .map_or("unknown", |value| if value.trim() == "0" { "off" } else { "on" });
    Ok(format!(
        "Linux {}, {model}, {} CPUs, BPF JIT {jit}, load {}",
        read("/proc/sys/kernel/osrelease")?.trim(),
        std::thread::available_parallelism()?,
        read("/proc/loadavg")?.split(' ').next().unwrap_or("unknown"),
    ))
}
