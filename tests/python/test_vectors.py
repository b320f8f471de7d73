"""The second implementation against tests/vectors/protocol, the RFCs' test vectors, and itself over a socket."""

from __future__ import annotations

import contextlib
import hashlib
import io
import ipaddress
import json
import os
import socket
import sys
import tempfile
import threading
import time
import unittest
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple
from unittest import mock

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import jpat_knock  # noqa: E402
from jpat import encoding, host, knock, primitives, signatures  # noqa: E402
from jpat.encoding import Binding, ClientKey, EncodingError, PublicKey  # noqa: E402
from jpat.host import Host, Refused  # noqa: E402
from jpat.knock import Profile, Reply  # noqa: E402

VECTORS = Path(__file__).resolve().parent.parent / "vectors" / "protocol"
NEGATIVE = "negative.json"
ISSUER, AUDIENCE = "https://issuer.example", "jpat://web-1"
unhex = bytes.fromhex


def load(name: str) -> Dict[str, Any]:
    return json.loads((VECTORS / name).read_text())


def positive() -> List[Tuple[str, Dict[str, Any]]]:
    return [(path.name, load(path.name)) for path in sorted(VECTORS.glob("*.json")) if path.name != NEGATIVE]


def profile_of(v: Dict[str, Any]) -> Profile:
    key = v["knock_key"]
    return Profile(v["server"]["id"], (unhex(v["server"]["public"]),), key["id"], unhex(key["key"]))


def host_of(v: Dict[str, Any]) -> Host:
    key, server = v["knock_key"], v["server"]
    keys = {key["id"]: unhex(key["key"])}
    return Host(server["id"], [unhex(server["private"])], keys, ISSUER, unhex(v["issuer_public"]), AUDIENCE)


def source_of(v: Dict[str, Any]) -> bytes:
    return ipaddress.ip_address(v["source"]).packed


def diagnostic(value: Any) -> str:
    """RFC 8949 §8, as far as it occurs."""
    if value is True:
        return "true"
    if isinstance(value, bytes):
        return f"h'{value.hex()}'"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(diagnostic, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {diagnostic(item)}" for key, item in value.items()) + "}"
    return json.dumps(value)


