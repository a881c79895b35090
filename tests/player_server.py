"""A running player for tests: the real server on a free port, in a thread, and a client that speaks its protocol."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx2 as httpx
from websockets.sync.client import ClientConnection, connect

from gamengen.player.engine import Engine
from gamengen.player.protocol import Ack, FrameMessage, Input, unpack_frame
from gamengen.player.safety import Gate, names_of
from gamengen.player.server import Player
from gamengen.player.serving import bind, make_server
from gamengen.player.source import Source, dream_source
from tests.counter_world import CounterWorld, counter_game, counter_starts


def counter_source(fps: float = 30.0, **changes: Any) -> Source:
    """CounterWorlds as dreams; `changes` are the world's."""
    game = counter_game(fps)
    return dream_source(
        "counter", lambda size: CounterWorld(size, game=game, **changes), game, counter_starts()
    )  # fmt: skip


@dataclass
class Running:
    """A player that answers on `port`."""

    port: int
    engine: Engine
    clients: list[Client] = field(default_factory=list)
    http: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=30, trust_env=False, verify=False))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, **kwargs: Any) -> Client:
        """A client that has heard its hello; closed at the end of the test."""
        client = Client(self.port, **kwargs)
        self.clients.append(client)
        return client

    def get(self, path: str, **kwargs: Any) -> httpx.Response:
        """One HTTP request."""
        return self.http.request(kwargs.pop("method", "GET"), self.url + path, **kwargs)

    def wait_for_clients(self, count: int) -> None:
        """Until so many sessions are open."""
        until = time.monotonic() + 10
        while len(self.engine.sessions) != count:
            assert time.monotonic() < until, f"{len(self.engine.sessions)} sessions, expected {count}"
            time.sleep(0.01)


@contextlib.contextmanager
def running(source: Source, *, codec: Any = "raw", token: str | None = None, **engine: Any) -> Iterator[Running]:
    """Serve a source; ends with everything that was recorded on disk."""
    made = Engine(source, progress=lambda text: None, **engine)
    listener = bind("127.0.0.1", 0)
    server = make_server(Player(made, codec).app(Gate(names_of("127.0.0.1"), token)))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    until = time.monotonic() + 20
    while not server.started:
        assert thread.is_alive() and time.monotonic() < until
        time.sleep(0.01)
    player = Running(listener.getsockname()[1], made)
    try:
        yield player
    finally:
        for client in player.clients:
            client.close()
        player.http.close()
        server.should_exit = True
        thread.join(timeout=20)
        assert not thread.is_alive(), "the server did not end"


class Client:
    """One page's worth of protocol. Frames are acknowledged as they are read, unless `acks` is false."""

    def __init__(
        self, port: int, *, query: str = "", headers: dict[str, str] | None = None, hello: bool = True
    ) -> None:
        self._open = contextlib.ExitStack()
        self.socket: ClientConnection = self._open.enter_context(
            connect(f"ws://127.0.0.1:{port}/play{query}", max_size=None, compression=None, additional_headers=headers)
        )
        self.acks = True
        self.state: dict[str, Any] = {}
        self.notes: list[str] = []
        self.dropped = 0
        self.seq = 0
        self.hello: dict[str, Any] = {}
        if hello:
            self.hello = self.read()
            assert self.hello["kind"] == "hello", self.hello

    def read(self, timeout: float = 20.0) -> Any:
        """The next message: a FrameMessage, or the JSON of a text."""
        message = self.socket.recv(timeout=timeout)
        if isinstance(message, bytes):
            frame, self.dropped = unpack_frame(message)
            if self.acks:
                self.socket.send(Ack(frame.frame_id).pack())
            return frame
        values = json.loads(message)
        if values["kind"] == "state":
            self.state = values
        if values["kind"] == "note":
            self.notes.append(values["text"])
        return values

    def frame(self, timeout: float = 20.0) -> FrameMessage:
        """The next frame."""
        while not isinstance(message := self.read(timeout), FrameMessage):
            pass
        return message

    def until(self, kind: str, **wanted: Any) -> dict[str, Any]:
        """The next text of that kind whose fields are as wanted."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            message = self.read()
            is_it = isinstance(message, dict) and message["kind"] == kind
            if is_it and all(message.get(name) == value for name, value in wanted.items()):
                return message
        raise AssertionError(f"no {kind} with {wanted}; the state is {self.state}, notes {self.notes}")

    def say(self, kind: str, **values: Any) -> None:
        """A command."""
        self.socket.send(json.dumps({"kind": kind, **values}))

    def press(self, action: int) -> None:
        """The keys, as the action that they mean."""
        self.seq += 1
        self.socket.send(Input(self.seq, action).pack())

    def restart(self, seed: int, start: int = 0, paused: bool = True) -> FrameMessage:
        """A new game that stands still; its first frame."""
        self.say("pause", on=paused)
        self.until("state", paused=paused)
        self.say("restart", start=start, seed=seed)
        self.until("state", seed=seed)  # texts go before frames
        while (frame := self.frame()).t != 0:
            pass
        return frame

    def step(self, action: int) -> FrameMessage:
        """One frame of a game that stands still."""
        self.say("step", action=action)
        return self.frame()

    def close(self) -> None:
        """Leave."""
        self._open.close()
