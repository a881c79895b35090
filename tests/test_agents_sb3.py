"""agents.sb3, sb3_policy, agent_env: training is recorded whole; loading a policy runs none of its code."""

from __future__ import annotations

import base64
import io
import json
import logging
import os
import pickle
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from agents.agent_env import AgentEnv
from agents.policies import ConstantPolicy, DecisionContext
from agents.recorder import Player, Recorder, RecorderSettings
from agents.sb3 import AgentConfig, build_model, newest_checkpoint, save_agent, train_agent
from agents.sb3_policy import CARD, check_zip, load_policy, read_card
from agents.stream import GameStream, StreamSettings
from gamengen.contract import Action, GameContract
from gamengen.dataset.episode_writer import EpisodeWriter
from gamengen.dataset.episodes import list_episodes, read_episodes
from gamengen.games.emulator import make_game_contract
from tests.counter_env import COUNTER_ENV, read_count

stable_baselines3 = pytest.importorskip("stable_baselines3")
pytest.importorskip("ale_py")

TINY = {
    "num_envs": 2, "n_steps": 16, "batch_size": 16, "n_epochs": 1, "checkpointing_steps": 64, "buffer_size": 200,
    "learning_starts": 20, "device": "cpu",
}  # fmt: skip


@pytest.fixture(scope="module")
def counter() -> GameContract:
    return make_game_contract(COUNTER_ENV, frame_skip=1)


