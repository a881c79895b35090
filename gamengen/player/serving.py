"""From an ASGI application to a port: bound first, opened only when the worlds are warm."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Any

from gamengen.player.protocol import MAX_MESSAGE_BYTES
from gamengen.player.safety import ANY_ADDRESS

HEARTBEAT_S = 15.0
"""A client that does not answer a ping within this time is gone."""
_SHUTDOWN_S = 3


def bind(host: str, port: int) -> socket.socket:
    """Reserve a port; nobody is answered yet. Port 0 takes a free one.

    Raises:
        ValueError: the port is taken, or the host is not one of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        reason = error.strerror or str(error)
        raise ValueError(f"cannot listen on {host} port {port}: {reason}; try another --port") from error
    return listener


def make_server(app: Any, max_connections: int = 256) -> Any:
    """A uvicorn server with this player's limits: small messages, no compression, heartbeats."""
    import uvicorn

    return uvicorn.Server(uvicorn.Config(
        app, ws="websockets-sansio", ws_max_size=MAX_MESSAGE_BYTES, ws_per_message_deflate=False,
        ws_ping_interval=HEARTBEAT_S, ws_ping_timeout=HEARTBEAT_S, limit_concurrency=max_connections,
        timeout_graceful_shutdown=_SHUTDOWN_S, server_header=False, access_log=False, log_level="warning",
    ))  # fmt: skip


def serve(app: Any, listener: socket.socket, on_ready: Callable[[], object]) -> None:
    """Answer until interrupted (Ctrl-C); `on_ready` is called when the port is open."""
    with contextlib.suppress(KeyboardInterrupt):  # uvicorn has ended in order and raises it again
        asyncio.run(_serve(make_server(app), listener, on_ready))


def addresses(host: str, port: int, token: str | None) -> tuple[str, str]:
    """Where the page is: for others to open, and for a browser on this machine."""
    anywhere = host in ANY_ADDRESS
    names = (socket.gethostname(), "127.0.0.1") if anywhere else (host, host)
    query = "" if token is None else f"?token={token}"
    shown, here = (f"http://{f'[{name}]' if ':' in name else name}:{port}/{query}" for name in names)
    return shown, here


async def _serve(server: Any, listener: socket.socket, on_ready: Callable[[], object]) -> None:
    running = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started and not running.done():
        await asyncio.sleep(0.02)
    if server.started:
        on_ready()
    await running
