//! The bare form: the datagram is the compact JWS, with at most one trailing LF or CRLF.

use super::MAX_PAYLOAD;
use crate::refusal::Refusal;

/// Strips the line end and checks the characters: `[A-Za-z0-9_-]`, exactly two dots, neither header nor payload empty.
///
/// # Errors
/// [`Refusal::TooLong`]; [`Refusal::NotJws`] without exactly three parts, or with an empty header or payload;
/// [`Refusal::BadBase64`] for any other character.
pub fn decode(bytes: &[u8]) -> Result<&str, Refusal> {
    if bytes.len() > MAX_PAYLOAD {
        return Err(Refusal::TooLong);
    }
    let line = bytes.strip_suffix(b"\n").map_or(bytes, |line| line.strip_suffix(b"\r").unwrap_or(line));
    let mut parts = line.split(|byte| *byte == b'.');
    // The signature may be empty here, so that an unsecured JWS (RFC 7515 §6) is refused by its own name.
    let (Some(header), Some(payload), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err(Refusal::NotJws);
    };
    if header.is_empty() || payload.is_empty() {
        return Err(Refusal::NotJws);
    }
    // Without a branch for each character, so that many are looked at in one step.
    let is_good = |byte: &u8| byte.is_ascii_alphanumeric() | (*byte == b'-') | (*byte == b'_') | (*byte == b'.');
    if !line.iter().fold(true, |are_good, byte| are_good & is_good(byte)) {
        return Err(Refusal::BadBase64);
    }
    // All of it is ASCII by now.
    std::str::from_utf8(line).map_err(|_not_ascii| Refusal::BadBase64)
}

/// The datagram for a token, without a line end.
///
/// # Errors
/// As [`decode`], so that a client never sends what a server would refuse unread.
pub fn encode(token: &str) -> Result<&[u8], Refusal> {
    decode(token.trim().as_bytes()).map(str::as_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_end_at_most() {
        for good in ["a.b.c", "a.b.c\n", "a.b.c\r\n"] {
            assert_eq!(decode(good.as_bytes()), Ok("a.b.c"), "{good:?}");
        }
        for bad in ["a.b.c\n\n", "a.b.c\r", " a.b.c", "a.b.c ", "a.b=.c", "a.\0.c", "a.ü.c"] {
            assert_eq!(decode(bad.as_bytes()), Err(Refusal::BadBase64), "{bad:?}");
        }
    }

    #[test]
    fn three_parts_and_only_the_signature_may_be_empty() {
        assert_eq!(decode(b"a.b."), Ok("a.b."));
        for bad in ["", "\n", "a", "a.b", ".b.c", "a..c", "a.b.c.d", "a.b.c.d.e"] {
            assert_eq!(decode(bad.as_bytes()), Err(Refusal::NotJws), "{bad:?}");
        }
        assert_eq!(decode(&[b'a'; MAX_PAYLOAD + 1]), Err(Refusal::TooLong));
    }
}
