"""player.safety: who may connect, how much may be said, what the page may load."""

from __future__ import annotations

import base64
import hashlib

import pytest

from gamengen.player.safety import Gate, TokenBucket, host_name, is_loopback, names_of, page_headers

GATE = Gate(names_of("127.0.0.1"))


@pytest.mark.parametrize(
    ("headers", "passes"),
    [
        ({"host": "127.0.0.1:8000"}, True), ({"host": "localhost"}, True), ({"host": "[::1]:8000"}, True),
        ({"host": "LOCALHOST:8000", "origin": "http://localhost:8000"}, True), ({}, False),
        ({"host": "evil.example"}, False), ({"host": "localhost.evil.example"}, False),
        ({"host": "evil@localhost"}, True), ({"host": "localhost@evil.example"}, False), ({"host": "[::1"}, False),
        ({"host": "localhost:8000", "origin": "http://localhost:8001"}, False),
        ({"host": "localhost:8000", "origin": "http://127.0.0.1:8000"}, False),
        ({"host": "localhost:8000", "origin": "null"}, False),
        ({"host": "localhost:8000", "origin": "http://localhost:8000.evil.example"}, False),
        ({"host": "localhost:8000", "origin": "chrome-extension://localhost:8000"}, False),
    ],
)  # fmt: skip
def test_the_host_is_ours_and_the_origin_is_the_host(headers: dict[str, str], passes: bool) -> None:
    assert (GATE.refusal(headers, "", "/") is None) == passes


def test_a_token_opens_everything_but_the_health() -> None:
    gate = Gate(names_of("0.0.0.0", ["Play.Example"]), token="sesame")
    headers = {"host": "play.example:80"}
    assert gate.refusal(headers, "token=sesame", "/") is None and gate.refusal(headers, "", "/healthz") is None
    for query in ("", "token=", "token=sesam", "token=sesame2", "token=x&token=sesame", "tokens=sesame"):
        assert "token" in (gate.refusal(headers, query, "/metrics") or ""), query
    assert gate.refusal({"host": "other.example"}, "token=sesame", "/") is not None


def test_which_addresses_stay_on_this_machine() -> None:
    assert all(map(is_loopback, ("localhost", "127.0.0.1", "127.1.2.3", "::1")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.0.1", "example.org", "")))
    assert host_name("[::1]:80") == "::1" and host_name("A.b:80") == "a.b" and "10.0.0.5" in names_of("10.0.0.5")


def test_a_bucket_gives_its_rate_and_its_burst() -> None:
    bucket = TokenBucket(10, 5)
    assert [bucket.take(1.0) for _ in range(7)] == [True] * 5 + [False] * 2
    assert bucket.take(1.1) and not bucket.take(1.1)
    assert sum(bucket.take(2 + i / 1000) for i in range(10_000)) == pytest.approx(100 + 5, abs=1)


def test_only_the_pages_own_script_and_style_run() -> None:
    page = "<style>a{}</style><script>go()</script>"
    policy = page_headers(page)["Content-Security-Policy"]
    for part in (b"go()", b"a{}"):
        assert base64.b64encode(hashlib.sha256(part).digest()).decode() in policy
    assert "unsafe" not in policy
