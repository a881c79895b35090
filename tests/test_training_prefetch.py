"""gamengen.training.prefetch: the same batches as without it, made one step ahead."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from gamengen.training.prefetch import Prefetch

MICRO_BATCHES = ([0, 1], [2, 3])


class Batches:
    """A pure function that notes which batches were made, and by which thread."""

    def __init__(self) -> None:
        self.made: list[tuple[int, tuple[int, ...]]] = []
        self.threads: set[int] = set()
        self.next_step = threading.Event()

    def __call__(self, step: int, indices: Sequence[int]) -> dict[str, Tensor]:
        self.made.append((step, tuple(indices)))
        self.threads.add(threading.get_ident())
        if step == 1:
            self.next_step.set()
        if step == 13:
            raise ValueError("row 7 is damaged")
        return {"x": torch.tensor([100 * step + i for i in indices])}


@pytest.mark.parametrize("num_workers", [0, 1, 3])
def test_batches_are_those_that_were_asked_for(num_workers: int) -> None:
    prefetch = Prefetch(Batches(), num_workers)
    for step in (0, 1, 2, 7, 8):  # a resume jumps
        for indices in MICRO_BATCHES:
            assert prefetch(step, indices)["x"].tolist() == [100 * step + i for i in indices]
    prefetch.close()


def test_without_workers_nothing_is_made_ahead() -> None:
    batches = Batches()
    prefetch = Prefetch(batches, 0)
    prefetch(0, [0])
    assert batches.made == [(0, (0,))] and batches.threads == {threading.get_ident()}
    prefetch.close()


def test_the_next_step_is_made_while_this_one_is_used() -> None:
    batches = Batches()
    prefetch = Prefetch(batches, 1)
    prefetch(0, [0, 1])
    assert batches.next_step.wait(timeout=30), "made before anyone asked"
    prefetch(1, [0, 1])
    prefetch.close()
    assert batches.made.count((1, (0, 1))) == 1, "and not twice"


def test_an_error_in_a_thread_reaches_the_one_who_asks() -> None:
    prefetch = Prefetch(Batches(), 1)
    prefetch(12, [7])  # asks for step 13, where nobody looks yet
    with pytest.raises(ValueError, match="row 7 is damaged"):
        prefetch(13, [7])
    prefetch.close()


def test_no_thread_is_left_behind() -> None:
    before = set(threading.enumerate())
    prefetch = Prefetch(Batches(), 2)
    prefetch(0, [0])
    prefetch.close()
    assert set(threading.enumerate()) == before
