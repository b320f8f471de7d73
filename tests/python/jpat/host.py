"""A host's half of the protocol, in one process: filter, controller as far as the document goes, reply. For tests.

What a token must be beyond the document (issuers, algorithms, policy) is reduced to one issuer with one Ed25519 key, of
whose tokens §9.4 is followed as far as the vectors need it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Tuple

from . import encoding, knock, primitives
from .encoding import Binding, EncodingError, PublicKey
from .knock import Reply
from .primitives import HpkeContext


class Refused(Exception):
    """Dropped in silence, with the code of docs/reasons.md."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass
class Host:
    server_id: str
    private_keys: List[bytes]
    knock_keys: Dict[int, bytes]
    issuer: str
    issuer_key: bytes
    audience: str
    tags: Dict[bytes, int] = field(default_factory=dict)
    nonces: Dict[Tuple[int, bytes], int] = field(default_factory=dict)


@dataclass(frozen=True)
class Opened:
    """An authentic knock. `refusal` is what the checks behind authentication say; such a knock may be answered."""

    datagram: bytes
    context: HpkeContext
    inner: Dict[int, Any]
    claims: Dict[str, Any]
    refusal: Optional[str]


def filter_knock(host: Host, datagram: bytes, now_ms: int) -> None:
    """§6.3, but for budgets."""
    if len(datagram) > knock.MAX_KNOCK:
        raise Refused("knock_too_long")
    if len(datagram) < knock.MIN_SEALED or len(datagram) % 8 != 0:
        raise Refused("knock_sealed_length")
    if datagram[:4] != b"JPAT":
        raise Refused("knock_no_form")
    if datagram[4:6] != b"\x01\x01":
        raise Refused("knock_version")
    key_id, tag = int.from_bytes(datagram[6:8], "big"), datagram[16:24]
    if key_id not in host.knock_keys:
        raise Refused("knock_unknown_key")
    if abs(int.from_bytes(datagram[10:16], "big") - now_ms) > knock.MAX_SKEW_FILTER_MS:
        raise Refused("knock_time")
    if tag in host.tags:
        raise Refused("knock_tag_seen")
    if knock.knock_tag(knock.tag_key(host.knock_keys[key_id], key_id, host.server_id), datagram) != tag:
        raise Refused("knock_bad_tag")
    host.tags[tag] = now_ms


def _unseal(host: Host, datagram: bytes) -> Tuple[HpkeContext, bytes]:
    """§9.1, 1 to 3."""
    if len(datagram) > knock.MAX_KNOCK:
        raise Refused("too_long")
    if len(datagram) < knock.MIN_SEALED or len(datagram) % 8 != 0 or datagram[:6] != b"JPAT\x01\x01":
        raise Refused("not_sealed")
    keys = [k for k in host.private_keys if knock.server_key_hint(primitives.x25519_public(k)) == datagram[8:10]]
    if not keys:
        raise Refused("unknown_server_key")
    for private in keys:
        try:
            context = primitives.hpke_receiver(private, knock.knock_info(host.server_id), datagram[24:56])
            return context, context.open(datagram[:16], datagram[56:])
        except primitives.CryptoError:
            continue
    raise Refused("cannot_open")


def read_inner(pt: bytes) -> Dict[int, Any]:
    """§7: the map, where it and the padding behind it are as they must be."""
    try:
        m, padding = encoding.cbor_decode(pt)
    except EncodingError as error:
        raise Refused("bad_inner") from error
    if not isinstance(m, dict) or len(padding) > 7 or any(padding) or len(pt) % 8 != 0:
        raise Refused("bad_inner")
    services, address = m.get(8, ["any"]), m.get(9, bytes(4))
    good = (
        {1, 2, 3, 4, 5, 6, 7} <= set(m) <= set(range(1, 12))
        and type(m[1]) is int
        and all(type(m[key]) is bytes for key in (2, 5, 6, 7, 9, 10, 11) if key in m)
        and len(m[2]) == 16
        and knock.is_server_id(m[3])
        and type(m[4]) is int
        and m[4] in knock.VERBS.values()
        and m[5] != b""
        and m[6] != b""
        and isinstance(services, list)
        and 1 <= len(services) <= 16
        and all(map(knock.is_service, services))
        and knock.ascending(services)
        and len(address) in (4, 16)
        and not (len(address) == 16 and address.startswith(knock.MAPPED))
        and len(m.get(10, bytes(32))) in (32, 64)
        and len(m.get(11, bytes(64))) == 64
        and (10 not in m or 11 in m)
    )
    if not good:
        raise Refused("bad_inner")
    return m


