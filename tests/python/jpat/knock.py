"""A client's half of the protocol: profile, knock, reply (§4.1, §6, §7, §8, §10). For tests."""

from __future__ import annotations

import hashlib
import os
import re
import struct
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence, Tuple

from . import encoding, primitives
from .encoding import Binding, ClientKey, EncodingError
from .primitives import HpkeContext

MAX_KNOCK, MIN_SEALED = 1232, 128
MAX_SKEW_FILTER_MS, MAX_SKEW_MS = 300_000, 30_000
OPEN, RENEW, CLOSE = 1, 2, 3
VERBS = {"open": OPEN, "renew": RENEW, "close": CLOSE}
MAPPED = bytes(10) + b"\xff\xff"


class Unsendable(ValueError):
    """The client refuses to send this."""


def is_server_id(text: Any) -> bool:
    return isinstance(text, str) and re.fullmatch(r"[\x21-\x7e]{1,64}", text) is not None


def is_service(text: Any) -> bool:
    return isinstance(text, str) and re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}", text) is not None


def ascending(names: Sequence[str]) -> bool:
    raw = [name.encode() for name in names]
    return all(a < b for a, b in zip(raw, raw[1:]))


# Keys (§4), header and tag (§6)


def server_key_hint(public: bytes) -> bytes:
    return hashlib.sha256(public).digest()[:2]


def tag_key(knock_key: bytes, key_id: int, server_id: str) -> bytes:
    return primitives.hkdf(b"jpat/1 knock tag", knock_key, struct.pack(">H", key_id) + server_id.encode(), 16)


def knock_info(server_id: str) -> bytes:
    return b"jpat/1 knock\0" + server_id.encode()


def knock_header(key_id: int, hint: bytes, time_ms: int) -> bytes:
    return b"JPAT\x01\x01" + struct.pack(">H", key_id) + hint + time_ms.to_bytes(6, "big")


def knock_tag(key: bytes, datagram: bytes) -> bytes:
    return primitives.siphash24(key, datagram[:16] + datagram[24:])


def proof_input(header: bytes, enc: bytes, inner: Dict[int, Any]) -> bytes:
    unproved = {key: value for key, value in inner.items() if key != 11}
    return b"jpat/1 proof\0" + header + enc + encoding.cbor_encode(unproved)


# Profile (§4.1)


@dataclass(frozen=True)
class Profile:
    server_id: str
    server_keys: Tuple[bytes, ...]
    knock_key_id: int
    knock_key: bytes
    host: Optional[str] = None
    port: int = 1337
    reply: bool = True
    token_file: Optional[str] = None
    client_key: Optional[str] = None
    address: Optional[str] = None

    @classmethod
    def from_toml(cls, text: str) -> Profile:
        profile = parse_toml(text)
        server, knock_key = profile.pop("server", None), profile.pop("knock_key", None)
        if not isinstance(server, dict) or not isinstance(knock_key, dict):
            raise EncodingError("the profile needs [server] and [knock_key]")
        types = {"host": str, "port": int, "reply": bool, "token_file": str, "client_key": str, "address": str}
        unknown = set(profile) - set(types) | set(server) - {"id", "keys"} | set(knock_key) - {"id", "key"}
        if unknown:
            raise EncodingError(f"unknown in a profile: {', '.join(sorted(unknown))}")
        if any(type(value) is not types[name] for name, value in profile.items()):
            raise EncodingError("a value of the wrong type in the profile")
        keys, key_id = server.get("keys"), knock_key.get("id")
        if not is_server_id(server.get("id")) or not isinstance(keys, list) or not keys:
            raise EncodingError("the profile needs server.id and server.keys")
        if type(key_id) is not int or not 1 <= key_id <= 65535 or not 1 <= profile.get("port", 1337) <= 65535:
            raise EncodingError("knock_key.id and port are 1 to 65535")
        raw_keys = tuple(encoding.b64_decode_32(key) for key in keys)
        return cls(server["id"], raw_keys, key_id, encoding.b64_decode_32(knock_key.get("key")), **profile)


