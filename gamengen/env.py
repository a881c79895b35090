"""Any World as a Gymnasium environment: `gymnasium.make("gamengen:World-v0", world="runs/demo")`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete

from gamengen.contract import GameContract
from gamengen.loading import load_start_states, load_world
from gamengen.window import Window
from gamengen.world import StartState, World

WorldSource = str | Path | Callable[[int], World]
"""A world or run folder, a Hub id, or what makes a World of so many games: `lambda n: EmulatorWorld(game, n)`."""

_KEY_CODES = {
    "ArrowRight": 0x4000004F, "ArrowLeft": 0x40000050, "ArrowDown": 0x40000051, "ArrowUp": 0x40000052,
    "Control": 0x400000E0, "Shift": 0x400000E1, "Alt": 0x400000E2,
    "Enter": 13, "Tab": 9, "Backspace": 8, "Escape": 27,
}  # fmt: skip
"""Browser names -> SDL key codes, which are what pygame and with it `gymnasium.utils.play` count in."""


class PlayedWorld:
    """What the single and the vector environment share: a World, its start states, its spaces and what it tells.

    Args:
        world: see `WorldSource`.
        num_worlds: B.
        start_states: where an episode may begin; those of the world's folder when None.
        settings: for `load_world`, such as `num_inference_steps` or `device`.
    Raises:
        ValueError: no start states, or settings for a world that is not loaded from a folder.
    """

    def __init__(
        self, world: WorldSource, num_worlds: int, start_states: Sequence[StartState] | None, settings: dict[str, Any]
    ) -> None:
        if callable(world):
            if start_states is None or settings:
                raise ValueError(
                    f"a world that is made by {world!r}: expected start_states, and no other settings, got "
                    f"{'no start_states' if start_states is None else sorted(settings)}; "
                    "set options on the world that it makes"
                )
            self.world, self.starts = world(num_worlds), list(start_states)
        else:
            self.world = load_world(world, num_worlds, **settings)
            if start_states is None:
                start_states = load_start_states(world, settings.get("revision"))
            self.starts = list(start_states)
        if not self.starts:
            raise ValueError(f"{world}: expected at least one start state, got none")
        game = self.game
        self.observation_space = Box(0, 255, (game.frame_height, game.frame_width, 3), np.uint8)
        self.action_space = Discrete(game.num_actions)
        # Only a step tells whether a world has rewards and ends.
        self.world.reset(self.starts[:1] * num_worlds, [0] * num_worlds)
        first = self.world.step([game.noop_action] * num_worlds)
        self.metadata = {
            "render_fps": max(1, round(game.fps)),  # `gymnasium.utils.play` takes whole numbers only
            "gives_reward": first.rewards is not None,
            "gives_termination": first.terminated is not None,
        }

    @property
    def game(self) -> GameContract:
        """The game's contract: frame size, action table, frames a second."""
        return self.world.contract.game

    def choose(self, rng: np.random.Generator, options: Mapping[str, Any] | None) -> tuple[StartState, int]:
        """The start state and the world's seed of an episode, drawn from `rng` where `options` do not give them.

        Raises:
            ValueError: an unknown option, or a start state that is not there.
        """
        options = options or {}
        unknown = sorted(set(options) - {"start_state", "seed"})
        if unknown:
            raise ValueError(f"reset: unknown options {unknown}; expected start_state, seed")
        # Both are drawn always: what an option gives does not change what the next episode draws.
        drawn, seed = int(rng.integers(len(self.starts))), int(rng.integers(1 << 31))
        start, given = options.get("start_state"), options.get("seed")
        return self._start(drawn if start is None else start), seed if given is None else int(given)

    def _start(self, wanted: StartState | str | int) -> StartState:
        if isinstance(wanted, StartState):
            return wanted
        if isinstance(wanted, str):
            named = [start for start in self.starts if start.name == wanted]
            if not named:
                raise ValueError(
                    f"reset: no start state is named {wanted!r}; the first of {len(self.starts)} is "
                    f"{self.starts[0].name!r}"
                )
            return named[0]
        if not 0 <= int(wanted) < len(self.starts):
            raise ValueError(
                f"reset: start_state {wanted}: expected 0 to {len(self.starts) - 1}, a name or a StartState"
            )
        return self.starts[int(wanted)]


