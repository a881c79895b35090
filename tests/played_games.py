"""Short real episodes of Atari games with the console's memory at every frame, for the readers' tests."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from gamengen.games.emulator import Emulator, make_game_contract

Choose = Callable[[np.ndarray, np.random.Generator, int], int]
"""(the console's memory, random numbers, t) -> action id."""


def play(env_id: str, choose: Choose, num_frames: int = 400, first: int = 30) -> tuple[np.ndarray, np.ndarray]:
    """Frames uint8 (T, H, W, 3) and memory int (T, 128). Before `first` the memory does not yet say what is drawn."""
    pytest.importorskip("ale_py", reason="the extra `record` is not installed")
    emulator = Emulator(make_game_contract(env_id, frame_skip=4))
    random = np.random.default_rng(0)
    frames, memories, seed = [emulator.reset(0, 0)], [emulator.ram()], 0
    for t in range(num_frames + first - 1):
        memory = memories[-1]
        assert memory is not None
        frame, _, terminated, truncated = emulator.step(choose(memory.astype(int), random, t))
        if terminated or truncated:
            seed += 1
            frame = emulator.reset(seed, 0)
        frames.append(frame)
        memories.append(emulator.ram())
    emulator.close()
    return np.stack(frames[first:]), np.stack([m for m in memories if m is not None])[first:].astype(int)


def held_random(num_actions: int, longest: int = 12) -> Choose:
    """Random actions, each held for a while."""
    held = [0, 0]

    def choose(memory: np.ndarray, random: np.random.Generator, t: int) -> int:
        if held[1] == 0:
            held[:] = [int(random.integers(num_actions)), int(random.integers(1, longest))]
        held[1] -= 1
        return held[0]

    return choose


def from_bcd(value: np.ndarray) -> np.ndarray:
    """Two decimal digits from the two halves of a byte."""
    return (value >> 4) * 10 + (value & 15)
