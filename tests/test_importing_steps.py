"""importing/steps.py: actions, rewards and borders at every tick; episodes; offsets; rows that do not fit."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from gamengen.importing.actions import NO_ACTION, KeyTable
from gamengen.importing.logs import Log
from gamengen.importing.spec import ImportSpec
from gamengen.importing.steps import Piece, Steps, cut_episodes, make_steps
from gamengen.importing.timeline import Timeline, make_timeline
from tests.own_clips import make_spec


def steps_of(
    columns: dict[str, list[Any]], num_frames: int, spec: ImportSpec | None = None, timeline: Timeline | None = None,
    offset: float = 0.0, notes: Counter[str] | None = None,
) -> Steps:  # fmt: skip
    spec = spec or make_spec()
    timeline = timeline or make_timeline(num_frames, None, spec.fps, spec.source_fps, "clip")
    notes = Counter() if notes is None else notes
    return make_steps(Log(columns, "log"), timeline, num_frames, spec, KeyTable(spec), offset, notes)


def pieces_of(steps: Steps, max_actions: int = 100) -> tuple[list[tuple[int, int, bool]], dict[str, int]]:
    dropped: Counter[str] = Counter()
    pieces = cut_episodes(steps, max_actions, dropped)
    return [(piece.first, piece.last, piece.terminated) for piece in pieces], dict(dropped)


@pytest.mark.parametrize("offset", [-2, -1, 0, 1, 2])
def test_the_offset_says_in_which_row_the_action_of_a_frame_stands(offset: int) -> None:
    log = np.random.default_rng(0).integers(0, 5, 30)
    steps = steps_of({"action": log.tolist(), "reward": log.tolist()}, 30, offset=offset)
    for t in range(30):
        inside = 0 <= t + offset < 30
        assert steps.actions[t] == (log[t + offset] if inside else NO_ACTION)
        assert not inside or steps.rewards[t] == log[t + offset]
    pieces, dropped = pieces_of(steps)
    first, last = max(0, -offset), min(29, 30 - offset)
    assert pieces == [(first, min(last, 29), False)]
    lost = first + max(0, 28 - last + (offset > 0))
    assert sum(dropped.values()) == lost


def test_a_log_may_leave_out_the_last_row_and_no_other() -> None:
    for rows in (10, 9):
        assert pieces_of(steps_of({"action": [1] * rows}, 10)) == ([(0, 9, False)], {})
    for rows in (8, 11):
        with pytest.raises(ValueError, match=f"log: {rows} rows for 10 frames; expected a row a frame"):
            steps_of({"action": [1] * rows}, 10)


def test_games_end_where_flags_episodes_or_gaps_say() -> None:
    action: list[Any] = [1] * 12
    ends = [0] * 12
    ends[3] = 1
    steps = steps_of({"action": action, "terminated": ends}, 12)
    assert pieces_of(steps) == ([(0, 3, True), (4, 11, False)], {})
    steps = steps_of({"action": action, "truncated": ends}, 12)
    assert pieces_of(steps) == ([(0, 3, False), (4, 11, False)], {})
    steps = steps_of({"action": action, "episode": ["a"] * 5 + ["b"] * 7}, 12)
    assert pieces_of(steps) == ([(0, 4, False), (5, 11, False)], {})
    gaps = [None if t in (4, 5, 6) else 2 for t in range(12)]
    steps = steps_of({"action": gaps}, 12)
    assert pieces_of(steps) == ([(0, 4, False), (7, 11, False)], {"frames without an action in the log": 2})
    last = steps_of({"action": [1] * 11, "terminated": [0] * 10 + [1]}, 12)  # the last step leads to the last frame
    assert pieces_of(last) == ([(0, 11, True)], {})
    with pytest.raises(ValueError, match="row 3: a game ends here, and the log has one row fewer"):
        steps_of({"action": [1] * 11, "terminated": ends[:11]}, 12)


def test_long_games_are_cut_with_a_shared_frame() -> None:
    none = np.zeros(11, bool)
    ended = none.copy()
    ended[10] = True
    steps = Steps(np.zeros(11, np.int64), np.zeros(11), none, ended, none)
    assert cut_episodes(steps, 4, Counter()) == [Piece(0, 4, False), Piece(4, 8, False), Piece(8, 10, True)]


def test_rows_between_ticks_vote_and_rewards_add_up() -> None:
    spec = make_spec(source_fps=45.0)
    actions = [1, 1, 2, 2, 1, 2, 3, 1, 2, 0, 0, 4, 4, 4, 4, 4]
    steps = steps_of({"action": actions, "reward": [1.0] * 16}, 16, spec)
    assert steps.actions.tolist() == [1, 2, 3, 0, 4, 4]  # of a tie the earliest
    assert steps.rewards[:5].tolist() == [3.0] * 5
    shifted = steps_of({"action": actions, "reward": [1.0] * 16}, 16, spec, offset=1)
    assert shifted.actions.tolist()[:4] == [2, 3, 0, 4] and shifted.actions[5] == NO_ACTION


def test_ticks_that_repeat_a_frame_go_on_and_are_not_paid_twice() -> None:
    timeline = Timeline(np.array([0, 1, 1, 1, 4]), np.arange(5) / 15, 15.0, 2, 2)
    steps = steps_of({"action": [1, 2, 3, 3, 0], "reward": [1, 2, 4, 8, 0]}, 5, timeline=timeline)
    assert steps.actions.tolist() == [1, 2, 2, 3, 0]
    assert steps.rewards.tolist() == [1, 0, 0, 14, 0]


def test_an_offset_must_be_whole_rows() -> None:
    spec = make_spec(source_fps=45.0)
    assert steps_of({"action": [1] * 16}, 16, spec, offset=1 / 3).actions[:-1].tolist() == [1] * 5
    with pytest.raises(ValueError, match=r"action_offset 0.5 is 1.50 rows of this log at 45 rows a second"):
        steps_of({"action": [1] * 16}, 16, spec, offset=0.5)


def test_a_frame_column_is_checked_and_others_are_reported() -> None:
    notes: Counter[str] = Counter()
    steps_of({"action": [1] * 4, "frame": [7, 8, 9, 10], "score": [0] * 4}, 4, notes=notes)
    assert notes == {"column 'score' not used": 1}
    with pytest.raises(ValueError, match="row 2: frame 10, expected 9: a row is missing or doubled"):
        steps_of({"action": [1] * 4, "frame": [7, 8, 10, 11]}, 4)


def test_timed_rows_hold_until_the_next() -> None:
    columns = {
        "time": [0.0, 0.1, 0.2, 0.4], "action": [1, 2, 3, 0], "reward": [1, 1, 1, 1], "terminated": [0, 0, 1, 0],
    }  # fmt: skip
    steps = steps_of(columns, 9)
    assert steps.actions.tolist() == [1, 1, 2, 3, 3, 3, 0, 0, NO_ACTION]
    assert steps.rewards.sum() == 4 and np.flatnonzero(steps.terminated).tolist() == [3]
    assert pieces_of(steps)[0] == [(0, 3, True), (4, 8, False)]
    with pytest.raises(ValueError, match=r"times from 60.000 to 60.400 s, and the clip lasts 0.533 s"):
        steps_of(columns | {"time": [60.0, 60.1, 60.2, 60.4]}, 9)


def test_key_events_end_with_the_clip_and_reset_games() -> None:
    notes: Counter[str] = Counter()
    columns = {
        "time": [0.0, 0.2, 0.27, 9.0], "key": ["a", None, "a", "d"], "event": ["down", "reset", "up", "down"],
    }  # fmt: skip
    steps = steps_of(columns, 9, notes=notes)
    assert steps.actions.tolist() == [1, 1, 1, 1, 1, 0, 0, 0, 0]
    assert pieces_of(steps)[0] == [(0, 2, False), (3, 8, False)]
    assert notes == {"events after the last frame": 1}
    late = steps_of(columns, 9, offset=1)
    assert late.actions.tolist() == [1, 1, 1, 1, 0, 0, 0, 0, 0]
    with pytest.raises(ValueError, match=r"the first key is at 70.000 s, and the clip lasts 0.533 s; .*`start`"):
        steps_of({"time": [70.0], "key": ["a"], "event": ["down"]}, 9)
