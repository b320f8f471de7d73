//! Frames of the vectors and of the evasion table; knocks.

use jpat_fuzz::{
    knocks::{FOREIGN, STAFF, Sealed},
    wire::{NOW_NS, Scene},
    world::{BROADCAST4, FREE_PORT, GRANTED, HOST4, HOST6, KNOCK_PORT, STRANGER, Sender, WEB_PORT},
};

use jpat_tests::{
    evasion::{self, Host, Peer},
    vectors,
};

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let frame = |flags: u8, frame: &[u8]| [&[flags], frame].concat();
    let mut seeds: Vec<_> = vectors::all().iter().map(|vector| frame(0, &vector.frame)).collect();
    for case in evasion::cases(&scene()) {
        let flags = if case.drop_tunnels { Scene::DROPS_TUNNELS } else { 0 };
        seeds.extend(case.frames.iter().map(|expected| frame(flags, &expected.frame)));
    }
    let good = |length| Sealed::new(STAFF, NOW_NS, length, 1);
    let knocks = [
        good(128),
        good(136),
        good(424),
        good(1232),
        good(1240),
        good(120),
        good(129),
        good(128).shifted(300_001),
        good(128).shifted(-300_000),
        Sealed { version: 2, ..good(128) },
        Sealed { kind: 2, ..good(128) },
        Sealed { key_id: 9, ..good(128) },
        Sealed::new(FOREIGN, NOW_NS, 128, 1),
    ];
    for payload in knocks.iter().map(Sealed::bytes).chain([vec![], b"eyJ.e.".to_vec(), b"GET /".to_vec()]) {
        let scenes = [0, Scene::V6, Scene::NO_BARE, Scene::TAG_SEEN, Scene::NO_TIME, Scene::NO_BUDGET];
        seeds.extend(scenes.iter().map(|scene| frame(Scene::PAYLOAD | scene, &payload)));
    }
    seeds
}

fn scene() -> evasion::Scene {
    let peer = |sender: &Sender, last| Peer { mac: [2, 0, 0, 0, 0, last], v4: sender.v4, v6: sender.v6 };
    evasion::Scene {
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
