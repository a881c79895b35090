"""evaluation.store: what was measured comes back exactly, what is damaged is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gamengen.evaluation.figures import Sample
from gamengen.evaluation.store import PartStore


def test_samples_come_back_bit_for_bit(tmp_path: Path) -> None:
    store = PartStore(tmp_path, "rollouts")
    rng = np.random.default_rng(0)
    values = [{"4 steps/psnr": rng.random(2), "copy last frame/error/ball": rng.random((2, 5))} for _ in range(3)]
    samples = [Sample(f"episode-{i}", 10 * i, value) for i, value in enumerate(values)]
    assert store.read("00000") is None
    store.write("00000", samples)
    read = store.read("00000")
    assert read is not None and [(s.episode, s.frame) for s in read] == [(s.episode, s.frame) for s in samples]
    for one, other in zip(read, samples, strict=True):
        assert set(one.values) == set(other.values)
        assert all(np.array_equal(one.values[path], other.values[path]) for path in other.values)


def test_a_damaged_part_is_named_with_what_to_do(tmp_path: Path) -> None:
    store = PartStore(tmp_path, "speed")
    store.write("a part", [Sample("e", 0, {"world/fps": np.ones(2)})])
    (file,) = (tmp_path / "speed").iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[:-40])
    with pytest.raises(ValueError, match=rf"{file.name} is damaged.*delete it"):
        store.read("a part")
    # Every byte of it: what zlib says of some of them too.
    for place in range(len(whole)):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            store.read("a part")
        except ValueError as error:
            assert "is damaged" in str(error)


def test_samples_with_different_paths_are_refused(tmp_path: Path) -> None:
    samples = [Sample("e", 0, {"world/fps": np.ones(2)}), Sample("e", 1, {"world/ms": np.ones(2)})]
    with pytest.raises(ValueError, match="different paths"):
        PartStore(tmp_path, "speed").write("x", samples)
    assert not list(tmp_path.rglob("*.npz"))
