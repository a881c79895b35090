"""Arrays to training windows: which rows stand in a window, and which windows stand in a batch.

The window for target `frames[t + 1]` holds `frames[t - L + 1 .. t]` and `actions[t - L + 1 .. t]`; its last action
causes the target. Before the first frame the first frame is repeated with the no-op action. Training, rollout, env
and player use the one function here that says so, `window_rows`.

The order of the windows is a pure function of (seed, position): no state, no workers, exact resume.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from gamengen.contract import GameContract
from gamengen.noise import Noise, key_of
from gamengen.world import StartState


class Rows(Protocol):
    """What windows read: rows of arrays with the action chosen on each. `shards.ArrayTable` is one."""

    @property
    def actions(self) -> Tensor: ...
    @property
    def terminated(self) -> Tensor: ...
    @property
    def segments(self) -> Tensor: ...
    @property
    def stream_ids(self) -> Sequence[str]: ...
    @property
    def indices_in_stream(self) -> Sequence[int]: ...

    def gather(self, rows: Tensor) -> Tensor: ...


class EpisodeRows(Rows, Protocol):
    """Rows that know the names of their episodes."""

    @property
    def episode_ids(self) -> Sequence[str]: ...


@dataclass(frozen=True)
class WindowBatch:
    """B windows. With `extra` frames before the context, for self-rollout, L below means L + extra."""

    context: Tensor
    """(B, L, C, h, w) raw arrays, oldest first."""
    actions: Tensor
    """int64 (B, L); the last one causes the target."""
    targets: Tensor
    """(B, C, h, w) raw arrays."""
    border: Tensor
    """bool (B, L): True where a frame is a copy of one that comes later, such as of an episode's first one."""

    def tensors(self) -> dict[str, Tensor]:
        """Everything by its name, as a loss takes it."""
        return {"context": self.context, "actions": self.actions, "targets": self.targets, "border": self.border}


