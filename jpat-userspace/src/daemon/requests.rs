//! What the local socket's requests do.

use ipnet::IpNet;
use jpat_common::settings::{MODE_AUDIT, MODE_ENFORCE};

use super::{load, lockout, openings, reload, rules, runtime::Runtime};
use crate::{
    admin::{Grant, Interface, Issuer, ModeName, Request, Response, Service, Status, server::Asked},
    check::{self, HostFacts},
    clock,
    config::{Config, MAX_TTL, Mode},
    gate::{GrantView, Revoked, Selector},
};

impl Runtime {
    pub(super) fn on_asked(&mut self, asked: Asked) {
        let Asked { request, by, process, answer } = asked;
        if request.is_change() {
            tracing::info!("{by} asks: {request:?}");
        }
        let response = self.answer(request, &by, process).unwrap_or_else(|message| Response::Refused { message });
        self.settle();
        // Whoever asked may have hung up.
        drop(answer.send(response));
    }

    fn answer(&mut self, request: Request, by: &str, process: Option<u32>) -> Result<Response, String> {
        let now = clock::now();
        match request {
            Request::Status => Ok(Response::Status(Box::new(self.status()))),
            Request::Mode { mode, force } => {
                if mode == ModeName::Enforce && !force {
                    self.check_enforce(process)?;
                }
                let number = match mode {
                    ModeName::Enforce => MODE_ENFORCE,
                    ModeName::Audit => MODE_AUDIT,
                };
                if mode == ModeName::Enforce && self.core.is_auditing() {
                    self.begin_to_enforce(force).map_err(|error| format!("{error:#}"))?;
                } else {
                    self.core
                        .write_settings(|settings| settings.mode = number)
                        .map_err(|error| format!("{error:#}"))?;
                }
                Ok(Response::Mode { mode })
            }
            Request::Confirm => {
                if self.trial_ends.is_none() {
                    return Err("there is no trial to confirm: what is attached stays anyway".to_owned());
                }
                if let Err(error) = self.core.datapath.pin() {
                    let error = format!("confirming failed: {:#}", anyhow::Error::from(error));
                    self.fatal = Some(error.clone());
                    return Err(format!("{error}\nthe trial is rolled back"));
                }
                self.trial_ends = None;
                Ok(Response::Confirmed)
            }
            Request::GrantsList => {
                let gate = &self.core.gate;
                let [grants, outlived] =
                    [gate.grants(now), gate.outlived(now)].map(|views| views.into_iter().map(grant).collect());
                Ok(Response::Grants { grants, outlived })
            }
            Request::GrantsAdd { source, service, ttl_seconds } => {
                let mut opening = self.opening(&service)?;
                if let Some(seconds) = ttl_seconds {
                    opening.ttl = std::time::Duration::from_secs(seconds);
                    if opening.ttl > MAX_TTL || seconds == 0 {
                        return Err(format!("a grant lasts from 1 to {} seconds", MAX_TTL.as_secs()));
                    }
                }
                let added = self.core.gate.add(source, &opening, by, now);
                added.map(|view| Response::Added { grant: grant(view) }).map_err(|refusal| refusal.text().to_owned())
            }
            Request::GrantsRevoke { source: None, service: None, principal: None } => {
                Err("name a source, a service or a principal; `grants flush` takes all grants back".to_owned())
            }
            Request::GrantsRevoke { source, service, principal } => {
                let service = service.map(|name| self.opening(&name)).transpose()?.map(|opening| opening.service);
                let selector =
                    Selector { source: source.map(|net: IpNet| net.trunc()), service, principal, token_id: None };
                let Revoked { leases, .. } = self.core.gate.revoke(&selector, by, now);
                Ok(Response::Revoked { count: leases, flows: self.core.settle() })
            }
            Request::GrantsFlush => Ok(Response::Flushed { generation: self.core.gate.flush(by, now) }),
            Request::Reload => match reload::reload(self, process) {
                Ok(warnings) => Ok(Response::Reloaded { mode: self.mode(), warnings }),
                Err(error) => {
                    Err(format!("the reload was refused, and the old configuration stays in force:\n{error:#}"))
                }
            },
        }
    }

    /// What a start in enforce mode would have refused.
    fn check_enforce(&self, process: Option<u32>) -> Result<(), String> {
        let snapshot = self.snapshot();
        let enforcing = Config { mode: Mode::Enforce, ..Config::clone(&snapshot.config) };
        let (errors, _) = check::host(&enforcing, &HostFacts::read());
        if !errors.is_empty() {
            return Err(load::Invalid(errors).to_string() + "\n  or insist with --force");
        }
        match process.and_then(|process| lockout::would_shut_out(&enforcing, process)) {
            Some(what) if self.core.is_auditing() => Err(format!(
                "{what}\n  remedy: add the address to `always_allow.sources` and reload, or insist with --force"
            )),
            Some(_) | None => Ok(()),
        }
    }

