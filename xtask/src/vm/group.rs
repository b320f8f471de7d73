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
    /// Life cycle (promise P4): kill -9, restart, upgrade, pins, detach.
    Life,
    /// Kinds of devices and what is particular to them, among them those that development machines seldom have.
    Devices,
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

/// What is run of the life cycle: where kernels may differ, not what the controller does by itself.
const LIFE: [&str; 13] = [
    "control_",
    "p4_sigterm_",
    "p4_no_packet_leaks_",
    "p4_a_hundred_",
    "p4_a_flow_goes_on_",
    "p4_a_flow_without_a_grant_",
    "p4_a_second_controller_on_the_same_pins",
    "p4_an_upgrade_that_died_between_",
    "p4_a_program_that_cannot_be_loaded",
    "p4_pins_that_somebody_removed",
    "p4_pins_of_a_newer",
    "p4_detach_removes",
    "p4_detach_on_exit",
];

const DEVICES: [&str; 9] = [
    "p2_the_attach_mode_and_why_are_told",
    "p2_jumbo_frames_",
    "p2_a_tun_device_",
    "p2_what_comes_out_of_a_listed_vxlan",
    "p2_external_takes_a_bond",
    "p2_ipsec_is_an_alarm",
    "p2_forwarded_traffic_is_not_harmed_routed_",
    "p4_a_program_that_is_taken_away",
    "p4_a_link_that_somebody_switched_over",
];

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
            Self::Devices => "devices",
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
            Self::Load => vec![run("kernel", "load_ --test-threads 1", 600), run("e2e", "status_and_log_", 600)],
            Self::Xdp => vec![run("xdp", "--test-threads 1 --skip cost_", 1_500)],
            Self::Life => LIFE.iter().map(|filter| run("e2e", filter, 1_500)).collect(),
            Self::Devices => DEVICES.iter().map(|filter| run("e2e", filter, 900)).collect(),
            Self::Time => vec![
                run("e2e", "p3_a_clock_ --test-threads 1", 1_200),
                run("e2e", "p3_no_grant_outlives_ --test-threads 1", 900),
                run("e2e", "p6_a_captured_knock_is_refused_after_clock_steps", 900),
            ],
            Self::Lru => vec![run("kernel", "lru_ --test-threads 1", 300)],
        }
    }
}
