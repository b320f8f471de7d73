//! Knock to open port, and how many knocks a core takes.

mod fwknop;
mod latency;

use std::time::Duration;

use anyhow::Result;
use jpat_tests::{
    bpffs, leftovers,
    network::Network,
    services::{Service, Services},
};
use jpat_userspace::admin::{Request, Response, client};

use self::{fwknop::Fwknop, latency::Timed};
use crate::{
    controller::{Algorithm, Controller, Form, KNOCK_PORT, SERVICE_PORT, Setup},
    throughput,
};

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Knocks to time in each row
    #[arg(long, default_value_t = 200)]
    knocks: u32,
    /// Knocks before, not timed
    #[arg(long, default_value_t = 20)]
    warm_up: u32,
    /// Knocks to time with fwknopd
    #[arg(long, default_value_t = 15)]
    fwknop: u32,
    /// Knocks of each measurement of the throughput
    #[arg(long, default_value_t = 20_000)]
    throughput: u32,
    /// Times that the throughput is measured
    #[arg(long, default_value_t = 3)]
    rounds: u32,
}

struct Row {
    form: Form,
    algorithm: Algorithm,
    /// Most for the median and for the 99th percentile.
    bar: (Option<Duration>, Option<Duration>),
}

const ROWS: [Row; 9] = [
    row(Form::Bare, Algorithm::Es256, (Some(Duration::from_micros(400)), None)),
    row(Form::Sealed, Algorithm::Es256, (None, None)),
    row(Form::Proof, Algorithm::Es256, (Some(Duration::from_micros(800)), Some(Duration::from_millis(3)))),
    row(Form::Bare, Algorithm::Hs256, (None, None)),
    row(Form::Bare, Algorithm::Rs256, (None, None)),
    row(Form::Bare, Algorithm::EdDsa, (None, None)),
    row(Form::Sealed, Algorithm::Hs256, (None, None)),
    row(Form::Sealed, Algorithm::Rs256, (None, None)),
    row(Form::Sealed, Algorithm::EdDsa, (None, None)),
];

const fn row(form: Form, algorithm: Algorithm, bar: (Option<Duration>, Option<Duration>)) -> Row {
    Row { form, algorithm, bar }
}

#[expect(clippy::print_stdout, reason = "the figures are what it is for")]
pub(crate) fn run(options: &Options) -> Result<()> {
    bpffs::ensure_mounted()?;
    println!("{}", crate::datapath::machine()?);
    if options.knocks > 0 {
        println!(
            "knock to first UDP echo through the port that it opens, {} knocks a row, a probe every {:?} or less\n",
            options.knocks,
            latency::INTERVAL
        );
        latencies(options)?;
    }
    if options.throughput > 0 && options.rounds > 0 {
        throughput::run(options.throughput, options.rounds)?;
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the figures are what it is for")]
fn latencies(options: &Options) -> Result<()> {
    let prefix = leftovers::prefix(0);
    let net = Network::create(&prefix)?;
    let _services = Services::start(&net.host, vec![Service::UdpEcho(SERVICE_PORT)])?;
    println!("{:<26}{:>6}  {}", "", "bytes", Timed::HEAD);
    for (number, row) in ROWS.iter().enumerate() {
        let setup = Setup { algorithm: row.algorithm, form: row.form, ttl: "30s", limits: "", cpu: None };
        let controller = Controller::start(&net.host, &format!("{prefix}-{number}"), &setup)?;
        let target = latency::Target {
            port: KNOCK_PORT,
            prepare: &|knock| controller.knock(&format!("bench-{knock}")),
            close: &|| flush(&controller),
        };
        let timed = net.client.run(|| latency::measure(options.warm_up, options.knocks, &target))?;
        let name = format!("{}, {}", row.form.as_str(), row.algorithm.as_str());
        println!("{name:<26}{:>6}  {}{}", timed.bytes, timed.line(), timed.verdict(row.bar));
        controller.stop()?;
    }
    match Fwknop::start(&net, &prefix)? {
        Err(missing) => println!("skipped: fwknopd: {missing}"),
        Ok(fwknop) => {
            let target =
                latency::Target { port: fwknop::KNOCK_PORT, prepare: &|_| fwknop.packet(), close: &|| fwknop.close() };
            let timed = net.client.run(|| latency::measure(1, options.fwknop, &target))?;
            println!("{:<26}{:>6}  {}", fwknop.name, timed.bytes, timed.line());
        }
    }
    Ok(())
}

fn flush(controller: &Controller<'_>) -> Result<()> {
    let response = client::request(&controller.admin(), &Request::GrantsFlush)?;
    anyhow::ensure!(matches!(response, Response::Flushed { .. }), "flush: {response:?}");
    Ok(())
}
