//! What `/metrics` and the probes are told.

use super::runtime::Runtime;
use crate::{
    clock,
    metrics::{self, server::Probe},
};

impl Runtime {
    /// Why knocks would not be answered as they should.
    pub(super) fn unready(&self) -> Vec<String> {
        let (snapshot, now) = (self.snapshots.load(), clock::now());
        let mut reasons = self.devices.unready();
        if self.trial_ends.is_none() && !self.core.datapath.is_pinned() {
            reasons.push("the pins are gone: they are about to be made again".to_owned());
        }
        if !snapshot.config.issuers.iter().any(|issuer| snapshot.keys.usable(issuer, now.unix).is_some()) {
            reasons.push("no issuer has keys".to_owned());
        }
        if self.core.flows.count >= self.core.datapath.flow_capacity() as usize {
            reasons
                .push("the flow map is full: connections that would be kept cannot begin (`limits.flows`)".to_owned());
        }
        reasons
    }

    fn view(&self) -> metrics::View {
        let devices = [
            ("attached", self.core.datapath.attached().count()),
            ("failing", self.devices.failing_count()),
            ("exposed", self.devices.exposed_count()),
            ("not_judged", self.devices.not_judged().len()),
        ];
        metrics::View {
            reload_ok: self.reload_error.is_none(),
            devices: devices.to_vec(),
            restored: self.devices.restored(),
            ..self.core.view(&self.snapshots.load())
        }
    }

    pub(super) fn on_probe(&self, probe: Probe) {
        // A prober that is gone needs no answer.
        match probe {
            Probe::Scrape(answer) => drop(answer.send(self.core.metrics.encode(self.view()).unwrap_or_default())),
            Probe::Ready(answer) => drop(answer.send(self.unready())),
            Probe::Live(answer) => drop(answer.send(())),
        }
    }
}
