//! What is measured, in the Prometheus text format, and the probes beside it.

pub mod server;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{counter::ConstCounter, gauge::ConstGauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use crate::{datapath::counters::Count, gate::Taken, refusal::Refusal};

/// Counts that the runtime keeps itself. The packet counters live in the kernel.
#[derive(Debug)]
pub struct Metrics {
    refused: Vec<u64>,
    taken: [u64; Taken::ALL.len()],
    /// Replies that were sent, and that could not be.
    replies: [u64; 2],
    seconds: Histogram,
}

/// What a scrape reads besides [`Metrics`].
#[derive(Clone, Debug, Default)]
pub struct View {
    /// The program's counters, with the service's name.
    pub packets: Vec<(String, Count)>,
    /// Live grants.
    pub grants: usize,
    /// Most live grants.
    pub capacity: u32,
    /// Flows, as last seen.
    pub flows: usize,
    /// Most flows.
    pub flows_capacity: u32,
    /// Issuer and age of its keys in seconds.
    pub key_ages: Vec<(String, f64)>,
    /// Knocks that found their ring full, by the ring.
    pub ring_lost: Vec<(&'static str, u64)>,
    /// Audit lines that could not be written.
    pub audit_lost: u64,
    /// Loads of the configuration.
    pub config_generation: u64,
    /// Whether the last reload succeeded.
    pub reload_ok: bool,
    /// Whether packets are dropped.
    pub enforcing: bool,
    /// Devices by how they stand: attached, failing, exposed, not judged.
    pub devices: Vec<(&'static str, usize)>,
    /// How often the program was put back on a device that it was taken away from.
    pub restored: u64,
}

impl Default for Metrics {
    fn default() -> Self {
        // From 50 µs on: less is not to be had with a signature in between.
        let bounds = [50e-6, 100e-6, 200e-6, 400e-6, 800e-6, 1.6e-3, 3.2e-3, 6.4e-3, 12.8e-3, 51.2e-3, 0.2, 1.0];
        Self { refused: vec![0; Refusal::ALL.len()], taken: [0; _], replies: [0; 2], seconds: Histogram::new(bounds) }
    }
}

impl Metrics {
    /// A knock was refused.
    pub fn refused(&mut self, refusal: Refusal) {
        if let Some(count) = self.refused.get_mut(refusal.index()) {
            *count += 1;
        }
    }

    /// A knock was taken, and its effect was there this long after the program saw it.
    pub fn taken(&mut self, result: Taken, took: std::time::Duration) {
        if let Some(count) = self.taken.get_mut(result as usize) {
            *count += 1;
        }
        self.seconds.observe(took.as_secs_f64());
    }

    /// A reply was to be sent.
    pub const fn replied(&mut self, is_sent: bool) {
        self.replies[if is_sent { 0 } else { 1 }] += 1;
    }

    /// The text of a scrape.
    ///
    /// # Errors
    /// A formatter's error; there is none in practice.
    pub fn encode(&self, view: View) -> Result<String, std::fmt::Error> {
        let mut registry = Registry::with_prefix("jpat");
        registry.register_with_unit(
            "knock",
            "From a knock's receipt in XDP to the write of its grant",
            Unit::Seconds,
            self.seconds.clone(),
        );
        let knocks = Refusal::ALL
            .iter()
            .zip(&self.refused)
            .map(|(refusal, count)| (refusal.code(), *count))
            .chain(Taken::ALL.iter().zip(&self.taken).map(|(result, count)| (result.as_str(), *count)))
            .collect();
        registry.register_collector(Box::new(Scrape { view, knocks, replies: self.replies }));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry)?;
        Ok(text)
    }
}

#[derive(Debug)]
struct Scrape {
    view: View,
    knocks: Vec<(&'static str, u64)>,
    replies: [u64; 2],
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let view = &self.view;
        let counter = ConstCounter::new(0u64).metric_type();
        let mut family = encoder.encode_descriptor("packets", "Packets by outcome", None, counter)?;
        for (service, Count { verdict, reason, packets, .. }) in &view.packets {
            let labels = [("service", service.as_str()), ("verdict", verdict), ("reason", reason)];
            ConstCounter::new(*packets).encode(family.encode_family(&labels)?)?;
        }
        let mut family = encoder.encode_descriptor("knocks", "Knocks by result", None, counter)?;
        for (result, count) in &self.knocks {
            ConstCounter::new(*count).encode(family.encode_family(&[("result", *result)])?)?;
        }
        let mut family = encoder.encode_descriptor("replies", "Replies to knocks", None, counter)?;
        for (result, count) in ["sent", "failed"].iter().zip(&self.replies) {
            ConstCounter::new(*count).encode(family.encode_family(&[("result", *result)])?)?;
        }
        let mut family = encoder.encode_descriptor("ring_lost", "Records that found a ring full", None, counter)?;
        for (ring, lost) in &view.ring_lost {
            ConstCounter::new(*lost).encode(family.encode_family(&[("ring", *ring)])?)?;
        }
        let lost = encoder.encode_descriptor("audit_lost", "Audit lines that could not be written", None, counter)?;
        ConstCounter::new(view.audit_lost).encode(lost)?;

        let help = "Times the program was put back on a device";
        let restored = encoder.encode_descriptor("restored", help, None, counter)?;
        ConstCounter::new(view.restored).encode(restored)?;

        let gauge = ConstGauge::new(0u64).metric_type();
        let help = "Devices by state; `exposed` ones lead to protected ports past the program";
        let mut family = encoder.encode_descriptor("devices", help, None, gauge)?;
        for (state, count) in &view.devices {
            ConstGauge::new(*count as u64).encode(family.encode_family(&[("state", *state)])?)?;
        }
        let mut family =
            encoder.encode_descriptor("jwks_age", "Since the issuer's keys were read", Some(&Unit::Seconds), gauge)?;
        for (issuer, age) in &view.key_ages {
            ConstGauge::new(*age).encode(family.encode_family(&[("issuer", issuer.as_str())])?)?;
        }
        let gauges = [
            ("grants", "Live grants", view.grants as u64),
            ("grants_capacity", "Most live grants", u64::from(view.capacity)),
            ("flows", "Connections in the flow map, as last seen", view.flows as u64),
            ("flows_capacity", "Most connections in the flow map", u64::from(view.flows_capacity)),
            ("config_generation", "Loads of the configuration", view.config_generation),
            ("config_reload_ok", "Whether the last reload succeeded", u64::from(view.reload_ok)),
            ("enforcing", "Whether packets are dropped", u64::from(view.enforcing)),
        ];
        for (name, help, value) in gauges {
            let encoder = encoder.encode_descriptor(name, help, None, gauge)?;
            ConstGauge::new(value).encode(encoder)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_design() {
        let mut metrics = Metrics::default();
        metrics.refused(Refusal::Expired);
        metrics.taken(Taken::Granted, std::time::Duration::from_micros(300));
        let count = Count { service: 1, verdict: "drop", reason: "no_grant", packets: 7 };
        let view = View {
            packets: vec![("web".into(), count)],
            key_ages: vec![("corp".into(), 1.5)],
            grants: 3,
            flows: 5,
            flows_capacity: 9,
            devices: vec![("exposed", 2)],
            restored: 4,
            ring_lost: vec![("sealed", 6), ("bare", 0)],
            ..View::default()
        };
        let text = metrics.encode(view).unwrap();
        for line in [
            r#"jpat_packets_total{service="web",verdict="drop",reason="no_grant"} 7"#,
            r#"jpat_knocks_total{result="expired"} 1"#,
            r#"jpat_knocks_total{result="granted"} 1"#,
            r#"jpat_knocks_total{result="bad_signature"} 0"#,
            r#"jpat_knocks_total{result="renewed"} 0"#,
            r#"jpat_replies_total{result="sent"} 0"#,
            r#"jpat_ring_lost_total{ring="sealed"} 6"#,
            r#"jpat_ring_lost_total{ring="bare"} 0"#,
            r#"jpat_jwks_age_seconds{issuer="corp"} 1.5"#,
            r#"jpat_devices{state="exposed"} 2"#,
            "jpat_restored_total 4",
            "jpat_grants 3",
            "jpat_grants_capacity 0",
            "jpat_flows 5",
            "jpat_flows_capacity 9",
            "jpat_knock_seconds_count 1",
            r#"jpat_knock_seconds_bucket{le="0.0004"} 1"#,
            r#"jpat_knock_seconds_bucket{le="0.0002"} 0"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
