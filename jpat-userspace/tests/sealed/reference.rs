//! The protocol written a second time from `docs/protocol.md` and its Appendix A, out of primitives alone.

use aws_lc_rs::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey},
    agreement::{PrivateKey, UnparsedPublicKey, X25519, agree},
    digest::{SHA256, digest},
    hmac,
};

const KEM: &[u8] = b"KEM\x00\x20";
const SUITE: &[u8] = b"HPKE\x00\x20\x00\x01\x00\x03";

pub(crate) fn hmac_sha256(key: &[u8], data: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data).as_ref().to_vec()
}

/// RFC 5869 §2.3, one block.
fn expand(prk: &[u8], info: &[u8], len: usize) -> Vec<u8> {
    assert!(len <= 32);
    hmac_sha256(prk, &[info, &[1]].concat())[..len].to_vec()
}

pub(crate) fn labeled_extract(id: &[u8], salt: &[u8], label: &str, ikm: &[u8]) -> Vec<u8> {
    hmac_sha256(salt, &[b"HPKE-v1", id, label.as_bytes(), ikm].concat())
}

pub(crate) fn labeled_expand(id: &[u8], prk: &[u8], label: &str, context: &[u8], len: u16) -> Vec<u8> {
    expand(prk, &[&len.to_be_bytes(), b"HPKE-v1".as_slice(), id, label.as_bytes(), context].concat(), len.into())
}

pub(crate) fn derive_key(ikm: &[u8]) -> Vec<u8> {
    labeled_expand(KEM, &labeled_extract(KEM, b"", "dkp_prk", ikm), "sk", b"", 32)
}

pub(crate) fn public(private: &[u8]) -> Vec<u8> {
    PrivateKey::from_private_key(&X25519, private).unwrap().compute_public_key().unwrap().as_ref().to_vec()
}

/// Everything that one encapsulation gives.
pub(crate) struct Hpke {
    pub(crate) enc: Vec<u8>,
    pub(crate) dh: Vec<u8>,
    pub(crate) shared_secret: Vec<u8>,
    pub(crate) key: Vec<u8>,
    pub(crate) base_nonce: Vec<u8>,
    pub(crate) exporter: Vec<u8>,
}

impl Hpke {
    pub(crate) fn sender(sk_e: &[u8], pk_r: &[u8], info: &[u8]) -> Self {
        let private = PrivateKey::from_private_key(&X25519, sk_e).unwrap();
        let dh = agree(&private, UnparsedPublicKey::new(&X25519, pk_r), (), |dh| Ok(dh.to_vec())).unwrap();
        Self::of(public(sk_e), dh, pk_r, info)
    }

    /// Whatever the Diffie-Hellman result is.
    pub(crate) fn of(enc: Vec<u8>, dh: Vec<u8>, pk_r: &[u8], info: &[u8]) -> Self {
        let eae_prk = labeled_extract(KEM, b"", "eae_prk", &dh);
        let shared_secret = labeled_expand(KEM, &eae_prk, "shared_secret", &[&enc, pk_r].concat(), 32);
        let psk_id_hash = labeled_extract(SUITE, b"", "psk_id_hash", b"");
        let info_hash = labeled_extract(SUITE, b"", "info_hash", info);
        let context = [&[0], psk_id_hash.as_slice(), &info_hash].concat();
        let secret = labeled_extract(SUITE, &shared_secret, "secret", b"");
        let part = |label, len| labeled_expand(SUITE, &secret, label, &context, len);
        let (key, base_nonce, exporter) = (part("key", 32), part("base_nonce", 12), part("exp", 32));
        Self { enc, dh, shared_secret, key, base_nonce, exporter }
    }

    pub(crate) fn seal(&self, aad: &[u8], pt: &[u8]) -> Vec<u8> {
        chacha20_poly1305(&self.key, &self.base_nonce, aad, pt)
    }

