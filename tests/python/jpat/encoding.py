"""Deterministic CBOR (§7), base64url (§1.2), JSON, compact JWS, JWK and thumbprints. For tests."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Tuple

from . import signatures


class EncodingError(ValueError):
    """What was read is not in the one encoding that is allowed."""


# CBOR: unsigned integers, bytes, text, arrays, maps with unsigned keys, true


def _head(major: int, n: int) -> bytes:
    if n < 24:
        return bytes([major << 5 | n])
    for info, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if n < 1 << 8 * size:
            return bytes([major << 5 | info]) + n.to_bytes(size, "big")
    raise EncodingError("too large")


def cbor_encode(value: Any) -> bytes:
    if value is True:
        return b"\xf5"
    if type(value) is int:
        return _head(0, value)
    if type(value) is bytes:
        return _head(2, len(value)) + value
    if type(value) is str:
        return _head(3, len(value.encode())) + value.encode()
    if type(value) is list:
        return _head(4, len(value)) + b"".join(map(cbor_encode, value))
    if type(value) is dict:
        return _head(5, len(value)) + b"".join(cbor_encode(k) + cbor_encode(value[k]) for k in sorted(value))
    raise EncodingError("no such type here")


def _read(data: bytes, at: int, depth: int) -> Tuple[Any, int]:
    def take(size: int) -> bytes:
        nonlocal at
        if at + size > len(data):
            raise EncodingError("cut off")
        at += size
        return data[at - size : at]

    first = take(1)[0]
    if first == 0xF5:
        return True, at
    major, n = first >> 5, first & 31
    if n >= 28 or major in (1, 6, 7) or depth > 3:
        raise EncodingError("indefinite, reserved, of no type used here, or nested too deep")
    if n >= 24:
        n = int.from_bytes(take(1 << (n - 24)), "big")
    if major == 0:
        return n, at
    if major == 2:
        return take(n), at
    if major == 3:
        try:
            return take(n).decode(), at
        except UnicodeDecodeError as error:
            raise EncodingError("not UTF-8") from error
    items: List[Any] = []
    for _ in range(n if major == 4 else 2 * n):
        item, at = _read(data, at, depth + 1)
        items.append(item)
    if major == 4:
        return items, at
    if any(type(key) is not int for key in items[::2]):
        raise EncodingError("a map's key is no unsigned integer")
    return dict(zip(items[::2], items[1::2])), at


def cbor_decode(data: bytes) -> Tuple[Any, bytes]:
    """The first item, and what is behind it. An item that this module would write otherwise is refused."""
    value, end = _read(data, 0, 0)
    if cbor_encode(value) != data[:end]:
        raise EncodingError("not the deterministic encoding")
    return value, data[end:]


# base64url, JSON and JWS


def b64_encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def b64_decode(text: Any) -> bytes:
    if not isinstance(text, str) or not re.fullmatch(r"[A-Za-z0-9_-]*", text) or len(text) % 4 == 1:
        raise EncodingError("not base64url")
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if b64_encode(data) != text:
        raise EncodingError("base64url with spare bits set")
    return data


def b64_decode_32(text: Any) -> bytes:
    data = b64_decode(text)
    if len(data) != 32:
        raise EncodingError("not 32 bytes")
    return data


def json_object(data: bytes) -> Dict[str, Any]:
    def unique(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
        if len(dict(pairs)) != len(pairs):
            raise EncodingError("a member twice")
        return dict(pairs)

    def refuse(constant: str) -> None:
        raise EncodingError(f"{constant} is not JSON")

    try:
        value = json.loads(data.decode(), object_pairs_hook=unique, parse_constant=refuse)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise EncodingError("not JSON") from error
    if not isinstance(value, dict):
        raise EncodingError("not a JSON object")
    return value


def jws_split(token: str) -> Tuple[bytes, bytes, bytes]:
    parts = token.split(".")
    if len(parts) != 3 or not parts[0] or not parts[1]:
        raise EncodingError("not a compact JWS")
    return b64_decode(parts[0]), b64_decode(parts[1]), b64_decode(parts[2])


# JWK


@dataclass(frozen=True)
class PublicKey:
    """32 bytes of Ed25519, or 64 of P-256 (x, then y)."""

    raw: bytes

    @classmethod
    def from_jwk(cls, jwk: Any) -> PublicKey:
        if not isinstance(jwk, dict):
            raise EncodingError("a JWK is an object")
        if (jwk.get("kty"), jwk.get("crv")) == ("OKP", "Ed25519"):
            return cls(b64_decode_32(jwk.get("x")))
        if (jwk.get("kty"), jwk.get("crv")) == ("EC", "P-256"):
            return cls(b64_decode_32(jwk.get("x")) + b64_decode_32(jwk.get("y")))
        raise EncodingError("neither Ed25519 nor P-256")

    def is_good(self) -> bool:
        if len(self.raw) == 32:
            return signatures.ed25519_good_key(self.raw)
        return signatures.p256_good_key(self.raw)

    def thumbprint(self) -> str:
        """RFC 7638: the required members, ascending, without white space."""
        x, y = b64_encode(self.raw[:32]), b64_encode(self.raw[32:])
        if len(self.raw) == 32:
            text = '{"crv":"Ed25519","kty":"OKP","x":"%s"}' % x
        else:
            text = '{"crv":"P-256","kty":"EC","x":"%s","y":"%s"}' % (x, y)
        return b64_encode(hashlib.sha256(text.encode()).digest())

    def verify(self, message: bytes, signature: bytes) -> bool:
        if len(self.raw) == 32:
            return signatures.ed25519_verify(self.raw, message, signature)
        return signatures.p256_verify(self.raw, message, signature)


@dataclass(frozen=True)
class ClientKey:
    public: PublicKey
    private: bytes

    @classmethod
    def from_jwk(cls, jwk: Any) -> ClientKey:
        public = PublicKey.from_jwk(jwk)
        private = b64_decode_32(jwk.get("d"))
        derive = signatures.ed25519_public if len(public.raw) == 32 else signatures.p256_public
        if derive(private) != public.raw:
            raise EncodingError("the private key is not that of the public one")
        return cls(public, private)

    def sign(self, message: bytes) -> bytes:
        if len(self.public.raw) == 32:
            return signatures.ed25519_sign(self.private, message)
        return signatures.p256_sign(self.private, message)


@dataclass(frozen=True)
class Binding:
    """The claim `cnf` (§7.3): a key itself, or its thumbprint."""

    key: Optional[PublicKey]
    thumbprint: Optional[str]

    @classmethod
    def from_claim(cls, cnf: Any) -> Binding:
        if not isinstance(cnf, dict) or len(cnf) != 1:
            raise EncodingError("cnf has not exactly one member")
        if "jwk" in cnf:
            key = PublicKey.from_jwk(cnf["jwk"])
            if "d" in cnf["jwk"] or not key.is_good():
                raise EncodingError("cnf.jwk is private, or no good key")
            return cls(key, None)
        if "jkt" in cnf:
            b64_decode_32(cnf["jkt"])
            return cls(None, cnf["jkt"])
        raise EncodingError("cnf is neither jwk nor jkt")

    def fits(self, key: PublicKey) -> bool:
        return key == self.key if self.key is not None else key.thumbprint() == self.thumbprint
