//! Groups of tests, each one or more runs of a test program in the guest.

use std::time::Duration;

use clap::ValueEnum;

/// A group of tests.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Group {
    /// Every program of the object loads and attaches, by driver and by the generic hook; what the verifier walked; what
    /// the kernel does without is said.
    Load,
    /// The data path, packet by packet, through the kernel's test runs.
    Xdp,
    /// Life cycle (promise P4): kill -9, restart, pins, detach.
    Life,
    /// Ends on time (P3): time to live, `exp`, clock steps, suspend.
    Time,
    /// Renewals at the headroom of the grant map.
    Lru,
}

/// What runs in the guest under one name.
pub(super) struct Planned {
    pub(super) name: &'static str,
    pub(super) runs: Vec<Run>,
}

/// One run of a test program.
pub(super) struct Run {
    pub(super) program: String,
    pub(super) arguments: Vec<String>,
    /// The longest it may take.
    pub(super) bound: Duration,
}

/// The groups that were asked for, or all; or one of a single command.
pub(super) fn plan(groups: Vec<Group>, command: Vec<String>) -> Vec<Planned> {
    if let [program, arguments @ ..] = command.as_slice() {
        let bound = Duration::from_secs(600);
        let run = Run { program: program.clone(), arguments: arguments.to_vec(), bound };
        return vec![Planned { name: "command", runs: vec![run] }];
    }
    let groups = if groups.is_empty() { Group::value_variants().to_vec() } else { groups };
    groups.into_iter().map(|group| Planned { name: group.name(), runs: group.runs() }).collect()
}

impl Group {
    const fn name(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Xdp => "xdp",
            Self::Life => "life",
            Self::Time => "time",
            Self::Lru => "lru",
        }
    }

    fn runs(self) -> Vec<Run> {
        let run = |program: &str, arguments: &str, seconds| Run {
            program: program.to_owned(),
            arguments: arguments.split_whitespace().map(str::to_owned).collect(),
            bound: Duration::from_secs(seconds),
        };
        match self {
            // Bounds are for a busy host. One at a time: a count takes this process's last descriptor away, a clock is
            // everybody's, and 5.10 falls into a loop when two threads have the program run at once.
            Self::Load => vec![run("kernel", "load_ --test-threads 1", 300), run("e2e", "status_and_log_", 120)],
            Self::Xdp => vec![run("xdp", "--test-threads 1 --skip cost_", 900)],
            Self::Life => vec![run("e2e", "control_", 180), run("e2e", "p4_ --test-threads 1", 1_200)],
            Self::Time => vec![
                run("e2e", "p3_a_clock_ --test-threads 1", 600),
                run("e2e", "p3_no_grant_outlives_ --test-threads 1", 300),
            ],
            Self::Lru => vec![run("kernel", "lru_ --test-threads 1", 300)],
        }
    }
}