def _verify_token(host: Host, m: Dict[int, Any]) -> Dict[str, Any]:
    """§9.1, 8, for one issuer who signs with EdDSA."""
    try:
        header, claims = encoding.json_object(m[5]), encoding.json_object(m[6])
    except EncodingError as error:
        raise Refused("bad_json") from error
    if any(type(claims.get(name, 0)) not in (int, float) for name in ("exp", "nbf", "iat")):
        raise Refused("bad_claim_type")
    if claims.get("iss") != host.issuer:
        raise Refused("unknown_issuer" if "iss" in claims else "no_issuer")
    if header.get("alg") != "EdDSA":
        raise Refused("alg_not_allowed")
    signed = (encoding.b64_encode(m[5]) + "." + encoding.b64_encode(m[6])).encode()
    if not PublicKey(host.issuer_key).verify(signed, m[7]):
        raise Refused("bad_signature")
    return claims


def _use_up(host: Host, m: Dict[int, Any], now_ms: int) -> None:
    """§9.1, 9, by §9.3."""
    if abs(m[1] - now_ms) > knock.MAX_SKEW_FILTER_MS:
        raise Refused("clock_skew")
    for used in [used for used in host.nonces if used[0] + knock.MAX_SKEW_FILTER_MS < now_ms]:
        del host.nonces[used]
    if (m[1], m[2]) in host.nonces:
        raise Refused("knock_replayed")
    host.nonces[(m[1], m[2])] = now_ms


def _accept(host: Host, claims: Dict[str, Any], now_ms: int) -> None:
    """§9.1, 10 and 11, without leeway."""
    if "aud" not in claims:
        raise Refused("no_audience")
    audiences = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
    if host.audience not in audiences:
        raise Refused("wrong_audience")
    if "exp" not in claims:
        raise Refused("no_expiry")
    if claims["exp"] * 1000 <= now_ms:
        raise Refused("expired")
    if claims.get("nbf", 0) * 1000 > now_ms:
        raise Refused("not_yet_valid")
    if claims.get("iat", 0) * 1000 > now_ms:
        raise Refused("issued_in_future")


def _verify_proof(datagram: bytes, m: Dict[int, Any], claims: Dict[str, Any]) -> None:
    """§9.1, 12, by §7.3."""
    if "cnf" not in claims:
        if 11 in m:
            raise Refused("bad_proof")
        return
    if 11 not in m:
        raise Refused("proof_missing")
    try:
        binding = Binding.from_claim(claims["cnf"])
    except EncodingError as error:
        raise Refused("unknown_confirmation") from error
    if (binding.key is None) != (10 in m):
        raise Refused("bad_proof")
    key = binding.key if binding.key is not None else PublicKey(m[10])
    if not binding.fits(key) or not key.is_good():
        raise Refused("bad_proof")
    if not key.verify(knock.proof_input(datagram[:16], datagram[24:56], m), m[11]):
        raise Refused("bad_proof")


def _judge(m: Dict[int, Any], now_ms: int) -> Optional[str]:
    """§9.1, 15."""
    if abs(m[1] - now_ms) > knock.MAX_SKEW_MS:
        return "clock_skew"
    return None


def open_knock(host: Host, datagram: bytes, source: bytes, now_ms: int) -> Opened:
    """§9.1 behind the filter. Whatever raises is dropped without any answer."""
    context, pt = _unseal(host, datagram)
    m = read_inner(pt)
    if m[3] != host.server_id:
        raise Refused("wrong_server")
    if m[1] != int.from_bytes(datagram[10:16], "big"):
        raise Refused("time_mismatch")
    if len(source) == 16 and source.startswith(knock.MAPPED):
        source = source[12:]
    if m.get(9, source) != source:
        raise Refused("wrong_address")
    claims = _verify_token(host, m)
    _use_up(host, m, now_ms)
    _accept(host, claims, now_ms)
    _verify_proof(datagram, m, claims)
    return Opened(datagram, context, m, claims, _judge(m, now_ms))


def seal_reply(opened: Opened, reply: Reply, nonce: Optional[bytes] = None) -> bytes:
    """§10. Services that would make the reply longer than its knock are left out from the end."""
    header, nonce = knock.reply_header(opened.datagram[16:24]), nonce or os.urandom(12)
    services = reply.services
    while True:
        message = Reply(reply.done, reply.server_time_ms, services, reply.reason, reply.repeated).to_cbor()
        if 28 + len(message) + 16 <= len(opened.datagram) or not services:
            break
        services = services[:-1]
    return header + nonce + primitives.aead_seal(knock.reply_key(opened.context), nonce, header, message)
