"""Datasets on the Hub: pushed, streamed by `datasets` with byte ranges, streamed into the encoder, never mixed up."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants

from gamengen.contract import ContractMismatch
from gamengen.dataset.episode_writer import EpisodeWriter
from gamengen.dataset.episodes import dataset_fingerprint, list_episodes, read_episodes, verify_dataset
from gamengen.hub.dataset_push import push_dataset, statistics
from gamengen.hub.repository import HubConfig, resolve_dataset
from gamengen.latents.encoding import encode_dataset
from gamengen.latents.finishing import StartStateConfig, finalise
from tests.codec_data import block_dataset, block_episode, block_game, small_codec
from tests.loopback_hub import LoopbackHub

ROOT = Path(__file__).resolve().parent.parent
HUB_FLAGS = HubConfig(push_to_hub=True, hub_model_id="tester/blocks")


def test_what_is_pulled_is_what_was_recorded(hub: LoopbackHub, tmp_path: Path) -> None:
    episodes = block_dataset(tmp_path / "data")
    (tmp_path / "data" / "writers").mkdir()
    (tmp_path / "data" / "writers" / "run.json").write_text("paths of this machine")
    (tmp_path / "data" / "imports").mkdir()
    (tmp_path / "data" / "imports" / "clip.json").write_text(json.dumps({"clip": "one", "where": str(tmp_path)}))
    address = push_dataset(tmp_path / "data", HUB_FLAGS)
    assert address is not None and "tester/blocks/commit/" in address
    names = set(hub.files("tester/blocks", "dataset"))
    assert {"README.md", "contract.json", "preview.gif", "streams/main.json"} < names
    assert not any(name.startswith("writers") for name in names)
    assert json.loads(hub.files("tester/blocks", "dataset")["imports/clip.json"].data) == {"clip": "one"}
    pulled = resolve_dataset("tester/blocks")
    assert verify_dataset(pulled) > 2 and dataset_fingerprint(pulled) == dataset_fingerprint(tmp_path / "data")
    by_id = {episode.episode_id: episode for episode in read_episodes(pulled)}
    assert all(np.array_equal(by_id[e.episode_id].frames, e.frames) for e in episodes) and len(by_id) == len(episodes)
    card = hub.files("tester/blocks", "dataset")["README.md"].data.decode()
    assert "| split train | 6 episodes, 44 frames" in card and "| split validation | 1 episode, 8 frames" in card
    assert "| player test | 59 frames" in card and 'load_dataset("tester/blocks"' in card


def test_the_encoder_streams_without_a_download(hub: LoopbackHub, tmp_path: Path) -> None:
    block_dataset(tmp_path / "data")
    push_dataset(tmp_path / "data", HUB_FLAGS)
    streamed = resolve_dataset("tester/blocks", streaming=True)
    before = len(hub.log)
    assert len(list_episodes(streamed)) == 8 and not (streamed / "data").exists() and len(hub.log) == before
    starts = StartStateConfig(num_start_states=2, start_state_frames=3, start_state_horizon=2)
    for source, name in ((streamed, "streamed"), (tmp_path / "data", "local")):
        encode_dataset(source, small_codec(), tmp_path / name, progress=False)
        finalise(source, small_codec(), tmp_path / name, starts=starts)
    assert (tmp_path / "streamed/index.json").read_bytes() == (tmp_path / "local/index.json").read_bytes()
    assert not (streamed / "data").exists() and hub.requests(".parquet")
    cached = [path for path in (tmp_path / "home").rglob("*") if path.is_file() and path.read_bytes()[:4] == b"PAR1"]
    assert not cached, "frames were kept"


def test_a_file_that_changed_on_the_way_is_refused(hub: LoopbackHub, tmp_path: Path) -> None:
    block_dataset(tmp_path / "data")
    push_dataset(tmp_path / "data", HUB_FLAGS)
    streamed = resolve_dataset("tester/blocks", streaming=True)
    files = hub.files("tester/blocks", "dataset")
    for name in [name for name in files if name.endswith(".parquet")]:
        files[name] = replace(files[name], data=files[name].data[:-1] + b"!")
    with pytest.raises(ValueError, match=r"\.parquet is damaged: expected sha256"):
        list(read_episodes(streamed))
    hub.stop()
    with pytest.raises(ConnectionError, match="tester/blocks.*cannot be reached"):
        list(read_episodes(streamed))


def test_recorders_share_a_repository_of_one_game_only(hub: LoopbackHub, tmp_path: Path) -> None:
    block_dataset(tmp_path / "one")
    push_dataset(tmp_path / "one", HUB_FLAGS)
    writer = EpisodeWriter(tmp_path / "two", block_game(), "second", rows_per_file=16)
    writer.write(block_episode(3, 4, "train", "second"))
    writer.flush()
    push_dataset(tmp_path / "two", HUB_FLAGS)
    both = resolve_dataset("tester/blocks")
    assert len(list(read_episodes(both))) == 9
    card = hub.files("tester/blocks", "dataset")["README.md"].data.decode()
    assert "data/test-*.parquet" in card and "| split train | 7 episodes" in card
    other = EpisodeWriter(tmp_path / "other", block_game("Pong-v5"), "main")
    other.write(block_episode(0, 4, "train"))
    other.flush()
    with pytest.raises(ContractMismatch, match="Pong-v5"):
        push_dataset(tmp_path / "other", HUB_FLAGS)


def test_damaged_recordings_are_not_pushed(hub: LoopbackHub, tmp_path: Path) -> None:
    block_dataset(tmp_path / "data")
    file = next((tmp_path / "data/data").glob("*.parquet"))
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    with pytest.raises(ValueError, match=f"{file.name} is damaged"):
        push_dataset(tmp_path / "data", HUB_FLAGS)
    assert set(hub.files("tester/blocks", "dataset")) == {".gitattributes"}


def test_nothing_happens_without_the_flag(tmp_path: Path) -> None:
    assert constants.HF_HUB_OFFLINE
    assert push_dataset(tmp_path, HubConfig(hub_model_id="tester/blocks")) is None


def test_statistics_count_what_is_there(tmp_path: Path) -> None:
    episodes = block_dataset(tmp_path / "data")
    rows = dict(statistics(list_episodes(tmp_path / "data"), block_game()))
    mean = np.mean([episode.rewards.sum() for episode in episodes])
    assert rows["split train"].startswith("6 episodes, 44 frames") and rows["split test"].startswith("1 episode, 7")
    assert rows["player test"] == f"59 frames, mean return {mean:.4g}"


STREAMING = """
import json
from datasets import load_dataset
rows = load_dataset("tester/blocks", split="train", streaming=True)
print(json.dumps([[row["episode_id"], row["step"], row["action"], row["image"].size] for row in rows]))
"""


def test_load_dataset_streams_it_by_ranges(hub: LoopbackHub, tmp_path: Path) -> None:
    episodes = block_dataset(tmp_path / "data")
    push_dataset(tmp_path / "data", HUB_FLAGS)
    hub.log.clear()
    environment = hub.environment(tmp_path / "another home")
    command = [sys.executable, "-c", STREAMING]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    expected = [
        [episode.episode_id, step, None if step == len(episode.actions) else int(episode.actions[step]), [28, 20]]
        for episode in episodes
        if episode.split == "train"
        for step in range(len(episode.frames))
    ]
    assert rows == expected
    reads = [request for request in hub.requests("resolve") if ".parquet" in request.path and request.method == "GET"]
    assert reads and all(request.range for request in reads)
