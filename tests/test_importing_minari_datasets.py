"""importing/minari_datasets.py: datasets that Minari has made; nothing that they name is run without being asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from gamengen.dataset.episodes import Episode, read_episodes
from gamengen.importing.importer import Importer, ImportSettings
from gamengen.importing.minari_datasets import find_minari, open_minari
from gamengen.importing.sources import open_clips
from gamengen.importing.spec import ImportSpec, SourceAction
from tests.counter_env import COUNTER_ENV, SIZE, CounterEnv, read_count

minari = pytest.importorskip("minari")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:minari")


class BlindCounter(CounterEnv):
    """CounterEnv whose observation is what its frame says, not the frame."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.observation_space = gymnasium.spaces.Box(0, 4096, (3,), np.int64)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        return self._count(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        _, *rest = super().step(action)
        return self._count(), *rest

    def _count(self) -> np.ndarray:
        return np.array(read_count(self.render()), np.int64)


BLIND = "tests.test_importing_minari_datasets:BlindCounter-v0"
gymnasium.register(id="BlindCounter-v0", entry_point="tests.test_importing_minari_datasets:BlindCounter")


@pytest.fixture
def spec() -> ImportSpec:
    actions = tuple(SourceAction(name=f"ACTION_{n}", keys=(str(n),) if n else ()) for n in range(4))
    return ImportSpec(game="Counter", fps=30.0, frame_height=SIZE, frame_width=SIZE, actions=actions, noop_action=0)


def collect(
    folder: Path, monkeypatch: pytest.MonkeyPatch, env_id: str, *, jpeg: bool = False, episodes: int = 3
) -> tuple[Path, list[list[int]]]:
    """A dataset that Minari writes, and the actions of its episodes."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(folder))
    env = gymnasium.make(env_id, render_mode="rgb_array")
    random = np.random.default_rng(0)
    buffers = []
    for episode in range(episodes):
        observations, actions, rewards, ended = [env.reset(seed=episode)[0]], [], [], False
        while not ended:
            actions.append(int(random.integers(4)))
            observation, reward, ended, _, _ = env.step(actions[-1])
            observations.append(observation)
            rewards.append(reward)
        ends = [t == len(actions) - 1 for t in range(len(actions))]
        buffers.append(
            minari.data_collector.EpisodeBuffer(
                id=episode, seed=episode, observations=observations, actions=actions, rewards=rewards,
                terminations=ends, truncations=[False] * len(ends),
            )
        )  # fmt: skip
    minari.create_dataset_from_buffers(
        "counter/test-v0", buffers, env=env, algorithm_name="random", data_format="arrow", jpeg_encoding=jpeg
    )
    env.close()
    return folder / "counter/test-v0", [buffer.actions for buffer in buffers]


def imported(source: str, folder: Path, spec: ImportSpec, trust: bool = False) -> list[Episode]:
    Importer(folder, spec, ImportSettings()).run(open_clips(source, spec, trust))
    return list(read_episodes(folder))


def check(episodes: list[Episode], played: list[list[int]]) -> None:
    assert len(episodes) == len(played)
    for number, (episode, actions) in enumerate(zip(episodes, played, strict=True)):
        counts = [read_count(frame) for frame in episode.frames]
        assert [count.t for count in counts] == list(range(len(actions) + 1))
        assert {count.episode for count in counts} == {number}
        assert [count.previous_action for count in counts[1:]] == actions == episode.actions.tolist()
        assert episode.rewards.tolist() == actions and episode.terminated


@pytest.mark.parametrize("jpeg", [False, True])
def test_image_observations_come_over(
    jpeg: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: ImportSpec
) -> None:
    folder, played = collect(tmp_path, monkeypatch, COUNTER_ENV, jpeg=jpeg)
    by_folder = imported(str(folder), tmp_path / "data", spec)
    if jpeg:
        assert [episode.actions.tolist() for episode in by_folder] == played
    else:
        check(by_folder, played)
    by_id = imported("minari:counter/test-v0", tmp_path / "again", spec)
    for one, other in zip(by_folder, by_id, strict=True):
        np.testing.assert_array_equal(one.frames, other.frames)
    notes = open_minari(str(folder), spec, False)[0].scan().notes
    assert ["JPEG" in note for note in notes] == [True] * jpeg


def test_other_observations_are_played_again_where_that_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: ImportSpec
) -> None:
    folder, played = collect(tmp_path, monkeypatch, BLIND)
    with pytest.raises(ValueError, match="no RGB images .* --trust_remote_code plays the episodes again"):
        open_clips(str(folder), spec)
    check(imported(str(folder), tmp_path / "data", spec, trust=True), played)
    monkeypatch.setattr(BlindCounter, "_count", lambda self: np.array([1, 2, 3]))  # another version of the game
    with pytest.raises(ValueError, match="episode 0: played again, step 0 comes out in another way"):
        imported(str(folder), tmp_path / "other", spec, trust=True)


def test_a_dataset_that_hides_its_spaces_makes_no_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: ImportSpec
) -> None:
    """The canary: Minari would make the environment that the file names to learn its spaces."""
    folder, _ = collect(tmp_path, monkeypatch, COUNTER_ENV, episodes=1)
    data = find_minari(folder)
    assert data is not None
    metadata = json.loads((data / "metadata.json").read_text())
    canary = tmp_path / "canary"
    env = json.loads(metadata["env_spec"]) | {"entry_point": "pathlib:Path.touch", "kwargs": {"self": str(canary)}}
    metadata["env_spec"] = json.dumps(env)
    del metadata["observation_space"]
    (data / "metadata.json").write_text(json.dumps(metadata))
    with pytest.raises(ValueError, match="does not state its observation_space"):
        open_clips(str(folder), spec)
    assert not canary.exists()


def test_what_is_no_dataset_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: ImportSpec) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="minari:none/none-v0: no Minari dataset there"):
        open_clips("minari:none/none-v0", spec)
    assert find_minari(tmp_path) is None