    /// From audit to enforce, with the connections that stand.
    fn begin_to_enforce(&mut self, force: bool) -> anyhow::Result<()> {
        let snapshot = self.snapshot();
        let rules = rules(&snapshot.config, &snapshot.service_ids)?;
        let services = openings(&snapshot.config, &snapshot.service_ids);
        self.core.adopt_or_refuse(&rules, &services, None, force)?;
        self.core.write_settings(|settings| settings.mode = MODE_ENFORCE)?;
        // Those that came about between the first look and the switch.
        self.core.adopt_or_refuse(&rules, &services, None, true)
    }

    fn mode(&self) -> ModeName {
        if self.core.is_auditing() { ModeName::Audit } else { ModeName::Enforce }
    }

    fn opening(&self, service: &str) -> Result<crate::verify::Opening, String> {
        let snapshot = self.snapshot();
        let known = openings(&snapshot.config, &snapshot.service_ids);
        let names = known.iter().map(|opening| opening.name.to_string()).collect::<Vec<_>>().join(", ");
        known
            .into_iter()
            .find(|opening| *opening.name == *service)
            .ok_or_else(|| format!("there is no service `{service}`; there are: {names}"))
    }

    fn status(&self) -> Status {
        let (snapshot, now) = (self.snapshot(), clock::now());
        let config = &snapshot.config;
        let issuers = config.issuers.iter().map(|issuer| {
            let held = snapshot.keys.held(&issuer.name);
            Issuer {
                name: issuer.name.to_string(),
                keys: snapshot.keys.usable(issuer, now.unix).map_or(0, |keys| keys.keys().len()),
                age_seconds: held.map(|held| held.fetched.until(now.unix).as_secs()),
                error: self.fetch_errors.get(&*issuer.name).cloned(),
            }
        });
        Status {
            program: env!("CARGO_PKG_VERSION").to_owned(),
            mode: self.mode(),
            config: std::path::absolute(&config.path).as_ref().unwrap_or(&config.path).display().to_string(),
            config_generation: snapshot.generation,
            uptime_seconds: self.started.boot.until(now.boot).as_secs(),
            pinned: self.core.datapath.is_pinned(),
            trial_seconds: self.trial_ends.map(|end| now.boot.until(end).as_secs()),
            knock_port: config.listen.port,
            interfaces: self
                .core
                .datapath
                .attached()
                .map(|attached| Interface {
                    name: attached.interface.clone(),
                    attach: attached.hook.as_str().to_owned(),
                    program: attached.program.clone(),
                    why: attached.why.clone(),
                })
                .collect(),
            waiting: self.devices.waiting().to_vec(),
            not_judged: self.devices.not_judged().to_vec(),
            degraded: self.core.datapath.degraded(),
            grants: self.core.gate.entries(),
            grants_capacity: self.core.usable,
            flows: self.core.flows.count,
            flows_capacity: self.core.datapath.flow_capacity(),
            services: config
                .services
                .iter()
                .map(|service| Service {
                    name: service.name.clone(),
                    id: snapshot.service_ids.get(&service.name).copied().unwrap_or(0),
                    ports: service.ports.iter().map(ToString::to_string).collect(),
                })
                .collect(),
            issuers: issuers.collect(),
            alarms: self.alarms(),
        }
    }

    fn alarms(&self) -> Vec<String> {
        let mut alarms = self.unready();
        alarms.extend(self.devices.exposed());
        alarms.extend(self.follower.alarm());
        alarms.extend(self.reload_error.as_ref().map(|error| format!("the last reload was refused: {error}")));
        alarms.extend(self.sweeper.alarm());
        for (what, key, used, capacity) in [
            ("grants", "limits.grants", self.core.gate.entries(), self.core.usable),
            ("flows", "limits.flows", self.core.flows.count, self.core.datapath.flow_capacity()),
        ] {
            if is_nearly_full(used, capacity) {
                alarms.push(format!("{used} of {capacity} {what} are in use (`{key}`)"));
            }
        }
        if self.core.audit.dropped() > 0 {
            alarms.push(format!("{} audit lines were lost", self.core.audit.dropped()));
        }
        alarms
    }
}

/// At 80 % somebody should know.
const fn is_nearly_full(used: usize, capacity: u32) -> bool {
    used * 5 >= capacity as usize * 4
}

fn grant(view: GrantView) -> Grant {
    Grant {
        source: view.source.to_string(),
        service: view.service,
        principal: view.principal,
        token: view.token_id,
        until: view.until.to_string(),
        seconds_left: view.remaining.as_secs(),
        flows: view.flows,
    }
}
