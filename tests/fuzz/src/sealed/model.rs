//! The inner message, read a second time from `docs/protocol.md` §7: only what RFC 8949 §4.2.1 calls deterministic, byte by byte.

use std::net::IpAddr;

/// What a receiver must see in a message.
#[derive(Debug, Default)]
pub(super) struct Message {
    pub(super) time_ms: u64,
    pub(super) nonce: Vec<u8>,
    pub(super) server: String,
    pub(super) verb: u64,
    pub(super) token: [Vec<u8>; 3],
    pub(super) services: Option<Vec<String>>,
    pub(super) address: Option<IpAddr>,
    pub(super) client_key: Option<Vec<u8>>,
    pub(super) proof: Option<Vec<u8>>,
}

const UNSIGNED: u8 = 0;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;

/// Reads a plaintext: the message and its padding.
pub(super) fn read(plaintext: &[u8]) -> Option<Message> {
    let mut rest = plaintext;
    let mut message = Message::default();
    let mut last = 0;
    for at in 1..=head(&mut rest, MAP)? {
        let key = head(&mut rest, UNSIGNED)?;
        if key <= last || key > 11 || (at <= 7 && key != at) {
            return None;
        }
        last = key;
        match key {
            1 => message.time_ms = head(&mut rest, UNSIGNED)?,
            2 => message.nonce = string(&mut rest, BYTES)?,
            3 => message.server = text(&mut rest)?,
            4 => message.verb = head(&mut rest, UNSIGNED)?,
            5 => message.token[0] = string(&mut rest, BYTES)?,
            6 => message.token[1] = string(&mut rest, BYTES)?,
            7 => message.token[2] = string(&mut rest, BYTES)?,
            8 => {
                let count = head(&mut rest, ARRAY)?;
                message.services = Some((0..count).map(|_| text(&mut rest)).collect::<Option<_>>()?);
            }
            9 => {
                let bytes = string(&mut rest, BYTES)?;
                message.address = Some(match bytes.len() {
                    4 => IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?),
                    _ => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?),
                });
            }
            10 => message.client_key = Some(string(&mut rest, BYTES)?),
            _ => message.proof = Some(string(&mut rest, BYTES)?),
        }
    }
    let is_padded = plaintext.len().is_multiple_of(8) && rest.len() < 8 && rest.iter().all(|byte| *byte == 0);
    (last >= 7 && is_padded && is_right(&message)).then_some(message)
}

fn is_right(message: &Message) -> bool {
    let is_name = |name: &String| {
        let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        (1..=64).contains(&name.len()) && name.chars().all(fits) && !name.starts_with('.')
    };
    let services = message.services.as_ref().is_none_or(|names| {
        (1..=16).contains(&names.len()) && names.iter().all(is_name) && names.windows(2).all(|pair| pair[0] < pair[1])
    });
    let key = message.client_key.as_ref().is_none_or(|key| [32, 64].contains(&key.len()) && message.proof.is_some());
    services
        && key
        && message.nonce.len() == 16
        && (1..=64).contains(&message.server.len())
        && message.server.bytes().all(|byte| (0x21..=0x7e).contains(&byte))
        && (1..=3).contains(&message.verb)
        && message.token[..2].iter().all(|part| !part.is_empty())
        && message.address.is_none_or(|address| address.to_canonical() == address)
        && message.proof.as_ref().is_none_or(|proof| proof.len() == 64)
}

/// The argument of the next item, if it is of this major type and in its shortest form.
fn head(rest: &mut &[u8], major: u8) -> Option<u64> {
    let (first, behind) = rest.split_first()?;
    if first >> 5 != major {
        return None;
    }
    let (size, least) = match first & 31 {
        small @ 0..=23 => {
            *rest = behind;
            return Some(u64::from(small));
        }
        24 => (1, 24),
        25 => (2, 1 << 8),
        26 => (4, 1 << 16),
        27 => (8, 1 << 32),
        28.. => return None,
    };
    let (number, behind) = behind.split_at_checked(size)?;
    *rest = behind;
    let number = number.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
    (number >= least).then_some(number)
}

fn string(rest: &mut &[u8], major: u8) -> Option<Vec<u8>> {
    let length = usize::try_from(head(rest, major)?).ok()?;
    let (string, behind) = rest.split_at_checked(length)?;
    *rest = behind;
    Some(string.to_vec())
}

fn text(rest: &mut &[u8]) -> Option<String> {
    String::from_utf8(string(rest, TEXT)?).ok()
}
