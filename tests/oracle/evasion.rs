//! Every evasion case by its name, each with the verdict that was written beside it by hand: the model, the host's
//! library and the kernel must agree with it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Result, ensure};
use jpat_common::{
    reason::counter_index,
    settings::{FLAG_DROP_TUNNELS, Settings},
};
use jpat_ebpf::{
    frame::Cursor,
    parse::parse,
    verdict::{Decision, Verdict},
};
use jpat_tests::{
    evasion::{self, Case, Expected, Host, Peer, Scene},
    world::{
        BROADCAST4, FREE_PORT, GENERATION, GRANTED, HOST4, HOST6, KNOCK_PORT, MAX_TTL_NS, SSH, SSH_PORT, STRANGER,
        Sender, WEB, WEB_PORT, World,
    },
};
use libtest_mimic::Trial;

use super::model::{
    self, Fate,
    dissect::Start,
    gate::{self, Budget, Gate},
    tables::{Grant, Prefix, Service, Tables, Transport},
};
use crate::kernel::{self, Kernel};

/// One trial per case, by name.
pub(crate) fn trials() -> Vec<Trial> {
    let stage = Arc::new(Mutex::new(None));
    let distinct = Trial::test("p2_more_than_a_hundred_evasions_have_names", || {
        let cases = evasion::cases(&scene());
        let names: BTreeSet<_> = cases.iter().map(|case| &case.name).collect();
        let enough = names.len() == cases.len() && cases.len() > 100;
        if enough { Ok(()) } else { Err(format!("{} cases, {} names", cases.len(), names.len()).into()) }
    });
    evasion::cases(&scene())
        .into_iter()
        .map(|case| {
            let stage = Arc::clone(&stage);
            Trial::test(format!("p2_evasion_{}", case.name), move || {
                let mut stage = stage.lock().unwrap_or_else(PoisonError::into_inner);
                play(&mut stage, &case).map_err(|error| format!("{error:#}").into())
            })
        })
        .chain([distinct])
        .collect()
}

/// The program in the kernel and the tables of the host, made by the first trial that runs.
struct Stage {
    world: World,
    kernel: Kernel,
}

fn scene() -> Scene {
    let peer = |sender: &Sender, last| Peer { mac: [2, 0, 0, 0, 0, last], v4: sender.v4, v6: sender.v6 };
    Scene {
        host: Host {
            peer: Peer { mac: [2, 0, 0, 0, 0, 1], v4: HOST4, v6: HOST6 },
            broadcast: BROADCAST4,
            port: WEB_PORT,
            free_port: FREE_PORT,
            knock_port: KNOCK_PORT,
        },
        stranger: peer(&STRANGER, 6),
        granted: peer(&GRANTED, 5),
    }
}

fn play(stage: &mut Option<Stage>, case: &Case) -> Result<()> {
    let stage = match stage {
        Some(stage) => stage,
        None => {
            let world = kernel::world()?;
            stage.insert(Stage { kernel: Kernel::load(&world)?, world })
        }
    };
    let flags = if case.drop_tunnels { FLAG_DROP_TUNNELS } else { 0 };
    let settings = Settings { flags: stage.world.settings.flags | flags, ..stage.world.settings };
    stage.kernel.write_settings(&settings)?;
    for (number, Expected { frame, verdict, of_service }) in case.frames.iter().enumerate() {
        let expected = Decision { service: if *of_service { WEB } else { 0 }, verdict: *verdict };
        let exit = verdict.exit(&settings);

        let mut tables = tables(&stage.world, case.drop_tunnels);
        let (_, ruling) = model::judge(&mut tables, frame, Start::Ethernet, stage.world.now_ns);
        let of_the_model = match ruling.fate {
            Fate::Pass(reason) => Verdict::Pass(reason),
            Fate::Drop(reason) => Verdict::Drop(reason),
            Fate::Knock(_) => Verdict::Knock,
        };
        let of_the_model = Decision { service: ruling.service, verdict: of_the_model };
        ensure!(of_the_model == expected, "frame {number}: the model says {of_the_model:?}, not {expected:?}");

        let on_the_host = stage.world.judge(&parse(Cursor::over(frame)), &settings);
        ensure!(on_the_host == expected, "frame {number}: the host says {on_the_host:?}, not {expected:?}");

        let index = counter_index(expected.service, exit.slot);
        let before = stage.kernel.counter(index)?;
        let action = stage.kernel.run(frame)?;
        ensure!(action == exit.action, "frame {number}: action {action}, not {expected:?}");
        ensure!(stage.kernel.counter(index)? == before + 1, "frame {number}: not counted as {expected:?}");
        stage.kernel.knocks()?;
    }
    Ok(())
}

/// The world of these cases in the model's terms, as far as they meet it.
fn tables(world: &World, drops_tunnels: bool) -> Tables {
    let service =
        Service { width: [32, 64], has_tcp_flows: false, keeps_tcp: false, keeps_udp: false, idle_ns: 0, max_ns: 0 };
    let mut tables = Tables {
        audits: false,
        drops_tunnels,
        destinations: Some(vec![
            Prefix::of(HOST4.into(), 32),
            Prefix::of(BROADCAST4.into(), 32),
            Prefix::of(HOST6.into(), 128),
        ]),
        always_allow: Vec::new(),
        knock_port: KNOCK_PORT,
        ports: [(Transport::Tcp, WEB_PORT, WEB), (Transport::Udp, WEB_PORT, WEB), (Transport::Tcp, SSH_PORT, SSH)]
            .map(|(transport, port, service)| ((transport, port), service))
            .into(),
        services: [(WEB, service), (SSH, service)].into(),
        generation: GENERATION,
        max_ttl_ns: MAX_TTL_NS,
        grants: BTreeMap::new(),
        flows: BTreeMap::new(),
        flow_capacity: 0,
        flows_per_grant: 0,
        opened: BTreeMap::new(),
        closed: BTreeMap::new(),
        gate: Gate {
            keys: BTreeMap::new(),
            wall_offset_ns: None,
            budgets: [(gate::BARE, Budget { cost_ns: 1, most_ns: 1, taken_ns: 0, at_ns: 0 })].into(),
            seen: BTreeSet::new(),
            bare_room: 1,
            sealed_room: 0,
        },
    };
    let grant = Grant { end_ns: world.now_ns + MAX_TTL_NS, generation: GENERATION };
    for source in [GRANTED.v4.into(), GRANTED.v6.into()] {
        let id = tables.grant_id(source, WEB);
        tables.grants.insert(id, grant);
    }
    tables
}
