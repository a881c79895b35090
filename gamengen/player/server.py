"""HTTP and WebSocket: the page, its live connection, pictures in, recordings out, health and measures."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from gamengen.contract import to_dict
from gamengen.dataset.frame_png import FrameEncoder
from gamengen.player.clip import Clip, save_clip
from gamengen.player.controllers import HUMAN
from gamengen.player.engine import Engine
from gamengen.player.measures import prometheus, resident_bytes
from gamengen.player.protocol import Ack, Codec, Command, FrameMessage, Input, ProtocolError, parse_message, text
from gamengen.player.safety import (
    COSTLY_A_SECOND,
    COSTLY_BURST,
    MESSAGE_BURST,
    MESSAGES_A_SECOND,
    Gate,
    Guard,
    TokenBucket,
    page_headers,
)
from gamengen.player.session import Session
from gamengen.player.start_image import MAX_IMAGE_BYTES, start_from_image

T = TypeVar("T")
PAGE = Path(__file__).with_name("player.html")
COSTLY = ("restart", "compare", "control")
"""Commands that cost the worlds' thread more than a frame."""
HUNG_AFTER_S = 30.0
"""A round of the worlds that takes longer makes the server unhealthy."""
_MEDIA = {"gif": "image/gif", "webp": "image/webp", "mp4": "video/mp4"}


