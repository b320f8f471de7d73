//! What became of a sealed knock, for people.

use std::{net::IpAddr, time::Duration};

use crate::{
    client::{
        error_explained,
        exchange::{Exchange, Heard, clock_offset},
    },
    clock::UnixTime,
    knock::{
        reply::{Outcome, Reply},
        sealed::Verb,
    },
    output,
};

/// A clock this far from the server's is worth a word: the tokens' times are compared with the server's.
const WORTH_TELLING: f64 = 5.0;

/// One line for each thing that is known; `several` names the address as well.
pub(super) fn tell(exchange: &Exchange, verb: Verb, several: bool) {
    let at = if several { format!(" at {}", exchange.to.ip()) } else { String::new() };
    match &exchange.heard {
        Heard::Reply(reply, came) => {
            lines(reply, *came, verb).iter().for_each(|line| output::fact(&format!("{line}{at}")));
            if let Some(clock) = clock(reply, *came) {
                output::talk(&clock);
            }
        }
        Heard::Silence => output::fact(&format!("{}; the server does not answer", sent(exchange))),
        Heard::Rejected(error) => {
            output::fact(&format!("{}; the server does not answer, and the network says: {error}", sent(exchange)));
        }
        Heard::Strange(error) => output::fact(&format!("{}; the server answers, but {error}", sent(exchange))),
    }
}

fn sent(exchange: &Exchange) -> String {
    let (bytes, ip, port) = (exchange.bytes, exchange.to.ip(), exchange.to.port());
    match exchange.attempts {
        0 | 1 => format!("sent {bytes} bytes to {ip} udp/{port}"),
        times => format!("sent {bytes} bytes to {ip} udp/{port}, {times} times"),
    }
}

fn lines(reply: &Reply, came: UnixTime, verb: Verb) -> Vec<String> {
    match &reply.outcome {
        Outcome::Refused(code) => vec![format!("refused: {code}{}", error_explained(code))],
        Outcome::Done { services, repeated } if services.is_empty() => vec![nameless(verb, *repeated)],
        Outcome::Done { services, repeated } => {
            services.iter().map(|(name, end)| line(name, *end, *repeated, reply, came, verb)).collect()
        }
    }
}

/// For want of room, unless there was nothing to close (`docs/protocol.md` §10).
fn nameless(verb: Verb, repeated: bool) -> String {
    match (verb, repeated) {
        (Verb::Close, true) => "nothing was open".to_owned(),
        (Verb::Open | Verb::Renew, true) => "open as before; the reply had no room for names".to_owned(),
        (Verb::Open | Verb::Renew | Verb::Close, false) => format!("{}; the reply had no room for names", done(verb)),
    }
}

fn line(name: &str, end: UnixTime, repeated: bool, reply: &Reply, came: UnixTime, verb: Verb) -> String {
    let name = output::printable(name);
    if end == UnixTime(0) {
        return format!("closed {name}");
    }
    let left = reply.server_time.until(end);
    // By this machine's clock, whatever the server's says.
    let until = local(came.after(left));
    if repeated {
        format!("{name} is open for {} (until {until}), as before: this token opens once", span(left))
    } else {
        format!("{} {name} for {} (until {until})", done(verb), span(left))
    }
}

const fn done(verb: Verb) -> &'static str {
    match verb {
        Verb::Open => "opened",
        Verb::Renew => "renewed",
        Verb::Close => "closed",
    }
}

/// What to say of the clocks, if anything.
fn clock(reply: &Reply, came: UnixTime) -> Option<String> {
    let ahead = clock_offset(reply, came);
    let skewed = matches!(&reply.outcome, Outcome::Refused(code) if code == "clock_skew");
    let (seconds, side) = if ahead > 0.0 { (ahead, "behind") } else { (-ahead, "ahead of") };
    (skewed || seconds >= WORTH_TELLING).then(|| format!("your clock is {seconds:.0} s {side} the server's"))
}

