//! Random histories against a model that is a plain list of leases, searched from end to end.

use proptest::{prelude::*, sample::select};

use super::*;

const SOURCES: [&str; 4] = ["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"];
const USABLE: u32 = 4;

#[derive(Clone, Debug)]
enum Step {
    Knock { sub: &'static str, jti: &'static str, exp: u64, mode: ReplayMode, source: &'static str, open: Vec<Opening> },
    Add { source: &'static str, ttl: u64 },
    Sleep(u64),
    SetClock(i64),
    Revoke(&'static str),
    Flush,
    WriteFailed { source: &'static str },
    Reload { service: u32, deny: &'static str },
}

#[derive(Clone, Debug)]
struct ModelLease {
    key: GrantKey,
    who: String,
    sub: Option<String>,
    end: u64,
    exp: Option<u64>,
}

#[derive(Clone, Debug)]
struct ModelUse {
    jti: String,
    exp: u64,
    /// `exp` in boot time, as read when the token was first used, or earlier.
    end: u64,
    sources: Vec<IpAddr>,
}

#[derive(Default)]
struct Model {
    leases: Vec<ModelLease>,
    uses: Vec<ModelUse>,
    forgotten: u64,
    /// Latest end that any accepted knock justifies, for each key.
    justified: BTreeMap<GrantKey, u64>,
}

impl Model {
    /// What `settle` should come to.
    fn settle(&mut self, now: Now) {
        for lease in &mut self.leases {
            if let Some(exp) = lease.exp {
                lease.end = lease.end.min(boot(now, exp));
            }
        }
        self.leases.retain(|lease| lease.end > now.boot.0);
    }

    fn forget(&mut self, now: Now) {
        for used in &self.uses {
            if used.exp <= now.unix.0 {
                self.forgotten = self.forgotten.max(used.exp);
            }
        }
        self.uses.retain(|used| used.exp > now.unix.0);
    }

    fn knock(
        &mut self,
        token: &VerifiedToken,
        mode: ReplayMode,
        source: IpAddr,
        open: &[Opening],
        now: Now,
    ) -> Result<(), Refusal> {
        self.settle(now);
        self.forget(now);
        let (jti, exp) = (token.id().to_string(), token.expires().0);
        if exp <= now.unix.0 || exp <= self.forgotten {
            return Err(Refusal::Expired);
        }
        let known = self.uses.iter().position(|used| used.jti == jti);
        match (mode, known) {
            (ReplayMode::Once, Some(_)) => return Err(Refusal::Replayed),
            (ReplayMode::BindSource, Some(at))
                if self.uses[at].sources.iter().any(|held| held.is_ipv4() == source.is_ipv4() && *held != source) =>
            {
                return Err(Refusal::OtherSource);
            }
            // The clock was set forward: it may have been used before the start by what the clock says now.
            (ReplayMode::Once, None) if token.issued_at().unwrap() < now.unix_at(BootTime(50 * SECOND)) => {
                return Err(Refusal::BeforeStart);
            }
            (_, None) if self.uses.len() >= LIMITS.replay_entries as usize => return Err(Refusal::ReplayFull),
            (ReplayMode::Once | ReplayMode::Proof | ReplayMode::BindSource, _) => {}
        }
        let token_end = known.map_or(u64::MAX, |at| self.uses[at].end).min(boot(now, exp));
        if token_end <= now.boot.0 {
            return Err(Refusal::Expired);
        }
        let sub = token.principal().subject.clone();
        let mut sources: Vec<_> =
            self.leases.iter().filter(|l| l.sub.as_ref() == Some(&sub)).map(|l| *l.key.source()).collect();
        let keys: Vec<_> = open.iter().map(|opening| lease::key(opening, source)).collect();
        let is_new_source = keys.iter().any(|key| !sources.contains(key.source()));
        sources.extend(keys.iter().map(|key| *key.source()));
        if is_new_source && distinct(sources) > LIMITS.sources_per_principal as usize {
            return Err(Refusal::TooManySources);
        }
        let mut entries: Vec<_> = self.leases.iter().map(|lease| lease.key).collect();
        entries.extend(&keys);
        if distinct(entries) > USABLE as usize {
            return Err(Refusal::GrantsFull);
        }

        match known {
            Some(at) => {
                let used = &mut self.uses[at];
                used.end = token_end;
                used.sources.push(source);
            }
            None => self.uses.push(ModelUse { jti: jti.clone(), exp, end: token_end, sources: vec![source] }),
        }
        for (opening, key) in open.iter().zip(keys) {
            let end = token_end.min(now.boot.after(opening.ttl).0);
            let justified = self.justified.entry(key).or_default();
            *justified = end.max(*justified);
            self.put(ModelLease { key, who: format!("{sub}/{jti}"), sub: Some(sub.clone()), end, exp: Some(exp) });
        }
        Ok(())
    }

    fn put(&mut self, lease: ModelLease) {
        match self.leases.iter_mut().find(|held| held.key == lease.key && held.who == lease.who) {
            Some(held) => held.end = held.end.max(lease.end),
            None => self.leases.push(lease),
        }
    }

    fn map(&self) -> BTreeMap<GrantKey, u64> {
        let mut map = BTreeMap::new();
        for lease in &self.leases {
            let end = map.entry(lease.key).or_default();
            *end = lease.end.max(*end);
        }
        map
    }
}

fn boot(now: Now, unix: u64) -> u64 {
    (now.boot.0 + unix).saturating_sub(now.unix.0)
}

fn distinct<T: Ord>(mut of: Vec<T>) -> usize {
    of.sort();
    of.dedup();
    of.len()
}

/// Does `step` to both, and compares what came of it.
fn play(host: &mut Host, model: &mut Model, step: Step) -> Result<(), TestCaseError> {
    match step {
        Step::Knock { sub, jti, exp, mode, source, open } => {
            // An issuer gives an id to one token.
            let token = token(sub, &format!("{sub}-{jti}-{exp}"), exp);
            let expected = model.knock(&token, mode, ip(source), &open, host.now);
            prop_assert_eq!(host.outcome(&token, mode, source, &open), expected);
        }
        Step::Add { source, ttl } => {
            let opening = web(ttl);
            let added = host.gate.add(ip(source), &opening, "root", host.now);
            model.settle(host.now);
            let key = lease::key(&opening, ip(source));
            let held = model.map();
            let has_room = held.contains_key(&key) || held.len() < USABLE as usize;
            prop_assert_eq!(added.map(|_| ()), has_room.then_some(()).ok_or(Refusal::GrantsFull));
            if has_room {
                let end = host.now.boot.after(opening.ttl).0;
                let justified = model.justified.entry(key).or_default();
                *justified = end.max(*justified);
                model.put(ModelLease { key, who: "root".to_owned(), sub: None, end, exp: None });
            }
        }
        Step::Sleep(secs) => host.sleep(secs),
        Step::SetClock(secs) => host.step(secs),
        Step::Revoke(sub) => {
            model.settle(host.now);
            let before = model.leases.len();
            model.leases.retain(|lease| lease.sub.as_deref() != Some(sub));
            let selector = Selector { principal: Some(format!("corp:{sub}")), ..Selector::default() };
            prop_assert_eq!(host.gate.revoke(&selector, "root", host.now).leases, before - model.leases.len());
        }
        Step::Flush => {
            model.leases.clear();
            host.gate.flush("root", host.now);
        }
        Step::WriteFailed { source } => {
            let key = lease::key(&web(0), ip(source));
            model.leases.retain(|lease| lease.key != key);
            host.gate.write_failed(key, host.now);
        }
        Step::Reload { service, deny } => {
            model.settle(host.now);
            model.leases.retain(|lease| lease.key.service() != service && lease.sub.as_deref() != Some(deny));
            let denied = |token: &VerifiedToken, _, _| (token.principal().subject == deny).then(|| "rule".to_owned());
            host.gate.reload(SNAPSHOT, LIMITS, &BTreeSet::from([service]), &denied, host.now);
        }
    }
    // Checks on the way that no more entries are in the map than may be.
    host.run();
    for (key, value) in &host.map {
        let justified = model.justified.get(key).copied().unwrap_or(0);
        prop_assert!(
            value.end_ns() <= justified,
            "{:?} ends {} after what was granted",
            key,
            value.end_ns() - justified
        );
    }
    Ok(())
}

fn any_step() -> impl Strategy<Value = Step> {
    let source = || select(&SOURCES[..]);
    let sub = || select(&["alice", "bob"][..]);
    let mode = select(&[ReplayMode::Once, ReplayMode::BindSource, ReplayMode::BindSource][..]);
    let open = (select(&[5_u64, 30, 600][..]), 0..3_u8).prop_map(|(ttl, which)| match which {
        0 => vec![web(ttl)],
        1 => vec![ssh(ttl)],
        _ => vec![web(ttl), ssh(30)],
    });
    let knock = (sub(), select(&["1", "2", "3"][..]), select(&[20_u64, 100, 400][..]), mode, source(), open);
    prop_oneof![
        12 => knock.prop_map(|(sub, jti, exp, mode, source, open)| Step::Knock { sub, jti, exp, mode, source, open }),
        1 => (source(), 1..100_u64).prop_map(|(source, ttl)| Step::Add { source, ttl }),
        4 => (0..40_u64).prop_map(Step::Sleep),
        2 => (-50..50_i64).prop_map(Step::SetClock),
        1 => sub().prop_map(Step::Revoke),
        1 => Just(Step::Flush),
        1 => source().prop_map(|source| Step::WriteFailed { source }),
        1 => (1..3_u32, sub()).prop_map(|(service, deny)| Step::Reload { service, deny }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn p3_p6_any_history_leaves_the_map_as_the_model_has_it(steps in prop::collection::vec(any_step(), 1..60)) {
        let mut host = Host::with(LIMITS, USABLE);
        let mut model = Model::default();
        for step in steps {
            play(&mut host, &mut model, step)?;
            model.settle(host.now);
            host.tick();
            let ends: BTreeMap<_, _> = host.map.iter().map(|(key, value)| (*key, value.end_ns())).collect();
            prop_assert_eq!(ends, model.map());
            prop_assert_eq!(host.gate.poll_timeout().is_some(), !host.map.is_empty());
        }
    }

    #[test]
    fn p3_without_ticks_in_between_nothing_outlives_what_was_granted(steps in prop::collection::vec(any_step(), 1..60)) {
        let mut host = Host::with(LIMITS, USABLE);
        let mut model = Model::default();
        for step in steps {
            play(&mut host, &mut model, step)?;
        }
        model.settle(host.now);
        host.tick();
        let ends: BTreeMap<_, _> = host.map.iter().map(|(key, value)| (*key, value.end_ns())).collect();
        prop_assert_eq!(ends, model.map());
    }
}
