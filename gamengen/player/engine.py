"""The tick loop: at each tick of a session its newest keys are sampled and its game is stepped, on one worker thread.

The loop never queues. A tick that comes late is played at once and the clock starts again from there, so a world that
is slower than its game's frame rate shows fewer frames a second and no older ones.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from gamengen.player.measures import Measures
from gamengen.player.protocol import Command, Input, text
from gamengen.player.session import Session
from gamengen.player.source import Source
from gamengen.player.world_pool import WorldPool
from gamengen.world import StartState

PACE = ("pause", "step", "speed")
"""Commands that need no world."""
ACK_TIMEOUT_S = 30.0
"""A client that acknowledges nothing for so long is gone, whatever its connection says."""
MERGE_S = 0.004
"""Games that are due within this time of each other are stepped together."""
_HOUSEKEEPING_S = 1.0
_MAX_WAITING = 8

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tick:
    """One session's step of this round."""

    session: Session
    keys: Input


class Engine:
    """Owns the worlds of a server and the clock of its sessions.

    Args:
        max_clients: sessions at a time.
        progress: is told, in lines of text, what is under way while the worlds get ready.
    """

    def __init__(
        self, source: Source, *, max_clients: int = 2, seed: int = 0, progress: Callable[[str], object] = print
    ) -> None:
        if max_clients < 1:
            raise ValueError(f"max_clients: expected at least 1, got {max_clients}")
        self.source, self.max_clients, self.measures = source, max_clients, Measures()
        self.sessions: list[Session] = []
        self._worker = ThreadPoolExecutor(1, "worlds")
        self._seed, self._num_sessions = seed, 0
        self._waiting: dict[Session, deque[Callable[[], None]]] = {}
        self._last_frame: dict[Session, float] = {}
        self._wake = asyncio.Event()
        self._busy_since: float | None = None
        # All of the worlds' life passes in the worker: threads of PyTorch keep settings of their own.
        self._pool: WorldPool = self._worker.submit(WorldPool, source.make_world, max_clients, progress).result()
        self._worker.submit(self._warm_up, progress).result()

    @property
    def is_full(self) -> bool:
        """No place is free."""
        return len(self.sessions) >= self.max_clients

    @property
    def world_kind(self) -> str:
        """Of the worlds' contract: `latent_diffusion`, `emulator`, `dataset`, ..."""
        return self._pool.contract.kind

    def busy_seconds(self) -> float:
        """How long the worker has been at the running round; 0 between rounds."""
        return 0.0 if self._busy_since is None else time.monotonic() - self._busy_since

    def add(self) -> Session:
        """A new client's session; its game begins at once."""
        assert not self.is_full
        self._num_sessions += 1
        session = Session(self.source, self._pool, self._num_sessions, self._seed)
        self.sessions.append(session)
        self.order(session, session.begin)
        return session

    def remove(self, session: Session) -> None:
        """The client has left."""
        self.sessions.remove(session)
        self._last_frame.pop(session, None)
        self._waiting[session] = deque([session.close])
        self._wake.set()

    def obey(self, session: Session, command: Command) -> None:
        """What a page asks for; at once where it only concerns the clock."""
        if command.kind not in PACE:
            self.order(session, partial(session.obey, command))
            return
        try:
            session.set_pace(command)
        except ValueError as error:
            session.outbox.say(text("note", level="error", text=str(error)))
        self._join_clock(session)
        self.order(session, session.tell_state)

    def drop_in(self, session: Session, start: StartState) -> None:
        """Begin from a picture."""
        self.order(session, partial(session.begin, start=start))

    def order(self, session: Session, work: Callable[[], None]) -> None:
        """Let the worker do something for a session; beyond a few waiting orders the client is told to wait."""
        waiting = self._waiting.setdefault(session, deque())
        if len(waiting) >= _MAX_WAITING:
            session.outbox.say(text("note", level="error", text="too many commands at once; the last one is ignored"))
            return
        waiting.append(work)
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled; then every session is closed, and what was recorded is on disk."""
        loop = asyncio.get_running_loop()
        try:
            last_look = 0.0
            while True:
                now = time.monotonic()
                if now - last_look > _HOUSEKEEPING_S:
                    last_look = now
                    self._look_after(now)
                orders = [(session, waiting.popleft()) for session, waiting in self._waiting.items() if waiting]
                self._waiting = {session: waiting for session, waiting in self._waiting.items() if waiting}
                ticks = [self._tick(session, now) for session in self.sessions if _is_due(session, now)]
                if orders or ticks:
                    self._busy_since = now
                    await loop.run_in_executor(self._worker, self._round, orders, ticks)
                    self._busy_since = None
                    self._deliver(orders, ticks)
                else:
                    await self._sleep(now)
        finally:
            self._worker.submit(self._close).result()
            self._worker.shutdown()

    # The event loop's side.

    def _tick(self, session: Session, now: float) -> Tick:
        """Sample the keys of a session that is due, and set its clock to the next tick."""
        period = self._period(session)
        session.deadline = session.deadline + period if now - session.deadline < period else now + period
        keys = session.keys.sample()
        if session.paused and session.steps:
            action = session.steps.popleft()
            keys = keys if action is None else Input(keys.seq, action)
        return Tick(session, keys)

    def _deliver(self, orders: Sequence[tuple[Session, Any]], ticks: Sequence[Tick]) -> None:
        now = time.monotonic()
        for session in dict.fromkeys([*(session for session, _ in orders), *(tick.session for tick in ticks)]):
            dropped = session.outbox.dropped
            self.measures.frames += session.deliver()
            self.measures.dropped += session.outbox.dropped - dropped
            if session.started and not session.deadline:
                self._join_clock(session)
        for tick in ticks:
            last = self._last_frame.get(tick.session)
            if last is not None and tick.session.playing:
                self.measures.interval_ms.add(1000 * (now - last))
            if tick.session in self.sessions and tick.session.playing:
                self._last_frame[tick.session] = now
            else:
                self._last_frame.pop(tick.session, None)

    def _join_clock(self, session: Session) -> None:
        """Start a session's clock in step with another one of its speed, so that the two are batched."""
        period = self._period(session)
        others = [s.deadline for s in self.sessions if s is not session and s.playing and self._period(s) == period]
        session.deadline = min(others, default=time.monotonic())
        self._last_frame.pop(session, None)
        self._wake.set()

    def _period(self, session: Session) -> float:
        return 1.0 / (self.source.game.fps * session.speed)

    async def _sleep(self, now: float) -> None:
        """Until the next deadline or order."""
        deadlines = [s.deadline for s in self.sessions if s.playing]
        until = min([*deadlines, now + _HOUSEKEEPING_S])
        self._wake.clear()
        try:
            async with asyncio.timeout(max(0.0, until - time.monotonic())):
                await self._wake.wait()
        except TimeoutError:
            return

    def _look_after(self, now: float) -> None:
        for session in self.sessions:
            since = session.outbox.waiting_since()
            if since is not None and now - since > ACK_TIMEOUT_S:
                session.outbox.close(1008, "no frame was acknowledged for too long")

    # The worker's side.

    def _warm_up(self, progress: Callable[[str], object]) -> None:
        """Step every world before the first client comes: the first steps of a network are slow."""
        progress("warming up")
        for make in self.source.controllers.values():
            make(self.source.game)  # an agent is read from its file now, and not in the middle of a game
        games = [self._pool.new_game() for _ in range(self.max_clients)]
        start = self.source.start_at(0, self._seed)
        action = next(iter(() if start.future_actions is None else start.future_actions), self.source.game.noop_action)
        for size in self._pool.sizes:
            for game in games[:size]:  # each time from the start: a recording takes its own actions only
                self._pool.reset(game, start, self._seed)
            self._pool.step(games[:size], [int(action)] * size)
        for game in games:
            self._pool.drop(game)

    def _round(self, orders: Sequence[tuple[Session, Callable[[], None]]], ticks: Sequence[Tick]) -> None:
        """One order of each session that has one, then one step of each session that is due."""
        for session, work in orders:
            self._guard(session, work)
        groups: dict[Any, list[tuple[Tick, int]]] = {}
        for tick in ticks:
            session = tick.session
            if session.ended:
                self._guard(session, session.begin_next)
                continue
            action = self._guard(session, partial(session.choose, tick.keys.action))
            if action is not None:
                groups.setdefault(session.batch_key(), []).append((tick, action))
        for group in groups.values():
            self._step(group)

    def _step(self, group: Sequence[tuple[Tick, int]]) -> None:
        """Step sessions of equal options together."""
        began = time.perf_counter()
        try:
            step = self._pool.step([tick.session.game for tick, _ in group], [action for _, action in group])
        except Exception as error:
            self._after_failure(group, error)
            return
        ms = 1000 * (time.perf_counter() - began)
        self.measures.frame_ms.add(ms)
        for row, (tick, action) in enumerate(group):
            reward = None if step.rewards is None else float(step.rewards[row])
            over = step.terminated is not None and bool(step.terminated[row])
            took = partial(tick.session.took, tick.keys, action, step.frames[row], reward, over, ms)
            self._guard(tick.session, took)

    def _after_failure(self, group: Sequence[tuple[Tick, int]], error: Exception) -> None:
        """A batch failed: each of its games goes alone from its last keyframe to here; the one that fails stops."""
        if len(group) == 1:
            self.measures.errors += 1
            logger.exception("the world failed", exc_info=error)
            self._stop(group[0][0].session, error)
            return
        for tick, _ in group:
            tick.session.go_back_alone()

    def _guard(self, session: Session, work: Callable[[], Any]) -> Any:
        """Do something for one session; its errors are its own."""
        try:
            return work()
        except ValueError as error:
            session.tell("error", str(error))
            session.tell_state()  # the page may show what was not to be
        except Exception as error:
            self.measures.errors += 1
            logger.exception("session %d", session.number)
            self._stop(session, error)
        return None

    def _stop(self, session: Session, error: Exception) -> None:
        """Let a session stand still; where even that fails (its disk is full, say) it has to go."""
        try:
            session.fail(_first_line(error))
        except Exception:
            logger.exception("session %d cannot go on", session.number)
            session.paused = session.broken = True

    def _close(self) -> None:
        for session in dict.fromkeys([*self.sessions, *self._waiting]):
            self._guard(session, session.close)
        self._pool.close()


def _is_due(session: Session, now: float) -> bool:
    if not session.started:
        return False
    return bool(session.steps) if session.paused else session.deadline <= now + MERGE_S


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:300]