def window_rows(newest: Tensor, first: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Rows of the `length` frames that end at row `newest`, under the border rule.

    Args:
        newest: int64 (B,) row of each window's newest context frame.
        first: int64 (B,) row of the first frame of the episode (or stream) that it stands in.
    Returns:
        rows int64 (B, length), oldest first; and bool (B, length), True where a row repeats the first frame and so
        its action is the no-op.
    """
    rows = newest.unsqueeze(1) + torch.arange(1 - length, 1)
    border = rows < first.unsqueeze(1)
    return torch.maximum(rows, first.unsqueeze(1)), border


def window_actions(actions: Tensor, rows: Tensor, border: Tensor, noop_action: int) -> Tensor:
    """int64 (B, length) actions of a window: the no-op at the border and where an episode's last action is null."""
    window = actions[rows]
    return torch.where(border | (window < 0), noop_action, window)


def start_window(start: StartState, game: GameContract, length: int) -> tuple[Tensor, Tensor]:
    """The prompt of a world, under the same border rule as a training window.

    Returns:
        frames uint8 (length, H, W, 3) and actions int64 (length - 1,) between them; the action to come is the player's.
    Raises:
        ValueError: the start state does not fit the game.
    """
    start.check(game)
    rows, border = window_rows(torch.tensor([len(start.frames) - 1]), torch.tensor([0]), length)
    # The newest frame's action is not chosen yet: null, like the last one of an episode.
    actions = torch.cat([torch.as_tensor(start.actions, dtype=torch.int64), torch.tensor([-1])])
    window = window_actions(actions, rows, border, game.noop_action)
    return torch.as_tensor(start.frames)[rows[0]], window[0, :-1]


class Windows:
    """All training windows of one split.

    Args:
        rows: the arrays, in stream order.
        context_length: L.
        extra: further frames before the context, for self-rollout (k predictions need k).
        cross_resets: let windows run over the reset between consecutive episodes of one recorder stream, so that a
            dream learns how a new game begins: where a game was over, not where its recording was cut, which nothing
            in the frames announces. Otherwise windows stay inside an episode.
        padded: let contexts begin before their episode, under the border rule.
    """

    def __init__(
        self,
        rows: Rows,
        game: GameContract,
        context_length: int,
        *,
        extra: int = 0,
        cross_resets: bool = False,
        padded: bool = True,
    ) -> None:
        self.rows, self.length, self.noop_action = rows, context_length + extra, game.noop_action
        segments = _joined_streams(rows) if cross_resets else [(int(a), int(b)) for a, b in rows.segments]
        # A segment of n rows has n - 1 targets: every row but its first. Frames for self-rollout may be copies: what
        # is predicted from them is no copy.
        before = 1 if padded else context_length
        targets = [torch.arange(a + before, b) for a, b in segments if b > a + before]
        self.targets = torch.cat(targets or [torch.arange(0)])
        firsts = [torch.full((b - a - before,), a) for a, b in segments if b > a + before]
        self.firsts = torch.cat(firsts or [torch.arange(0)]).long()
        self._order: dict[str, tuple[tuple[int, int], Tensor]] = {}
        self._preferred: list[tuple[Tensor, float]] = []
        self._events, self._late_share = torch.zeros(len(self.targets), dtype=torch.bool), 0.0

    def __len__(self) -> int:
        return len(self.targets)

    def at(self, positions: Tensor, kept: Tensor | None = None, idle: Tensor | None = None) -> WindowBatch:
        """The windows of int64 (B,) positions in 0 .. len - 1.

        Args:
            kept: int64 (B,), at least 1: only so many of the newest frames before the target are as recorded, the older
                ones repeat the oldest of them. None: all are.
            idle: bool (B,), where True the actions from repeated to repeated frame are the no-op, else as recorded.
        """
        targets = self.targets[positions]
        rows, border = window_rows(targets - 1, self.firsts[positions], self.length)
        actions = window_actions(self.rows.actions, rows, border, self.noop_action)
        if kept is not None:
            oldest = (targets - kept).unsqueeze(1)
            if idle is not None:
                actions = torch.where((rows < oldest) & idle.unsqueeze(1), self.noop_action, actions)
            border, rows = border | (rows < oldest), torch.maximum(rows, oldest)
        arrays = self.rows.gather(torch.cat([rows, targets.unsqueeze(1)], dim=1))
        return WindowBatch(arrays[:, :-1], actions, arrays[:, -1], border)

    def shuffled(self, seed: int, positions: Sequence[int]) -> WindowBatch:
        """Windows at `positions` of an endless stream of reshuffled epochs; a pure function of its arguments, once
        `prefer` and `limit` are settled."""
        chosen = torch.tensor([self._nth(seed, position) for position in positions])
        if self._late_share == 0:
            return self.at(chosen)
        # What is left of a draw below the share is even again, and says from where on.
        drawn = Noise([key_of("late", seed, position) for position in positions]).uniform("kept") / self._late_share
        late = (drawn < 1.0) & self._events[chosen]
        # Few as often as many, doubling by doubling: what stands still once tends to stay so.
        kept = (self.length ** drawn.clamp(max=1.0)).long().clamp(1, self.length - 1)
        # With the keys that were pressed and with none: it comes to who waits for it as well.
        idle = Noise([key_of("idle", seed, position) for position in positions]).uniform("idle") < 0.5
        return self.at(chosen, torch.where(late, kept, self.length), idle)

    def prefer(self, targets: Tensor, share: float, after: int = 0) -> int:
        """Let windows of some targets make up a share of the shuffled stream, each as often as any other of them.

        Args:
            targets: bool (rows,).
            share: of all windows drawn, in [0, 1); the others are drawn as before: from all windows, or, called again
                for other targets, of those that the first call leaves. 0 prefers none.
            after: windows whose target comes at most so many frames after one of them are preferred, too.
        Returns:
            How many windows are preferred; with none the stream is as before.
        Raises:
            ValueError: a share outside [0, 1).
        """
        if not 0.0 <= share < 1.0:
            raise ValueError(f"share of preferred windows: expected 0 to below 1, got {share}")
        preferred = self._following(targets, after).nonzero().flatten()
        if share > 0 and len(preferred):
            self._preferred.append((preferred, share))
        return len(preferred)

    def delay(self, targets: Tensor, share: float, after: int = 0) -> None:
        """Let some targets come late in a share of their windows: the frames before seem to have stood still.

        A dream that misses the frame in which something is due, such as a new ball so long after the last one, is
        where no recording is. Here it sees that what is overdue comes, and that it goes on: a ball that hangs where
        it was served flies off.

        Args:
            targets: bool (rows,).
            share: in [0, 1]; of these, 1 to L - 1 of the newest frames are as recorded: 1 as often as 2 or 3, and so on
                to the next double. Nobody presses a key in half of them while all stands still.
            after: windows whose target comes at most so many frames after one of them are late, too.
        Raises:
            ValueError: a share outside [0, 1].
        """
        if not 0.0 <= share <= 1.0:
            raise ValueError(f"share of late windows: expected 0 to 1, got {share}")
        self._events, self._late_share = self._following(targets, after), share if self.length > 1 else 0.0

    def _following(self, marked: Tensor, after: int) -> Tensor:
        """bool (len,): windows whose target is a marked row or comes up to `after` frames after one in its segment."""
        rows = torch.arange(len(marked))
        last = torch.where(marked, rows, -1 - after).cummax(0).values[self.targets]  # the newest one, up to the target
        return (last > self.firsts) & (last >= self.targets - after)

    def _nth(self, seed: int, position: int) -> int:
        """The window at a position of the stream: preferred ones at even distances, the others between them."""
        for number, (preferred, share) in enumerate(self._preferred):
            before, after = (math.floor(p * share + 1e-9) for p in (position, position + 1))
            if after > before:
                return int(preferred[self._drawn(f"preferred{number or ''}", seed, before, len(preferred))])
            position -= before
        return self._drawn("order", seed, position, len(self))

    def limit(self, count: int | None) -> None:
        """Keep the first `count` windows only; None keeps all."""
        if count is not None:
            self.targets, self.firsts, self._order = self.targets[:count], self.firsts[:count], {}

    def check_batch(self, global_batch: int) -> None:
        """Raise ValueError when there are fewer windows than one batch needs."""
        if len(self) < global_batch:
            raise ValueError(
                f"the training split has {len(self)} windows, one global batch needs {global_batch}: "
                "record more frames or lower --train_batch_size"
            )

    def _drawn(self, name: str, seed: int, number: int, count: int) -> int:
        """Number `number` of an endless stream of reshuffled 0 .. count - 1."""
        epoch, within = divmod(number, count)
        kept = self._order.get(name)
        if kept is None or kept[0] != (seed, epoch):
            generator = torch.Generator().manual_seed(key_of(name, seed, epoch))
            kept = ((seed, epoch), torch.randperm(count, generator=generator))
            self._order[name] = kept  # one assignment: another thread sees the old pair or the new one
        return int(kept[1][within])


def _joined_streams(rows: Rows) -> list[tuple[int, int]]:
    """[start, end) of runs of consecutive episodes of one stream, each but the last terminated by the game."""
    runs: list[tuple[int, int]] = []
    previous: tuple[str, int] | None = None
    for (start, end), stream, index in zip(
        rows.segments.tolist(), rows.stream_ids, rows.indices_in_stream, strict=True
    ):
        if previous == (stream, index - 1) and runs and runs[-1][1] == start and bool(rows.terminated[start - 1]):
            runs[-1] = (runs[-1][0], end)
        else:
            runs.append((start, end))
        previous = (stream, index)
    return runs


def stored_context(rows: EpisodeRows, places: Sequence[tuple[str, int]], noop_action: int, length: int) -> WindowBatch:
    """The stored arrays before moments of episodes: what a world starts from when it need not encode frames.

    Args:
        places: (episode id, index of the newest frame), one a world; `start_states.locate` reads them off a name.
    Returns:
        context and border of L frames, and actions (B, L - 1) between them; targets is the newest frame.
    Raises:
        ValueError: an episode is not among the rows.
    """
    first_rows = dict(zip(rows.episode_ids, rows.segments[:, 0].tolist(), strict=True))
    missing = sorted({episode for episode, _ in places} - set(first_rows))
    if missing:
        raise ValueError(
            f"these latents hold no episode {missing[0]!r}: they were encoded from another dataset or split"
        )
    firsts = torch.tensor([first_rows[episode] for episode, _ in places])
    chosen, border = window_rows(firsts + torch.tensor([frame for _, frame in places]), firsts, length)
    actions = window_actions(rows.actions, chosen, border, noop_action)
    arrays = rows.gather(chosen)
    return WindowBatch(arrays, actions[:, :-1], arrays[:, -1], border)
