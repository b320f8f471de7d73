//! Keys of the published vectors, alone and together, and weak ones.

use std::io;

use serde_json::{Value, json};

use super::{strings, vector};

pub(super) fn seeds() -> io::Result<Vec<Vec<u8>>> {
    let mut seeds = Vec::new();
    let mut keys: Vec<Value> = Vec::new();
    for name in [
        "json_web_signature",
        "json_web_crypto",
        "json_web_key",
        "json_web_encryption",
        "ecdsa_secp256r1_sha256_p1363",
        "ecdsa_secp384r1_sha384_p1363",
        "ed25519",
        "rsa_pss_2048_sha256_mgf1_32",
        "rsa_signature_2048_sha256",
    ] {
        let text = vector(&format!("wycheproof/{name}_test.json"))?;
        let json: Value = serde_json::from_str(&text)?;
        for group in json["testGroups"].as_array().into_iter().flatten() {
            for half in ["public", "private", "publicKeyJwk"] {
                match group.get(half) {
                    None => {}
                    Some(set) if set.get("keys").is_some() => seeds.push(set.to_string().into_bytes()),
                    Some(key) => keys.push(key.clone()),
                }
            }
        }
        let mut pems = Vec::new();
        strings(&json, "publicKeyPem", &mut pems);
        pems.dedup();
        seeds.extend(pems.iter().take(8).map(|pem| pem.as_bytes().to_vec()));
    }
    keys.dedup();
    seeds.extend(keys.iter().map(|key| json!({ "keys": [key] }).to_string().into_bytes()));
    seeds.extend(keys.chunks(4).map(|keys| json!({ "keys": keys }).to_string().into_bytes()));
    seeds.extend(weak().iter().map(|key| json!({ "keys": [key] }).to_string().into_bytes()));
    seeds.push(br#"{"keys":[]}"#.to_vec());
    Ok(seeds)
}

fn weak() -> Vec<Value> {
    let point = |x: &str| json!({ "kty": "OKP", "crv": "Ed25519", "kid": "a", "use": "sig", "x": x });
    let rsa = |n: usize, e: &str| json!({ "kty": "RSA", "n": "_".repeat(n), "e": e });
    vec![
        // Orders 4, 1, 2 and 8.
        point("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
        point("AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
        point("7P________________________________________38"),
        point("JuiVj8KyJ7BFw_SJ8u-Y8NXfrAXTxjM5sTgCiG1T_AU"),
        rsa(342, "AQAB"),
        rsa(342, "Aw"),
        rsa(171, "AQAB"),
        json!({ "kty": "EC", "crv": "P-256", "x": "A".repeat(43), "y": "A".repeat(43), "key_ops": ["verify"] }),
        json!({ "kty": "EC", "crv": "P-521", "alg": "ES512" }),
        json!({ "kty": "oct", "k": "c2VjcmV0", "alg": "HS256" }),
        json!({ "kty": "AKP", "alg": "ML-DSA-44", "pub": "" }),
    ]
}
