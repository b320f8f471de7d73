//! Which flows are over.

use std::{collections::BTreeMap, time::Duration};

use jpat_common::{
    addr,
    flow::{FLAG_ADOPTED, FLAG_CLOSING, FlowKey, FlowValue},
    grant::{GrantKey, ServiceId},
    settings::{RULE_KEEP_TCP, RULE_KEEP_UDP, ServiceRule},
};

use crate::{clock::BootTime, datapath::sock_diag::Sockets};

/// After a client closed, its last segments may come once more.
const LINGER: Duration = Duration::from_secs(2);
/// The same where the host has no socket to ask: the connection is forwarded to somebody else.
const FORWARDED_LINGER: Duration = Duration::from_secs(60);

/// What becomes of a flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in super::super) enum Fate {
    /// It goes on.
    Live,
    /// Its client seems to have closed; it goes on until that is certain.
    Closing,
    /// Somebody forged a FIN or RST: the host's socket is connected as before.
    NotClosing,
    /// It is over.
    Over,
}

/// Decides on flows, as they are at one moment.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Judge<'a> {
    /// What is in force.
    pub(in super::super) rules: &'a BTreeMap<ServiceId, ServiceRule>,
    /// The live generation.
    pub(in super::super) generation: u32,
    /// The host's own connections, where somebody looked.
    pub(in super::super) sockets: Option<&'a Sockets>,
    pub(in super::super) now: BootTime,
}

impl Judge<'_> {
    pub(in super::super) fn fate(&self, key: &FlowKey, flow: &FlowValue) -> Fate {
        let Some(rule) = self.rules.get(&flow.service) else { return Fate::Over };
        if !is_looked_up(key, flow, rule) || flow.refusal(self.now.0, self.generation, rule).is_some() {
            return Fate::Over;
        }
        match self.sockets {
            _ if !is_closing(flow) => Fate::Live,
            None => Fate::Closing,
            Some(sockets) if sockets.established.contains(key) => Fate::NotClosing,
            Some(sockets) if sockets.between.contains(key) || sockets.opening.contains(key) => Fate::Closing,
            Some(sockets) => {
                let is_own = sockets.listening.contains(&key.destination_port());
                let linger = if is_own { LINGER } else { FORWARDED_LINGER };
                let is_silent = BootTime(flow.seen_ns).until(self.now) >= linger;
                if is_silent { Fate::Over } else { Fate::Closing }
            }
        }
    }

    /// The key of the grant that a flow is counted under; nothing for a flow of no service.
    pub(in super::super) fn grant(&self, key: &FlowKey, flow: &FlowValue) -> Option<GrantKey> {
        Some(grant_key(key, flow.service, self.rules.get(&flow.service)?))
    }
}

/// Whether the program looks at the flow at all.
pub(in super::super) const fn is_looked_up(key: &FlowKey, flow: &FlowValue, rule: &ServiceRule) -> bool {
    let keeps = if key.protocol() == 6 { RULE_KEEP_TCP } else { RULE_KEEP_UDP };
    rule.flags & keeps != 0 || (flow.flags & FLAG_ADOPTED != 0 && key.protocol() == 6)
}

/// Whether the client sent a FIN or RST, or somebody in its name.
pub(in super::super) const fn is_closing(flow: &FlowValue) -> bool {
    flow.flags & FLAG_CLOSING != 0
}

/// The key of the grant for a source.
pub(in super::super) fn grant_key(key: &FlowKey, service: ServiceId, rule: &ServiceRule) -> GrantKey {
    let mask = if addr::is_v4(key.source()) { &rule.mask_v4 } else { &rule.mask_v6 };
    GrantKey::new(key.source(), mask, service)
}

#[cfg(test)]
mod tests {
    use jpat_common::flow::{EMBRYONIC_NS, STATE_EMBRYONIC, STATE_ESTABLISHED};

    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const NOW: u64 = 1_000 * SECOND;

    fn key(port: u16, protocol: u8) -> FlowKey {
        FlowKey::new(
            addr::from_v4([192, 0, 2, 7]),
            [200, 1],
            addr::from_v4([192, 0, 2, 1]),
            port.to_be_bytes(),
            protocol,
        )
    }

    fn rules(flags: u32) -> BTreeMap<ServiceId, ServiceRule> {
        let rule = ServiceRule {
            mask_v4: addr::mask(120),
            mask_v6: addr::mask(64),
            flags,
            flow_idle_ns: 100 * SECOND,
            flow_max_ns: 500 * SECOND,
            ..ServiceRule::default()
        };
        BTreeMap::from([(3, rule)])
    }

