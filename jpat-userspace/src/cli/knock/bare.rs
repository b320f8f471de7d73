//! A knock without a seal: nobody answers it.

use std::net::SocketAddr;

use super::{Options, facts, judge, report_failed};
use crate::{
    cli::{CliError, block_on},
    client::{
        self, ClientError, Knocked, preflight, token_source,
        wait::{self, WaitFor},
    },
    clock,
    knock::Form,
    output::{self, Format},
};

pub(super) fn run(options: &Options) -> Result<(), CliError> {
    let text = token_source::read(&options.token_source(None)?)?;
    let now = clock::now().unix;
    let datagram = client::bare(&text, now)?;
    let seen = preflight::look(&text, Form::Bare, now);
    judge(&seen, options.force)?;
    let host = options.host.as_ref().ok_or(CliError::NoHost)?;
    let port = options.knock_port.unwrap_or(client::KNOCK_PORT);
    let addresses = client::resolve(host, port, options.family())?;
    let begin = clock::now().boot;
    let mut knocked = client::knock(datagram, &addresses)?;
    report_failed(&knocked.failed);
    if options.output.format == Format::Text {
        report_sent(&mut knocked);
    }
    let answered = match options.wait {
        Some(service) => Some((service, wait_for(options, service, port, &mut knocked)?)),
        None => None,
    };
    let answered = answered.map(|(service, at)| facts::Answered::new(service, at, begin));
    match options.output.format {
        Format::Json => output::json(facts::of_bare(&mut knocked, &seen, answered.as_ref())),
        Format::Text => answered.iter().for_each(facts::Answered::tell),
    }
    Ok(())
}

fn report_sent(knocked: &mut Knocked) {
    for sent in &mut knocked.sent {
        let (bytes, ip, port) = (sent.bytes, sent.to.ip(), sent.to.port());
        match sent.rejected() {
            None => output::fact(&format!("sent {bytes} bytes to {ip} udp/{port}; the server does not answer")),
            Some(error) => output::fact(&format!("sent {bytes} bytes to {ip} udp/{port}; they were rejected: {error}")),
        }
    }
}

fn wait_for(options: &Options, service: WaitFor, port: u16, knocked: &mut Knocked) -> Result<SocketAddr, CliError> {
    let hosts: Vec<_> = knocked.sent.iter().map(|sent| sent.to).collect();
    block_on(wait::wait(service, &hosts, options.wait_timeout))?.map_err(|not_open| {
        let mut sent = knocked.sent.iter_mut();
        let rejecting = sent.find_map(|sent| sent.rejected().is_some().then_some(sent.to.ip()));
        for hint in super::told::hints(port, rejecting, not_open.refused().is_some()) {
            output::talk(&format!("hint: {hint}"));
        }
        ClientError::NotOpen(not_open).into()
    })
}
