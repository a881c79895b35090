"""The game of one client: its state, its commands, its keyframes. Methods say which thread may call them.

*Loop* is the thread of the event loop, *worker* the one thread that touches worlds. The engine never runs both for one
session at once; only `keys.press` may come at any time.
"""

from __future__ import annotations

import math
import secrets
from collections import deque
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from gamengen.player.controllers import HUMAN, Controller
from gamengen.player.keyframes import KEYFRAME_EVERY, Keyframe, Keyframes
from gamengen.player.keys import Keys
from gamengen.player.outbox import Outbox
from gamengen.player.protocol import NO_ACTION, Command, FrameMessage, Input, option_values, text
from gamengen.player.source import Source
from gamengen.player.tape import Tape
from gamengen.player.world_pool import WorldPool
from gamengen.world import StartState, World

SPEEDS = (0.1, 8.0)
MAX_WAITING_STEPS = 4


class Session:
    """One client.

    Args:
        number: counts the server's sessions.
    """

    def __init__(self, source: Source, pool: WorldPool, number: int, seed: int) -> None:
        self.source, self.number = source, number
        self.key = secrets.token_urlsafe(16)
        """Secret of the client: names the session in uploads and downloads."""
        self.outbox = Outbox()
        self.keys = Keys(source.game.noop_action)
        self.paused = self.broken = False
        """`broken`: nothing more can be done for it, its connection is to end."""
        self.speed = 1.0
        self.deadline = 0.0
        self.steps: deque[int | None] = deque(maxlen=MAX_WAITING_STEPS)
        """Single steps that wait: each an action, or None for the keys."""
        self.game = pool.new_game()
        self.tape = Tape(source, partial(pool.ask, self.game))
        self.controller_name = source.first_controller
        self._pool = pool
        self._start: StartState | None = None
        self._picture: StartState | None = None
        self._index, self._seed, self._frame_ids = 0, seed, 0
        self._controller: Controller | None = None
        self._message: FrameMessage | None = None
        self._keyframes = Keyframes()
        self._truth: World | None = None
        self.ended = False
        self._alone_until = 0
        self._out: list[FrameMessage | str] = []

    @property
    def started(self) -> bool:
        """Whether there is a game to step."""
        return self._message is not None

    @property
    def playing(self) -> bool:
        """Whether the clock moves it."""
        return self.started and not self.paused

    # Loop.

    def deliver(self) -> int:
        """Move what the worker made into the outbox; how many frames that were."""
        made, self._out = self._out, []
        for item in made:
            if isinstance(item, str):
                self.outbox.say(item)
            else:
                self.outbox.put(item)
        if self.broken:
            self.outbox.close(1011, "the server cannot go on with this game")
        return sum(isinstance(item, FrameMessage) for item in made)

    # Worker.

    def begin(self, index: int | None = None, seed: int | None = None, start: StartState | None = None) -> None:
        """A game from a start state of the gallery, or from one that was dropped in; without either, the same again.

        Raises:
            ValueError: no such state, or one that the world cannot take; the old game goes on.
        """
        again = index is None
        index, seed = self._index if index is None else index, self._seed if seed is None else seed
        if not 0 <= index < self.source.num_starts:
            raise ValueError(f"start state {index}: expected 0 to {self.source.num_starts - 1}")
        picture = start or (self._picture if again else None)
        start = picture or self.source.start_at(index, seed)
        if self._truth is not None:
            self._truth.reset([start], [seed])
        self._pool.reset(self.game, start, seed)
        self._picture = picture
        self._index, self._seed, self._start, self.ended, self._alone_until = index, seed, start, False, 0
        self._keyframes.clear()
        self.steps.clear()
        panes = (start.frames[-1],) * (1 if self._truth is None else 2)
        divergence = math.nan if self._truth is None else 0.0
        self._show(FrameMessage(0, 0, self.keys.newest.seq, NO_ACTION, panes, divergence=divergence))
        self._take_over(self.controller_name)
        self.tape.begin(start, self.controller_name)
        self.tell_state()

    def begin_next(self) -> None:
        """The game that follows the one that ended."""
        self.begin(*self.source.next_start(self._index, self._seed))

    def choose(self, sampled: int) -> int:
        """The action that answers to the newest frame."""
        assert self._message is not None
        if self._controller is not None:
            try:
                return self._controller.act(self._message.t, self._message.panes[0])
            except ValueError as error:
                self._give_back(self.controller_name, error)
                self.tell_state()
        return sampled

    def took(self, keys: Input, action: int, frame: np.ndarray, reward: float | None, over: bool, ms: float) -> None:
        """The pool stepped this session's game: `frame` follows from `action`."""
        assert self._message is not None
        panes: tuple[np.ndarray, ...] = (frame,)
        divergence = math.nan
        if self._truth is not None:
            panes = (frame, self._truth.step([action]).frames[0])
            divergence = float(np.abs(panes[0].astype(np.int16) - panes[1]).mean())
        self.ended = over or self._pool.ended(self.game)
        self._show(FrameMessage(
            0, self._message.t + 1, keys.seq, action, panes, ms, reward, self._message.episode_return + (reward or 0.0),
            divergence, over, self.paused,
        ))  # fmt: skip
        if self.tape.add(action, reward, over, self.ended, panes):
            self.tell_state()

    def obey(self, command: Command) -> None:
        """Do what the page asks; ValueError says why not."""
        values = command.values
        match command.kind:
            case "restart":
                if self.source.record_all and values["seed"] is None:
                    self.begin_next()  # the same game again would teach nothing new
                else:
                    self.begin(values["start"], values["seed"])
                return
            case "rewind":
                self._rewind(values["keyframes"] or 1)
            case "option":
                self._pool.set_option(self.game, values["name"], values["value"])
            case "control":
                self._control(values["name"])
            case "compare":
                self._compare(values["on"])
                return
            case "record":
                assert self._message is not None
                self.tape.record(values["on"], self._message.panes)
        self.tell_state()

    def fail(self, reason: str) -> None:
        """The world could not step this game: it stands still at its last keyframe."""
        self.paused = True
        if len(self._keyframes):
            self._show(replace(self._go_back(), input_seq=self.keys.newest.seq, paused=True))
        self.tell("error", f"the world failed: {reason}. The game is paused; restart it or go on")
        self.tell_state()

    def batch_key(self) -> tuple[Any, ...]:
        """Games with equal keys may be stepped in one batch."""
        alone = self.number if self._message is not None and self._message.t < self._alone_until else 0
        return (alone, *sorted(self.game.options.items()))

    def go_back_alone(self) -> None:
        """To the last keyframe, and from there alone until this step is passed: a batch with this game in it failed."""
        assert self._message is not None
        self._alone_until = self._message.t + 1
        self._go_back()

    def _go_back(self) -> FrameMessage:
        self._return_to(target := self._keyframes.newest)
        self.ended = self.tape.break_off()
        self._take_over(self.controller_name)
        return target.message

    def tell(self, level: str, message: str) -> None:
        """A line for the page to show."""
        self._out.append(text("note", level=level, text=message))

    def tell_state(self) -> None:
        """Everything that the page shows besides frames."""
        self._out.append(text(
            "state", paused=self.paused, speed=self.speed, controller=self.controller_name, start=self._index,
            seed=self._seed, name="" if self._start is None else self._start.name, compare=self._truth is not None,
            options=option_values(self._pool.options(self.game)),
            **self.tape.state(),
        ))  # fmt: skip

    def close(self) -> None:
        """The client has left; what was recorded is kept."""
        self.tape.close()
        if self._truth is not None:
            self._truth.close()
            self._truth = None
        self._pool.drop(self.game)

    def _show(self, message: FrameMessage) -> None:
        """Send a frame, and keep a keyframe now and then."""
        self._frame_ids += 1
        self._message = replace(message, frame_id=self._frame_ids)
        self._out.append(self._message)
        if message.t % KEYFRAME_EVERY == 0:
            truth = None if self._truth is None else self._truth.snapshot([0])
            self._keyframes.add(Keyframe(self._message, self._pool.snapshot(self.game), truth))

    def _rewind(self, count: int) -> None:
        """Back by `count` keyframes, or to the oldest one."""
        if self.source.record_all:
            raise ValueError("a game that is being recorded cannot be rewound")
        assert self._message is not None
        target = self._keyframes.back(self._message.t, count)
        self._return_to(target)
        self._show(replace(target.message, input_seq=self.keys.newest.seq, paused=self.paused))
        self._take_over(self.controller_name)

    def _return_to(self, target: Keyframe) -> None:
        assert self._message is not None
        self._pool.restore(self.game, target.state)
        if self._truth is not None:
            self._truth.restore(target.truth, [0])
        self.tape.go_back(self._message.t - target.message.t, target.message.panes)
        self._message, self.ended = target.message, False

    def _control(self, name: str) -> None:
        """Hand the controls over."""
        if name != HUMAN and name not in self.source.controllers or name == HUMAN and not self.source.human:
            known = [HUMAN] * self.source.human + list(self.source.controllers)
            raise ValueError(f"unknown controller; expected one of: {', '.join(known)}")
        self._take_over(name)
        if self.source.record_all:
            # An episode has one player, whose name stands with it.
            self.begin_next()

    def _take_over(self, name: str) -> None:
        assert self._message is not None and self._start is not None
        controller = None if name == HUMAN else self.source.controllers[name](self.source.game)
        if controller is not None:
            try:
                controller.begin(self._start, self._seed, self._message.t, self._message.panes[0])
            except ValueError as error:
                self._give_back(name, error)
                return
        self._controller, self.controller_name = controller, name

    def _give_back(self, name: str, error: ValueError) -> None:
        if not self.source.human:
            raise error
        self.tell("error", f"{name} cannot play: {error}")
        self._controller, self.controller_name = None, HUMAN

    def _compare(self, on: bool) -> None:
        """The second pane comes or goes; both games begin anew from the same start state."""
        if on and self.source.make_truth is None:
            raise ValueError(f"no second pane: {self.source.truth_missing}")
        before, self._truth = self._truth, self.source.make_truth() if on and self.source.make_truth else None
        try:
            self.begin()
        except ValueError:
            if self._truth is not None:
                self._truth.close()
            self._truth = None
            raise
        finally:
            if before is not None:
                before.close()

    def set_pace(self, command: Command) -> None:
        """Loop: pause, speed and single steps, which need no world. ValueError says what is legal."""
        values: dict[str, Any] = dict(command.values)
        if command.kind == "pause":
            self.paused = values["on"]
        elif command.kind == "step":
            self.paused = True
            self.steps.append(values["action"])
        elif not SPEEDS[0] <= values["value"] <= SPEEDS[1]:
            raise ValueError(f"speed: expected {SPEEDS[0]:g} to {SPEEDS[1]:g}")
        else:
            self.speed = float(values["value"])