class Positive(unittest.TestCase):
    def each(self, check: Callable[[Dict[str, Any]], None]) -> None:
        vectors = positive()
        self.assertGreaterEqual(len(vectors), 11)
        for name, v in vectors:
            with self.subTest(name):
                check(v)

    def seal(self, v: Dict[str, Any], proof: Optional[bytes] = None) -> knock.Sealed:
        request = v["request"]
        return knock.seal_knock(
            profile_of(v),
            v["token"],
            request["time_ms"],
            request["verb"],
            request["services"],
            source_of(request) if request["names_address"] else None,
            ClientKey.from_jwk(v["client_key"]) if v["client_key"] else None,
            unhex(request["nonce"]),
            unhex(request["ikm_e"]),
            proof,
        )

    def test_keys(self) -> None:
        def check(v: Dict[str, Any]) -> None:
            server, key = v["server"], v["knock_key"]
            public = primitives.x25519_public(unhex(server["private"]))
            self.assertEqual(public.hex(), server["public"])
            self.assertEqual(knock.server_key_hint(public).hex(), server["hint"])
            self.assertEqual(knock.tag_key(unhex(key["key"]), key["id"], server["id"]).hex(), key["tag_key"])
            if v["client_key"]:
                client = ClientKey.from_jwk(v["client_key"])
                self.assertTrue(client.public.is_good())
                self.assertTrue(Binding.from_claim(v["cnf"]).fits(client.public))
            claims = encoding.json_object(encoding.jws_split(v["token"])[1])
            self.assertEqual(claims.get("cnf"), v["cnf"])

        self.each(check)

    def test_knock(self) -> None:
        def check(v: Dict[str, Any]) -> None:
            hpke = v["hpke"]
            sealed = self.seal(v, unhex(v["proof"]["signature"]) if v["proof"] else None)
            context = sealed.context
            self.assertEqual(primitives.hpke_derive_private(unhex(v["request"]["ikm_e"])).hex(), hpke["sk_e"])
            for name in ("enc", "dh", "shared_secret", "key", "base_nonce", "exporter"):
                self.assertEqual(getattr(context, name).hex(), hpke[name], name)
            self.assertEqual(knock.knock_info(v["server"]["id"]).hex(), hpke["info"])
            self.assertEqual(sealed.datagram[:16].hex(), hpke["aad"])
            self.assertEqual(encoding.cbor_encode(sealed.inner).hex(), v["inner"]["cbor"])
            self.assertEqual(diagnostic(sealed.inner), v["inner"]["diagnostic"])
            self.assertEqual(sealed.pt.hex(), hpke["pt"])
            self.assertEqual(context.seal(unhex(hpke["aad"]), sealed.pt).hex(), hpke["ct"])
            self.assertEqual(sealed.tag.hex(), v["tag"])
            self.assertEqual(sealed.datagram.hex(), v["datagram"])

        self.each(check)

    def test_proof(self) -> None:
        def check(v: Dict[str, Any]) -> None:
            if v["proof"] is None:
                self.assertNotIn(11, self.seal(v).inner)
                return
            sealed, client = self.seal(v), ClientKey.from_jwk(v["client_key"])
            unproved = {key: value for key, value in sealed.inner.items() if key != 11}
            message = knock.proof_input(sealed.datagram[:16], sealed.context.enc, sealed.inner)
            self.assertEqual(encoding.cbor_encode(unproved).hex(), v["proof"]["map_without_proof"])
            self.assertEqual(message.hex(), v["proof"]["input"])
            signature = unhex(v["proof"]["signature"])
            self.assertTrue(client.public.verify(message, signature))
            self.assertTrue(client.public.verify(message, sealed.inner[11]))
            self.assertFalse(client.public.verify(message + b"\0", signature))
            if len(client.public.raw) == 32:  # ECDSA's vector was signed with another nonce
                self.assertEqual(sealed.inner[11], signature)

        self.each(check)

    def test_host_opens(self) -> None:
        def check(v: Dict[str, Any]) -> None:
            here, datagram, request = host_of(v), unhex(v["datagram"]), v["request"]
            now = request["time_ms"] + 5
            host.filter_knock(here, datagram, now)
            opened = host.open_knock(here, datagram, source_of(request), now)
            self.assertEqual(opened.inner, self.seal(v, opened.inner.get(11)).inner)
            self.assertIsNone(opened.refusal)
            with self.assertRaisesRegex(Refused, "knock_tag_seen"):
                host.filter_knock(here, datagram, now)
            with self.assertRaisesRegex(Refused, "knock_replayed"):
                host.open_knock(here, datagram, source_of(request), now)

        self.each(check)

    def test_reply(self) -> None:
        def check(v: Dict[str, Any]) -> None:
            r, sealed = v["reply"], self.seal(v, unhex(v["proof"]["signature"]) if v["proof"] else None)
            self.assertEqual(knock.reply_key(sealed.context).hex(), r["key"])
            self.assertEqual(knock.reply_header(sealed.tag).hex(), r["aad"])
            message, rest = encoding.cbor_decode(unhex(r["message"]))
            self.assertEqual((diagnostic(message), rest), (r["diagnostic"], b""))
            reply = Reply.from_cbor(unhex(r["message"]))
            self.assertEqual(reply.to_cbor().hex(), r["message"])
            self.assertEqual(knock.open_reply(sealed, unhex(r["datagram"])), reply)
            self.assertEqual(unhex(r["datagram"])[28:].hex(), r["ct"])
            here, now = host_of(v), reply.server_time_ms
            opened = host.open_knock(here, sealed.datagram, source_of(v["request"]), now)
            self.assertEqual(opened.refusal, "clock_skew" if reply.reason == "clock_skew" else None)
            self.assertEqual(host.seal_reply(opened, reply, unhex(r["nonce"])).hex(), r["datagram"])

        self.each(check)

    def test_every_byte_of_a_datagram_counts(self) -> None:
        v = load("open-bearer.json")
        source, now = source_of(v["request"]), v["request"]["time_ms"]
        for at in range(len(unhex(v["datagram"]))):
            altered = bytearray(unhex(v["datagram"]))
            altered[at] ^= 0x80 if at == 55 else 1
            with self.assertRaises(Refused, msg=f"filter, byte {at}"):
                host.filter_knock(host_of(v), bytes(altered), now)
            if at % 8 == 7 and not 16 <= at < 24:  # the controller does not look at the tag
                with self.assertRaises(Refused, msg=f"controller, byte {at}"):
                    host.open_knock(host_of(v), bytes(altered), source, now)

    def test_every_byte_of_a_reply_counts(self) -> None:
        v = load("open-bearer.json")
        sealed, reply = self.seal(v), unhex(v["reply"]["datagram"])
        for at in range(len(reply)):
            altered = bytearray(reply)
            altered[at] ^= 1
            self.assertIsNone(knock.open_reply(sealed, bytes(altered)), at)
        key, nonce, message = knock.reply_key(sealed.context), reply[16:28], unhex(v["reply"]["message"])
        for header in (reply[:6] + b"\0\1" + reply[8:16], knock.reply_header(bytes(8))):  # and it opens
            self.assertIsNone(
                knock.open_reply(sealed, header + nonce + primitives.aead_seal(key, nonce, header, message))
            )
        for other in (b"", reply[:16], reply[:43], reply[:-1], reply + b"\0", sealed.datagram):
            self.assertIsNone(knock.open_reply(sealed, other))


class Negative(unittest.TestCase):
    def test_vectors(self) -> None:
        base, negative = load("open-bearer.json"), load(NEGATIVE)
        self.assertGreaterEqual(len(negative["vectors"]), 59)
        now = base["request"]["time_ms"]
        for v in negative["vectors"]:
            with self.subTest(v["name"]):
                here, datagram = host_of(base), unhex(v["datagram"])
                with self.assertRaises(Refused) as refused:
                    host.filter_knock(here, datagram, now)
                    host.open_knock(here, datagram, source_of(v), now)
                self.assertEqual(refused.exception.code, v["refusal"])
                if v["refusal"] == "bad_inner":
                    with self.assertRaisesRegex(Refused, "bad_inner"):
                        host.read_inner(unhex(v["pt"]))
                if v["refusal"] not in ("cannot_open", "knock_bad_tag"):
                    self.assertEqual(host._unseal(here, datagram)[1].hex(), v["pt"])


