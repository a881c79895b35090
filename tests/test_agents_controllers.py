"""agents.controllers: a policy plays what a world shows, with the observations it was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from agents.controllers import PolicyController, agent_controller
from agents.observation import FrameStack
from agents.policies import DecisionContext, RandomPolicy, ScriptedPong
from gamengen.games.emulator import make_game_contract
from gamengen.player.controllers import Controller
from gamengen.world import StartState
from tests.worlds import tiny_game

FRAMES = np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3), dtype=np.uint8)
START = StartState(FRAMES[:1], np.zeros(0, np.int64))


class Watcher:
    """Remembers what it saw."""

    name, observation_skip = "watcher", 4

    def __init__(self) -> None:
        self.seen: list[np.ndarray | None] = []

    def act(self, contexts: Sequence[DecisionContext]) -> list[int]:
        self.seen.append(contexts[0].observation)
        return [2]


def test_it_sees_the_stack_that_the_recorder_gives() -> None:
    game, policy = tiny_game(), Watcher()
    controller: Controller = PolicyController(policy, game)
    controller.begin(START, 0, 0, FRAMES[0])
    stack = FrameStack(4)  # the game has a frame skip of 1, the policy looks every 4 emulator frames
    stack.reset(FRAMES[0])
    for t, frame in enumerate(FRAMES):
        assert controller.act(t, frame) == 2
        if t > 0:
            stack.push(frame)
        assert np.array_equal(policy.seen[-1], stack.observation())
    controller.begin(START, 0, 5, FRAMES[5])
    controller.act(5, FRAMES[5])
    assert policy.seen[-1] is not None and (policy.seen[-1] == policy.seen[-1][0]).all(), "taken over: begun anew"


def test_chance_follows_from_the_games_seed() -> None:
    def play(seed: int) -> list[int]:
        controller = PolicyController(RandomPolicy(3), tiny_game())
        controller.begin(START, seed, 0, FRAMES[0])
        return [controller.act(t, FRAMES[0]) for t in range(30)]

    assert play(1) == play(1) != play(2)


def test_who_reads_the_consoles_memory_cannot_play_a_dream() -> None:
    game = make_game_contract("ALE/Pong-v5")
    controller = PolicyController(ScriptedPong(game), game)
    controller.begin(START, 0, 0, FRAMES[0])
    with pytest.raises(ValueError, match="memory"):
        controller.act(0, FRAMES[0])


def test_a_file_that_is_not_there_is_missed_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="Stable-Baselines3 zip"):
        agent_controller(tmp_path / "none.zip")
    (tmp_path / "bad.zip").write_bytes(b"no zip")
    make = agent_controller(tmp_path / "bad.zip")
    with pytest.raises(ValueError, match="damaged"):
        make(tiny_game())
