//! What became of a knock, for programs. Stable within the documents' version.

use std::{net::SocketAddr, time::Duration};

use serde_json::{Value, json};

use crate::{
    client::{
        Knocked, SendError, Sent, error_explained,
        exchange::{Exchange, Heard, clock_offset},
        preflight::Preflight,
        wait::WaitFor,
    },
    clock::{self, BootTime, UnixTime},
    knock::{
        Form,
        reply::{Outcome, Reply},
        sealed::Verb,
    },
    output,
};

/// A service that answered.
pub(super) struct Answered {
    pub(super) service: WaitFor,
    pub(super) at: SocketAddr,
    /// Since the knock.
    pub(super) after: Duration,
}

impl Answered {
    /// At this moment.
    pub(super) fn new(service: WaitFor, at: SocketAddr, begin: BootTime) -> Self {
        Self { service, at, after: begin.until(clock::now().boot) }
    }

    pub(super) fn tell(&self) {
        output::fact(&format!("{} on {} answers after {} ms", self.service, self.at.ip(), self.after.as_millis()));
    }

    fn json(&self) -> Value {
        let (service, after) = (self.service.to_string(), self.after.as_millis());
        json!({ "service": service, "address": self.at.ip(), "milliseconds": after })
    }
}

pub(super) fn of_bare(knocked: &mut Knocked, seen: &Preflight, answered: Option<&Answered>) -> Value {
    let sent = |sent: &mut Sent| {
        let error = sent.rejected().map(ToString::to_string);
        json!({ "address": sent.to.ip(), "port": sent.to.port(), "bytes": sent.bytes, "rejected": error })
    };
    json!({
        "outcome": if answered.is_some() { "open" } else { "sent" },
        "form": Form::Bare.as_str(),
        "sent": knocked.sent.iter_mut().map(sent).collect::<Vec<_>>(),
        "not_sent": not_sent(&knocked.failed),
        "token": token(seen),
        "open": answered.map(Answered::json),
    })
}

pub(super) fn of_sealed(
    exchanges: &[Exchange],
    failed: &[SendError],
    verb: Verb,
    seen: &Preflight,
    answered: Option<&Answered>,
) -> Value {
    let sent = |one: &Exchange| {
        let (rejected, reply) = match &one.heard {
            Heard::Reply(answer, came) => (None, Some(reply(answer, *came))),
            Heard::Rejected(error) => (Some(error.to_string()), None),
            Heard::Silence | Heard::Strange(_) => (None, None),
        };
        json!({
            "address": one.to.ip(), "port": one.to.port(), "bytes": one.bytes, "times": one.attempts,
            "rejected": rejected, "reply": reply,
        })
    };
    json!({
        "outcome": if answered.is_some() { "open" } else { outcome(exchanges, verb) },
        "form": Form::Sealed.as_str(),
        "verb": verb.as_str(),
        "sent": exchanges.iter().map(sent).collect::<Vec<_>>(),
        "not_sent": not_sent(failed),
        "token": token(seen),
        "open": answered.map(Answered::json),
    })
}

/// The best of what the addresses say.
fn outcome(exchanges: &[Exchange], verb: Verb) -> &'static str {
    let mut outcome = "sent";
    for exchange in exchanges {
        if let Heard::Reply(reply, _) = &exchange.heard {
            match reply.outcome {
                Outcome::Done { .. } => {
                    return match verb {
                        Verb::Open => "opened",
                        Verb::Renew => "renewed",
                        Verb::Close => "closed",
                    };
                }
                Outcome::Refused(_) => outcome = "refused",
            }
        }
    }
    outcome
}

fn reply(reply: &Reply, came: UnixTime) -> Value {
    let (server_time, ahead) = (reply.server_time.to_string(), clock_offset(reply, came));
    let clock = json!({ "time": server_time, "ahead_seconds": (ahead * 1000.0).round() / 1000.0 });
    match &reply.outcome {
        Outcome::Done { services, repeated } => {
            let service = |(name, end): &(String, UnixTime)| {
                let open = *end != UnixTime(0);
                json!({
                    "name": name,
                    "until": open.then(|| end.to_string()),
                    "seconds": open.then(|| reply.server_time.until(*end).as_secs_f64()),
                })
            };
            let services: Vec<_> = services.iter().map(service).collect();
            json!({ "outcome": "done", "services": services, "repeated": repeated, "server": clock })
        }
        Outcome::Refused(code) => {
            let text = error_explained(code);
            let text = text.trim_matches([' ', '(', ')']);
            json!({ "outcome": "refused", "reason": code, "text": text, "server": clock })
        }
    }
}

fn not_sent(failed: &[SendError]) -> Vec<String> {
    failed.iter().map(ToString::to_string).collect()
}

fn token(seen: &Preflight) -> Value {
    json!({
        "expires": seen.expires.map(|expires| expires.to_string()),
        "findings": seen.findings.iter().map(|finding| finding.code()).collect::<Vec<_>>(),
    })
}