def low_order() -> List[bytes]:
    """Some of Ed25519's points of low order: neutral, of order 2, of order 4."""
    p = 2**255 - 19
    return [(1).to_bytes(32, "little"), (p - 1).to_bytes(32, "little"), bytes(32)]


class HostRules(unittest.TestCase):
    """What the document says and no vector shows."""

    SEED = hashlib.sha256(b"issuer").digest()
    KEY = ClientKey(PublicKey(signatures.ed25519_public(b"c" * 32)), b"c" * 32)
    NOW = 1_800_000_000_000

    def setUp(self) -> None:
        v = load("open-bearer.json")
        self.host, self.profile = host_of(v), profile_of(v)
        self.host.issuer_key = signatures.ed25519_public(self.SEED)

    def token(self, **claims: Any) -> str:
        header = encoding.b64_encode(b'{"alg":"EdDSA"}')
        claims = {"iss": ISSUER, "aud": AUDIENCE, "exp": self.NOW // 1000 + 60, **claims}
        signed = header + "." + encoding.b64_encode(json.dumps(claims).encode())
        return signed + "." + encoding.b64_encode(signatures.ed25519_sign(self.SEED, signed.encode()))

    def jkt(self) -> Dict[str, Any]:
        return {"jkt": self.KEY.public.thumbprint()}

    def seal(self, token: str, **fields: Any) -> knock.Sealed:
        return knock.seal_knock(self.profile, token, self.NOW, client_key=self.KEY, **fields)

    def forge(self, token: str, change: Dict[int, Any], sign: Optional[ClientKey] = None) -> bytes:
        """Seals the inner message with keys changed (None: left out); with `sign`, the proof is made anew."""
        parts = encoding.jws_split(token)
        inner: Dict[int, Any] = {1: self.NOW, 2: os.urandom(16), 3: self.profile.server_id, 4: 1}
        inner.update({5: parts[0], 6: parts[1], 7: parts[2]})
        inner.update(change)
        p = self.profile
        header = knock.knock_header(p.knock_key_id, knock.server_key_hint(p.server_keys[0]), self.NOW)
        context = primitives.hpke_sender(p.server_keys[0], knock.knock_info(p.server_id), os.urandom(32))
        if sign is not None:
            inner[11] = sign.sign(knock.proof_input(header, context.enc, inner))
        pt = encoding.cbor_encode(inner)
        tail = context.enc + context.seal(header, pt + bytes(-len(pt) % 8))
        key = knock.tag_key(p.knock_key, p.knock_key_id, p.server_id)
        return header + knock.knock_tag(key, header + bytes(8) + tail) + tail

    def forge_zero_enc(self) -> bytes:
        """With a zero enc the Diffie-Hellman result is zero, and whoever sends it would know the keys."""
        p, info = self.profile, knock.knock_info(self.profile.server_id)
        header = knock.knock_header(p.knock_key_id, knock.server_key_hint(p.server_keys[0]), self.NOW)
        with mock.patch.object(primitives, "REFUSED_DH", None):
            context = primitives._schedule(bytes(32), bytes(32), p.server_keys[0], info)
        parts = encoding.jws_split(self.token())
        inner = {1: self.NOW, 2: bytes(16), 3: p.server_id, 4: 1, 5: parts[0], 6: parts[1], 7: parts[2]}
        pt = encoding.cbor_encode(inner)
        return header + bytes(8) + context.enc + context.seal(header, pt + bytes(-len(pt) % 8))

    def refused(self, code: str, datagram: bytes, source: bytes = bytes(4), now: int = NOW) -> None:
        with self.assertRaises(Refused) as refused:
            host.open_knock(self.host, datagram, source, now)
        self.assertEqual(refused.exception.code, code)

    def test_times(self) -> None:
        datagram = self.seal(self.token()).datagram
        for skew, silent in ((300_000, False), (-300_000, False), (300_001, True), (-300_001, True)):
            here = load("open-bearer.json")
            context = self.assertRaisesRegex(Refused, "knock_time") if silent else contextlib.nullcontext()
            with context:
                host.filter_knock(host_of(here), datagram, self.NOW + skew)
        for skew, code in ((30_000, None), (-30_000, None), (30_001, "clock_skew"), (-30_001, "clock_skew")):
            self.host.nonces.clear()
            self.assertEqual(host.open_knock(self.host, datagram, bytes(4), self.NOW + skew).refusal, code)
        self.host.nonces.clear()
        self.host.audience = "jpat://web-2"
        self.refused("clock_skew", datagram, now=self.NOW + 300_001)  # the filter is not all that holds to it
        self.refused("clock_skew", datagram, now=self.NOW - 300_001)
        self.assertEqual(self.host.nonces, {})
        self.refused("wrong_audience", datagram, now=self.NOW)  # and its nonce is used up
        self.refused("knock_replayed", datagram, now=self.NOW + 300_000)

    def test_expired_is_silent_and_uses_the_nonce_up(self) -> None:
        expired = self.seal(self.token(exp=self.NOW // 1000 - 1, cnf=self.jkt())).datagram
        self.refused("expired", expired)
        self.refused("knock_replayed", expired, now=self.NOW - 2_000)
        self.refused("expired", self.forge(self.token(exp=self.NOW // 1000, cnf=self.jkt()), {}))

    def test_token(self) -> None:
        good = self.token()
        other = signatures.ed25519_sign(b"x" * 32, good.rsplit(".", 1)[0].encode())
        self.refused("bad_signature", self.forge(good, {7: other}))
        self.refused("bad_signature", self.forge(good, {7: b""}))
        self.refused("wrong_audience", self.forge(self.token(aud=["jpat://web-2"]), {}))
        self.refused("unknown_issuer", self.forge(self.token(iss="https://other.example"), {}))
        self.refused("bad_json", self.forge(good, {5: b'{"alg":"EdDSA","alg":"EdDSA"}'}))

    def test_proof(self) -> None:
        public, key = self.KEY.public.raw, self.KEY
        bare, jkt = self.token(), self.token(cnf=self.jkt())
        jwk = self.token(cnf={"jwk": {"kty": "OKP", "crv": "Ed25519", "x": encoding.b64_encode(public)}})
        thief = ClientKey(PublicKey(signatures.ed25519_public(b"t" * 32)), b"t" * 32)
        for token in (jkt, jwk):
            host.open_knock(self.host, self.seal(token).datagram, bytes(4), self.NOW)
            self.refused("bad_proof", self.forge(token, {11: bytes(64)}))
        self.refused("bad_proof", self.forge(bare, {}, key))
        self.refused("proof_missing", self.forge(jwk, {}))
        self.refused("bad_proof", self.forge(jwk, {10: public}, key))
        self.refused("bad_proof", self.forge(jwk, {}, thief))
        self.refused("bad_proof", self.forge(jkt, {}, key))
        self.refused("bad_proof", self.forge(jkt, {10: public}, thief))
        self.refused("bad_proof", self.forge(jkt, {10: thief.public.raw}, thief))
        self.refused("bad_inner", self.forge(jkt, {10: public[:31]}, key))

    def test_confirmations(self) -> None:
        x = encoding.b64_encode(self.KEY.public.raw)
        jwk = {"kty": "OKP", "crv": "Ed25519", "x": x}
        p256 = signatures.p256_public(b"p" * 32)
        px, py = encoding.b64_encode(p256[:32]), encoding.b64_encode(p256[32:])
        bad: List[Any] = [
            None, {}, [], x, {"jwk": jwk, **self.jkt()}, {"kid": "1"}, {"jwk": x}, {"jwk": {**jwk, "d": x}},
            {"jwk": {**jwk, "crv": "X25519"}}, {"jwk": {**jwk, "kty": "EC"}}, {"jwk": {**jwk, "x": x + "="}},
            {"jwk": {**jwk, "x": x[:-2]}}, {"jwk": {"kty": "EC", "crv": "P-256", "x": px}},
            {"jwk": {"kty": "EC", "crv": "P-256", "x": py, "y": px}}, {"jkt": "short"}, {"jkt": 1},
        ]  # fmt: skip
        bad += [{"jwk": {**jwk, "x": encoding.b64_encode(point)}} for point in low_order()]
        for cnf in bad:
            with self.subTest(cnf=cnf):
                self.refused("unknown_confirmation", self.forge(self.token(cnf=cnf), {}, self.KEY))
        for point in low_order():
            token = self.token(cnf={"jkt": PublicKey(point).thumbprint()})
            self.refused("bad_proof", self.forge(token, {10: point, 11: point + bytes(32)}))

    def test_address(self) -> None:
        v4, mapped = bytes([192, 0, 2, 7]), knock.MAPPED + bytes([192, 0, 2, 7])
        sealed = self.seal(self.token(), address=mapped)
        self.assertEqual(sealed.inner[9], v4)
        self.refused("wrong_address", sealed.datagram, bytes([192, 0, 2, 8]))
        self.refused("wrong_address", sealed.datagram, bytes(16))
        host.open_knock(self.host, sealed.datagram, mapped, self.NOW)

    def test_keys_and_lengths(self) -> None:
        datagram = self.seal(self.token()).datagram
        self.refused("too_long", datagram + bytes(1232))
        self.refused("not_sealed", datagram[:-1])
        self.refused("not_sealed", datagram[:120])
        self.refused("not_sealed", datagram[:5] + b"\2" + datagram[6:])
        self.refused("cannot_open", datagram[:24] + bytes(32) + datagram[56:])
        self.refused("cannot_open", self.forge_zero_enc())
        self.host.private_keys = [bytes(31) + b"x"]
        self.refused("unknown_server_key", datagram)

    def test_inner(self) -> None:
        token = self.token()
        bad: List[Dict[int, Any]] = [
            {0: 1}, {3: "web 1"}, {3: "w" * 65}, {3: ""}, {4: True}, {6: b""}, {8: [f"s{i:02}" for i in range(17)]},
            {8: [".a"]}, {8: [""]}, {8: ["s" * 65]}, {8: [b"ssh"]}, {8: "ssh"}, {9: knock.MAPPED + bytes(4)},
            {1: True}, {11: bytes(65)}, {8: [["ssh"]]},
        ]  # fmt: skip
        for change in bad:
            with self.subTest(change=change):
                self.refused("bad_inner", self.forge(token, change))
        for pt in (b"", b"\xa0" + bytes(7), b"\x81" * 64, b"\xa1\x81\x00\x00" + bytes(4), b"\xff" * 8):
            with self.assertRaisesRegex(Refused, "bad_inner"):
                host.read_inner(pt)

    def test_client_refuses(self) -> None:
        def unsendable(token: str, **fields: Any) -> None:
            with self.assertRaises(knock.Unsendable):
                self.seal(token, **fields)

        good = self.token()
        spare = good[:-1] + "_"  # 64 bytes leave four spare bits
        for token in ("", "a.b", good + "=", good + "\n", spare, good + ".", "." + good, good.replace(".", "..")):
            unsendable(token)
        for services in (["a b"], [".a"], ["s" * 65], ["é"], [f"s{i}" for i in range(17)]):
            unsendable(good, services=services)
        unsendable(self.token(cnf={"jkt": PublicKey(b"k" * 32).thumbprint()}))
        unsendable(self.token(cnf={"x5t#S256": "x"}))
        with self.assertRaisesRegex(knock.Unsendable, r"is \d+ bytes too long"):
            self.seal(self.token(sub="s" * 1200))
        self.assertEqual(self.seal(good, services=["ssh", "db", "ssh"]).inner[8], ["db", "ssh"])

    def test_sizes(self) -> None:
        """The formula of §3."""

        def text(data: bytes) -> int:
            return len(data) + (1 if len(data) < 24 else 2 if len(data) < 256 else 3)

        for bound, more in (({}, 0), ({"cnf": self.jkt()}, 67 + 35)):
            for long in (1, 24, 255, 256, 300):
                token = self.token(sub="s" * long, **bound)
                services, address = ["ssh", "s" * 30], bytes(16)
                m = 35 + text(self.profile.server_id.encode()) + sum(map(text, encoding.jws_split(token))) + more
                self.assertEqual(len(self.seal(token).datagram), 72 + -(-m // 8) * 8)
                m += 2 + sum(text(name.encode()) for name in services) + 18
                sealed = self.seal(token, services=services, address=address)
                self.assertEqual(len(sealed.datagram), 72 + -(-m // 8) * 8)

    def test_long_replies_are_cut(self) -> None:
        sealed = self.seal(self.token())
        opened = host.open_knock(self.host, sealed.datagram, bytes(4), self.NOW)
        names = tuple((f"service-{i:02}", self.NOW + i) for i in range(40))
        datagram = host.seal_reply(opened, Reply(True, self.NOW, names))
        self.assertLessEqual(len(datagram), len(sealed.datagram))
        reply = knock.open_reply(sealed, datagram)
        assert reply is not None
        self.assertEqual(reply.services, names[: len(reply.services)])
        self.assertGreater(len(reply.services), 5)

    def test_bad_replies(self) -> None:
        bad: List[Any] = [
            {}, {1: 0, 2: 1}, {1: 1, 2: 1}, {1: 2, 2: 1, 4: "x"}, {1: 1, 2: 1, 3: []}, {1: 0, 2: 1, 3: [], 4: "x"},
            {1: 1, 2: 1, 4: "x", 5: True}, {1: 0, 2: 1, 3: [], 5: 1}, {1: 0, 2: 1, 3: [["b", 1], ["a", 1]]}, [],
            {1: 0, 2: 1, 3: [["a", 1], ["a", 1]]}, {1: 0, 2: 1, 3: [["a"]]}, {1: 0, 2: 1, 3: [], 6: 0},
            {1: True, 2: 1, 4: "x"},
        ]  # fmt: skip
        for message in bad:
            with self.subTest(message=message), self.assertRaises(EncodingError):
                Reply.from_cbor(encoding.cbor_encode(message))
        with self.assertRaises(EncodingError):
            Reply.from_cbor(Reply(True, 1).to_cbor() + b"\0")


class Encodings(unittest.TestCase):
    PROFILE = """
        host = "web-1.example"   # a comment
        port = 1338
        reply = false
        token_file = 'token # 1'
        [server]
        id = "web-1.example"
        keys = ["AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
                "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE", ]
        [knock_key]
        id = 7
        key = "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI"
    """

    def test_profile(self) -> None:
        expected = Profile(
            "web-1.example", (bytes(32), b"\1" * 32), 7, b"\2" * 32, "web-1.example", 1338, False, "token # 1"
        )
        self.assertEqual(Profile.from_toml(self.PROFILE), expected)
        self.assertEqual(knock.parse_toml_subset(self.PROFILE), knock.parse_toml(self.PROFILE))
        for old, new in (
            ("port", "ports"), ("1338", '"1338"'), ("1338", "0"), ("id = 7", "id = 0"), ("id = 7", "id = true"),
            ("id = 7", ""), ("AgI", "AgJ="), ("id = 7", "id = 7\nname = 1"), ("[server]", "[servers]"), ("= 7", "7"),
        ):  # fmt: skip
            with self.subTest(new=new), self.assertRaises(EncodingError):
                Profile.from_toml(self.PROFILE.replace(old, new))

    def test_base64url(self) -> None:
        self.assertEqual(encoding.b64_decode("-_8"), b"\xfb\xff")
        for bad in ("-_8=", "-_9", "A", "+/8", "-_8\n", " -_8", "é", 1, None):
            with self.assertRaises(EncodingError):
                encoding.b64_decode(bad)

    def test_cbor(self) -> None:
        for n, text in (
            (0, "00"), (23, "17"), (24, "1818"), (255, "18ff"), (256, "190100"), (65535, "19ffff"),
            (65536, "1a00010000"), (2**32 - 1, "1affffffff"), (2**32, "1b0000000100000000"),
            (2**64 - 1, "1b" + "ff" * 8),
        ):  # fmt: skip
            self.assertEqual(encoding.cbor_encode(n).hex(), text)
            self.assertEqual(encoding.cbor_decode(unhex(text)), (n, b""))
        for bad in (
            "", "1817", "190017", "1900ff", "1a0000ffff", "1b00000000ffffffff", "1c", "1f", "20", "f4", "f6", "f97c00",
            "c000", "5f4100ff", "7f6100ff", "9fff", "bfff", "41", "61ff", "81", "a201000100", "a202000100",
            "5bffffffffffffffff", "9bffffffffffffffff",
        ):  # fmt: skip
            with self.subTest(bad), self.assertRaises(EncodingError):
                encoding.cbor_decode(unhex(bad))

    def test_thumbprint(self) -> None:
        key = PublicKey(encoding.b64_decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"))
        self.assertEqual(key.thumbprint(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k")  # RFC 8037 A.3


class Primitives(unittest.TestCase):
    def test_hkdf(self) -> None:  # RFC 5869 A.1, A.3
        okm = primitives.hkdf(bytes(range(13)), b"\x0b" * 22, bytes(range(0xF0, 0xFA)), 42)
        self.assertEqual(
            okm.hex(), "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
        )
        okm = primitives.hkdf(b"", b"\x0b" * 22, b"", 42)
        self.assertEqual(
            okm.hex(), "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"
        )

    def test_siphash(self) -> None:  # the reference implementation's table
        table = [
            "310e0edd47db6f72", "fd67dc93c539f874", "5a4fa9d909806c0d", "2d7efbd796666785", "b7877127e09427cf",
            "8da699cd64557618", "cee3fe586e46c9cb", "37d1018bf50002ab", "6224939a79f5f593",
        ]  # fmt: skip
        for length, expected in enumerate(table):
            self.assertEqual(primitives.siphash24(bytes(range(16)), bytes(range(length))).hex(), expected)
        self.assertEqual(primitives.siphash24(bytes(range(16)), bytes(range(15))).hex(), "e545be4961ca29a1")

    def test_chacha20_poly1305(self) -> None:  # RFC 8439 §2.8.2
        key, nonce, aad = bytes(range(0x80, 0xA0)), unhex("070000004041424344454647"), unhex("50515253c0c1c2c3c4c5c6c7")
        pt = (
            b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, "
            b"sunscreen would be it."
        )
        sealed = unhex(
            "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d6"
            "3dbea45e8ca9671282fafb69da92728b1a71de0a9e060b2905d6a5b67ecd3b36"
            "92ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc"
            "3ff4def08e4b7a9de576d26586cec64b6116"
            "1ae10b594f09e26a7e902ecbd0600691"
        )
        self.assertEqual(primitives.aead_seal(key, nonce, aad, pt), sealed)
        self.assertEqual(primitives.aead_open(key, nonce, aad, sealed), pt)
        for bad in (sealed[:-1], sealed[:15], b"", bytes(len(sealed))):
            with self.assertRaises(primitives.CryptoError):
                primitives.aead_open(key, nonce, aad, bad)

    def test_x25519(self) -> None:  # RFC 7748 §5.2
        for scalar, point, result in (
            (
                "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
                "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
                "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
            ),
            (
                "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
                "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
                "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
            ),
        ):
            self.assertEqual(primitives.x25519(unhex(scalar), unhex(point)).hex(), result)
        k = u = (9).to_bytes(32, "little")
        k, u = primitives.x25519(k, u), k
        self.assertEqual(k.hex(), "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079")
        for _ in range(999):
            k, u = primitives.x25519(k, u), k
        self.assertEqual(k.hex(), "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51")

    def test_hpke(self) -> None:  # RFC 9180 A.2.1
        sk_r = unhex("8057991eef8f1f1af18f4a9491d16a1ce333f695d4db8e38da75975c4478e0fb")
        pk_r = unhex("4310ee97d88cc1f088a5576c77ab0cf5c3ac797f3d95139c6c84b5429c59662a")
        ikm_r = unhex("1ac01f181fdf9f352797655161c58b75c656a6cc2716dcb66372da835542e1df")
        ikm_e = unhex("909a9b35d3dc4713a5e72a4da274b55d3d3821a37e5d099e74a647db583a904b")
        info = b"Ode on a Grecian Urn"
        self.assertEqual(primitives.hpke_derive_private(ikm_r), sk_r)
        self.assertEqual(primitives.x25519_public(sk_r), pk_r)
        sender = primitives.hpke_sender(pk_r, info, ikm_e)
        self.assertEqual(sender, primitives.hpke_receiver(sk_r, info, sender.enc))
        for name, value in {
            "enc": "1afa08d3dec047a643885163f1180476fa7ddb54c6a8029ea33f95796bf2ac4a",
            "shared_secret": "0bbe78490412b4bbea4812666f7916932b828bba79942424abb65244930d69a7",
            "key": "ad2744de8e17f4ebba575b3f5f5a8fa1f69c2a07f6e7500bc60ca6e3e3ec1c91",
            "base_nonce": "5c4d98150661b848853b547f",
            "exporter": "a3b010d4994890e2c6968a36f64470d3c824c8f5029942feb11e7a74b2921922",
        }.items():
            self.assertEqual(getattr(sender, name).hex(), value, name)
        ct = sender.seal(b"Count-0", b"Beauty is truth, truth beauty")
        self.assertEqual(
            ct.hex(), "1c5250d8034ec2b784ba2cfd69dbdb8af406cfe3ff938e131f0def8c8b60b4db21993c62ce81883d2dd1b51a28"
        )
        for text, value in (
            (b"", "4bbd6243b8bb54cec311fac9df81841b6fd61f56538a775e7c80a9f40160606e"),
            (b"\0", "8c1df14732580e5501b00f82b10a1647b40713191b7c1240ac80e2b68808ba69"),
            (b"TestContext", "5acb09211139c43b3090489a9da433e8a30ee7188ba8b0a9a1ccf0c229283e53"),
        ):
            self.assertEqual(sender.export(text, 32).hex(), value)

    def test_ed25519(self) -> None:  # RFC 8032 §7.1
        for seed, public, message, signature in (
            (
                "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
                "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
                "",
                "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
                "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
            ),
            (
                "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
                "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
                "72",
                "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
                "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
            ),
            (
                "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
                "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
                "af82",
                "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
                "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
            ),
        ):
            self.assertEqual(signatures.ed25519_public(unhex(seed)).hex(), public)
            self.assertEqual(signatures.ed25519_sign(unhex(seed), unhex(message)).hex(), signature)
            self.assertTrue(signatures.ed25519_verify(unhex(public), unhex(message), unhex(signature)))
            self.assertFalse(signatures.ed25519_verify(unhex(public), unhex(message) + b"x", unhex(signature)))
            s = int.from_bytes(unhex(signature)[32:], "little") + signatures.L
            self.assertFalse(
                signatures.ed25519_verify(
                    unhex(public), unhex(message), unhex(signature)[:32] + s.to_bytes(32, "little")
                )
            )
        for point in low_order() + [b"\xff" * 32, b"\2" + bytes(31)]:
            self.assertFalse(signatures.ed25519_good_key(point))

    def test_p256(self) -> None:  # RFC 6979 A.2.5
        private = unhex("C9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721")
        public = unhex(
            "60FED4BA255A9D31C961EB74C6356D68C049B8923B61FA6CE669622E60F29FB6"
            "7903FE1008B8BC99A41AE9E95628BC64F2F1B20C2D7E9F5177A3C294D4462299"
        )
        self.assertEqual(signatures.p256_public(private), public)
        for message, k, signature in (
            (
                b"sample",
                "A6E3C57DD01ABE90086538398355DD4C3B17AA873382B0F24D6129493D8AAD60",
                "EFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716"
                "F7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8",
            ),
            (
                b"test",
                "D16B6AE827F17175E040871A1C7EC3500192C4C92677336EC2537ACAEE0008E0",
                "F1ABB023518351CD71D881567B1EA663ED3EFCF6C5132B354F28D3B0B7D38367"
                "019F4113742A2B14BD25926B49C649155F267E60D3814B4C0CC84250E46F0083",
            ),
        ):
            self.assertEqual(signatures.p256_nonce(private, hashlib.sha256(message).digest()), int(k, 16))
            self.assertEqual(signatures.p256_sign(private, message), unhex(signature))
            self.assertTrue(signatures.p256_verify(public, message, unhex(signature)))
            self.assertFalse(signatures.p256_verify(public, message + b"x", unhex(signature)))
        for bad in (bytes(64), public[32:] + public[:32], b"\xff" * 64, public[:63]):
            self.assertFalse(signatures.p256_good_key(bad))
        for bad in (bytes(64), b"\xff" * 64):
            self.assertFalse(signatures.p256_verify(public, b"sample", bad))


class Answering(threading.Thread):
    """A host on a loopback socket, which sends what a stranger might before it sends its reply."""

    def __init__(self, here: Host, address: str) -> None:
        super().__init__(daemon=True)
        self.here = here
        self.sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind((address, 0))
        self.port = self.sock.getsockname()[1]

    def run(self) -> None:
        while True:
            datagram, source = self.sock.recvfrom(2048)
            if not datagram:
                return self.sock.close()
            now = time.time_ns() // 1_000_000
            try:
                host.filter_knock(self.here, datagram, now)
                opened = host.open_knock(self.here, datagram, ipaddress.ip_address(source[0]).packed, now)
            except Refused:
                continue
            for stranger in (b"", b"JPAT", datagram, knock.reply_header(datagram[16:24]) + bytes(40)):
                self.sock.sendto(stranger, source)
            reply = Reply(True, now, tuple((name, now + 30_000) for name in opened.inner.get(8, ["ssh"])))
            if opened.refusal is not None:
                reply = Reply(False, now, reason=opened.refusal)
            self.sock.sendto(host.seal_reply(opened, reply), source)

    def stop(self) -> None:
        with socket.socket(self.sock.family, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"", self.sock.getsockname())
        self.join()


class CommandLine(unittest.TestCase):
    KNOCK_KEY, SERVER_KEY = b"k" * 32, b"s" * 32

    def setUp(self) -> None:
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.files = Path(temporary.name)
        issuer = signatures.ed25519_public(HostRules.SEED)
        self.here = Host("cli.example", [self.SERVER_KEY], {9: self.KNOCK_KEY}, ISSUER, issuer, AUDIENCE)
        public = encoding.b64_encode(primitives.x25519_public(self.SERVER_KEY))
        self.write(
            "profile.toml",
            f'client_key = "client.jwk"\ntoken_file = "token"\n[server]\nid = "cli.example"\nkeys = ["{public}"]\n'
            f'[knock_key]\nid = 9\nkey = "{encoding.b64_encode(self.KNOCK_KEY)}"\n',
        )
        public_key = signatures.p256_public(b"p" * 32)
        x, y, d = (encoding.b64_encode(raw) for raw in (public_key[:32], public_key[32:], b"p" * 32))
        self.write("client.jwk", json.dumps({"kty": "EC", "crv": "P-256", "x": x, "y": y, "d": d, "kid": "1"}))
        rules = HostRules()
        rules.NOW = time.time_ns() // 1_000_000
        self.write("token", rules.token(cnf={"jkt": PublicKey(public_key).thumbprint()}) + "\n")

    def write(self, name: str, text: str) -> None:
        (self.files / name).write_text(text)
        (self.files / name).chmod(0o600)

    def start(self, address: str) -> Answering:
        answering = Answering(self.here, address)
        answering.start()
        self.addCleanup(answering.stop)
        return answering

    def run_with(self, *args: str) -> Tuple[int, Any]:
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
            try:
                code = jpat_knock.main(["--profile", str(self.files / "profile.toml"), *args])
            except SystemExit as stopped:
                code = int(stopped.code or 0)
        return code, json.loads(out.getvalue()) if out.getvalue() else None

    def test_both_families(self) -> None:
        for address in ("127.0.0.1", "::1"):
            with self.subTest(address):
                try:
                    answering = self.start(address)
                except OSError:
                    self.skipTest(f"no {address} here")
                to = ["--host", address, "--port", str(answering.port)]
                stored = str(self.files / "datagram")
                code, out = self.run_with(
                    *to, "--service", "ssh", "--service", "db", "--address", address, "--print-datagram", stored
                )
                self.assertEqual((code, out["reply"]["outcome"]), (0, "done"))
                self.assertEqual([name for name, _ in out["reply"]["services"]], ["db", "ssh"])
                self.assertEqual(
                    self.run_with(*to, "--send-datagram", stored, "--timeout", "0.2"), (1, {"reply": None})
                )
                profile = (self.files / "profile.toml").read_text()
                for own in ("auto", address):
                    self.write("profile.toml", f'address = "{own}"\nhost = "[{address}]"\n' + profile)
                    self.assertEqual(self.run_with("--port", str(answering.port))[0], 0)
                self.write("profile.toml", profile)
                code, out = self.run_with(*to, "--time-offset-ms", "60000", "--verb", "close")
                self.assertEqual((code, out["reply"]["reason"]), (1, "clock_skew"))
                for silent in (["--time-offset-ms", "400000"], ["--address", "192.0.2.7"]):
                    self.assertEqual(self.run_with(*to, *silent, "--timeout", "0.2"), (1, {"reply": None}))

    def test_nobody_there(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            port = str(sock.getsockname()[1])
        self.assertEqual(
            self.run_with("--host", "127.0.0.1", "--port", port, "--timeout", "0.1"), (1, {"reply": None})
        )

    def test_usage(self) -> None:
        for args in (["--verb", "stop"], ["--host", "127.0.0.1", "--service", "a b"], [], ["--address", "x"]):
            self.assertEqual(self.run_with(*args), (2, None))
        (self.files / "profile.toml").chmod(0o644)
        self.assertEqual(self.run_with("--host", "127.0.0.1"), (2, None))


if __name__ == "__main__":
    unittest.main()