    fn fate(
        rules: &BTreeMap<ServiceId, ServiceRule>,
        sockets: Option<&Sockets>,
        key: FlowKey,
        flow: FlowValue,
    ) -> Fate {
        Judge { rules, generation: 7, sockets, now: BootTime(NOW) }.fate(&key, &flow)
    }

    #[test]
    fn p3_what_the_program_would_refuse_is_over() {
        let live = FlowValue::new(NOW - 50 * SECOND, 3, 7, STATE_ESTABLISHED);
        let embryonic = FlowValue::new(NOW - EMBRYONIC_NS, 3, 7, STATE_EMBRYONIC);
        for (what, flow, expected) in [
            ("live", live, Fate::Live),
            ("idle", FlowValue { seen_ns: NOW - 100 * SECOND, ..live }, Fate::Over),
            ("too old", FlowValue { opened_ns: NOW - 500 * SECOND, ..live }, Fate::Over),
            ("of another generation", FlowValue { generation: 6, ..live }, Fate::Over),
            ("of no service", FlowValue { service: 4, ..live }, Fate::Over),
            ("never confirmed", embryonic, Fate::Over),
        ] {
            assert_eq!(fate(&rules(RULE_KEEP_TCP), None, key(22, 6), flow), expected, "{what}");
        }
    }

    #[test]
    fn p3_where_sessions_are_cut_only_adopted_connections_go_on() {
        let live = FlowValue::new(NOW - SECOND, 3, 7, STATE_ESTABLISHED);
        let adopted = FlowValue { flags: FLAG_ADOPTED, ..live };
        for (flags, protocol, flow, expected) in [
            (RULE_KEEP_UDP, 6, live, Fate::Over),
            (RULE_KEEP_TCP, 17, live, Fate::Over),
            (RULE_KEEP_UDP, 17, live, Fate::Live),
            (0, 6, adopted, Fate::Live),
            (0, 17, adopted, Fate::Over),
        ] {
            assert_eq!(fate(&rules(flags), None, key(22, protocol), flow), expected, "{flags} {protocol}");
        }
    }

    /// Anybody can forge a FIN or RST: only the host's own socket says that a connection is over.
    #[test]
    fn p4_a_forged_fin_ends_no_connection() {
        let closing = FlowValue { flags: FLAG_CLOSING, ..FlowValue::new(NOW - 80 * SECOND, 3, 7, STATE_ESTABLISHED) };
        let just_now = FlowValue { seen_ns: NOW - SECOND, ..closing };
        let (ssh, other) = (key(22, 6), key(80, 6));
        let mut sockets = Sockets { listening: [22].into(), ..Sockets::default() };
        let of = |sockets: &Sockets, key, flow| fate(&rules(RULE_KEEP_TCP), Some(sockets), key, flow);
        assert_eq!(of(&sockets, ssh, closing), Fate::Over);
        assert_eq!(of(&sockets, ssh, just_now), Fate::Closing, "its last segments may come again");
        sockets.between.insert(ssh);
        assert_eq!(of(&sockets, ssh, closing), Fate::Closing);
        sockets.established.insert(ssh);
        assert_eq!(of(&sockets, ssh, closing), Fate::NotClosing);
        assert_eq!(fate(&rules(RULE_KEEP_TCP), None, ssh, closing), Fate::Closing, "nobody looked");
        for (silent, expected) in [(59, Fate::Closing), (60, Fate::Over)] {
            let forwarded = FlowValue { seen_ns: NOW - silent * SECOND, ..closing };
            assert_eq!(of(&sockets, other, forwarded), expected, "forwarded, silent for {silent} s");
        }
    }

    #[test]
    fn a_flow_is_counted_under_the_prefix_of_its_grant() {
        let rules = rules(RULE_KEEP_TCP);
        let judge = Judge { rules: &rules, generation: 7, sockets: None, now: BootTime(NOW) };
        let flow = FlowValue::new(NOW, 3, 7, STATE_ESTABLISHED);
        let grant = judge.grant(&key(22, 6), &flow).unwrap();
        assert_eq!((*grant.source(), grant.service()), (addr::from_v4([192, 0, 2, 0]), 3));
        assert_eq!(judge.grant(&key(22, 6), &FlowValue { service: 4, ..flow }), None);
    }
}
