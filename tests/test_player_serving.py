"""player.serving: a port that is reserved before and opened after the worlds are warm, and the server's limits."""

from __future__ import annotations

import socket
import threading
import time
from urllib.parse import urlsplit

import pytest

from gamengen.player.safety import Gate, names_of
from gamengen.player.serving import addresses, bind, make_server


def test_a_reserved_port_answers_nobody_and_is_nobody_elses() -> None:
    listener = bind("127.0.0.1", 0)
    port = listener.getsockname()[1]
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", port), timeout=1)
    listener.listen()
    with pytest.raises(ValueError, match=f"port {port}.*another --port"):
        bind("127.0.0.1", port)
    listener.close()
    with pytest.raises(ValueError, match="cannot listen on"):
        bind("203.0.113.7", 8000)


def test_the_address_that_is_shown_is_one_that_passes_the_gate() -> None:
    for host in ("127.0.0.1", "localhost", "::1", "0.0.0.0", "10.1.2.3"):
        gate = Gate(names_of(host), "t0ken")
        for address in addresses(host, 8000, "t0ken"):
            parts = urlsplit(address)
            assert gate.refusal({"host": parts.netloc, "origin": f"http://{parts.netloc}"}, parts.query, "/") is None
    assert addresses("::1", 80, None) == ("http://[::1]:80/", "http://[::1]:80/")
    assert addresses("0.0.0.0", 80, None)[1] == "http://127.0.0.1:80/"


def test_the_limits_are_set() -> None:
    config = make_server(lambda: None).config
    assert config.ws_max_size == 4096 and not config.ws_per_message_deflate
    assert config.ws_ping_interval and config.ws_ping_timeout and config.limit_concurrency


def test_it_opens_and_ends() -> None:
    async def app(scope: dict, receive: object, send: object) -> None:  # type: ignore[type-arg]
        assert scope["type"] == "lifespan"

    listener, server = bind("127.0.0.1", 0), make_server(app)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    until = time.monotonic() + 10
    while not server.started:
        assert time.monotonic() < until
        time.sleep(0.01)
    socket.create_connection(listener.getsockname(), timeout=5).close()
    server.should_exit = True
    thread.join(timeout=10)
    assert not thread.is_alive()
