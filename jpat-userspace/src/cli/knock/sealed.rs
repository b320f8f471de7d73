//! A sealed knock and its reply.

use std::{cell::Cell, net::SocketAddr, time::Duration};

use super::{
    Options,
    facts::{self, Answered},
    judge, report_failed, told,
};
use crate::{
    cli::{CliError, block_on},
    client::{
        self, ClientError, SendError,
        exchange::{self, ATTEMPTS, Exchange, Heard},
        preflight,
        sealed::{self, Sealer, Wish},
        token_source,
        wait::{self, NotOpen, WaitFor},
    },
    clock,
    knock::{Form, reply::Outcome},
    output::{self, Format},
};

pub(super) fn run(options: &Options) -> Result<(), CliError> {
    let profile = options.profile()?;
    let token = token_source::read(&options.token_source(Some(&profile))?)?;
    let now = clock::now().unix;
    let key = options.key.as_ref().or(profile.client_key.as_ref());
    let key = key.map(|path| sealed::read_key(path)).transpose()?;
    let wish = Wish {
        verb: options.verb(),
        token: &token,
        services: &options.service,
        address: options.address.or(profile.address),
        key: key.as_ref(),
        force: options.force,
    };
    let sealer = Sealer::new(&profile, wish, now)?;
    let seen = preflight::look(&token, Form::Sealed, now);
    judge(&seen, options.force)?;
    let host = options.host.as_ref().or(profile.host.as_ref()).ok_or(CliError::NoHost)?;
    let port = options.knock_port.unwrap_or(profile.port);
    let addresses = client::resolve(host, port, options.family())?;
    let patience = (profile.reply && !options.timeout.is_zero()).then_some(options.timeout);
    let begin = clock::now().boot;
    let wanted = options.wait.map(|service| (service, options.wait_timeout));
    let tell = |exchanges: &[Exchange]| {
        if options.output.format == Format::Text {
            exchanges.iter().for_each(|exchange| told::tell(exchange, options.verb(), exchanges.len() > 1));
        }
    };
    let knocked = block_on(knock(&sealer, &addresses, patience, wanted, tell))??;
    report_failed(&knocked.failed);
    let refused = knocked.refusal();
    let answered = match knocked.waited {
        Some((service, Ok((at, when)))) => Some(Answered { service, at, after: begin.until(when) }),
        Some((_, Err(_))) | None => None,
    };
    match options.output.format {
        Format::Json if answered.is_some() || knocked.not_open().is_none() => {
            output::json(facts::of_sealed(
                &knocked.exchanges,
                &knocked.failed,
                options.verb(),
                &seen,
                answered.as_ref(),
            ));
        }
        // The failure that follows is the fact.
        Format::Json => {}
        Format::Text => answered.iter().for_each(Answered::tell),
    }
    match (knocked.waited, refused) {
        (Some((_, Ok(_))), _) | (None, None) => Ok(()),
        (_, Some(code)) => Err(ClientError::Refused { code }.into()),
        (Some((_, Err(not_open))), None) => {
            let rejecting = knocked.exchanges.iter().find(|one| matches!(one.heard, Heard::Rejected(_)));
            let silent = knocked.exchanges.iter().all(|one| !matches!(one.heard, Heard::Reply(..)));
            if silent || not_open.refused().is_some() {
                let rejecting = rejecting.map(|one| one.to.ip());
                for hint in told::hints(port, rejecting, not_open.refused().is_some()) {
                    output::talk(&format!("hint: {hint}"));
                }
            }
            Err(ClientError::NotOpen(not_open).into())
        }
    }
}

/// What became of it all.
struct Knocked {
    exchanges: Vec<Exchange>,
    failed: Vec<SendError>,
    waited: Option<Waited>,
}

/// What was waited for, and where and when it answered.
type Waited = (WaitFor, Result<(SocketAddr, clock::BootTime), NotOpen>);

impl Knocked {
    /// The first refusal, if no address did what was asked.
    fn refusal(&self) -> Option<String> {
        let mut refusal = None;
        for exchange in &self.exchanges {
            match &exchange.heard {
                Heard::Reply(reply, _) => match &reply.outcome {
                    Outcome::Done { .. } => return None,
                    Outcome::Refused(code) => refusal = refusal.or_else(|| Some(code.clone())),
                },
                Heard::Silence | Heard::Rejected(_) | Heard::Strange(_) => {}
            }
        }
        refusal
    }

    /// Whether it was waited for a service in vain, and no refusal says why.
    fn not_open(&self) -> Option<&NotOpen> {
        let waited = self.waited.as_ref().filter(|_| self.refusal().is_none());
        waited.and_then(|(_, result)| result.as_ref().err())
    }
}

/// Knocks at all addresses at a time; waits for the service meanwhile, unless the server refuses.
async fn knock(
    sealer: &Sealer<'_>,
    addresses: &[SocketAddr],
    patience: Option<Duration>,
    wanted: Option<(WaitFor, Duration)>,
    tell: impl FnOnce(&[Exchange]),
) -> Result<Knocked, ClientError> {
    let is_open = Cell::new(false);
    let knocking = all(sealer, addresses, patience, &is_open);
    let Some((service, timeout)) = wanted else {
        let (exchanges, failed) = knocking.await?;
        tell(&exchanges);
        return Ok(Knocked { exchanges, failed, waited: None });
    };
    let mut knocking = std::pin::pin!(knocking);
    let mut waiting = std::pin::pin!(async {
        let open = wait::wait(service, addresses, timeout).await;
        open.map(|at| (at, clock::now().boot))
    });
    let mut open = None;
    let (exchanges, failed) = loop {
        tokio::select! {
            // In this order: a SYN in front of the knock would be repeated late.
            biased;
            knocked = &mut knocking => break knocked?,
            result = &mut waiting, if open.is_none() => {
                is_open.set(result.is_ok());
                open = Some(result);
            }
        }
    };
    tell(&exchanges);
    let mut knocked = Knocked { exchanges, failed, waited: None };
    if knocked.refusal().is_none() {
        let result = match open {
            Some(result) => result,
            None => waiting.await,
        };
        knocked.waited = Some((service, result));
    }
    Ok(knocked)
}

async fn all(
    sealer: &Sealer<'_>,
    addresses: &[SocketAddr],
    patience: Option<Duration>,
    is_open: &Cell<bool>,
) -> Result<(Vec<Exchange>, Vec<SendError>), ClientError> {
    let one = |at: SocketAddr| {
        exchange::exchange(sealer, at, patience, move |attempt| {
            if is_open.get() {
                return false;
            }
            output::talk(&format!("no reply from {} yet: knocking again ({attempt} of {ATTEMPTS})", at.ip()));
            true
        })
    };
    let results = match addresses {
        [first, second] => {
            let (first, second) = tokio::join!(one(*first), one(*second));
            vec![first, second]
        }
        addresses => {
            let mut results = Vec::new();
            for at in addresses {
                results.push(one(*at).await);
            }
            results
        }
    };
    let (mut exchanges, mut failed) = (Vec::new(), Vec::new());
    for result in results {
        match result {
            Ok(exchange) => exchanges.push(exchange),
            Err(ClientError::NotSent(errors)) => failed.extend(errors),
            Err(other) => return Err(other),
        }
    }
    if exchanges.is_empty() { Err(ClientError::NotSent(failed)) } else { Ok((exchanges, failed)) }
}
