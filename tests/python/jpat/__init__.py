"""The JPAT knock protocol, version 1, written from docs/protocol.md alone.

For tests: small and clear, standard library only. Nothing here runs in constant time, and no secret is wiped; never
use it to guard anything.

* `primitives`: HKDF, SipHash-2-4, ChaCha20-Poly1305, X25519, HPKE (Appendix A and the RFCs)
* `signatures`: Ed25519, and ECDSA on P-256
* `encoding`: deterministic CBOR, base64url, JSON, compact JWS, JWK and thumbprints
* `knock`: what a client seals and opens
* `host`: what a host opens and seals
"""
