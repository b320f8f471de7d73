//! Whether this host takes packets out of IPsec: what they carry then reaches it without having been judged.

use std::io;

use super::netlink::{self, Family, Message, attributes};

const XFRM_MSG_NEWSA: u16 = 16;
const XFRM_MSG_GETSA: u16 = 18;
const XFRM_MSG_NEWPOLICY: u16 = 19;
const XFRM_MSG_GETPOLICY: u16 = 21;
const XFRMA_ENCAP: u16 = 4;
/// `struct xfrm_usersa_info`.
const STATE: usize = 224;
/// `dir` of `struct xfrm_userpolicy_info`.
const DIRECTION: usize = 160;
const INBOUND: u8 = 0;
/// `TCP_ENCAP_ESPINTCP`
const IN_TCP: u16 = 7;
/// The port of ESP in UDP (RFC 3948), which the program knows.
const NAT_TRAVERSAL: u16 = 4500;

/// What IPsec there is in this network namespace.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ipsec {
    /// Security associations.
    pub states: usize,
    /// Those of them whose ESP travels in TCP or on UDP ports of its own, for which nobody takes it.
    pub hidden: usize,
    /// Policies for what comes in.
    pub policies: usize,
}

impl Ipsec {
    /// Whether there is any.
    #[must_use]
    pub const fn is_used(&self) -> bool {
        self.states > 0 || self.policies > 0
    }
}

/// Asks the kernel, which tells it to CAP_NET_ADMIN. A kernel without IPsec has none.
///
/// # Errors
/// What it says.
pub fn read() -> io::Result<Ipsec> {
    let states = match netlink::dump(Family::Xfrm, XFRM_MSG_GETSA, &[], state) {
        Err(error) if error.raw_os_error() == Some(nix::Error::EPROTONOSUPPORT as i32) => {
            return Ok(Ipsec::default());
        }
        other => other?,
    };
    let policies = netlink::dump(Family::Xfrm, XFRM_MSG_GETPOLICY, &[], inbound_policy)?.len();
    Ok(Ipsec { states: states.len(), hidden: states.into_iter().filter(|is_hidden| *is_hidden).count(), policies })
}

/// Whether its packets are hidden in others.
fn state(message: Message<'_>) -> Option<bool> {
    let body = (message.kind == XFRM_MSG_NEWSA).then_some(message.body)?;
    let wrapping = attributes(body.get(STATE..)?).find(|(kind, _)| *kind == XFRMA_ENCAP);
    Some(wrapping.is_some_and(|(_, template)| {
        let Some([t0, t1, s0, s1, d0, d1]) = template.first_chunk::<6>() else { return true };
        let ports = [u16::from_be_bytes([*s0, *s1]), u16::from_be_bytes([*d0, *d1])];
        u16::from_ne_bytes([*t0, *t1]) == IN_TCP || !ports.contains(&NAT_TRAVERSAL)
    }))
}

fn inbound_policy(message: Message<'_>) -> Option<()> {
    let body = (message.kind == XFRM_MSG_NEWPOLICY).then_some(message.body)?;
    (body.get(DIRECTION) == Some(&INBOUND)).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(kind: u16, body: &[u8], attributes: &[(u16, &[u8])]) -> Option<bool> {
        let bytes = netlink::message(kind, body, attributes);
        netlink::messages(&bytes).find_map(state)
    }

    #[test]
    fn p2_esp_on_ports_of_its_own_is_hidden() {
        let template = |kind: u16, from: u16, to: u16| {
            let head = [kind.to_ne_bytes(), from.to_be_bytes(), to.to_be_bytes()].concat();
            [head, vec![0; 18]].concat()
        };
        for (template, is_hidden) in [
            (None, false),
            (Some(template(2, 4500, 4500)), false),
            (Some(template(2, 31_000, 4500)), false),
            (Some(template(2, 5555, 5555)), true),
            (Some(template(IN_TCP, 4500, 4500)), true),
            (Some(vec![2, 0]), true),
        ] {
            let attributes: Vec<_> = template.iter().map(|bytes| (XFRMA_ENCAP, bytes.as_slice())).collect();
            assert_eq!(found(XFRM_MSG_NEWSA, &[0; STATE], &attributes), Some(is_hidden), "{template:?}");
        }
        assert_eq!(found(XFRM_MSG_NEWSA, &[0; STATE - 4], &[]), None);
        assert_eq!(found(XFRM_MSG_NEWPOLICY, &[0; STATE], &[]), None);
    }

    #[test]
    fn only_inbound_policies_count() {
        for (direction, counts) in [(0, true), (1, false), (2, false)] {
            let mut body = [0; DIRECTION + 8];
            body[DIRECTION] = direction;
            let bytes = netlink::message(XFRM_MSG_NEWPOLICY, &body, &[]);
            assert_eq!(netlink::messages(&bytes).find_map(inbound_policy).is_some(), counts, "{direction}");
        }
    }
}
