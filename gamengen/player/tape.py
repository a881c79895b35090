"""All that is recorded of one client's game: the clip that it asks for, every episode where the source wants it."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

import numpy as np

from gamengen.player.clip import Clip
from gamengen.player.human_record import HumanRecorder
from gamengen.player.source import Source
from gamengen.world import StartState


class Tape:
    """Follows one session's game.

    Args:
        ask: what the world tells of the game by the name of its method, such as `ram`; None where it tells nothing.
    """

    def __init__(self, source: Source, ask: Callable[[str], Any]) -> None:
        self.clip: Clip | None = None
        self._source, self._ask = source, ask
        self._recorder: HumanRecorder | None = None
        if source.record_all:
            assert source.record_dir is not None
            self._recorder = HumanRecorder(source.record_dir, source.game, f"human-{secrets.token_hex(4)}")

    def begin(self, start: StartState, agent: str) -> None:
        """Another game begins: a running clip stops, an episode that was left is kept as far as it went."""
        if self.clip is not None:
            self.clip.running = False
        if self._recorder is not None:
            self._recorder.begin(start, agent, self._ask("ram"), self._ask("lives"))

    def add(self, action: int, reward: float | None, over: bool, ended: bool, panes: tuple[np.ndarray, ...]) -> bool:
        """One frame and the action that led to it; True when the clip stopped with it.

        Args:
            over: the game ended by its own rules.
            ended: by these or others, such as a time limit.
        """
        if self._recorder is not None:
            self._recorder.add(action, reward or 0.0, panes[0], self._ask("ram"), self._ask("lives"))
            if ended:
                self._recorder.end(over)
        if self.clip is None or not self.clip.running:
            return False
        self.clip.add(action, reward, over, panes)
        return not self.clip.running

    def go_back(self, num_frames: int, panes: tuple[np.ndarray, ...]) -> None:
        """The game went back to an earlier frame, which shows `panes`: a clip that began later begins anew."""
        if self.clip is not None and self.clip.running and not self.clip.cut(num_frames):
            self.clip = self._new_clip(panes)

    def break_off(self) -> bool:
        """The game goes on from elsewhere than its last frame; True when an episode had to end there."""
        if self._recorder is None:
            return False
        self._recorder.cut()
        return True

    def record(self, on: bool, panes: tuple[np.ndarray, ...]) -> None:
        """Begin a clip with what is shown now, or stop it."""
        if on:
            self.clip = self._new_clip(panes)
        elif self.clip is not None:
            self.clip.running = False

    def close(self) -> None:
        """The client has left."""
        if self._recorder is not None:
            self._recorder.cut()
            self._recorder = None

    def state(self) -> dict[str, Any]:
        """For the page."""
        clip, recorder = self.clip, self._recorder
        return {
            "clip": None if clip is None else {"running": clip.running, "frames": len(clip)},
            "recorded": None if recorder is None else {"episodes": recorder.num_episodes, "steps": recorder.num_steps},
        }

    def _new_clip(self, panes: tuple[np.ndarray, ...]) -> Clip:
        return Clip(self._source.game, panes, (self._source.kind, "real game")[: len(panes)])