def parse_toml(text: str) -> Dict[str, Any]:
    try:
        import tomllib
    except ImportError:
        return parse_toml_subset(text)
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise EncodingError(f"not TOML: {error}") from error


def parse_toml_subset(text: str) -> Dict[str, Any]:
    """What a profile needs of TOML: tables, bare keys, and strings, integers, booleans and arrays of strings."""
    string = r'"(?:[^"\\\x00-\x1f]|\\["\\])*"' + r"|'[^'\x00-\x1f]*'"
    array = rf"\[\s*(?:(?:{string})\s*(?:,\s*(?:{string})\s*)*,?\s*)?\]"
    line = re.compile(
        rf"[ \t]*(?:\[[ \t]*(?P<table>[\w-]+)[ \t]*\]"
        rf"|(?P<key>[\w-]+)[ \t]*=[ \t]*(?P<value>{string}|{array}|\d+|true|false))?[ \t]*(?:#[^\n]*)?(?:\r?\n|\Z)",
        re.ASCII,
    )

    def scalar(value: str) -> str:
        return value[1:-1] if value[0] == "'" else re.sub(r"\\(.)", r"\1", value[1:-1])

    root: Dict[str, Any] = {}
    table, at = root, 0
    while at < len(text):
        match = line.match(text, at)
        if match is None:
            raise EncodingError(f"not understood in TOML: {text[at:].splitlines()[0]!r}")
        at, key, value = match.end(), match["key"], match["value"]
        if match["table"]:
            if match["table"] in root:
                raise EncodingError("a table twice")
            table = root[match["table"]] = {}
        elif key:
            if key in table:
                raise EncodingError("a key twice")
            if value[0] in "\"'":
                table[key] = scalar(value)
            elif value[0] == "[":
                table[key] = [scalar(item) for item in re.findall(string, value)]
            else:
                table[key] = value == "true" if value in ("true", "false") else int(value)
    return root


# Knock (§6, §7)


@dataclass(frozen=True)
class Sealed:
    """A knock as it is sent, the context that opens its reply, and the values on the way."""

    datagram: bytes
    context: HpkeContext
    inner: Dict[int, Any]
    pt: bytes

    @property
    def tag(self) -> bytes:
        return self.datagram[16:24]


def token_binding(token_payload: bytes) -> Optional[Binding]:
    claims = encoding.json_object(token_payload)
    return Binding.from_claim(claims["cnf"]) if "cnf" in claims else None


def seal_knock(
    profile: Profile,
    token: str,
    time_ms: int,
    verb: int = OPEN,
    services: Sequence[str] = (),
    address: Optional[bytes] = None,
    client_key: Optional[ClientKey] = None,
    nonce: Optional[bytes] = None,
    ikm_e: Optional[bytes] = None,
    proof: Optional[bytes] = None,
) -> Sealed:
    """Seals one knock. The nonce and ikm_e, and a proof made elsewhere, are given in tests alone."""
    try:
        parts = encoding.jws_split(token)
        binding = token_binding(parts[1])
    except EncodingError as error:
        raise Unsendable(f"the token: {error}") from error
    names = sorted(set(services), key=str.encode)
    if len(names) > 16 or not all(map(is_service, names)) or verb not in VERBS.values():
        raise Unsendable("at most 16 services, each with a good name, and a verb that is known")
    if address is not None and len(address) == 16 and address.startswith(MAPPED):
        address = address[12:]

    inner: Dict[int, Any] = {1: time_ms, 2: nonce or os.urandom(16), 3: profile.server_id, 4: verb}
    inner.update({5: parts[0], 6: parts[1], 7: parts[2]})
    if names:
        inner[8] = names
    if address is not None:
        inner[9] = address
    public = profile.server_keys[0]
    header = knock_header(profile.knock_key_id, server_key_hint(public), time_ms)
    context = primitives.hpke_sender(public, knock_info(profile.server_id), ikm_e or os.urandom(32))
    if binding is not None:
        if client_key is None:
            raise Unsendable("the token is bound to a key, and there is none")
        if not binding.fits(client_key.public):
            raise Unsendable("the token is bound to another key")
        if binding.thumbprint is not None:
            inner[10] = client_key.public.raw
        inner[11] = proof or client_key.sign(proof_input(header, context.enc, inner))

    message = encoding.cbor_encode(inner)
    pt = message + bytes(-len(message) % 8)
    tail = context.enc + context.seal(header, pt)
    key = tag_key(profile.knock_key, profile.knock_key_id, profile.server_id)
    datagram = header + knock_tag(key, header + bytes(8) + tail) + tail
    if len(datagram) < MIN_SEALED:
        raise Unsendable("shorter than any knock")
    if len(datagram) > MAX_KNOCK:
        raise Unsendable(f"the knock is {len(datagram) - MAX_KNOCK} bytes too long")
    return Sealed(datagram, context, inner, pt)