class Player:
    """The routes over one engine.

    Args:
        codec: of the frames; `raw` for loopback, `webp` for a network.
    """

    def __init__(self, engine: Engine, codec: Codec = "raw") -> None:
        self.engine, self.codec = engine, codec
        self._page = PAGE.read_text(encoding="utf-8")
        encoder = FrameEncoder()
        self._thumbnails = [encoder.encode(start.frames[-1]) for start in engine.source.starts]
        # Decoding a picture or making a GIF takes seconds: one at a time, in a thread of its own.
        self._heavy = asyncio.Lock()
        self._waiting: set[str] = set()
        self._running: asyncio.Task[None] | None = None

    def app(self, gate: Gate) -> Starlette:
        """The ASGI application; the engine runs as long as it does."""
        routes = [
            Route("/", self._index),
            Route("/healthz", self._health),
            Route("/metrics", self._metrics),
            Route("/starts/{index:int}.png", self._thumbnail),
            Route("/sessions/{key}/image", self._image, methods=["POST"]),
            Route("/sessions/{key}/episode", self._episode, methods=["POST"]),
            Route("/sessions/{key}/clip.{suffix}", self._clip),
            WebSocketRoute("/play", self._play),
        ]
        app = Starlette(routes=routes, lifespan=self._lifespan)
        app.add_middleware(cast(Any, partial(Guard, gate=gate)))
        return app

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        self._running = asyncio.create_task(self.engine.run())
        try:
            yield
        finally:
            self._running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._running

    # HTTP.

    async def _index(self, request: Request) -> Response:
        return HTMLResponse(self._page, headers=page_headers(self._page))

    async def _health(self, request: Request) -> Response:
        dead = self._running is None or self._running.done()
        hung = self.engine.busy_seconds() > HUNG_AFTER_S
        status = {"status": "dead" if dead else "hung" if hung else "ok", "clients": len(self.engine.sessions)}
        return JSONResponse(status, status_code=503 if dead or hung else 200)

    async def _metrics(self, request: Request) -> Response:
        sessions = self.engine.sessions
        gauges = {
            "clients": len(sessions),
            "max_clients": self.engine.max_clients,
            "frames_in_flight": sum(session.outbox.in_flight for session in sessions),
            "resident_bytes": resident_bytes(),
        }
        return PlainTextResponse(prometheus(self.engine.measures, gauges))

    async def _thumbnail(self, request: Request) -> Response:
        index = request.path_params["index"]
        if not 0 <= index < len(self._thumbnails):
            return _refused(f"start states are 0 to {len(self._thumbnails) - 1}", 404)
        return Response(self._thumbnails[index], media_type="image/png")

    async def _image(self, request: Request) -> Response:
        async with self._one_at_a_time(request) as session:
            if session is None:
                return _refused("no such session, or it already waits for something", 404)
            data = bytearray()
            async for chunk in request.stream():
                data += chunk
                if len(data) > MAX_IMAGE_BYTES:
                    return _refused(f"pictures may have at most {MAX_IMAGE_BYTES >> 20} MB", 413)
            try:
                start = await self._in_thread(start_from_image, bytes(data), self.engine.source.game)
            except ValueError as error:
                return _refused(str(error), 422)
            self.engine.drop_in(session, start)
            return JSONResponse({"text": "the game begins from your picture"})

    async def _clip(self, request: Request) -> Response:
        suffix = request.path_params["suffix"]
        async with self._one_at_a_time(request) as session:
            clip = None if session is None else _finished(session)
            if clip is None or suffix not in _MEDIA:
                return _refused("no finished recording of that kind", 404)
            try:
                data = await self._in_thread(clip.animation, f".{suffix}")
            except (ImportError, ValueError) as error:
                return _refused(str(error), 422)
            name = f'attachment; filename="{self.engine.source.kind}.{suffix}"'
            return Response(data, media_type=_MEDIA[suffix], headers={"Content-Disposition": name})

    async def _episode(self, request: Request) -> Response:
        folder = self.engine.source.record_dir
        async with self._one_at_a_time(request) as session:
            clip = None if session is None else _finished(session)
            if session is None or clip is None:
                return _refused("no finished recording", 404)
            if folder is None:
                return _refused("start the player with --record_dir to keep clips as episodes", 422)
            agent = f"{self.engine.source.kind}-{session.controller_name}"
            try:
                name = await self._in_thread(save_clip, clip, folder, f"clip-{secrets.token_hex(4)}", agent)
            except (OSError, ValueError) as error:
                return _refused(str(error), 422)
            return JSONResponse({"text": f"saved {len(clip)} frames as {name}"})

    @contextlib.asynccontextmanager
    async def _one_at_a_time(self, request: Request) -> AsyncIterator[Session | None]:
        """The session by its secret, which only its own page knows; None while another such request of it runs."""
        key = request.path_params["key"].encode()
        session = next((s for s in self.engine.sessions if secrets.compare_digest(s.key.encode(), key)), None)
        if session is None or session.key in self._waiting:
            yield None
            return
        self._waiting.add(session.key)
        try:
            yield session
        finally:
            self._waiting.discard(session.key)

    async def _in_thread(self, work: Callable[..., T], *args: Any) -> T:
        async with self._heavy:
            return await asyncio.to_thread(work, *args)

    # WebSocket.

    async def _play(self, socket: WebSocket) -> None:
        await socket.accept()
        if self.engine.is_full:
            self.engine.measures.refused_busy += 1
            await socket.send_text(text("busy", clients=self.engine.max_clients))
            await socket.close(1013, "all places are taken")
            return
        session = self.engine.add()
        session.outbox.say(self._hello(session))
        sender = asyncio.create_task(self._send(socket, session))
        try:
            await self._receive(socket, session)
        except ProtocolError as error:
            session.outbox.close(1008, str(error)[:120])
            await asyncio.wait([sender], timeout=5)
        except WebSocketDisconnect:
            pass  # the page was closed
        finally:
            self.engine.remove(session)
            sender.cancel()
            with contextlib.suppress(asyncio.CancelledError, WebSocketDisconnect):
                await sender

    async def _receive(self, socket: WebSocket, session: Session) -> None:
        """Until the client leaves; ProtocolError when it says something that no page says, or too much."""
        every, costly = TokenBucket(MESSAGES_A_SECOND, MESSAGE_BURST), TokenBucket(COSTLY_A_SECOND, COSTLY_BURST)
        num_actions = self.engine.source.game.num_actions
        while True:
            received = await socket.receive()
            if received["type"] == "websocket.disconnect":
                return
            now = time.monotonic()
            if not every.take(now):
                self.engine.measures.refused_rate += 1
                raise ProtocolError(f"more than {MESSAGES_A_SECOND:g} messages a second")
            data = received.get("text")
            match parse_message(data if data is not None else received["bytes"], num_actions):
                case Input() as keys:
                    if session.keys.press(keys) and session.playing:
                        session.outbox.expect(keys.seq, now)
                case Ack(frame_id):
                    session.outbox.ack(frame_id)
                case Command() as command if command.kind in COSTLY and not costly.take(now):
                    session.outbox.say(text("note", level="error", text="too fast: wait a second and try again"))
                case Command() as command:
                    self.engine.obey(session, command)

    async def _send(self, socket: WebSocket, session: Session) -> None:
        while (message := await session.outbox.next(time.monotonic)) is not None:
            if isinstance(message, FrameMessage):
                await socket.send_bytes(message.pack(self.codec, session.outbox.dropped))
                waited = session.outbox.answered(message.input_seq, time.monotonic())
                if waited is not None:
                    self.engine.measures.latency_ms.add(1000 * waited)
            else:
                await socket.send_text(message)
        code, reason = session.outbox.closing or (1000, "")
        await socket.close(code, reason)

    def _hello(self, session: Session) -> str:
        """All that the page has to know before the first frame."""
        source = self.engine.source
        return text(
            "hello", title=source.title, source=source.kind, key=session.key, game=to_dict(source.game),
            world=self.engine.world_kind, starts=[start.name for start in source.starts],
            controllers=[HUMAN] * source.human + list(source.controllers),
            truth_missing="" if source.make_truth is not None else source.truth_missing,
            record_all=source.record_all, record_dir=None if source.record_dir is None else str(source.record_dir),
        )  # fmt: skip


def _finished(session: Session) -> Clip | None:
    clip = session.tape.clip
    return clip if clip is not None and not clip.running else None


def _refused(reason: str, status: int) -> Response:
    return JSONResponse({"text": reason}, status_code=status)
