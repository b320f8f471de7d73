#!/usr/bin/env python3
"""Sends one sealed JPAT knock, and prints the reply as one line of JSON: a second implementation of docs/protocol.md.

For tests: it is not constant-time, wipes no secret, and sends each knock once. Exit status: 0 where the reply's
outcome is done, 1 otherwise (no reply and refusals alike), 2 where nothing could be sent.
"""

from __future__ import annotations

import argparse
import ipaddress
import json
import math
import os
import socket
import sys
import time
from typing import List, Optional, Tuple

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from jpat import encoding, knock  # noqa: E402
from jpat.encoding import ClientKey  # noqa: E402
from jpat.knock import Profile, Sealed  # noqa: E402


def read_secret(path: str) -> str:
    """A file that others cannot read (§4.1)."""
    with open(path, encoding="utf-8") as file:
        if os.fstat(file.fileno()).st_mode & 0o077:
            raise ValueError(f"{path}: must not be accessible to others (mode 0600)")
        return file.read()


def read_token(path: str) -> str:
    """A compact JWS; white space around it does not count (§4.1)."""
    with open(path, encoding="ascii") as file:
        return file.read().strip()


def connect(host: str, port: int) -> socket.socket:
    error: Optional[OSError] = None
    for family, kind, proto, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM):
        sock = socket.socket(family, kind, proto)
        try:
            sock.connect(address)
            return sock
        except OSError as failed:
            sock.close()
            error = failed
    raise error or OSError("no address")


def exchange(sock: socket.socket, sent: bytes, sealed: Optional[Sealed], timeout: float) -> Optional[dict]:
    """Sends, and waits for what opens. Without a context, what has the header of a reply is all that can be told."""
    sock.send(sent)
    end = time.monotonic() + timeout
    while True:
        left = end - time.monotonic()
        if left <= 0:
            return None
        sock.settimeout(left)
        try:
            arrived = sock.recv(65535)
        except socket.timeout:
            return None
        except ConnectionError:
            continue  # an ICMP error, which anybody can forge
        if sealed is None:
            if arrived[:16] == knock.reply_header(sent[16:24]):
                return {"unopened": arrived.hex()}
            continue
        reply = knock.open_reply(sealed, arrived)
        if reply is not None:
            if reply.reason == "clock_skew":
                ahead = sealed.inner[1] - reply.server_time_ms
                print(f"the knock's time is {ahead} ms ahead of the server's", file=sys.stderr)
            return reply.to_json()


def arguments(argv: Optional[List[str]]) -> argparse.Namespace:
    def seconds(text: str) -> float:
        value = float(text)
        if not (math.isfinite(value) and value >= 0):
            raise ValueError
        return value

    def packed(text: str) -> bytes:
        return ipaddress.ip_address(text).packed

    parser = argparse.ArgumentParser(description="Sends one sealed JPAT knock. For tests.")
    parser.add_argument("--profile", required=True, metavar="FILE", help="the client profile (TOML)")
    parser.add_argument("--token-file", metavar="FILE", help="the token, unless the profile says where it lies")
    parser.add_argument("--verb", choices=sorted(knock.VERBS), default="open")
    parser.add_argument("--service", action="append", default=[], metavar="NAME", help="may be given again")
    parser.add_argument("--address", type=packed, metavar="A", help="the address as which the host sees this client")
    parser.add_argument("--key", metavar="JWKFILE", help="the client key, unless the profile says where it lies")
    parser.add_argument("--host", metavar="H")
    parser.add_argument("--port", type=int, metavar="P")
    parser.add_argument("--timeout", type=seconds, metavar="S", help="3; without replies by the profile, 0")
    parser.add_argument("--time-offset-ms", type=int, default=0, metavar="N", help="added to the clock")
    parser.add_argument("--print-datagram", metavar="FILE", help="also write the datagram that is sent, as it is")
    parser.add_argument("--send-datagram", metavar="FILE", help="send this datagram instead of a new one")
    return parser.parse_args(argv)


def target(args: argparse.Namespace, profile: Profile) -> Tuple[str, int]:
    host = args.host or profile.host
    if host is None:
        raise ValueError("no host: --host, or host in the profile")
    return host.removeprefix("[").removesuffix("]"), args.port or profile.port


def prepare(args: argparse.Namespace) -> Tuple[Profile, bytes, Optional[Sealed]]:
    profile = Profile.from_toml(read_secret(args.profile))
    if args.send_datagram is not None:
        with open(args.send_datagram, "rb") as file:
            return profile, file.read(), None
    near = os.path.dirname(args.profile)
    token_file, key_file = args.token_file, args.key
    if token_file is None and profile.token_file is not None:
        token_file = os.path.join(near, profile.token_file)
    if key_file is None and profile.client_key is not None:
        key_file = os.path.join(near, profile.client_key)
    if token_file is None:
        raise ValueError("no token: --token-file, or token_file in the profile")
    key = None
    if key_file is not None:
        key = ClientKey.from_jwk(encoding.json_object(read_secret(key_file).encode()))
    address = args.address
    if address is None and profile.address == "auto":
        with connect(*target(args, profile)) as sock:
            address = ipaddress.ip_address(sock.getsockname()[0]).packed
    elif address is None and profile.address is not None:
        address = ipaddress.ip_address(profile.address).packed
    now_ms = time.time_ns() // 1_000_000 + args.time_offset_ms
    sealed = knock.seal_knock(
        profile, read_token(token_file), now_ms, knock.VERBS[args.verb], args.service, address, key
    )
    return profile, sealed.datagram, sealed


def main(argv: Optional[List[str]] = None) -> int:
    args = arguments(argv)
    try:
        profile, datagram, sealed = prepare(args)
        host, port = target(args, profile)
        if args.print_datagram is not None:
            with open(args.print_datagram, "wb") as file:
                file.write(datagram)
    except (ValueError, OverflowError, OSError) as error:
        print(f"jpat_knock: {error}", file=sys.stderr)
        return 2
    timeout = args.timeout if args.timeout is not None else 3.0 if profile.reply else 0.0
    reply = None
    try:
        with connect(host, port) as sock:
            reply = exchange(sock, datagram, sealed, timeout)
    except OSError as error:
        print(f"jpat_knock: {error}", file=sys.stderr)
    print(json.dumps({"reply": reply}))
    return 0 if reply is not None and reply.get("outcome") == "done" else 1


if __name__ == "__main__":
    sys.exit(main())
