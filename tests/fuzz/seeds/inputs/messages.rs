//! Inner messages and replies, right ones and ones that are nearly right.

use jpat_fuzz::sealed::SERVER;

const UNSIGNED: u8 = 0;
const BYTES: u8 = 2 << 5;
const TEXT: u8 = 3 << 5;
const ARRAY: u8 = 4 << 5;
const MAP: u8 = 5 << 5;

/// The shortest form of a head (RFC 8949 §3).
fn head(major: u8, argument: u64) -> Vec<u8> {
    let bytes = argument.to_be_bytes();
    match argument {
        0..24 => vec![major | bytes[7]],
        24..0x100 => vec![major | 24, bytes[7]],
        0x100..0x1_0000 => [&[major | 25], &bytes[6..]].concat(),
        0x1_0000..0x1_0000_0000 => [&[major | 26], &bytes[4..]].concat(),
        0x1_0000_0000.. => [&[major | 27], &bytes[..]].concat(),
    }
}

fn bytes(value: &[u8]) -> Vec<u8> {
    [head(BYTES, value.len() as u64), value.to_vec()].concat()
}

fn text(value: &str) -> Vec<u8> {
    [head(TEXT, value.len() as u64), value.as_bytes().to_vec()].concat()
}

type Entry = (u64, Vec<u8>);

fn map(entries: &[Entry]) -> Vec<u8> {
    let entries_behind = entries.iter().flat_map(|(key, value)| [head(UNSIGNED, *key), value.clone()].concat());
    head(MAP, entries.len() as u64).into_iter().chain(entries_behind).collect()
}

fn padded(mut message: Vec<u8>) -> Vec<u8> {
    message.resize(message.len().next_multiple_of(8), 0);
    message
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let required: Vec<Entry> = vec![
        (1, head(UNSIGNED, 1_790_000_001_000)),
        (2, bytes(&[7; 16])),
        (3, text(SERVER)),
        (4, head(UNSIGNED, 1)),
        (5, bytes(br#"{"alg":"EdDSA"}"#)),
        (6, bytes(br#"{"iss":"https://idp.example","exp":1790000300}"#)),
        (7, bytes(&[1; 64])),
    ];
    let services =
        |names: &[&str]| [head(ARRAY, names.len() as u64), names.iter().flat_map(|name| text(name)).collect()].concat();
    let optional: [Entry; 9] = [
        (8, services(&["ssh", "web-1"])),
        (8, services(&["web-1", "ssh"])),
        (8, services(&[])),
        (9, bytes(&[203, 0, 113, 5])),
        (9, bytes(&[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5])),
        (9, bytes(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 203, 0, 113, 5])),
        (10, bytes(&[4; 32])),
        (10, bytes(&[4; 64])),
        (11, bytes(&[5; 64])),
    ];
    let mut seeds = vec![padded(map(&required))];
    for first in 0..optional.len() {
        seeds.push(padded(map(&[&required[..], &optional[first..=first]].concat())));
        for second in first + 1..optional.len() {
            seeds.push(padded(map(&[&required[..], &[optional[first].clone(), optional[second].clone()]].concat())));
        }
    }
    let all = [0, 3, 6, 8].map(|at| optional[at].clone());
    seeds.push(padded(map(&[&required[..], &all].concat())));
    for verb in [0, 2, 3, 4, 24] {
        let mut other = required.clone();
        other[3].1 = head(UNSIGNED, verb);
        seeds.push(padded(map(&other)));
    }
    for (at, value) in
        [(0, head(UNSIGNED, u64::MAX)), (2, text("another.example")), (4, bytes(&[])), (1, bytes(&[1; 15]))]
    {
        let mut other = required.clone();
        other[at].1 = value;
        seeds.push(padded(map(&other)));
    }
    let whole = seeds[0].clone();
    for left_out in 0..required.len() {
        let mut other = required.clone();
        other.remove(left_out);
        seeds.push(padded(map(&other)));
        other.push(required[left_out].clone());
        seeds.push(padded(map(&other)));
    }
    // Longer forms, indefinite lengths, something behind.
    let bare = map(&required);
    seeds.push(padded([&[MAP | 31], &bare[1..], &[0xff]].concat()));
    seeds.push(padded([&[MAP | 24, 7], &bare[1..]].concat()));
    seeds.push(padded([&bare[..1], &[24, 1], &bare[2..]].concat()));
    let longer = [
        (1, [&[BYTES | 24, 16][..], &[7; 16]].concat()),
        (2, [&[TEXT | 25, 0, 13], SERVER.as_bytes()].concat()),
        (3, vec![27, 0, 0, 0, 0, 0, 0, 0, 1]),
        (4, [&[BYTES | 31], &bytes(b"{}")[..], &[0xff]].concat()),
    ];
    for (at, value) in longer {
        let mut other = required.clone();
        other[at].1 = value;
        seeds.push(padded(map(&other)));
    }
    seeds.push([whole.clone(), vec![0; 8]].concat());
    seeds.push([&whole[..whole.len() - 1], &[1]].concat());
    seeds.extend(replies());
    seeds
}

fn replies() -> Vec<Vec<u8>> {
    let time = (2, head(UNSIGNED, 1_790_000_002_000));
    let done = |services: &[(&str, u64)]| {
        let services =
            services.iter().flat_map(|(name, end)| [head(ARRAY, 2), text(name), head(UNSIGNED, *end)].concat());
        services.collect::<Vec<u8>>()
    };
    let outcome = |number| (1, head(UNSIGNED, number));
    let two = [head(ARRAY, 2), done(&[("ssh", 1_790_000_030_000), ("web-1", 0)])].concat();
    let repeated = (5, vec![0xf5]);
    vec![
        map(&[outcome(0), time.clone(), (3, two.clone())]),
        map(&[outcome(0), time.clone(), (3, two), repeated.clone()]),
        map(&[outcome(0), time.clone(), (3, head(ARRAY, 0))]),
        map(&[outcome(1), time.clone(), (4, text("clock_skew"))]),
        map(&[outcome(1), time, (4, text("clock_skew")), repeated]),
    ]
}
