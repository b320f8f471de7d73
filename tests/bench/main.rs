//! The benchmarks behind `cargo xtask bench`: real packets, real namespaces, built with optimisations.

mod controller;
mod cpu;
mod datapath;
mod flood;
mod knock;
mod life;
mod summary;
mod throughput;
mod wire;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask bench", disable_version_flag = true)]
struct Cli {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// From the send of a knock to the first UDP echo through the port that it opens, and how many knocks a core takes
    Knock(knock::Options),
    /// What becomes of good knocks while others flood the knock port
    Flood(flood::Options),
    /// What a flood on a protected port costs, and what it leaves of a transfer beside it
    Cpu(cpu::Options),
    /// What a packet costs, beside bare XDP programs, iptables and nftables
    Datapath(datapath::Options),
    /// What restarts and upgrades of the controller leak, lose and delay
    Life(life::Options),
}

fn main() -> Result<()> {
    jpat_tests::leftovers::clear_dead_runs()?;
    match Cli::parse().bench {
        Bench::Knock(options) => knock::run(&options),
        Bench::Flood(options) => flood::run(&options),
        Bench::Cpu(options) => cpu::run(&options),
        Bench::Datapath(options) => datapath::run(&options),
        Bench::Life(options) => life::run(&options),
    }
}
