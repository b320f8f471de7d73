//! RFC 9180 §A.2.1 (X25519, HKDF-SHA256, ChaCha20-Poly1305, base mode) against the library and against the second writing.

use hpke::{
    Deserializable, Kem, OpModeR, Serializable, aead::ChaCha20Poly1305, kdf::HkdfSha256, kem::X25519HkdfSha256,
    setup_receiver,
};

use crate::reference::{Hpke, derive_key, hex, public, unhex};

const INFO: &str = "4f6465206f6e2061204772656369616e2055726e";
const IKM_E: &str = "909a9b35d3dc4713a5e72a4da274b55d3d3821a37e5d099e74a647db583a904b";
const SK_E: &str = "f4ec9b33b792c372c1d2c2063507b684ef925b8c75a42dbcbf57d63ccd381600";
const ENC: &str = "1afa08d3dec047a643885163f1180476fa7ddb54c6a8029ea33f95796bf2ac4a";
const IKM_R: &str = "1ac01f181fdf9f352797655161c58b75c656a6cc2716dcb66372da835542e1df";
const SK_R: &str = "8057991eef8f1f1af18f4a9491d16a1ce333f695d4db8e38da75975c4478e0fb";
const PK_R: &str = "4310ee97d88cc1f088a5576c77ab0cf5c3ac797f3d95139c6c84b5429c59662a";
const SHARED_SECRET: &str = "0bbe78490412b4bbea4812666f7916932b828bba79942424abb65244930d69a7";
const KEY: &str = "ad2744de8e17f4ebba575b3f5f5a8fa1f69c2a07f6e7500bc60ca6e3e3ec1c91";
const BASE_NONCE: &str = "5c4d98150661b848853b547f";
const EXPORTER: &str = "a3b010d4994890e2c6968a36f64470d3c824c8f5029942feb11e7a74b2921922";
const PT: &str = "4265617574792069732074727574682c20747275746820626561757479";
const AAD: &str = "436f756e742d30";
const CT: &str = "1c5250d8034ec2b784ba2cfd69dbdb8af406cfe3ff938e131f0def8c8b60b4db21993c62ce81883d2dd1b51a28";
const EXPORTED: &str = "4bbd6243b8bb54cec311fac9df81841b6fd61f56538a775e7c80a9f40160606e";

#[test]
fn the_second_writing_agrees_with_the_rfc() {
    assert_eq!((hex(&derive_key(&unhex(IKM_E))), hex(&derive_key(&unhex(IKM_R)))), (SK_E.into(), SK_R.into()));
    assert_eq!(hex(&public(&unhex(SK_R))), PK_R);
    let hpke = Hpke::sender(&unhex(SK_E), &unhex(PK_R), &unhex(INFO));
    assert_eq!(hex(&hpke.enc), ENC);
    assert_eq!(hex(&hpke.shared_secret), SHARED_SECRET);
    assert_eq!((hex(&hpke.key), hex(&hpke.base_nonce)), (KEY.into(), BASE_NONCE.into()));
    assert_eq!(hex(&hpke.exporter), EXPORTER);
    assert_eq!(hex(&hpke.seal(&unhex(AAD), &unhex(PT))), CT);
    assert_eq!(hex(&hpke.export("", 32)), EXPORTED);
}

#[test]
fn the_library_agrees_with_the_rfc() {
    let (private, public) = X25519HkdfSha256::derive_keypair(&unhex(IKM_R));
    // The private key is held clamped (RFC 7748 §5), and the RFC prints it as it was derived.
    assert_eq!(hex(&public.to_bytes()), PK_R);
    let enc = <X25519HkdfSha256 as Kem>::EncappedKey::from_bytes(&unhex(ENC)).unwrap();
    let mut context =
        setup_receiver::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(&OpModeR::Base, &private, &enc, &unhex(INFO))
            .unwrap();
    assert_eq!(hex(&context.open(&unhex(CT), &unhex(AAD)).unwrap()), PT);
    let mut exported = [0; 32];
    context.export(b"", &mut exported).unwrap();
    assert_eq!(hex(&exported), EXPORTED);
}