def config(**changes: object) -> AgentConfig:
    return AgentConfig(**{"total_timesteps": 96, **TINY, **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, counter: GameContract) -> tuple[Path, Path]:
    """(output folder, dataset) of a PPO and a DQN that trained a little, PPO in two goes."""
    folder = tmp_path_factory.mktemp("agents")
    train_agent(config(total_timesteps=64), counter, folder / "runs", folder / "data")
    train_agent(config(total_timesteps=96), counter, folder / "runs", folder / "data")
    train_agent(config(agent="dqn"), counter, folder / "runs", folder / "data")
    return folder / "runs", folder / "data"


def test_training_records_every_frame_from_the_first_on(trained: tuple[Path, Path]) -> None:
    episodes = list(read_episodes(trained[1]))
    for episode in episodes:
        counts = [read_count(frame) for frame in episode.frames]
        assert {count.episode for count in counts} == {episode.seed % 4096}
        assert [count.t for count in counts] == list(range(len(counts)))
        assert [count.previous_action for count in counts[1:]] == episode.actions.tolist()
        assert episode.truncated or counts[-1].t == 12 + episode.seed % 4096 % 17
    ppo = [episode for episode in episodes if episode.stream_id.startswith("ppo")]
    assert sum(len(episode.actions) for episode in ppo) == 96, "both goes, nothing lost, nothing twice"
    assert {episode.agent for episode in ppo} >= {"ppo-0", "ppo-64"}
    assert sum(len(e.actions) for e in episodes if e.stream_id.startswith("dqn")) >= 96


def test_checkpoints_are_a_ladder_and_resume_continues(trained: tuple[Path, Path], counter: GameContract) -> None:
    runs, _ = trained
    assert {path.name for path in (runs / "checkpoints").iterdir()} >= {"ppo-64.zip", "ppo-96.zip", "dqn-64.zip"}
    assert newest_checkpoint(runs, "ppo") == (96, runs / "checkpoints" / "ppo-96.zip")
    with zipfile.ZipFile(runs / "ppo.zip") as archive:
        card = json.loads(archive.read(CARD))
        optimizer = torch.load(io.BytesIO(archive.read("policy.optimizer.pth")), weights_only=True)
    assert card["num_timesteps"] == 96 and card["decision_skip"] == 1 and card["fire_on_reset"] is False
    # 64 steps are 2 rollouts of 2 x 16, 2 batches each; the second go adds one rollout to the same optimizer.
    assert optimizer["state"][0]["step"] == 6


def contexts(count: int, seed: int = 0) -> list[DecisionContext]:
    rng = np.random.default_rng(seed)
    observations = rng.integers(0, 256, (count, 4, 84, 84), dtype=np.uint8)
    frame = np.zeros((1, 1, 3), np.uint8)
    return [DecisionContext(i, np.random.default_rng(i), frame, None, observations[i]) for i in range(count)]


def test_a_damaged_checkpoint_is_passed_over_and_said_so(
    trained: tuple[Path, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(trained[0], tmp_path / "runs")
    newest = tmp_path / "runs" / "checkpoints" / "ppo-96.zip"
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    newest.write_bytes(data)
    with caplog.at_level(logging.WARNING):
        assert newest_checkpoint(tmp_path / "runs", "ppo") == (64, newest.with_name("ppo-64.zip"))
    assert "ppo-96.zip is damaged" in caplog.text and "falling back to the checkpoint before it" in caplog.text
    newest.with_name("ppo-64.zip").write_bytes(b"torn")
    with pytest.raises(ValueError, match="every checkpoint in .* is damaged"):
        newest_checkpoint(tmp_path / "runs", "ppo")


def test_two_hundred_flipped_bits_of_a_policy_are_refused_or_change_nothing(
    trained: tuple[Path, Path], counter: GameContract, tmp_path: Path
) -> None:
    """A zip also holds dates and empty fields that nothing reads."""
    good = (trained[0] / "ppo.zip").read_bytes()
    path, rng, refused = tmp_path / "ppo.zip", np.random.default_rng(0), 0
    expected = load_policy(trained[0] / "ppo.zip", counter, batch_size=1)[0]._policy.state_dict()
    for _ in range(200):
        data = bytearray(good)
        data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
        path.write_bytes(data)
        try:
            check_zip(path)
        except ValueError as error:
            assert "ppo.zip is damaged" in str(error)
            refused += 1
        else:
            loaded = load_policy(path, counter, batch_size=1)[0]._policy.state_dict()
            assert all(torch.equal(value, loaded[name]) for name, value in expected.items())
    assert refused > 190


@pytest.mark.parametrize("agent", ["ppo", "dqn"])
def test_loaded_policy_is_the_saved_one(trained: tuple[Path, Path], counter: GameContract, agent: str) -> None:
    path = trained[0] / f"{agent}.zip"
    policy, source = load_policy(path, counter, batch_size=5)
    model = {"ppo": stable_baselines3.PPO, "dqn": stable_baselines3.DQN}[agent].load(path, device="cpu")
    observations = torch.as_tensor(np.stack([context.observation for context in contexts(5)]))
    with torch.no_grad():
        if agent == "dqn":
            assert policy.act(contexts(5)) == model.predict(observations.numpy(), deterministic=True)[0].tolist()
        else:
            expected = model.policy.get_distribution(observations).distribution.probs
            drawn = np.zeros((5, 4))
            for seed in range(300):
                drawn[range(5), policy.act([
                    DecisionContext(i, np.random.default_rng((seed, i)), c.frame, None, c.observation)
                    for i, c in enumerate(contexts(5))
                ])] += 1 / 300  # fmt: skip
            assert np.abs(drawn - expected.numpy()).max() < 0.12
    assert "sha256" in source and policy.name.startswith(f"{agent}-")


def test_a_game_is_played_the_same_in_whichever_process(trained: tuple[Path, Path], counter: GameContract) -> None:
    """Game 6 of one process of eight is game 6 of the second of two processes of four."""
    policies = [load_policy(trained[0] / "dqn.zip", counter, batch_size=4)[0] for _ in range(2)]
    eight = contexts(8)
    together = policies[0].act(eight)
    assert policies[1].act(eight[4:]) + policies[1].act(eight[:4]) == together[4:] + together[:4]


def test_a_game_is_played_the_same_whoever_plays_beside_it(trained: tuple[Path, Path], counter: GameContract) -> None:
    policy, _ = load_policy(trained[0] / "dqn.zip", counter, batch_size=4)
    alone = [policy.act([context])[0] for context in contexts(4)]
    assert policy.act(contexts(4)) == alone


class Canary:
    """Unpickling it leaves a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, int]]:
        return os.mkdir, (str(self.path), 0o700)


def test_a_malicious_zip_does_not_execute(trained: tuple[Path, Path], counter: GameContract, tmp_path: Path) -> None:
    good, canary = trained[0] / "ppo.zip", tmp_path / "canary"
    for member in ("data", "policy.pth"):
        with zipfile.ZipFile(good) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        evil = pickle.dumps({"x": Canary(canary)})
        if member == "data":  # where Stable-Baselines3's own load unpickles
            plain = json.loads(members["data"])
            serialised = {":type:": "x", ":serialized:": base64.b64encode(evil).decode()}
            members["data"] = json.dumps({name: serialised for name in plain}).encode()
        else:
            buffer = io.BytesIO()
            torch.save({"action_net.weight": Canary(canary)}, buffer)
            members["policy.pth"] = buffer.getvalue()
        path = tmp_path / f"{member}.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        if member == "data":
            assert len(load_policy(path, counter, batch_size=1)[0].act(contexts(1))) == 1
        else:
            with pytest.raises(ValueError, match="trust_remote_code"):
                load_policy(path, counter, batch_size=1)
        assert not canary.exists()
    pickle.loads(evil)
    assert canary.exists(), "the canary lives: unpickling would have shown it"


def test_other_networks_load_only_when_trusted(counter: GameContract, tmp_path: Path) -> None:
    envs = [AgentEnv(GameStream(counter, StreamSettings(), "s", 0, None), lambda: "a")]
    vector = stable_baselines3.common.vec_env.DummyVecEnv([lambda: envs[0]])
    model = stable_baselines3.PPO("CnnPolicy", vector, policy_kwargs={"net_arch": [8]}, n_steps=8, batch_size=8)
    model.save(tmp_path / "wide.zip")
    with pytest.raises(ValueError, match="--trust_remote_code"):
        load_policy(tmp_path / "wide.zip", counter, batch_size=1)
    policy, _ = load_policy(tmp_path / "wide.zip", counter, batch_size=1, trust_remote_code=True)
    assert policy.name == "wide" and policy.act(contexts(1))[0] in range(4)


def test_unfit_policies_are_refused_by_name(trained: tuple[Path, Path], counter: GameContract, tmp_path: Path) -> None:
    pong = make_game_contract("ALE/Pong-v5")
    with pytest.raises(ValueError, match=r"ppo\.zip knows 4 actions, ALE/Pong-v5 has 6"):
        load_policy(trained[0] / "ppo.zip", pong, batch_size=1)
    with pytest.raises(FileNotFoundError, match="scripted, varied, random, noop"):
        load_policy("scirpted", pong, batch_size=1)
    (tmp_path / "torn.zip").write_bytes((trained[0] / "ppo.zip").read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"torn\.zip is damaged"):
        load_policy(tmp_path / "torn.zip", pong, batch_size=1)


def test_another_games_agent_is_refused_though_its_network_fits(
    trained: tuple[Path, Path], counter: GameContract
) -> None:
    other = replace(counter, env_id="Other-v0")
    with pytest.raises(ValueError, match=r"ppo\.zip was trained on .*Counter.*; expected an agent of Other-v0"):
        load_policy(trained[0] / "ppo.zip", other)
    turned = replace(counter, actions=tuple(reversed(counter.actions)))
    with pytest.raises(ValueError, match=f"with the actions {', '.join(a.meaning for a in turned.actions)}: train"):
        load_policy(trained[0] / "ppo.zip", turned)
    load_policy(trained[0] / "ppo.zip", replace(counter, frame_skip=2, hold=(1, 3)))  # another stream of the same game


def test_a_finished_training_leaves_its_policy_alone(
    trained: tuple[Path, Path], counter: GameContract, tmp_path: Path
) -> None:
    """A recording is named after the sha256 of its policies: with another one it would begin anew."""
    runs = Path(shutil.copytree(trained[0], tmp_path / "runs"))
    before = (runs / "ppo.zip").read_bytes()
    assert train_agent(config(total_timesteps=96), counter, runs).num_timesteps == 96
    assert (runs / "ppo.zip").read_bytes() == before
    (runs / "ppo.zip").write_bytes(before[:5000])
    train_agent(config(total_timesteps=96), counter, runs)
    assert read_card(runs / "ppo.zip")["num_timesteps"] == 96, "a damaged one is written again"
    (runs / "checkpoints" / "ppo-96.zip").unlink()
    before = (runs / "ppo.zip").read_bytes()
    train_agent(config(total_timesteps=96), counter, runs)
    assert (runs / "ppo.zip").read_bytes() != before, "trained anew from an older checkpoint"


def test_a_trained_policy_records_and_an_interrupted_recording_equals_a_whole_one(
    trained: tuple[Path, Path], counter: GameContract, tmp_path: Path
) -> None:
    def record(folder: Path, num_steps: int) -> list[tuple[str, list[int]]]:
        policy, source = load_policy(trained[0] / "ppo.zip", counter, batch_size=2)
        players = [Player(policy, source=source), Player(ConstantPolicy(0))]
        settings = RecorderSettings(num_steps=num_steps, num_envs=2, rows_per_file=1)
        Recorder(folder, counter, players, settings).run()
        return [(episode.episode_id, episode.actions.tolist()) for episode in read_episodes(folder)]

    whole = record(tmp_path / "whole", 160)
    # Ends at another step in each game: the first game of each stream is whole, the next is cut and so differs.
    record(tmp_path / "parts", 60)
    parts = record(tmp_path / "parts", 160)
    assert any(info.agent == "ppo-96" for info in list_episodes(tmp_path / "whole"))
    complete = {info.episode_id for info in list_episodes(tmp_path / "parts") if info.terminated}
    first = {episode_id: actions for episode_id, actions in whole if episode_id.endswith("-000000")}
    assert {i: a for i, a in parts if i in first and i in complete} == {i: a for i, a in first.items() if i in complete}


def test_a_lost_life_ends_the_learners_episode_only(tmp_path: Path) -> None:
    game = make_game_contract("ALE/Breakout-v5")
    writer = EpisodeWriter(tmp_path, game, "s")
    env = AgentEnv(GameStream(game, StreamSettings(), "s", 0, writer), lambda: "still")
    env.reset()
    ends = 0
    for _ in range(400):
        observation, _, terminated, truncated, info = env.step(0)
        assert observation.shape == (4, 84, 84) and not truncated
        if terminated:
            ends += 1
            env.reset()  # presses fire: the game waits for it
        if "episode" in info:
            break
    env.close()
    writer.flush()
    assert ends == 5 and info["episode"]["r"] >= 0
    episodes = list(read_episodes(tmp_path))
    first = episodes[0]
    assert first.terminated and first.lives is not None and first.lives[0] == 5 and first.lives[-1] == 0
    assert (first.actions == 1).sum() == 5, "one fire a life"


def test_a_policy_says_that_fire_was_pressed_for_it(counter: GameContract, tmp_path: Path) -> None:
    game = replace(counter, actions=(*counter.actions[:-1], Action(meaning="FIRE")))
    envs = [AgentEnv(GameStream(counter, StreamSettings(), "s", 0, None), lambda: "a")]
    model = build_model(config(num_envs=1), envs, seed=0, tensorboard_log=None)
    for contract in (counter, game):
        save_agent(model, config(), contract, tmp_path / "a.zip")
        policy, _ = load_policy(tmp_path / "a.zip", contract)
        assert Player(policy).fire_on_reset == (contract is game)


def test_saved_agents_load_in_stable_baselines3_too(counter: GameContract, tmp_path: Path) -> None:
    envs = [AgentEnv(GameStream(counter, StreamSettings(), "s", 0, None), lambda: "a")]
    model = build_model(config(num_envs=1), envs, seed=0, tensorboard_log=None)
    save_agent(model, config(), counter, tmp_path / "a.zip")
    loaded = stable_baselines3.PPO.load(tmp_path / "a.zip", device="cpu")
    assert loaded.observation_space.shape == (4, 84, 84)
