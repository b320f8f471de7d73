//! What `/metrics` says, in the Prometheus text format.

use std::{collections::BTreeMap, net::SocketAddr};

use anyhow::{Result, bail};

use crate::{netns::NetNs, probe};

/// One scrape.
#[derive(Clone, Debug, Default)]
pub struct Metrics(Vec<Sample>);

#[derive(Clone, PartialEq, Debug)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Metrics {
    /// Scrapes `/metrics` from inside `ns`.
    ///
    /// # Errors
    /// If it is not served.
    pub fn scrape(ns: &NetNs, from: SocketAddr) -> Result<Self> {
        match probe::http_get(ns, from, "/metrics")? {
            (200, body) => Ok(Self::parse(&body)),
            (status, _) => bail!("/metrics: status {status}"),
        }
    }

    /// The sum of all samples of `name` that carry these labels; zero if there are none.
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let fits = |sample: &&Sample| {
            sample.name == name
                && labels.iter().all(|(key, value)| sample.labels.get(*key).map(String::as_str) == Some(*value))
        };
        // An empty sum of floats is -0.
        self.0.iter().filter(fits).fold(0.0, |sum, sample| sum + sample.value)
    }

    /// All samples of `name`, added up by the value of `label`.
    #[must_use]
    pub fn values(&self, name: &str, label: &str) -> BTreeMap<String, f64> {
        let mut values = BTreeMap::new();
        for sample in self.0.iter().filter(|sample| sample.name == name) {
            if let Some(key) = sample.labels.get(label) {
                *values.entry(key.clone()).or_default() += sample.value;
            }
        }
        values
    }

    /// Knocks with this result: a refusal's code, or `granted`.
    #[must_use]
    pub fn knocks(&self, result: &str) -> f64 {
        self.sum("jpat_knocks_total", &[("result", result)])
    }

    /// Packets with this reason.
    #[must_use]
    pub fn packets(&self, reason: &str) -> f64 {
        self.sum("jpat_packets_total", &[("reason", reason)])
    }

    /// Samples of `name` that are not as they were in `earlier`, for messages.
    #[must_use]
    pub fn changes(&self, earlier: &Self, name: &str) -> String {
        let changed = self.0.iter().filter(|sample| sample.name == name && !earlier.0.contains(sample));
        changed.map(|sample| format!("{:?}={} ", sample.labels.values(), sample.value)).collect()
    }

    fn parse(text: &str) -> Self {
        Self(text.lines().filter(|line| !line.starts_with('#')).filter_map(Sample::parse).collect())
    }
}

impl Sample {
    fn parse(line: &str) -> Option<Self> {
        let (series, value) = line.trim().rsplit_once(' ')?;
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let labels = labels.strip_suffix('}')?;
        let pairs = labels.split("\",").filter_map(|pair| {
            let (key, value) = pair.split_once("=\"")?;
            Some((key.to_owned(), value.trim_end_matches('"').to_owned()))
        });
        Some(Self { name: name.to_owned(), labels: pairs.collect(), value: value.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_text_format() {
        let metrics = Metrics::parse(
            "# HELP jpat_knocks Knocks.\n# TYPE jpat_knocks counter\n\
             jpat_knocks_total{result=\"granted\"} 3\njpat_knocks_total{result=\"expired\"} 1\njpat_grants 2\n\
             jpat_packets_total{service=\"web\",verdict=\"drop\",reason=\"no_grant\"} 40\n\
             jpat_packets_total{service=\"db\",verdict=\"drop\",reason=\"no_grant\"} 2\n# EOF\n",
        );
        assert_eq!(metrics.knocks("granted"), 3.0);
        assert_eq!(metrics.knocks("replayed"), 0.0);
        assert_eq!(metrics.sum("jpat_grants", &[]), 2.0);
        assert_eq!(metrics.packets("no_grant"), 42.0);
        assert_eq!(metrics.sum("jpat_packets_total", &[("service", "db"), ("verdict", "drop")]), 2.0);
    }
}
