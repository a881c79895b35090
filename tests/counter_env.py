"""CounterEnv: a game whose pixels say (episode, t, previous action), so that alignment can be read off any frame."""

from __future__ import annotations

from typing import Any, NamedTuple

import gymnasium
import numpy as np

COUNTER_ENV = "tests.counter_env:CounterEnv-v0"
"""For `gymnasium.make`, also in another process that starts in the root of the project."""
SIZE = 32
_CELL = 8
_DIGITS = (3, 3, 1)  # hexadecimal digits of episode, t, previous action


class Count(NamedTuple):
    """What a frame of CounterEnv says."""

    episode: int
    """The low 12 bits of the seed; one more at each reset without a seed."""
    t: int
    """Environment steps since the reset."""
    previous_action: int
    """0 before the first step."""


class CounterEnv(gymnasium.Env[np.ndarray, int]):
    """Ends after `length` steps (by default 12 to 28, as the episode number has it); the reward is the action."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}

    def __init__(self, render_mode: str | None = None, length: int | None = None, num_actions: int = 4) -> None:
        self.render_mode = render_mode
        self.observation_space = gymnasium.spaces.Box(0, 255, (SIZE, SIZE, 3), np.uint8)
        self.action_space: gymnasium.spaces.Discrete = gymnasium.spaces.Discrete(num_actions)
        self._length = length
        self._episode = self._t = self._action = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self._episode = (self._episode + 1 if seed is None else seed) % 4096
        self._t = self._action = 0
        return self.render(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self._t += 1
        self._action = int(action)
        length = 12 + self._episode % 17 if self._length is None else self._length
        return self.render(), float(action), self._t >= length, False, {}

    def render(self) -> np.ndarray:
        return draw_count(Count(self._episode, self._t, self._action))


def draw_count(count: Count) -> np.ndarray:
    """uint8 (32, 32, 3): a grey level for each hexadecimal digit, coloured by its place."""
    cells = np.zeros((SIZE // _CELL, SIZE // _CELL, 3), np.uint8)
    digits = "".join(f"{value:0{width}x}" for value, width in zip(count, _DIGITS, strict=True))
    for place, digit in enumerate(digits):
        level = int(digit, 16) * 16 + 8
        cells[divmod(place, cells.shape[1])] = (level, 255 - level, 20 * place)
    return cells.repeat(_CELL, axis=0).repeat(_CELL, axis=1)


def read_count(frame: np.ndarray) -> Count:
    """What a frame says; every digit stands errors of up to 7 levels."""
    centres = frame[_CELL // 2 :: _CELL, _CELL // 2 :: _CELL, 0].reshape(-1)
    digits = "".join(f"{int(level) // 16:x}" for level in centres[: sum(_DIGITS)])
    values, start = [], 0
    for width in _DIGITS:
        values.append(int(digits[start : start + width], 16))
        start += width
    return Count(*values)


gymnasium.register(id="CounterEnv-v0", entry_point="tests.counter_env:CounterEnv")