/// Whole seconds, rounded: the reply took its time.
fn span(left: Duration) -> String {
    match (left + Duration::from_millis(500)).as_secs() {
        secs @ ..600 => format!("{secs} s"),
        secs @ ..7_200 => format!("{} min", secs / 60),
        secs => format!("{} h", secs / 3_600),
    }
}

/// Hours, minutes and seconds in this machine's time zone.
fn local(time: UnixTime) -> String {
    let timestamp = jiff::Timestamp::from_nanosecond(i128::from(time.0));
    timestamp.map_or_else(
        |_range| time.to_string(),
        |time| time.to_zoned(jiff::tz::TimeZone::system()).strftime("%H:%M:%S").to_string(),
    )
}

/// What may be wrong, when a silent server leaves one guessing.
pub(super) fn hints(port: u16, rejecting: Option<IpAddr>, refused: bool) -> Vec<String> {
    if let Some(ip) = rejecting {
        return vec![format!(
            "{ip} rejects udp/{port}, which a JPAT server never does: is it the right host and --knock-port?"
        )];
    }
    if refused {
        return vec!["the port is open to you, by a grant or without one: is the service running?".to_owned()];
    }
    vec![
        format!("a datagram can get lost, and firewalls on the way may drop udp/{port}: knock again"),
        "the server writes why it refused a token into its audit log, and tells nobody else".to_owned(),
        "clocks that differ make good tokens expired or not yet valid".to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAME: UnixTime = UnixTime::from_secs(1_000_000);

    fn done_with(services: &[(&str, u64)], repeated: bool) -> Reply {
        let services = services.iter().map(|(name, end)| ((*name).to_owned(), UnixTime::from_secs(*end))).collect();
        Reply { outcome: Outcome::Done { services, repeated }, server_time: UnixTime::from_secs(1_000_094) }
    }

    fn told(reply: &Reply, verb: Verb) -> String {
        lines(reply, CAME, verb).join("\n")
    }

    #[test]
    fn the_end_is_told_by_the_clock_of_this_machine() {
        let until = local(UnixTime::from_secs(1_000_030));
        let reply = done_with(&[("db", 1_000_124), ("web", 0)], false);
        assert_eq!(told(&reply, Verb::Open), format!("opened db for 30 s (until {until})\nclosed web"));
        assert_eq!(told(&reply, Verb::Renew), format!("renewed db for 30 s (until {until})\nclosed web"));
        let again = done_with(&[("db", 1_000_124)], true);
        let expected = format!("db is open for 30 s (until {until}), as before: this token opens once");
        assert_eq!(told(&again, Verb::Open), expected);
        assert_eq!(told(&done_with(&[], false), Verb::Close), "closed; the reply had no room for names");
        assert_eq!(told(&done_with(&[], true), Verb::Close), "nothing was open");
        let as_before = "open as before; the reply had no room for names";
        assert_eq!(told(&done_with(&[], true), Verb::Open), as_before);
        assert_eq!(clock(&reply, CAME).unwrap(), "your clock is 94 s behind the server's");
    }

    #[test]
    fn a_refusal_is_told_by_its_code_and_in_words() {
        let refused =
            |code: &str, at| Reply { outcome: Outcome::Refused(code.into()), server_time: UnixTime::from_secs(at) };
        assert!(told(&refused("not_allowed", 1_000_000), Verb::Open).starts_with("refused: not_allowed ("));
        assert_eq!(told(&refused("of_a_later_version", 1_000_000), Verb::Open), "refused: of_a_later_version");
        assert_eq!(clock(&refused("not_allowed", 1_000_000), CAME), None);
        assert_eq!(clock(&refused("clock_skew", 999_960), CAME).unwrap(), "your clock is 40 s ahead of the server's");
    }

    #[test]
    fn a_name_cannot_steer_the_terminal() {
        assert_eq!(told(&done_with(&[("\u{1b}[2J", 0)], false), Verb::Close), "closed \\u{1b}[2J");
    }
}
