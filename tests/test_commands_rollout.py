"""gamengen.commands.rollout: what it writes is what the world shows when it is stepped by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gamengen.commands.rollout import Config, main
from gamengen.loading import load_contract, load_start_states, load_world
from gamengen.objects import Follower
from tests.worlds import tiny_pipeline


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rollout") / "world"
    tiny_pipeline().save_pretrained(path)
    return path


def test_writes_the_frames_that_the_world_shows(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "dream.gif"
    dream = main(
        Config(
            world=str(folder),
            output=str(output),
            actions="LEFT,RIGHT,NOOP",
            num_frames=5,
            num_inference_steps=2,
            seed=7,
            real="no",
            save_frames=True,
            device="cpu",
        )  # fmt: skip
    )
    assert dream is not None
    raw = np.load(output.with_suffix(".npz"))
    assert "real" not in raw and raw["actions"].tolist() == [[1, 2, 0, 1, 2]] * 2
    starts = load_start_states(folder)
    world = load_world(folder, 2, num_inference_steps=2, device="cpu")
    world.reset(starts, [7, 8])
    for t in range(5):
        frames = world.step(raw["actions"][:, t]).frames
        assert np.array_equal(frames, dream.frames[:, t])
    with Image.open(output) as animation:
        assert animation.is_animated


def test_without_the_game_it_says_so_and_goes_on_unless_the_game_was_asked_for(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = Config(world=str(folder), output=str(tmp_path / "a.gif"), num_frames=2, num_inference_steps=1)
    assert main(config) is not None
    assert "without the real game beside the dream: unknown environment id 'Tiny-v0'" in capsys.readouterr().out
    with pytest.raises(ValueError, match="unknown environment id"):
        main(replace(config, real="yes"))


def test_it_says_where_the_recording_ends(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    future = load_start_states(folder)[0].future_actions
    assert future is not None
    config = Config(world=str(folder), output=str(tmp_path / "a.gif"), num_frames=len(future), num_inference_steps=1)
    main(config)
    assert "recorded actions end" not in capsys.readouterr().out
    dream = main(replace(config, num_frames=len(future) + 2))
    assert dream is not None and dream.actions[0].tolist() == [*future.tolist(), 0, 0]
    assert f"end after {len(future)} of {len(future) + 2} frames, the no-op follows" in capsys.readouterr().out


def test_who_follows_the_ball_plays_the_dream_and_the_real_game_beside_it(tmp_path: Path) -> None:
    world = str(Path(__file__).resolve().parent.parent / "worlds" / "pong")
    output = tmp_path / "played.gif"
    dream = main(
        Config(world=world, output=str(output), actions="follow", num_frames=6, num_starts=2, save_frames=True,
               scale=1, device="cpu")
    )  # fmt: skip
    assert dream is not None
    raw, starts = np.load(output.with_suffix(".npz")), load_start_states(world)
    player = Follower(load_contract(world).game)
    first = player(np.stack([starts[0].frames[-1], starts[-1].frames[-1]]))
    assert np.array_equal(dream.actions[:, 0], first) and np.array_equal(raw["actions"], dream.actions)
    assert raw["real"].shape == dream.frames.shape
    apart = np.abs(raw["real"][:, 0].astype(int) - dream.frames[:, 0]).mean()
    assert apart < 2, "both go on from the same picture"
