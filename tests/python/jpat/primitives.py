"""HKDF-SHA256, SipHash-2-4, ChaCha20-Poly1305, X25519, and HPKE's base mode over them. For tests, not constant-time."""

from __future__ import annotations

import hashlib
import hmac
import struct
from dataclasses import dataclass

MASK32 = 2**32 - 1
MASK64 = 2**64 - 1


class CryptoError(ValueError):
    """What was to be opened or agreed upon is not good."""


# HKDF (RFC 5869)


def hkdf_extract(salt: bytes, ikm: bytes) -> bytes:
    return hmac.new(salt or bytes(32), ikm, hashlib.sha256).digest()


def hkdf_expand(prk: bytes, info: bytes, length: int) -> bytes:
    out = block = b""
    counter = 1
    while len(out) < length:
        block = hmac.new(prk, block + info + bytes([counter]), hashlib.sha256).digest()
        out += block
        counter += 1
    return out[:length]


def hkdf(salt: bytes, ikm: bytes, info: bytes, length: int) -> bytes:
    return hkdf_expand(hkdf_extract(salt, ikm), info, length)


# SipHash-2-4 (Appendix A.2)


def siphash24(key: bytes, data: bytes) -> bytes:
    k0, k1 = struct.unpack("<2Q", key)
    v = [k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D, k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573]

    def half(a: int, b: int, rotate_b: int) -> None:
        v[a] = (v[a] + v[b]) & MASK64
        v[b] = (v[b] << rotate_b | v[b] >> (64 - rotate_b)) & MASK64
        v[b] ^= v[a]

    def swap(a: int) -> None:
        v[a] = (v[a] << 32 | v[a] >> 32) & MASK64

    def rounds(count: int) -> None:
        for _ in range(count):
            half(0, 1, 13)
            swap(0)
            half(2, 3, 16)
            half(0, 3, 21)
            half(2, 1, 17)
            swap(2)

    whole = len(data) // 8 * 8
    last = data[whole:].ljust(7, b"\0") + bytes([len(data) % 256])
    for (m,) in struct.iter_unpack("<Q", data[:whole] + last):
        v[3] ^= m
        rounds(2)
        v[0] ^= m
    v[2] ^= 0xFF
    rounds(4)
    return struct.pack("<Q", v[0] ^ v[1] ^ v[2] ^ v[3])


# ChaCha20-Poly1305 (RFC 8439)


def _chacha20_block(key: bytes, counter: int, nonce: bytes) -> bytes:
    start = struct.unpack("<16I", b"expand 32-byte k" + key + struct.pack("<I", counter) + nonce)
    s = list(start)

    def quarter(a: int, b: int, c: int, d: int) -> None:
        for x, y, z, n in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            s[x] = (s[x] + s[y]) & MASK32
            mixed = s[z] ^ s[x]
            s[z] = (mixed << n | mixed >> (32 - n)) & MASK32

    for _ in range(10):
        for i in range(4):
            quarter(i, 4 + i, 8 + i, 12 + i)
        for i in range(4):
            quarter(i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4)
    return struct.pack("<16I", *((a + b) & MASK32 for a, b in zip(s, start)))


