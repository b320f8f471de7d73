//! What goes on while controllers come and go: a granted client's stream and transfer, and a stranger who tries.

use anyhow::{Context, Result, ensure};
use jpat_common::settings::Protocol;
use jpat_tests::{
    network::{Family, Member},
    stranger::{Stranger, Tried},
    stream::{Report, Route, Stream},
    wait,
};
use serde_json::json;

use crate::{
    config::{Config, DB, HTTPS, UDP, web},
    stage::{Stage, address},
};

/// Where the stream goes.
const STREAM: u16 = 9998;

/// Every protected port.
pub(crate) const PORTS: [(Protocol, u16); 4] =
    [(Protocol::Tcp, HTTPS), (Protocol::Udp, UDP), (Protocol::Tcp, DB), (Protocol::Udp, STREAM)];

/// Two services, with grants that last longer than any trial.
pub(crate) fn config() -> Config {
    let transfer = format!(
        "[[service]]\nname = \"transfer\"\nissuers = [\"corp\"]\nports = [\"tcp/{DB}\", \"udp/{STREAM}\"]\n\
         ttl = \"30m\"\nallow = '''claims.sub.startsWith(\"employee:\")'''\n"
    );
    Config { services: vec![web("30m"), transfer], ..Config::default() }
}

/// How often a trial repeats what it is about. A bound on the time, where there is one, is set by this variable.
pub(crate) fn cycles(usually: u32) -> Result<u32> {
    match std::env::var("JPAT_CYCLES") {
        Ok(number) => number.parse().with_context(|| format!("JPAT_CYCLES={number}")),
        Err(_) => Ok(usually),
    }
}

pub(crate) struct Traffic {
    stranger: Stranger,
    stream: Stream,
}

impl Traffic {
    /// Lets the client knock, then starts both.
    pub(crate) fn start(stage: &Stage) -> Result<Self> {
        let exp = jpat_userspace::clock::now().unix.secs() + 3_600;
        let token = stage.key.token(&stage.claims_with(json!({ "exp": exp })))?;
        stage.knock(Member::Client, Family::V4, &token, "granted")?;
        let (tcp, udp) = (|port| address(Family::V4, port), |port| address(Family::V4, port));
        let both = |port| Family::ALL.map(|family| address(family, port));
        let stranger =
            Stranger::start(&stage.net.stranger, [both(HTTPS), both(DB)].concat(), [both(UDP), both(STREAM)].concat())?;
        let route = Route { udp: udp(STREAM), tcp: tcp(DB) };
        let stream = Stream::start(&stage.net.host, &stage.net.client, route, Member::Client.address(Family::V4))?;
        Ok(Self { stranger, stream })
    }

    /// Answers that the stranger got so far.
    pub(crate) fn answers(&self) -> u64 {
        self.stranger.tried().answers
    }

    /// Ends both, and requires that nothing leaked and nothing was lost.
    pub(crate) fn finish(self, stage: &Stage) -> Result<()> {
        let tried = self.stranger.finish()?;
        let report = self.stream.finish(&stage.net.client)?;
        let Tried { syns, datagrams, answers } = tried;
        let Report { lost, foreign, retransmitted, .. } = report;
        ensure!((answers, foreign) == (0, 0), "leaked: {tried:?}, {report:?}");
        // On a machine that is slower than others TCP also sends again what was only late. Each datagram is counted.
        let sent_again = if wait::slowness() == 1 { retransmitted } else { 0 };
        ensure!((lost, sent_again) == (0, 0), "granted packets were lost: {report:?}");
        ensure!(syns > 100 && datagrams > 100, "the stranger hardly tried: {tried:?}");
        ensure!(report.datagrams > 100 && report.bytes > 100_000, "the client hardly sent: {report:?}");
        Ok(())
    }
}