    pub(crate) fn export(&self, label: &str, len: u16) -> Vec<u8> {
        labeled_expand(SUITE, &self.exporter, "sec", label.as_bytes(), len)
    }
}

pub(crate) fn chacha20_poly1305(key: &[u8], nonce: &[u8], aad: &[u8], pt: &[u8]) -> Vec<u8> {
    let key = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key).unwrap());
    let mut sealed = pt.to_vec();
    let nonce = Nonce::try_assume_unique_for_key(nonce).unwrap();
    key.seal_in_place_append_tag(nonce, Aad::from(aad), &mut sealed).unwrap();
    sealed
}

pub(crate) fn hint(public: &[u8]) -> Vec<u8> {
    digest(&SHA256, public).as_ref()[..2].to_vec()
}

pub(crate) fn tag_key(knock_key: &[u8], id: u16, server: &str) -> Vec<u8> {
    let prk = hmac_sha256(b"jpat/1 knock tag", knock_key);
    expand(&prk, &[&id.to_be_bytes(), server.as_bytes()].concat(), 16)
}

/// Appendix A.2.
pub(crate) fn siphash(key: &[u8], data: &[u8]) -> [u8; 8] {
    assert!(data.len().is_multiple_of(8));
    let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
    let (k0, k1) = (number(&key[..8]), number(&key[8..]));
    let mut v = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    let last = (data.len() as u64 & 0xff) << 56;
    for m in data.chunks(8).map(number).chain([last]) {
        v[3] ^= m;
        round(&mut v);
        round(&mut v);
        v[0] ^= m;
    }
    v[2] ^= 0xff;
    for _ in 0..4 {
        round(&mut v);
    }
    (v[0] ^ v[1] ^ v[2] ^ v[3]).to_le_bytes()
}

fn round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[2] = v[2].rotate_left(32);
}

/// A CBOR item, written as §7 tells.
#[derive(Clone)]
pub(crate) enum Item {
    Unsigned(u64),
    Bytes(Vec<u8>),
    Text(String),
    Array(Vec<Self>),
    True,
}

impl Item {
    pub(crate) fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }

    pub(crate) fn write(&self) -> Vec<u8> {
        match self {
            Self::Unsigned(n) => head(0, *n),
            Self::Bytes(bytes) => [head(2, bytes.len() as u64), bytes.clone()].concat(),
            Self::Text(text) => [head(3, text.len() as u64), text.as_bytes().to_vec()].concat(),
            Self::Array(items) => {
                [head(4, items.len() as u64), items.iter().flat_map(Self::write).collect::<Vec<u8>>()].concat()
            }
            Self::True => vec![0xf5],
        }
    }

    pub(crate) fn diagnostic(&self) -> String {
        match self {
            Self::Unsigned(n) => n.to_string(),
            Self::Bytes(bytes) => format!("h'{}'", hex(bytes)),
            Self::Text(text) => format!("{text:?}"),
            Self::Array(items) => {
                format!("[{}]", items.iter().map(Self::diagnostic).collect::<Vec<_>>().join(", "))
            }
            Self::True => "true".to_owned(),
        }
    }
}

pub(crate) fn head(major: u8, n: u64) -> Vec<u8> {
    let major = major << 5;
    match n {
        0..24 => vec![major | n as u8],
        24..0x100 => vec![major | 24, n as u8],
        0x100..0x1_0000 => [&[major | 25], (n as u16).to_be_bytes().as_slice()].concat(),
        0x1_0000..0x1_0000_0000 => [&[major | 26], (n as u32).to_be_bytes().as_slice()].concat(),
        _ => [&[major | 27], n.to_be_bytes().as_slice()].concat(),
    }
}

pub(crate) fn map(entries: &[(u64, Item)]) -> Vec<u8> {
    let pairs = entries.iter().flat_map(|(key, value)| [head(0, *key), value.write()].concat());
    [head(5, entries.len() as u64), pairs.collect()].concat()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn unhex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "{text}");
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}
