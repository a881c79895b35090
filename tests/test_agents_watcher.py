"""agents.watcher: stacks as in play, features that are the network's own, for PPO and DQN."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from agents.observation import FrameStack
from agents.sb3 import AgentConfig, train_agent
from agents.watcher import Watcher, load_watcher
from gamengen.games.emulator import make_game_contract
from tests.counter_env import COUNTER_ENV

pytest.importorskip("stable_baselines3")
pytest.importorskip("cv2")


@pytest.fixture(scope="module", params=["ppo", "dqn"])
def watcher(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Watcher:
    folder: Path = tmp_path_factory.mktemp("agent")
    game = make_game_contract(COUNTER_ENV, frame_skip=1)
    config = AgentConfig(
        agent=request.param, total_timesteps=32, num_envs=2, n_steps=8, batch_size=8, n_epochs=1, buffer_size=100,
        learning_starts=10, device="cpu",
    )  # fmt: skip
    train_agent(config, game, folder / "runs", folder / "data")
    return load_watcher(next((folder / "runs").glob("*.zip")), game)


def test_stacks_are_those_of_play(watcher: Watcher) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (20, 40, 30, 3), dtype=np.uint8)
    stacks = watcher.observations(frames)
    played = FrameStack(watcher.stride)
    played.reset(frames[0])
    for frame in frames[1:]:
        played.push(frame)
    assert np.array_equal(stacks[-1], played.observation()) and len(stacks) == 20 - 3 * watcher.stride
    with pytest.raises(ValueError, match="more than"):
        watcher.observations(frames[: 3 * watcher.stride])


def test_features_are_what_the_network_acts_on(watcher: Watcher) -> None:
    rng = np.random.default_rng(1)
    stacks = rng.integers(0, 256, (3, 4, 84, 84), dtype=np.uint8)
    features = watcher.policy.features(stacks)
    assert features.shape == (3, 512) and features.std() > 0
    policy = watcher.policy._policy
    with torch.no_grad():
        given = torch.as_tensor(stacks)
        if hasattr(policy, "q_net"):
            expected, found = policy.q_net(given), policy.q_net.q_net(torch.as_tensor(features).float())
        else:
            expected = policy.predict_values(given)
            found = policy.value_net(policy.mlp_extractor.forward_critic(torch.as_tensor(features).float()))
    assert found.numpy() == pytest.approx(expected.numpy(), abs=1e-5)
    clip = rng.integers(0, 256, (16, 40, 30, 3), dtype=np.uint8)
    assert watcher.clip_features(clip).shape == (4, 512)
    assert np.array_equal(watcher.clip_features(clip), watcher.clip_features(clip))


def test_it_plays_from_frames_as_it_was_trained(watcher: Watcher) -> None:
    frames = np.random.default_rng(2).integers(0, 256, (12, 2, 40, 30, 3), dtype=np.uint8)
    watcher.begin([frames[:4, 0], frames[3:4, 1]])  # the second game has one frame of history
    for shown in frames[4:]:
        watcher.see(shown)
    probabilities, values = watcher.judge()
    assert probabilities.shape == (2, 4) and probabilities.sum(1) == pytest.approx(1) and values.shape == (2,)
    stacks = [watcher.observations(frames[:, 0])[-1], watcher.observations(frames[3:, 1])[-1]]
    expected = watcher.policy.judge(np.stack(stacks))
    assert np.array_equal(probabilities, expected[0]) and np.array_equal(values, expected[1])
    policy = watcher.policy._policy
    with torch.no_grad():
        best = policy.predict(np.stack(stacks), deterministic=True)[0]
        if not hasattr(policy, "q_net"):
            assert values == pytest.approx(policy.predict_values(torch.as_tensor(np.stack(stacks))).numpy()[:, 0])
    assert probabilities.argmax(1).tolist() == best.tolist()
