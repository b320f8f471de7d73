//! The matrix, by group. Names say what a case does; its protocol comes first.

mod addresses;
mod fragments4;
mod fragments6;
mod ipv4;
mod ipv6;
mod lengths;
mod link;
mod tcp;
mod tunnels;
mod udp;

use anyhow::Result;

use super::case::Case;
use crate::stage::Stage;

/// What the host may answer to cases for a protected port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Answers {
    /// Nothing.
    None,
    /// That it does not know the outer protocol, which it says of every port alike.
    Unreachable,
}

/// Cases that are sent together, and the host that they need.
pub(crate) struct Group {
    pub(crate) name: &'static str,
    /// `listen.tunnels`
    pub(crate) tunnels: &'static str,
    pub(crate) prepare: fn(&Stage) -> Result<()>,
    pub(crate) answers: Answers,
    pub(crate) cases: Vec<Case>,
}

pub(crate) fn groups() -> Vec<Group> {
    let plain = |name, cases| Group { name, tunnels: "pass", prepare: |_stage| Ok(()), answers: Answers::None, cases };
    vec![
        plain("ipv4", ipv4::cases()),
        plain("ipv6", ipv6::cases()),
        plain("fragments4", fragments4::cases()),
        plain("fragments6", fragments6::cases()),
        plain("lengths", lengths::cases()),
        plain("link", link::cases()),
        plain("tcp", tcp::cases()),
        plain("udp", udp::cases()),
        plain("addresses", addresses::cases()),
        Group {
            name: "tunnels",
            tunnels: "drop",
            prepare: tunnels::prepare,
            answers: Answers::None,
            cases: tunnels::cases(),
        },
        Group { answers: Answers::Unreachable, ..plain("tunnels_passed", tunnels::passed()) },
    ]
}

/// All that come in fragments.
pub(crate) fn fragments() -> Vec<Case> {
    fragments4::cases().into_iter().chain(fragments6::cases()).collect()
}
