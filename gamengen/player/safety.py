"""Who may connect, and how much a client may say.

A page from anywhere can send requests to a server on the same machine; a browser only tells where they come from. So
the Host header must name this server (a name that was re-pointed at it does not) and the Origin header, which browsers
send with every WebSocket and every upload, must name it too. Bound elsewhere than loopback, a secret is needed besides.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import re
import socket
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import parse_qs, urlsplit

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
ANY_ADDRESS = ("0.0.0.0", "::")
MESSAGES_A_SECOND = 200.0
"""A page says 60 acknowledgements and a few dozen inputs a second."""
MESSAGE_BURST = 400.0
COSTLY_A_SECOND = 2.0
"""Restarts, pictures, a second pane, saving: what takes the worlds' thread for longer than a frame."""
COSTLY_BURST = 6.0


class TokenBucket:
    """`rate` a second on average, `burst` at once."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst = rate, burst
        self._level, self._at = burst, 0.0

    def take(self, now: float) -> bool:
        """Whether one more is allowed at the time `now`, in seconds."""
        self._level = min(self._burst, self._level + (now - self._at) * self._rate) if self._at else self._burst
        self._at = now
        if self._level < 1:
            return False
        self._level -= 1
        return True


@dataclass(frozen=True)
class Gate:
    """The rule for every request."""

    hosts: frozenset[str]
    """Names without port, lower case; an IPv6 address without brackets."""
    token: str | None = None

    def refusal(self, headers: Mapping[str, str], query: str, path: str) -> str | None:
        """Why a request is refused, None when it may pass.

        Args:
            headers: names in lower case.
        """
        host = host_name(headers.get("host", ""))
        if host not in self.hosts:
            return f"host {host!r} is not one of this server's names; --allowed_hosts adds names"
        origin = headers.get("origin")
        if origin is not None:
            parts = urlsplit(origin)
            # The same name and port as the request's: another server on this machine is a stranger too.
            if parts.scheme not in ("http", "https") or parts.netloc.lower() != headers["host"].lower():
                return "a page from elsewhere may not use this server (its Origin is another)"
        if self.token is not None and path != "/healthz":
            given = parse_qs(query).get("token", [""])[0]
            if not hmac.compare_digest(given.encode(), self.token.encode()):
                return "this player needs its token: open the address that was printed when it started"
        return None


class Guard:
    """ASGI middleware: asks the gate before anything else happens, for HTTP and WebSocket alike."""

    def __init__(self, app: Any, gate: Gate) -> None:
        self._app, self._gate = app, gate

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        pairs = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
        twice = [name for name, _ in pairs if name in ("host", "origin")]
        refusal = self._gate.refusal(dict(pairs), scope["query_string"].decode("latin-1"), scope["path"])
        if refusal is None and len(set(twice)) == len(twice):
            await self._app(scope, receive, partial(_send_with_headers, send))
            return
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close"})  # before it was accepted: the handshake is answered with 403
            return
        headers = [(b"content-type", b"text/plain; charset=utf-8")]
        await _send_with_headers(send, {"type": "http.response.start", "status": 403, "headers": headers})
        await send({"type": "http.response.body", "body": f"403: {refusal or 'two hosts or origins'}\n".encode()})


async def _send_with_headers(send: Any, message: Any) -> None:
    if message["type"] == "http.response.start":
        known = {name for name, _ in message["headers"]}
        plain = [(name.lower().encode(), value.encode()) for name, value in PLAIN_HEADERS.items()]
        message["headers"] = [*message["headers"], *(item for item in plain if item[0] not in known)]
    await send(message)


def host_name(header: str) -> str:
    """The name in a Host header, without its port."""
    try:
        return (urlsplit(f"//{header}").hostname or "").lower()
    except ValueError:
        return ""


def is_loopback(host: str) -> bool:
    """Whether a server bound to `host` can be reached from this machine only."""
    if host in LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def names_of(host: str, extra: Collection[str] = ()) -> frozenset[str]:
    """What a Host header may say to a server bound to `host`."""
    names = {*LOOPBACK_NAMES, *(name.lower() for name in extra)}
    if host in ANY_ADDRESS:
        names.add(socket.gethostname().lower())
        try:
            names |= {str(entry[4][0]).lower() for entry in socket.getaddrinfo(socket.gethostname(), None)}
        except socket.gaierror:
            names.add(socket.getfqdn().lower())
    else:
        names.add(host.lower())
    return frozenset(names)


def page_headers(page: str) -> dict[str, str]:
    """Headers of the page: it may load nothing from anywhere, and only its own script runs."""
    script, style = (_digest(page, tag) for tag in ("script", "style"))
    policy = (
        f"default-src 'none'; script-src '{script}'; style-src '{style}'; connect-src 'self'; "
        "img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return {"Content-Security-Policy": policy, **PLAIN_HEADERS}


PLAIN_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Of every answer."""


def _digest(page: str, tag: str) -> str:
    found = re.findall(rf"<{tag}>(.*?)</{tag}>", page, flags=re.DOTALL)
    assert len(found) == 1, f"the page must have one <{tag}>, it has {len(found)}"
    return "sha256-" + base64.b64encode(hashlib.sha256(found[0].encode()).digest()).decode()
