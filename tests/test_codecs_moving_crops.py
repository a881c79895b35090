"""moving_crops: batches are pure functions, weights mark what moves and is rare, crops keep the frame's patches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from gamengen.codecs.moving_crops import CropConfig, MovingCrops, load_crops
from tests.codec_data import block_dataset, block_frames

SHAPE = (64, 48)
STILL = np.zeros((60, *SHAPE), bool)


def crops(size: int = 16, share: float = 1.0, align: int = 8) -> MovingCrops:
    frames = block_frames(60, height=SHAPE[0], width=SHAPE[1])
    return MovingCrops(frames, STILL, CropConfig(crop_size=size, foreground_share=share), align)


def test_a_batch_is_a_function_of_its_name() -> None:
    data = crops()
    whole = data.batch(3, 7, range(6))
    parts = [crops().batch(3, 7, [i]) for i in range(6)]
    for name in ("frames", "weights"):
        assert torch.equal(whole[name], torch.cat([part[name] for part in parts]))
    assert not torch.equal(whole["frames"], data.batch(3, 8, range(6))["frames"])
    assert not torch.equal(whole["frames"], data.batch(4, 7, range(6))["frames"])


def test_crops_are_pieces_of_frames_at_the_grid_of_the_patches() -> None:
    data = crops()
    known = {
        data.frames[n, y : y + 16, x : x + 16].tobytes()
        for n in range(60) for y in range(0, SHAPE[0] - 15, 8) for x in range(0, SHAPE[1] - 15, 8)
    }  # fmt: skip
    batch = data.batch(0, 0, range(40))
    assert batch["frames"].shape == (40, 16, 16, 3) and batch["frames"].dtype == torch.uint8
    assert batch["weights"].shape == (40, 16, 16) and batch["weights"].dtype == torch.float32
    assert all(crop.numpy().tobytes() in known for crop in batch["frames"])


def test_weights_mark_the_foreground_and_crops_seek_it() -> None:
    batch = crops().batch(0, 0, range(100))
    white = (batch["frames"] == 255).all(-1)
    assert torch.equal(batch["weights"] > 0, white)
    seeking, anywhere = (
        float((crops(share=share).batch(0, 0, range(200))["weights"].flatten(1).amax(1) > 0).float().mean())
        for share in (1.0, 0.0)
    )
    assert seeking > 0.9 and anywhere < 0.4


def test_what_is_rare_weighs_more() -> None:
    frames = np.zeros((100, 16, 16, 3), np.uint8)
    frames[:40, :4] = 150  # there in 40 % of the frames
    frames[::25, 10:12, 10:12] = 255  # in 4 %
    frames[::25, :2, :2] = 255  # and so where the other is often: a ball before a paddle
    data = MovingCrops(frames, np.zeros((100, 16, 16), bool), CropConfig(crop_size=0), 8)
    _, weights = data.patches(1, 100, foreground_weight=1.0)
    weights = weights.view(100, 16, 16) - 1
    rare, often = np.sqrt(0.1 / 0.04), np.sqrt(0.1 / 0.38)
    assert weights[0, 11, 11] == pytest.approx(rare) and weights[1, 11, 11] == 0
    assert weights[0, 0, 0] == pytest.approx(rare) and weights[1, 0, 0] == pytest.approx(often)
    assert weights[1, 0, 9] == pytest.approx(0.5) and weights[50, 0, 0] == pytest.approx(rare)
    assert np.array_equal(data.median, np.zeros((16, 16, 3), np.uint8))


def test_what_moves_counts_even_where_it_is_the_median() -> None:
    frames = np.zeros((10, 16, 16, 3), np.uint8)
    moving = np.zeros((10, 16, 16), bool)
    moving[:, 5, 6] = True
    batch = MovingCrops(frames, moving, CropConfig(crop_size=0), 8).batch(0, 0, [0])
    assert batch["weights"].nonzero().tolist() == [[0, 5, 6]]


def test_whole_frames_for_what_normalises_over_them() -> None:
    batch = crops(size=0).batch(0, 0, range(3))
    assert batch["frames"].shape == (3, *SHAPE, 3) and batch["weights"].shape == (3, *SHAPE)


@pytest.mark.parametrize("size", [12, 56, -8])
def test_crops_that_do_not_fit_are_refused_with_those_that_do(size: int) -> None:
    with pytest.raises(ValueError, match="multiple of 8 from 8 to 48, or 0"):
        crops(size=size)


def test_patches_are_in_the_order_of_the_network() -> None:
    data = crops()
    patches, weights = data.patches(4, 5, foreground_weight=10.0)
    assert patches.shape == (5 * 16 * 12, 48) and weights.shape == (5 * 16 * 12,)
    first = torch.from_numpy(data.frames[0, :4, :4]).float() / 255
    assert torch.equal(patches[0].view(3, 4, 4), first.movedim(-1, 0))
    assert float(weights.min()) == 1.0 and float(weights.max()) > 1.0


def test_frames_are_read_evenly_over_the_training_split(tmp_path: Path) -> None:
    episodes = [e for e in block_dataset(tmp_path) if e.split == "train"]
    everything = np.concatenate([e.frames for e in episodes])
    data = load_crops(tmp_path, (2, 2, 2, 2), CropConfig(crop_size=8), 4)
    assert np.array_equal(data.frames[:, 2:-2, 2:-2], everything)
    assert np.array_equal(data.frames[:, 0, 2:-2], everything[:, 0])
    few = load_crops(tmp_path, (2, 2, 2, 2), CropConfig(crop_size=8, max_train_frames=10), 4)
    rows = [int(np.flatnonzero((everything == frame).all((1, 2, 3)))[0]) for frame in few.frames[:, 2:-2, 2:-2]]
    gaps = np.diff(rows)
    assert len(rows) == 10 and gaps.min() >= len(everything) // 10 and gaps.max() <= len(everything) // 10 + 1
