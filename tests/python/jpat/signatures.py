"""Ed25519 (RFC 8032) and ECDSA on P-256 with SHA-256 and the nonces of RFC 6979. For tests, not constant-time."""

from __future__ import annotations

import hashlib
import hmac
from typing import Optional, Tuple

# Ed25519: points in extended coordinates (X, Y, Z, T)

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
EdPoint = Tuple[int, int, int, int]
ED_ZERO: EdPoint = (0, 1, 1, 0)


def _ed_add(p: EdPoint, q: EdPoint) -> EdPoint:
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % P, (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * p[3] * q[3] * D % P, 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def _ed_mul(n: int, p: EdPoint) -> EdPoint:
    q = ED_ZERO
    while n:
        if n & 1:
            q = _ed_add(q, p)
        p = _ed_add(p, p)
        n >>= 1
    return q


def _ed_equal(p: EdPoint, q: EdPoint) -> bool:
    return (p[0] * q[2] - q[0] * p[2]) % P == 0 and (p[1] * q[2] - q[1] * p[2]) % P == 0


def _ed_encode(p: EdPoint) -> bytes:
    inverse = pow(p[2], P - 2, P)
    x, y = p[0] * inverse % P, p[1] * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def _ed_decode(data: bytes) -> Optional[EdPoint]:
    number = int.from_bytes(data, "little")
    y, sign = number & (2**255 - 1), number >> 255
    if len(data) != 32 or y >= P:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P != 0:
        x = x * pow(2, (P - 1) // 4, P) % P
    if (x * x - square) % P != 0 or (x == 0 and sign == 1):
        return None
    if x & 1 != sign:
        x = P - x
    return x, y, 1, x * y % P


_decoded_base = _ed_decode((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))
assert _decoded_base is not None
ED_BASE: EdPoint = _decoded_base


def _ed_secret(seed: bytes) -> Tuple[int, bytes]:
    h = hashlib.sha512(seed).digest()
    return int.from_bytes(h[:32], "little") & (2**254 - 8) | 2**254, h[32:]


def _ed_hash(*parts: bytes) -> int:
    return int.from_bytes(hashlib.sha512(b"".join(parts)).digest(), "little") % L


def ed25519_public(seed: bytes) -> bytes:
    return _ed_encode(_ed_mul(_ed_secret(seed)[0], ED_BASE))


def ed25519_sign(seed: bytes, message: bytes) -> bytes:
    a, prefix = _ed_secret(seed)
    public = _ed_encode(_ed_mul(a, ED_BASE))
    r = _ed_hash(prefix, message)
    encoded_r = _ed_encode(_ed_mul(r, ED_BASE))
    return encoded_r + ((r + _ed_hash(encoded_r, public, message) * a) % L).to_bytes(32, "little")


def ed25519_good_key(public: bytes) -> bool:
    """Whether these bytes are a point of the curve, and not of low order."""
    point = _ed_decode(public)
    return point is not None and not _ed_equal(_ed_mul(8, point), ED_ZERO)


def ed25519_verify(public: bytes, message: bytes, signature: bytes) -> bool:
    a, r = _ed_decode(public), _ed_decode(signature[:32])
    s = int.from_bytes(signature[32:], "little")
    if len(signature) != 64 or a is None or r is None or s >= L:
        return False
    return _ed_equal(_ed_mul(s, ED_BASE), _ed_add(r, _ed_mul(_ed_hash(signature[:32], public, message), a)))


# P-256: affine points, None at infinity

Q = 2**256 - 2**224 + 2**192 + 2**96 - 1
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
ECPoint = Optional[Tuple[int, int]]
EC_BASE: ECPoint = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)


def _ec_add(p: ECPoint, q: ECPoint) -> ECPoint:
    if p is None or q is None:
        return q if p is None else p
    (x1, y1), (x2, y2) = p, q
    if x1 == x2 and (y1 + y2) % Q == 0:
        return None
    if p == q:
        slope = (3 * x1 * x1 - 3) * pow(2 * y1, -1, Q)
    else:
        slope = (y2 - y1) * pow(x2 - x1, -1, Q)
    x = (slope * slope - x1 - x2) % Q
    return x, (slope * (x1 - x) - y1) % Q


def _ec_mul(n: int, p: ECPoint) -> ECPoint:
    q: ECPoint = None
    while n:
        if n & 1:
            q = _ec_add(q, p)
        p = _ec_add(p, p)
        n >>= 1
    return q


def _ec_decode(public: bytes) -> ECPoint:
    x, y = int.from_bytes(public[:32], "big"), int.from_bytes(public[32:], "big")
    if len(public) != 64 or x >= Q or y >= Q or (y * y - x * x * x + 3 * x - B) % Q != 0:
        return None
    return x, y


def p256_good_key(public: bytes) -> bool:
    """Whether these 64 bytes, x and y, are a point of the curve (whose order is prime)."""
    return _ec_decode(public) is not None


def p256_public(private: bytes) -> bytes:
    point = _ec_mul(int.from_bytes(private, "big"), EC_BASE)
    if point is None or not 0 < int.from_bytes(private, "big") < N:
        raise ValueError("no private key of P-256")
    return point[0].to_bytes(32, "big") + point[1].to_bytes(32, "big")


def p256_nonce(private: bytes, digest: bytes) -> int:
    """RFC 6979 §3.2 with SHA-256; the first candidate is good but for a chance of 2^-32."""
    seed = private + (int.from_bytes(digest, "big") % N).to_bytes(32, "big")
    v, k = b"\1" * 32, bytes(32)
    for marker in (b"\0", b"\1"):
        k = hmac.new(k, v + marker + seed, hashlib.sha256).digest()
        v = hmac.new(k, v, hashlib.sha256).digest()
    while True:
        v = hmac.new(k, v, hashlib.sha256).digest()
        if 0 < int.from_bytes(v, "big") < N:
            return int.from_bytes(v, "big")
        k = hmac.new(k, v + b"\0", hashlib.sha256).digest()
        v = hmac.new(k, v, hashlib.sha256).digest()


def p256_sign(private: bytes, message: bytes) -> bytes:
    digest = hashlib.sha256(message).digest()
    k = p256_nonce(private, digest)
    point = _ec_mul(k, EC_BASE)
    assert point is not None
    r = point[0] % N
    s = pow(k, -1, N) * (int.from_bytes(digest, "big") + r * int.from_bytes(private, "big")) % N
    if r == 0 or s == 0:
        raise ValueError("happens once in 2^255")
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def p256_verify(public: bytes, message: bytes, signature: bytes) -> bool:
    key = _ec_decode(public)
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    if key is None or len(signature) != 64 or not (0 < r < N and 0 < s < N):
        return False
    w = pow(s, -1, N)
    e = int.from_bytes(hashlib.sha256(message).digest(), "big")
    point = _ec_add(_ec_mul(e * w % N, EC_BASE), _ec_mul(r * w % N, key))
    return point is not None and point[0] % N == r
