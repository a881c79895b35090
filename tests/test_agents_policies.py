"""agents.policies, agents.observation, agents.mix: players that play, what they see, how they are spelled."""

from __future__ import annotations

import numpy as np
import pytest

from agents.mix import PolicySpec, make_players, parse_mix, parse_range
from agents.observation import FrameStack, grey_observation
from agents.policies import DecisionContext, RandomPolicy, ScriptedPong, scripted_policy
from gamengen.contract import GameContract
from gamengen.games.emulator import Emulator, make_game_contract
from tests.counter_env import COUNTER_ENV

pytest.importorskip("ale_py")


@pytest.fixture(scope="module")
def pong() -> GameContract:
    return make_game_contract("ALE/Pong-v5")


def context(emulator: Emulator) -> DecisionContext:
    return DecisionContext(0, np.random.default_rng(0), emulator.frame(), emulator.ram(), None)


def score(game: GameContract, steps: int) -> float:
    policy, emulator = scripted_policy(game), Emulator(game)
    emulator.reset(0)
    total = 0.0
    for _ in range(steps):
        reward, terminated, _ = emulator.advance(policy.act([context(emulator)])[0])
        total += reward
        if terminated:
            break
    emulator.close()
    return total


def test_scripted_players_play() -> None:
    assert score(make_game_contract("ALE/Breakout-v5", frame_skip=2), 800) >= 10
    assert score(make_game_contract("ALE/Pong-v5", frame_skip=2), 800) >= -4, "an idle player has -9 by then"


def test_pong_memory_is_what_the_screen_shows(pong: GameContract) -> None:
    """The addresses that the scripted player reads, against the pixels."""
    emulator = Emulator(pong)
    emulator.reset(0)
    checked = 0
    for step in range(120):
        emulator.step((2, 3)[step // 7 % 2])
        frame, ram = emulator.frame()[34:194], emulator.ram()
        assert ram is not None
        paddle = np.argwhere((frame[:, 140:144] == (92, 186, 92)).all(-1))[:, 0] + 34
        ball = np.argwhere((frame[:, :138] == (236, 236, 236)).all(-1))[:, 0] + 34
        if len(ball) and len(paddle) == 64 and ram[ScriptedPong._BALL_Y]:  # both wholly in view
            offset = int(ram[ScriptedPong._BALL_Y]) - int(ram[ScriptedPong._PADDLE_Y]) - ScriptedPong._PADDLE_CENTRE
            assert offset == pytest.approx(ball.mean() - paddle.mean(), abs=1.5)
            checked += 1
    emulator.close()
    assert checked > 10


def test_scripted_players_name_their_games() -> None:
    with pytest.raises(ValueError, match="only for Pong, Breakout"):
        scripted_policy(make_game_contract(COUNTER_ENV))


def test_random_play_follows_the_episode() -> None:
    def draw(seed: int) -> list[int]:
        rng = np.random.default_rng(seed)
        return RandomPolicy(5).act([DecisionContext(0, rng, np.zeros((1, 1, 3), np.uint8), None, None)] * 50)

    assert draw(1) == draw(1) != draw(2)
    assert set(draw(1)) == set(range(5))


def test_observation_is_the_one_agents_are_trained_on_elsewhere(pong: GameContract) -> None:
    warp = pytest.importorskip("stable_baselines3.common.atari_wrappers").WarpFrame
    emulator = Emulator(pong)
    frame = emulator.reset(0)
    emulator.close()
    theirs = warp.observation(type("Size", (), {"width": 84, "height": 84})(), frame)
    assert np.array_equal(grey_observation(frame), theirs[:, :, 0])


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_stack_holds_every_stride_th_frame(stride: int) -> None:
    frames = [np.full((84, 84, 3), 10 * t, np.uint8) for t in range(12)]
    stack = FrameStack(stride)
    stack.reset(frames[0])
    for t in range(1, 12):
        stack.push(frames[t])
        expected = [max(t - stride * back, 0) * 10 for back in (3, 2, 1, 0)]
        assert stack.observation()[:, 0, 0].tolist() == expected


def test_mix_spelling() -> None:
    assert parse_mix("scripted@0.1:3, random:1,runs/a:b/ppo.zip@0.05,C:/x@y.zip:2@0.5") == [
        PolicySpec("scripted", 0.1, 3.0),
        PolicySpec("random", None, 1.0),
        PolicySpec("runs/a:b/ppo.zip", 0.05, 1.0),
        PolicySpec("C:/x@y.zip", 0.5, 2.0),
    ]
    for wrong in ("scripted@2", "random:0", "", "random,,noop"):
        with pytest.raises(ValueError, match="NAME"):
            parse_mix(wrong)


def test_players_of_a_mix(pong: GameContract) -> None:
    def load(path: str) -> None:
        raise FileNotFoundError(path)

    players = make_players("scripted@0.1:3,random,noop", pong, 0.02, load)  # type: ignore[arg-type]
    assert [(p.name, p.share, p.epsilon) for p in players] == [
        ("scripted@0.1", 3.0, 0.1), ("random", 1.0, 1.0), ("noop@0.02", 1.0, 0.02),
    ]  # fmt: skip
    with pytest.raises(FileNotFoundError, match=r"nobody\.zip"):
        make_players("nobody.zip", pong, 0.0, load)  # type: ignore[arg-type]


def test_ranges() -> None:
    assert parse_range("4", "hold") == (4, 4) and parse_range("1-4", "hold") == (1, 4)
    for wrong in ("", "a", "-3", "1-b"):
        with pytest.raises(ValueError, match="--hold"):
            parse_range(wrong, "hold")
