//! Every kind of bad datagram, sent by the stranger: counted under its own reason, answered by nothing, opens
//! nothing. All rows share one stage and take turns.

mod rows;

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use jpat_tests::{
    capture::Capture,
    forge::{self, Key},
    metrics::Metrics,
    network::{Family, Member},
    probe::Port,
    wait::{self, PATIENCE},
};
use libtest_mimic::Trial;
use serde_json::json;

use self::rows::{Counted, Row};
use crate::{
    config::{self, Config, HTTPS, db, web},
    stage::Stage,
    trial,
};

/// The stage of all rows, made by the first and removed by [`Shared::end`].
#[derive(Clone, Default)]
pub(crate) struct Shared(Arc<Mutex<Option<Ready>>>);

struct Ready {
    stage: Stage,
    keys: Keys,
}

/// What rows sign with.
pub(crate) struct Keys {
    pub(crate) es256: Key,
    pub(crate) rs256: Key,
    /// Known to nobody.
    pub(crate) foreign: Key,
}

/// An issuer with RSA keys, one of them too short.
pub(crate) const RSA_ISSUER: &str = "https://rsa.example";
/// An issuer with two keys that a token without `kid` could mean.
pub(crate) const TWINS_ISSUER: &str = "https://twins.example";
/// An issuer that may only open a service whose rule fails to evaluate.
pub(crate) const BROKEN_ISSUER: &str = "https://broken.example";

impl Shared {
    pub(crate) fn end(&self) {
        drop(self.0.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    fn run(&self, row: &Row) -> Result<()> {
        let mut shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ready = match &mut *shared {
            Some(ready) => ready,
            empty => empty.insert(Ready::new()?),
        };
        let judged = ready.judge(row);
        judged.map_err(|error| error.context(ready.stage.output()))
    }
}

pub(crate) fn trials(shared: &Shared) -> Vec<Trial> {
    let rows = rows::all().into_iter().map(|row| {
        let shared = shared.clone();
        trial::plain(format!("p1_bad_input_{}", row.name), move || shared.run(&row))
    });
    rows.collect()
}

impl Ready {
    fn new() -> Result<Self> {
        let mut stage = Stage::new(configuration())?;
        let keys = Keys { es256: Key::es256("k1")?, rs256: Key::rs256("r1")?, foreign: Key::es256("k1")? };
        std::fs::write(stage.path("jwks.json"), forge::jwks(&[&keys.es256])?.to_string())?;
        let mut rsa = forge::jwks(&[&keys.rs256])?;
        let weak = json!({ "kty": "RSA", "kid": "weak", "alg": "RS256", "use": "sig", "e": "AQAB",
            "n": forge::encode(&[0xc7; 128]) });
        rsa["keys"].as_array_mut().context("a set")?.push(weak);
        std::fs::write(stage.path("rsa.json"), rsa.to_string())?;
        let twins = [Key::es256("t1")?, Key::es256("t2")?];
        std::fs::write(stage.path("twins.json"), forge::jwks(&[&twins[0], &twins[1]])?.to_string())?;
        stage.start(&[])?;
        Ok(Self { stage, keys })
    }

    /// Sends it over both families at once, to save time.
    fn judge(&self, row: &Row) -> Result<()> {
        let stage = &self.stage;
        let stranger = &stage.net.stranger;
        let datagram = (row.datagram)(stage, &self.keys)?;
        let before = stage.metrics()?;
        let capture = Capture::start(stranger)?;
        for family in Family::ALL {
            stage.send(Member::Stranger, family, &datagram)?;
        }
        let mut after = before.clone();
        let counted = |metrics: &Metrics| match row.counted {
            Counted::Refusal(code) => metrics.knocks(code),
            Counted::Packet(reason) => metrics.packets(reason),
        };
        wait::for_true(&format!("two {:?}", row.counted), PATIENCE, || {
            after = stage.metrics()?;
            Ok(counted(&after) >= counted(&before) + 2.0)
        })
        .with_context(|| {
            let packets = after.changes(&before, "jpat_packets_total");
            format!("counted were: {} {packets}", after.changes(&before, "jpat_knocks_total"))
        })?;
        let probe = |family| stage.expect_tcp(Member::Stranger, family, HTTPS, Port::Silent);
        std::thread::scope(|scope| {
            let v6 = scope.spawn(|| probe(Family::V6));
            probe(Family::V4).and(v6.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })?;
        capture.expect_silence(stranger, &Family::ALL)?;
        let last = stage.metrics()?;
        let all = |metrics: &Metrics| metrics.sum("jpat_knocks_total", &[]);
        let results = all(&last) - all(&before);
        let expected = if matches!(row.counted, Counted::Refusal(_)) { 2.0 } else { 0.0 };
        ensure!(results == expected, "{results} results for two datagrams");
        let open = last.sum("jpat_grants", &[]);
        ensure!(open == 0.0, "{open} grants are open");
        Ok(())
    }
}

fn configuration() -> Config {
    let file = |name: &str| format!("keys = {{ jwks_file = \"{name}.json\" }}");
    let broken = "[[service]]\nname = \"broken\"\nissuers = [\"broken\"]\nports = [\"tcp/7001\"]\nttl = \"2s\"\n\
                  allow = '''claims.nobody.has.this == 1'''\n";
    let issuers = [
        config::issuer(&file("jwks")),
        config::issuer_named("rsa", RSA_ISSUER, &["RS256"], &file("rsa")),
        config::issuer_named("twins", TWINS_ISSUER, &["ES256"], &file("twins")),
        config::issuer_named("broken", BROKEN_ISSUER, &["ES256"], &file("jwks")),
    ];
    let deny = "[[deny]]\nname = \"left\"\nwhen = '''claims.sub == \"employee:nobody\"'''\n";
    let all_issuers = |service: String| service.replace("[\"corp\"]", "[\"corp\", \"rsa\", \"twins\"]");
    Config {
        issuers: issuers.concat(),
        services: vec![all_issuers(web("2s")), all_issuers(db("2s")), broken.to_owned()],
        rest: deny.to_owned(),
        ..Config::default()
    }
}
