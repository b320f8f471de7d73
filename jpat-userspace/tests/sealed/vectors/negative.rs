//! Datagrams that must be refused though their tag is right: what an insider, a broken client or another host's client sends.

use jpat_userspace::knock::sealed::{KnockKey, Server, ServerKey, open};
use serde_json::{Value, json};

use super::case::{
    Case, KNOCK_KEY_ID, SERVER, TIME_MS, cases, datagram, encapsulation, entries, fixed, padded, secret, token,
};
use crate::reference::{Hpke, Item, hex, map, public, unhex};

/// Where each of them comes from.
pub(crate) const SOURCE: &str = "192.0.2.7";

pub(crate) type Entries = Vec<(u64, Item)>;

pub(crate) fn all() -> Value {
    let case = &cases()[0];
    let good = entries(case, &token(None));
    let inner = |name: &str, change: &dyn Fn(&mut Entries), refusal: &str| {
        let mut entries = good.clone();
        change(&mut entries);
        row(name, &padded(map(&entries)), refusal)
    };
    let raw = |name: &str, change: &dyn Fn(Vec<u8>) -> Vec<u8>| row(name, &change(map(&good)), "bad_inner");
    let set = |key: u64, item: Item| {
        move |entries: &mut Entries| match entries.iter_mut().find(|(at, _)| *at == key) {
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
    rows.extend(low_order(case));
    rows.push(wrong_tag(case));
    rows.extend(super::tokens::all());
    json!({
        "about": "server, knock key, issuer and time of open-bearer.json; every tag is right but one",
        "vectors": rows,
    })
}

/// Sealed by the keys that whoever sends an enc of low order would know: the Diffie-Hellman result is zero.
fn low_order(case: &Case) -> [Value; 2] {
    const ORDER_8: &str = "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800";
    let of = |name: &str, enc: Vec<u8>| {
        let info = [b"jpat/1 knock\0", SERVER.as_bytes()].concat();
        let hpke = Hpke::of(enc, vec![0; 32], &public(&secret("server key")), &info);
        let pt = padded(map(&entries(case, &token(None))));
        json!({
            "name": name, "source": SOURCE, "pt": hex(&pt), "datagram": hex(&datagram(&hpke, &fixed(), &pt)),
            "refusal": "cannot_open",
        })
    };
    [of("enc of zeros", vec![0; 32]), of("enc of order 8", unhex(ORDER_8))]
}

fn wrong_tag(case: &Case) -> Value {
    let mut row = row("wrong tag", &padded(map(&entries(case, &token(None)))), "knock_bad_tag");
    let mut datagram = unhex(row["datagram"].as_str().unwrap());
    datagram[16] ^= 1;
    row["datagram"] = hex(&datagram).into();
    row
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
    assert!(rows.len() > 45);
    let tag_key = KnockKey::new(KNOCK_KEY_ID, secret("knock key")).tag_key(SERVER);
    for row in rows {
        let datagram = unhex(row["datagram"].as_str().unwrap());
        let refusal = if tag_key.tag(&datagram) != datagram[16..24] {
            // By the XDP program alone, whose tests have it.
            "knock_bad_tag"
        } else {
            match open(&datagram, SOURCE.parse().unwrap(), &server) {
                Err(refusal) => refusal.code(),
                Ok(opened) => super::tokens::refusal(&opened.inner).unwrap().code(),
            }
        };
        assert_eq!(refusal, row["refusal"].as_str().unwrap(), "{}", row["name"]);
    }
}