def _chacha20(key: bytes, nonce: bytes, data: bytes) -> bytes:
    stream = b"".join(_chacha20_block(key, 1 + i, nonce) for i in range((len(data) + 63) // 64))
    return bytes(a ^ b for a, b in zip(data, stream))


def _poly1305(key: bytes, data: bytes) -> bytes:
    r = int.from_bytes(key[:16], "little") & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
    acc = 0
    for i in range(0, len(data), 16):
        acc = (acc + int.from_bytes(data[i : i + 16] + b"\1", "little")) * r % (2**130 - 5)
    return ((acc + int.from_bytes(key[16:], "little")) % 2**128).to_bytes(16, "little")


def _aead_tag(key: bytes, nonce: bytes, aad: bytes, ct: bytes) -> bytes:
    def padded(data: bytes) -> bytes:
        return data + bytes(-len(data) % 16)

    return _poly1305(
        _chacha20_block(key, 0, nonce)[:32], padded(aad) + padded(ct) + struct.pack("<2Q", len(aad), len(ct))
    )


def aead_seal(key: bytes, nonce: bytes, aad: bytes, pt: bytes) -> bytes:
    ct = _chacha20(key, nonce, pt)
    return ct + _aead_tag(key, nonce, aad, ct)


def aead_open(key: bytes, nonce: bytes, aad: bytes, sealed: bytes) -> bytes:
    ct, tag = sealed[:-16], sealed[-16:]
    if len(sealed) < 16 or not hmac.compare_digest(tag, _aead_tag(key, nonce, aad, ct)):
        raise CryptoError("does not open")
    return _chacha20(key, nonce, ct)


# X25519 (RFC 7748 §5)


def x25519(scalar: bytes, point: bytes) -> bytes:
    p = 2**255 - 19
    k = int.from_bytes(scalar, "little") & (2**254 - 8) | 2**254
    u = int.from_bytes(point, "little") & (2**255 - 1)
    x2, z2, x3, z3, swapped = 1, 0, u, 1, 0
    for t in range(254, -1, -1):
        bit = k >> t & 1
        if bit != swapped:
            x2, x3, z2, z3 = x3, x2, z3, z2
        swapped = bit
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        aa, bb, da, cb = a * a % p, b * b % p, d * a % p, c * b % p
        e = aa - bb
        x3, z3 = (da + cb) ** 2 % p, u * (da - cb) ** 2 % p
        x2, z2 = aa * bb % p, e * (aa + 121665 * e) % p
    if swapped:
        x2, z2 = x3, z3
    return (x2 * pow(z2, p - 2, p) % p).to_bytes(32, "little")


def x25519_public(scalar: bytes) -> bytes:
    return x25519(scalar, (9).to_bytes(32, "little"))


# HPKE, base mode, one message (Appendix A.1)

KEM = b"KEM\x00\x20"
SUITE = b"HPKE\x00\x20\x00\x01\x00\x03"
REFUSED_DH = bytes(32)


def _labeled_extract(suite: bytes, salt: bytes, label: bytes, ikm: bytes) -> bytes:
    return hkdf_extract(salt, b"HPKE-v1" + suite + label + ikm)


def _labeled_expand(suite: bytes, prk: bytes, label: bytes, context: bytes, length: int) -> bytes:
    return hkdf_expand(prk, struct.pack(">H", length) + b"HPKE-v1" + suite + label + context, length)


@dataclass(frozen=True)
class HpkeContext:
    """Both sides' state behind the encapsulation, with the values on the way to it."""

    enc: bytes
    dh: bytes
    shared_secret: bytes
    key: bytes
    base_nonce: bytes
    exporter: bytes

    def seal(self, aad: bytes, pt: bytes) -> bytes:
        return aead_seal(self.key, self.base_nonce, aad, pt)

    def open(self, aad: bytes, ct: bytes) -> bytes:
        return aead_open(self.key, self.base_nonce, aad, ct)

    def export(self, text: bytes, length: int) -> bytes:
        return _labeled_expand(SUITE, self.exporter, b"sec", text, length)


def _schedule(dh: bytes, enc: bytes, pk_r: bytes, info: bytes) -> HpkeContext:
    if dh == REFUSED_DH:
        raise CryptoError("the Diffie-Hellman result is zero")
    eae_prk = _labeled_extract(KEM, b"", b"eae_prk", dh)
    shared_secret = _labeled_expand(KEM, eae_prk, b"shared_secret", enc + pk_r, 32)
    psk_id_hash = _labeled_extract(SUITE, b"", b"psk_id_hash", b"")
    context = b"\0" + psk_id_hash + _labeled_extract(SUITE, b"", b"info_hash", info)
    secret = _labeled_extract(SUITE, shared_secret, b"secret", b"")
    return HpkeContext(
        enc,
        dh,
        shared_secret,
        _labeled_expand(SUITE, secret, b"key", context, 32),
        _labeled_expand(SUITE, secret, b"base_nonce", context, 12),
        _labeled_expand(SUITE, secret, b"exp", context, 32),
    )


def hpke_derive_private(ikm: bytes) -> bytes:
    return _labeled_expand(KEM, _labeled_extract(KEM, b"", b"dkp_prk", ikm), b"sk", b"", 32)


def hpke_sender(pk_r: bytes, info: bytes, ikm_e: bytes) -> HpkeContext:
    sk_e = hpke_derive_private(ikm_e)
    return _schedule(x25519(sk_e, pk_r), x25519_public(sk_e), pk_r, info)


def hpke_receiver(sk_r: bytes, info: bytes, enc: bytes) -> HpkeContext:
    return _schedule(x25519(sk_r, enc), enc, x25519_public(sk_r), info)
