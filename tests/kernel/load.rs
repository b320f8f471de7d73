//! Every program of the object loads, and attaches where devices of its kind are.

use std::sync::{
    Mutex,
    atomic::{AtomicU32, Ordering::Relaxed},
};

use anyhow::{Context, Result, bail, ensure};
use aya::{
    Ebpf,
    programs::{ProgramError, Xdp, XdpMode},
    util::KernelVersion,
};
use jpat_common::map_name;
use jpat_tests::{leftovers, netns::NetNs};
use jpat_userspace::datapath::object::OBJECT;
use libtest_mimic::Trial;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::{Outcome, trial};

/// A program, and where it has to attach.
struct Program {
    name: &'static str,
    /// The first kernel that takes it.
    since: (u8, u8),
    /// `ip link add name v0 KIND`.
    device: &'static str,
    hooks: &'static [(&'static str, XdpMode)],
}

const BOTH: &[(&str, XdpMode)] = &[("driver", XdpMode::Driver), ("generic", XdpMode::Skb)];

const GENERIC: &[(&str, XdpMode)] = &[("generic", XdpMode::Skb)];

const PROGRAMS: [Program; 3] = [
    Program { name: map_name::PROGRAM, since: (5, 10), device: "link add name v0 type veth peer name v1", hooks: BOTH },
    Program {
        name: map_name::PROGRAM_FRAGS,
        since: (5, 18),
        device: "link add name v0 type veth peer name v1",
        hooks: BOTH,
    },
    Program { name: map_name::PROGRAM_L3, since: (5, 10), device: "tuntap add name v0 mode tun", hooks: GENERIC },
];

/// Instructions the verifier may walk. The kernel's limit is a million.
const VERIFIER_BUDGET: u64 = 200_000;

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = vec![trial("load_the_object_has_these_programs_alone", these_alone)];
    for Program { name, since, device, hooks } in PROGRAMS {
        trials.push(trial(format!("load_{name}_passes_the_verifier"), move || passes(name, since)));
        for (hook, mode) in hooks {
            trials.push(trial(format!("load_{name}_attaches_by_{hook}"), move || attaches(name, since, device, *mode)));
        }
    }
    trials
}

fn these_alone() -> Result<Outcome> {
    let object = Ebpf::load(OBJECT).context("load the maps")?;
    let mut found: Vec<_> = object.programs().map(|(name, _)| name).collect();
    found.sort_unstable();
    let mut expected = PROGRAMS.map(|program| program.name);
    expected.sort_unstable();
    ensure!(found == expected, "the object holds {found:?}, not {expected:?}");
    Ok(Outcome::Passed)
}

fn passes(name: &str, since: (u8, u8)) -> Result<Outcome> {
    if !is_since(since) {
        return refused(name, since);
    }
    let mut object = loaded(name)?;
    let counted = match program(&mut object, name)?.info()?.verified_instruction_count() {
        Some(count) => u64::from(count),
        None => count_by_log(name)?,
    };
    // The line that `cargo xtask vm` reads.
    println!("verifier: {name} {counted}");
    ensure!(counted > 1_000, "{counted} instructions are not this program");
    ensure!(counted <= VERIFIER_BUDGET, "the verifier walked {counted} instructions, more than {VERIFIER_BUDGET}");
    Ok(Outcome::Passed)
}

/// A kernel that is too old says so, and a loader has to know that before it asks.
fn refused(name: &str, (major, minor): (u8, u8)) -> Result<Outcome> {
    ensure!(loaded(name).is_err(), "a kernel before {major}.{minor} takes {name}");
    Ok(Outcome::Lacks("needs Linux 5.18 (XDP over several buffers)"))
}

/// Before 5.16 only the verifier's log tells, and the library hands it out for failed loads alone. So this one fails after
/// the verifier's walk: there is no descriptor left for the program.
fn count_by_log(name: &str) -> Result<u64> {
    static LIMIT: Mutex<()> = Mutex::new(());
    let _alone = LIMIT.lock();
    let mut object = Ebpf::load(OBJECT).context("load the maps")?;
    let program = program(&mut object, name)?;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    // A descriptor's number is the lowest that is free, so none is left below this one.
    let next = std::fs::File::open("/proc/self/stat")?;
    setrlimit(Resource::RLIMIT_NOFILE, u64::try_from(std::os::fd::AsRawFd::as_raw_fd(&next))? + 1, hard)?;
    let result = program.load();
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard)?;
    drop(next);
    let Err(ProgramError::LoadError { io_error, verifier_log }) = result else {
        bail!("a load without a descriptor ended as {result:?}");
    };
    let log = verifier_log.to_string();
    let count = log.lines().rev().find_map(|line| line.strip_prefix("processed ")?.split(' ').next()?.parse().ok());
    count.with_context(|| format!("{io_error}; the verifier's log does not say what it walked: {log}"))
}

fn attaches(name: &str, since: (u8, u8), device: &str, mode: XdpMode) -> Result<Outcome> {
    if !is_since(since) {
        return Ok(Outcome::Lacks("needs Linux 5.18 (XDP over several buffers)"));
    }
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let ns = NetNs::create(&leftovers::prefix(NUMBER.fetch_add(1, Relaxed))).context("a namespace")?;
    ns.ip(&format!("{device}\nlink set v0 up"))?;
    let mut object = loaded(name)?;
    ns.run(|| {
        let index = nix::net::if_::if_nametoindex("v0")?;
        let program = program(&mut object, name)?;
        let link = program.attach_to_if_index(index, mode).context("attach")?;
        let listed = jpat_userspace::datapath::interfaces::list()?;
        let device = listed.iter().find(|device| device.index == index).context("v0 is gone")?;
        let id = program.info()?.id();
        let is_alone = !device.xdp_programs.is_empty() && device.xdp_programs.iter().all(|found| *found == id);
        ensure!(is_alone, "the device has the programs {:?}, not {id}", device.xdp_programs);
        program.detach(link).context("detach")
    })?;
    Ok(Outcome::Passed)
}

fn is_since((major, minor): (u8, u8)) -> bool {
    KernelVersion::current().is_ok_and(|current| current >= KernelVersion::new(major, minor, 0))
}

fn loaded(name: &str) -> Result<Ebpf> {
    let mut object = Ebpf::load(OBJECT).context("load the maps")?;
    program(&mut object, name)?.load().context("the verifier")?;
    Ok(object)
}

fn program<'a>(object: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    Ok(object.program_mut(name).with_context(|| format!("the object has no program {name}"))?.try_into()?)
}