# Reply (§10)


@dataclass(frozen=True)
class Reply:
    done: bool
    server_time_ms: int
    services: Tuple[Tuple[str, int], ...] = ()
    reason: Optional[str] = None
    repeated: bool = False

    def to_cbor(self) -> bytes:
        message: Dict[int, Any] = {1: 0 if self.done else 1, 2: self.server_time_ms}
        if self.done:
            message[3] = [list(service) for service in self.services]
        else:
            message[4] = self.reason
        if self.repeated:
            message[5] = True
        return encoding.cbor_encode(message)

    @classmethod
    def from_cbor(cls, data: bytes) -> Reply:
        m, rest = encoding.cbor_decode(data)
        if not isinstance(m, dict) or rest or type(m.get(1)) is not int or m[1] > 1 or type(m.get(2)) is not int:
            raise EncodingError("not a reply message")
        if m[1] == 1:
            if set(m) != {1, 2, 4} or not isinstance(m[4], str) or not re.fullmatch(r"[a-z0-9_]{1,64}", m[4]):
                raise EncodingError("not a refusal")
            return cls(False, m[2], reason=m[4])
        if set(m) - {5} != {1, 2, 3} or m.get(5, True) is not True or not isinstance(m[3], list):
            raise EncodingError("not a reply of something done")
        for item in m[3]:
            if not isinstance(item, list) or len(item) != 2 or not is_service(item[0]) or type(item[1]) is not int:
                raise EncodingError("not a service and its end")
        if not ascending([item[0] for item in m[3]]):
            raise EncodingError("services not ascending")
        return cls(True, m[2], tuple((name, end) for name, end in m[3]), repeated=5 in m)

    def to_json(self) -> Dict[str, Any]:
        out: Dict[str, Any] = {"outcome": "done" if self.done else "refused", "server_time": self.server_time_ms}
        if self.done:
            services: List[List[Any]] = [list(service) for service in self.services]
            out.update({"services": services, "repeated": self.repeated})
        else:
            out["reason"] = self.reason
        return out


def reply_header(tag: bytes) -> bytes:
    return b"JPAT\x01\x02\0\0" + tag


def reply_key(context: HpkeContext) -> bytes:
    return context.export(b"jpat/1 reply key", 32)


def open_reply(sealed: Sealed, datagram: bytes) -> Optional[Reply]:
    """The reply to this knock; None for whatever else arrives (§8)."""
    if datagram[:16] != reply_header(sealed.tag) or len(datagram) > len(sealed.datagram):
        return None
    try:
        key = reply_key(sealed.context)
        return Reply.from_cbor(primitives.aead_open(key, datagram[16:28], datagram[:16], datagram[28:]))
    except (primitives.CryptoError, EncodingError):
        return None
