"""Batches made ahead of time by threads; exact, because a batch is a function of its name alone."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from gamengen.training.config import Batch, BatchFunction


class Prefetch:
    """A batch function that computes the next step's batch while the current one is used.

    Threads, not processes: gathering rows of a tensor releases the interpreter lock, and nothing is copied.

    Args:
        batch_fn: (step, indices) -> batch, a pure function.
        num_workers: threads; 0 makes every batch when it is asked for.
    """

    def __init__(self, batch_fn: BatchFunction, num_workers: int) -> None:
        self._batch_fn = batch_fn
        self._pool = ThreadPoolExecutor(num_workers, thread_name_prefix="prefetch") if num_workers > 0 else None
        self._pending: dict[tuple[int, tuple[int, ...]], Future[Batch]] = {}

    def __call__(self, step: int, indices: Sequence[int]) -> Batch:
        if self._pool is None:
            return self._batch_fn(step, indices)
        future = self._pending.pop((step, tuple(indices)), None)
        following = (step + 1, tuple(indices))
        self._pending[following] = self._pool.submit(self._batch_fn, *following)
        return future.result() if future is not None else self._batch_fn(step, indices)

    def close(self) -> None:
        """Stop the threads; batches that nobody asked for are dropped."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pending.clear()
