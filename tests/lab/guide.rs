//! What to type in a second terminal: lines that work when pasted.

use std::{path::Path, time::Duration};

use anyhow::Result;
use jpat_tests::network::{Family, Member};

use crate::stage::{self, PORT, PREFIX, Stage, Token, socket};

/// The whole text.
pub(crate) fn text(stage: &Stage, ttl: Duration) -> Result<String> {
    let jpat = quoted(stage.jpat());
    let (v4, v6) = (Member::Host.address(Family::V4), Member::Host.address(Family::V6));
    let url = format!("https://{v4}:{PORT}/");
    let curl = |who, url: &str| inside(who, &format!("curl -k --max-time 2 '{url}'"));
    let knock_from = |who, host: &dyn std::fmt::Display, more: &str| {
        let profile = quoted(&stage::profile());
        inside(who, &format!("{jpat} knock {host} --profile {profile} --wait tcp/{PORT}{more}"))
    };
    let knock = |host: &dyn std::fmt::Display, more: &str| knock_from("client", host, more);
    let with = |token: Token, more| format!(" --token-file {}{more}", quoted(&token.path()));
    let stolen = quoted(&stage::stolen_key());
    let seconds = ttl.as_secs();
    let refused = curl("client", &url);
    Ok(format!(
        "\
JPAT's lab is up: a client ({client}), a stranger ({stranger}) and a protected host ({v4}), each in its own
network namespace, and in front of the host's HTTPS service on tcp/{PORT} a controller, jpatd. Type in a second terminal:

  # Nothing answers: the host is silent
  {refused}

  # Knock: one sealed UDP datagram with a token, and the host says what it opened. The client is served for {seconds} seconds
  {knock}
  {refused}

  # The stranger is not
  {stranger_curl}

  # After {seconds} seconds the port is closed again
  sleep {seconds}; {refused}

  # Refused: an expired token, which earns no answer; one of an employee with the role \"doge\", who is told why, because the
  # token is good; and the client's token and profile in the hands of a stranger without the client's key: no answer. The events
  # below say all of it
  {expired}
  {doge}
  {stolen_keygen}
  {stolen}

  # IPv6 is another address, and so another grant
  {knock6}
  {curl6}

  # A grant can be given back before it ends
  {knock}
  {close}
  {refused}

  # The controller
  {status}
  {grants}

Ctrl-C ends the lab and leaves nothing behind. Events:
",
        client = Member::Client.address(Family::V4),
        stranger = Member::Stranger.address(Family::V4),
        knock = knock(&v4, ""),
        close = inside("client", &format!("{jpat} knock {v4} --profile {} --close", quoted(&stage::profile()))),
        stranger_curl = curl("stranger", &url),
        expired = knock(&v4, &with(Token::Expired, " --force")),
        doge = knock(&v4, &with(Token::Doge, "")),
        stolen_keygen = format_args!("{}{jpat} keygen --out {stolen}", sudo()),
        stolen = knock_from("stranger", &v4, &format!(" --key {stolen} --force")),
        knock6 = knock(&v6, ""),
        curl6 = curl("client", &format!("https://[{v6}]:{PORT}/")),
        status = format_args!("{}{jpat} status --socket {}", sudo(), quoted(&socket())),
        grants = format_args!("{}{jpat} grants list --socket {}", sudo(), quoted(&socket())),
    ))
}

fn inside(who: &str, command: &str) -> String {
    format!("{}ip netns exec {PREFIX}-{who} {command}", sudo())
}

/// Only for those who needed it to start the lab.
fn sudo() -> &'static str {
    match std::env::var("SUDO_USER") {
        Ok(user) if !user.is_empty() && user != "root" => "sudo ",
        Ok(_) | Err(_) => "",
    }
}

/// For a POSIX shell.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_survive_a_shell() {
        assert_eq!(quoted(Path::new("/opt/jpat-1.0/bin")), "/opt/jpat-1.0/bin");
        assert_eq!(quoted(Path::new("/home/a b/it's")), r"'/home/a b/it'\''s'");
    }
}
