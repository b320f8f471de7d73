//! Tokens of the published vectors as datagrams, and headers and payloads to be signed.

use std::{fs, io, path::Path};

use jpat_fuzz::jwt::sign;

use super::{strings, vector};

const HEADERS: [&str; 12] = [
    r#"{"alg":"EdDSA"}"#,
    r#"{"alg":"EdDSA","kid":"k1","typ":"JWT"}"#,
    r#"{"alg":"EdDSA","kid":"k2","typ":"application/AT+jwt"}"#,
    r#"{"alg":"none"}"#,
    r#"{"alg":"HS256","typ":"jpat+jwt"}"#,
    r#"{"alg":"EdDSA","crit":["exp"],"exp":1}"#,
    r#"{"alg":"EdDSA","jwk":{"kty":"OKP"}}"#,
    r#"{"alg":"EdDSA","zip":"DEF"}"#,
    r#"{"alg":"EdDSA","b64":false}"#,
    r#"{"alg":"EdDSA","kid":"\u0000"}"#,
    r#"{"alg":"EdDSA","alg":"EdDSA"}"#,
    r#"{"alg":null,"x5t":"x","cty":"y"}"#,
];

const PAYLOADS: [&str; 16] = [
    r#"{"iss":"https://idp.example","sub":"a","aud":"jpat://test","exp":1700000300,"iat":1700000000,"nbf":1700000000,"jti":"1"}"#,
    r#"{"iss":"https://once.example","aud":["x","jpat://test"],"exp":1700000300.5,"jti":"1"}"#,
    r#"{"iss":"https://once.example","aud":["jpat://test"],"exp":1.7000003e9}"#,
    r#"{"iss":"https://idp.example","aud":"jpat://test","exp":1700000000}"#,
    r#"{"iss":"https://idp.example","aud":"jpat://test","exp":1700086401}"#,
    r#"{"iss":"https://idp.example","aud":"jpat://test","exp":1700000300,"nbf":1700000010}"#,
    r#"{"iss":"https://idp.example","aud":"jpat://test","exp":1700000300,"nbf":1700000011}"#,
    r#"{"iss":"https://idp.example","aud":"jpat://test","exp":1700000300,"iat":1700000011}"#,
    r#"{"iss":"https://idp.example","aud":"jpat://test","exp":1700000300,"iat":1699913000}"#,
    r#"{"iss":"https://idp.example","aud":"jpat://test","exp":1700000300,"cnf":{"jkt":"x"}}"#,
    r#"{"iss":"https://idp.example","aud":[],"exp":1700000300}"#,
    r#"{"iss":"https://other.example","aud":"jpat://test","exp":1700000300}"#,
    r#"{"iss":"https://idp.example","aud":"jpat://test","exp":"1700000300"}"#,
    r#"{"iss":"https://idp.example","aud":"jpat://test","exp":9007199254740992,"jti":""}"#,
    r#"{"iss":"https://idp.example","exp":-0.0,"nbf":1e-9,"iat":0.9999999999}"#,
    r#"{"iss":"https://idp.example","aud":"jpat://test","exp":1700000300,"roles":["a",{"b":[[[1]]]}],"roles2":null}"#,
];

pub(super) fn seeds() -> io::Result<Vec<Vec<u8>>> {
    let mut seeds = Vec::new();
    for name in ["json_web_signature", "json_web_crypto", "json_web_key", "json_web_encryption"] {
        let text = vector(&format!("wycheproof/{name}_test.json"))?;
        let json = serde_json::from_str(&text)?;
        let mut tokens = Vec::new();
        strings(&json, "jws", &mut tokens);
        strings(&json, "jwe", &mut tokens);
        seeds.extend(tokens.iter().map(|token| token.as_bytes().to_vec()));
    }
    let pair = |header: &[u8], payload: &[u8]| [header, &[0], payload].concat();
    for header in HEADERS {
        seeds.push(pair(header.as_bytes(), PAYLOADS[0].as_bytes()));
    }
    for payload in PAYLOADS {
        seeds.push(pair(HEADERS[0].as_bytes(), payload.as_bytes()));
        let token = sign(HEADERS[1].as_bytes(), payload.as_bytes());
        seeds.extend(["", "\n", "\r\n", "\n\n", "="].map(|end| format!("{token}{end}").into_bytes()));
    }
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../vectors/jsontestsuite/test_parsing");
    for entry in fs::read_dir(directory)? {
        let json = fs::read(entry?.path())?;
        seeds.push(pair(HEADERS[0].as_bytes(), &json));
        seeds.push(pair(&json, PAYLOADS[0].as_bytes()));
        seeds.push(pair(HEADERS[0].as_bytes(), &[br#"{"iss":"https://idp.example","x":"#, &json[..], b"}"].concat()));
    }
    Ok(seeds)
}
