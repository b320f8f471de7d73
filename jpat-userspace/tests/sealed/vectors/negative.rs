//! Datagrams that must be refused though their tag is right: what an insider, a broken client or another host's client sends.

use jpat_userspace::knock::sealed::{Server, ServerKey, open};
use serde_json::{Value, json};

use super::case::{Case, SERVER, TIME_MS, cases, datagram, encapsulation, entries, fixed, padded, secret, token};
use crate::reference::{Item, hex, map, unhex};

const SOURCE: &str = "192.0.2.7";

pub(crate) fn all() -> Value {
    let case = &cases()[0];
    let good = entries(case, &token(None));
    let inner = |name: &str, change: &dyn Fn(&mut Vec<(u64, Item)>), refusal: &str| {
        let mut entries = good.clone();
        change(&mut entries);
        row(name, &padded(map(&entries)), refusal)
    };
    let raw = |name: &str, change: &dyn Fn(Vec<u8>) -> Vec<u8>| row(name, &change(map(&good)), "bad_inner");
    let set = |key: u64, item: Item| {
        move |entries: &mut Vec<(u64, Item)>| match entries.iter_mut().find(|(at, _)| *at == key) {
            Some(entry) => entry.1 = item.clone(),
            None => entries.push((key, item.clone())),
        }
    };
    let text = |names: &[&str]| Item::Array(names.iter().map(|name| Item::text(name)).collect());
    let mut rows = vec![
        inner("other server id", &set(3, Item::text("web-2.example")), "wrong_server"),
        inner("other time", &set(1, Item::Unsigned(TIME_MS + 1)), "time_mismatch"),
        inner("other address", &set(9, Item::Bytes(vec![192, 0, 2, 8])), "wrong_address"),
        inner(
            "mapped address",
            &set(9, Item::Bytes([vec![0; 10], vec![255, 255, 192, 0, 2, 7]].concat())),
            "bad_inner",
        ),
        inner("address of 5 bytes", &set(9, Item::Bytes(vec![0; 5])), "bad_inner"),
        inner("verb 0", &set(4, Item::Unsigned(0)), "bad_inner"),
        inner("verb 4", &set(4, Item::Unsigned(4)), "bad_inner"),
        inner("nonce of 15 bytes", &set(2, Item::Bytes(vec![1; 15])), "bad_inner"),
        inner("nonce as text", &set(2, Item::text("0123456789abcdef")), "bad_inner"),
        inner("server id as bytes", &set(3, Item::Bytes(SERVER.into())), "bad_inner"),
        inner("empty token header", &set(5, Item::Bytes(vec![])), "bad_inner"),
        inner("no services", &set(8, text(&[])), "bad_inner"),
        inner("services not ascending", &set(8, text(&["ssh", "db"])), "bad_inner"),
        inner("a service twice", &set(8, text(&["db", "db"])), "bad_inner"),
        inner("a service with a space", &set(8, text(&["d b"])), "bad_inner"),
        inner("client key without proof", &set(10, Item::Bytes(vec![1; 32])), "bad_inner"),
        inner("proof of 63 bytes", &set(11, Item::Bytes(vec![1; 63])), "bad_inner"),
        inner("unknown key 12", &set(12, Item::Unsigned(0)), "bad_inner"),
        inner("key 7 missing", &|entries| entries.truncate(6), "bad_inner"),
        inner("keys not ascending", &|entries| entries.swap(0, 1), "bad_inner"),
        inner("key 1 twice", &|entries| entries.insert(0, entries[0].clone()), "bad_inner"),
        raw("verb in two bytes", &|mut cbor| {
            let at = cbor.windows(3).position(|bytes| bytes == [4, 1, 5]).unwrap() + 1;
            cbor.splice(at..=at, [0x18, 1]);
            padded(cbor)
        }),
        raw("map of indefinite length", &|mut cbor| {
            cbor[0] = 0xbf;
            cbor.push(0xff);
            padded(cbor)
        }),
        raw("a tag before the map", &|cbor| padded([vec![0xd9, 0xd9, 0xf7], cbor].concat())),
        raw("eight bytes of padding too many", &|cbor| [padded(cbor), vec![0; 8]].concat()),
        raw("padding that is not zero", &|mut cbor| {
            let end = cbor.len();
            assert!(!end.is_multiple_of(8));
            cbor.resize(end.next_multiple_of(8), 1);
            cbor
        }),
        raw("nothing", &|_| vec![0; 64]),
    ];
    rows.push(elsewhere(case));
    json!({
        "about": "server, knock key and time of open-bearer.json; every tag is right",
        "vectors": rows,
    })
}

fn row(name: &str, pt: &[u8], refusal: &str) -> Value {
    let (_, hpke) = encapsulation(name, SERVER);
    json!({ "name": name, "source": SOURCE, "pt": hex(pt), "datagram": hex(&datagram(&hpke, &fixed(), pt)), "refusal": refusal })
}

/// Sealed with the info of another server that has the same key.
fn elsewhere(case: &Case) -> Value {
    let (_, hpke) = encapsulation("info of another server", "web-2.example");
    let pt = padded(map(&entries(case, &token(None))));
    json!({
        "name": "info of another server", "source": SOURCE, "pt": hex(&pt),
        "datagram": hex(&datagram(&hpke, &fixed(), &pt)), "refusal": "cannot_open",
    })
}

pub(crate) fn library_agrees(file: &Value) {
    let server = Server { id: SERVER.to_owned(), keys: vec![ServerKey::from_bytes(&secret("server key")).unwrap()] };
    let rows = file["vectors"].as_array().unwrap();
    assert!(rows.len() > 25);
    for row in rows {
        let datagram = unhex(row["datagram"].as_str().unwrap());
        let refused = open(&datagram, SOURCE.parse().unwrap(), &server).map(|opened| opened.inner).unwrap_err();
        assert_eq!(refused.code(), row["refusal"].as_str().unwrap(), "{}", row["name"]);
    }
}
