//! Services as the program knows them.

use std::collections::BTreeSet;

use aya::maps::Array;
use jpat_common::{
    addr,
    grant::ServiceId,
    map_name,
    settings::{self, ServiceRule},
};

use super::{Prepared, Rules, Tables, any_of, nanos};
use crate::{
    config::{PortRange, PrefixWidths, Sessions},
    datapath::error::DataPathError,
};

/// A service as the program knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Service {
    /// Its number.
    pub id: ServiceId,
    /// Its ports.
    pub ports: Vec<PortRange>,
    /// Widths of the addresses that its grants cover.
    pub prefix: PrefixWidths,
    /// What outlives its grants.
    pub sessions: Sessions,
}

impl Service {
    /// As the program has it, while none of its connections is adopted.
    #[must_use]
    pub fn rule(&self) -> ServiceRule {
        let Sessions { keeps_tcp, keeps_udp, flow_idle, flow_max } = self.sessions;
        let flags =
            [(keeps_tcp, settings::RULE_TCP_FLOWS | settings::RULE_KEEP_TCP), (keeps_udp, settings::RULE_KEEP_UDP)];
        ServiceRule {
            mask_v4: addr::mask(self.prefix.v4.saturating_add(96)),
            mask_v6: addr::mask(self.prefix.v6),
            flags: any_of(&flags),
            reserved: 0,
            flow_idle_ns: nanos(flow_idle),
            flow_max_ns: nanos(flow_max),
        }
    }
}

impl Tables {
    pub(super) fn write_services(&mut self, slot: u32, rules: &Rules) -> Result<(), DataPathError> {
        let mut table: Array<_, ServiceRule> =
            Array::try_from(self.map_mut(map_name::SERVICES)?).map_err(DataPathError::map(map_name::SERVICES))?;
        for service in &rules.services {
            let index = settings::service_index(slot, service.id);
            table.set(index, service.rule(), 0).map_err(DataPathError::map(map_name::SERVICES))?;
        }
        Ok(())
    }

    /// Has the program look for the TCP segments of these services among the flows, also where sessions are cut, because
    /// some were adopted. `prepared` are the rules meant; without them those in force are.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn look_up_flows(
        &mut self,
        services: &BTreeSet<ServiceId>,
        prepared: Option<&Prepared>,
    ) -> Result<(), DataPathError> {
        let slot = match prepared {
            Some(prepared) => prepared.slot,
            None => self.settings()?.slot,
        };
        let mut table: Array<_, ServiceRule> =
            Array::try_from(self.map_mut(map_name::SERVICES)?).map_err(DataPathError::map(map_name::SERVICES))?;
        for service in services {
            let index = settings::service_index(slot, *service);
            let mut rule = table.get(&index, 0).map_err(DataPathError::map(map_name::SERVICES))?;
            if rule.flags & settings::RULE_TCP_FLOWS == 0 {
                rule.flags |= settings::RULE_TCP_FLOWS;
                table.set(index, rule, 0).map_err(DataPathError::map(map_name::SERVICES))?;
            }
        }
        Ok(())
    }
}
