"""agents.policies, agents.observation, agents.mix: players that play, what they see, how they are spelled."""

from __future__ import annotations

import numpy as np
import pytest

from agents.mix import PolicySpec, make_players, parse_mix, parse_range
from agents.observation import FrameStack, grey_observation
from agents.policies import DecisionContext, RandomPolicy, ScriptedBreakout, ScriptedPong, scripted_policy
from gamengen.contract import GameContract
from gamengen.games.emulator import Emulator, make_game_contract
from tests.counter_env import COUNTER_ENV

pytest.importorskip("ale_py")


@pytest.fixture(scope="module")
def pong() -> GameContract:
    return make_game_contract("ALE/Pong-v5")


def played(game: GameContract, steps: int, seed: int = 0, varied: bool = False) -> tuple[float, np.ndarray]:
    """Summed reward, and the console's memory (T, 128) on the way."""
    policy, emulator = scripted_policy(game, varied), Emulator(game)
    rng = np.random.default_rng(seed)
    emulator.reset(0)
    total, memory = 0.0, []
    for _ in range(steps):
        context = DecisionContext(0, rng, emulator.frame(), emulator.ram(), None, seed)
        reward, terminated, _ = emulator.advance(policy.act([context])[0])
        total += reward
        memory.append(emulator.ram())
        if terminated:
            break
    emulator.close()
    return total, np.stack(memory)


@pytest.mark.parametrize("varied", [False, True])
def test_scripted_players_play(varied: bool) -> None:
    assert played(make_game_contract("ALE/Breakout-v5", frame_skip=2), 800, varied=varied)[0] >= 10
    pong = make_game_contract("ALE/Pong-v5", frame_skip=2)
    assert played(pong, 800, varied=varied)[0] >= -4, "an idle player has -9 by then"


@pytest.mark.parametrize("env_id", ["ALE/Pong-v5", "ALE/Breakout-v5"])
def test_one_who_varies_plays_another_game_each_time(env_id: str) -> None:
    """The console is deterministic: a fixed rule met every ball of every episode with the same part of the paddle."""
    game = make_game_contract(env_id, frame_skip=2)
    same, other = (played(game, 400, seed)[1] for seed in (1, 2))
    assert np.array_equal(same, other)
    one, another = (played(game, 400, seed, varied=True)[1] for seed in (1, 2))
    assert not np.array_equal(one, another)
    assert np.array_equal(one, played(game, 400, 1, varied=True)[1]), "a function of the episode's seed"


def test_one_who_varies_meets_the_ball_with_all_of_the_paddle_and_takes_time_to_serve() -> None:
    game = make_game_contract("ALE/Breakout-v5", frame_skip=2)
    offsets: dict[bool, set[int]] = {}
    waits: dict[bool, int] = {}
    for varied in (False, True):
        memories = [played(game, 500, seed, varied)[1].astype(int) for seed in (1, 2, 3)]
        ball_x, ball_y, paddle = ScriptedBreakout._BALL_X, ScriptedBreakout._BALL_Y, ScriptedBreakout._PADDLE_X
        offsets[varied], waits[varied] = set(), 0
        for memory in memories:
            y = memory[:, ball_y]
            turned = 1 + np.flatnonzero((y[1:-1] > 150) & (y[1:-1] >= y[:-2]) & (y[2:] < y[1:-1]))
            offsets[varied] |= set((memory[turned, ball_x] - memory[turned, paddle]).tolist())
            waits[varied] += int((y == 0).sum())
    assert len(offsets[True]) > 1.5 * len(offsets[False])
    assert max(offsets[True]) - min(offsets[True]) >= 10
    assert waits[True] > 2 * waits[False]


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