class WorldEnv(gymnasium.Env[np.ndarray, np.int64]):
    """One game in a World. Observations are its frames, uint8 RGB (H, W, 3); actions the ids of its action table.

    `reset(seed=...)` fixes the start state and all noise: the same seed and actions give the same frames. The first
    observation is the start state's newest frame, as it was recorded. `reset(options=...)` takes `start_state` (a
    position among the world's start states, a name or a `StartState`) and `seed` (the world's own, as `rollout` takes
    it). Reward and termination are the world's where it has them, else 0.0 and False: `metadata["gives_reward"]` and
    `metadata["gives_termination"]` say which. A dream without an end goes on until `max_episode_steps` of
    `gymnasium.make` truncates it.

    Args:
        world: a world or run folder, a Hub id, or a function that makes a World of so many games.
        render_mode: `rgb_array`, or `human` for a window (extra `human`).
        start_states: where episodes may begin; those of the world's folder when None.
        settings: for the world in the folder, such as `num_inference_steps`, `backend`, `device`, `revision`.
    Raises:
        ValueError, FileNotFoundError: no such world, setting or render mode.
        ImportError: `human` without pygame.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array", "human"], "render_fps": 30}
    world: World
    """What is played: its `set_option`, `snapshot` and `restore` work between steps."""
    start_states: Sequence[StartState]
    """Where episodes may begin."""

    def __init__(
        self,
        world: WorldSource,
        render_mode: str | None = None,
        *,
        start_states: Sequence[StartState] | None = None,
        **settings: Any,
    ) -> None:
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise ValueError(f"render_mode: expected one of {self.metadata['render_modes']}, got {render_mode!r}")
        self.render_mode = render_mode
        self._played = PlayedWorld(world, 1, start_states, settings)
        self.world, self.start_states = self._played.world, self._played.starts
        self.observation_space, self.action_space = self._played.observation_space, self._played.action_space
        self.metadata = {**type(self).metadata, **self._played.metadata}
        self._frame: np.ndarray | None = None
        game = self._played.game
        size = game.frame_height, game.frame_width
        self._window = Window(*size, self.metadata["render_fps"], game.env_id) if render_mode == "human" else None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin an episode.

        Returns:
            (frame, info): uint8 (H, W, 3); the start state's name and the world's seed.
        """
        super().reset(seed=seed)
        start, world_seed = self._played.choose(self.np_random, options)
        self.world.reset([start], [world_seed])
        self._show(start.frames[-1])
        return start.frames[-1].copy(), {"start_state": start.name, "seed": world_seed}

    def step(self, action: int | np.integer) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """One frame. Truncation is left to `max_episode_steps`."""
        if self._frame is None:
            raise gymnasium.error.ResetNeeded("call reset before the first step")
        step = self.world.step([int(action)])
        self._show(step.frames[0])
        reward = 0.0 if step.rewards is None else float(step.rewards[0])
        return step.frames[0], reward, step.terminated is not None and bool(step.terminated[0]), False, {}

    def render(self) -> np.ndarray | None:
        """The current frame uint8 (H, W, 3) for `rgb_array`; None for `human`, whose window shows it already."""
        if self._frame is None:
            raise gymnasium.error.ResetNeeded("call reset before render")
        return self._frame.copy() if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        """Close the world and the window."""
        self.world.close()
        if self._window is not None:
            self._window.close()

    def get_action_meanings(self) -> list[str]:
        """The action table's meanings, by id."""
        return [action.meaning for action in self._played.game.actions]

    def get_keys_to_action(self) -> dict[tuple[int, ...], int]:
        """For `gymnasium.utils.play`: see `keys_to_action`."""
        return keys_to_action(self._played.game)

    def _show(self, frame: np.ndarray) -> None:
        self._frame = frame.copy()  # the observation belongs to the user, who may write on it
        if self._window is not None:
            self._window.show(frame)


def keys_to_action(game: GameContract) -> dict[tuple[int, ...], int]:
    """Pressed keys, sorted -> action, from the action table; the first of two actions with the same keys.

    Key codes are pygame's: the code point of a key's character, or SDL's number of an arrow or modifier.

    Raises:
        ValueError: the table names a key that is neither.
    """
    chords: dict[tuple[int, ...], int] = {}
    for number, action in enumerate(game.actions):
        if action.keys:
            chords.setdefault(tuple(sorted(map(_key_code, action.keys))), number)
    return chords


def _key_code(key: str) -> int:
    if key in _KEY_CODES:
        return _KEY_CODES[key]
    if len(key) != 1:
        raise ValueError(f"the action table names the key {key!r}: expected one character or one of {list(_KEY_CODES)}")
    return ord(key.lower())
