"""gamengen.latents.windows: one rule for training and play, no window across a border, an order that can be resumed."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from gamengen.latents.windows import Windows, start_window, stored_context, window_actions, window_rows
from gamengen.world import StartState
from tests.worlds import counted_rows, tiny_game

L = 4


def shown(windows: Windows, position: int) -> tuple[list[int], list[int], int]:
    """Row numbers of a window's context, its actions, and the row of its target."""
    batch = windows.at(torch.tensor([position]))
    return batch.context.flatten().int().tolist(), batch.actions[0].tolist(), int(batch.targets)


def test_a_window_holds_the_frames_before_its_target_and_the_actions_on_them() -> None:
    windows = Windows(counted_rows([10]), tiny_game(), L)
    assert shown(windows, 6) == ([3, 4, 5, 6], [3, 4, 5, 6], 7)  # action r is chosen on row r: the last causes row 7


def test_the_border_repeats_the_first_frame_with_the_noop() -> None:
    rows = counted_rows([6, 6])
    windows = Windows(rows, tiny_game(noop_action=2), L)
    assert shown(windows, 0) == ([0, 0, 0, 0], [2, 2, 2, 0], 1)
    assert shown(windows, 1) == ([0, 0, 0, 1], [2, 2, 0, 1], 2)
    assert shown(windows, 5) == ([6, 6, 6, 6], [2, 2, 2, 6], 7)  # the second episode begins anew


@pytest.mark.parametrize("length", [1, 3, 4, 9])
def test_training_and_play_build_the_same_window_for_every_frame_of_an_episode(length: int) -> None:
    """The window of target t + 1 in training is the prompt at frame t with the action to come."""
    game, num_frames = tiny_game(size=2, noop_action=1), 8
    generator = np.random.default_rng(0)
    frames = generator.integers(0, 256, (num_frames, 2, 2, 3), dtype=np.uint8)
    actions = generator.integers(0, 3, num_frames - 1)
    rows = counted_rows([num_frames])
    arrays = torch.as_tensor(frames).movedim(-1, -3)
    rows = type(rows)(arrays, torch.as_tensor([*actions, -1]), rows.segments, rows.stream_ids, rows.indices_in_stream)
    windows = Windows(rows, game, length)
    assert len(windows) == num_frames - 1
    for t in range(num_frames - 1):
        batch = windows.at(torch.tensor([t]))
        assert torch.equal(batch.targets[0], arrays[t + 1])
        for first in {0, max(0, t + 1 - length)}:  # the whole past, or the part that a stored start state keeps
            prompt, between = start_window(StartState(frames[first : t + 1], actions[first:t]), game, length)
            assert torch.equal(prompt.movedim(-1, -3), batch.context[0])
            assert between.tolist() == batch.actions[0, :-1].tolist()
        assert int(batch.actions[0, -1]) == actions[t]


def test_a_start_state_that_does_not_fit_the_game_is_refused() -> None:
    frames = np.zeros((2, 2, 2, 3), np.uint8)
    with pytest.raises(ValueError, match="2x2.*expected 16x16"):
        start_window(StartState(frames, np.zeros(1, np.int64)), tiny_game(16), L)
    with pytest.raises(ValueError, match="action 7 at position 0"):
        start_window(StartState(frames, np.array([7])), tiny_game(2), L)
    with pytest.raises(ValueError, match="expected 1 actions between 2 frames, got 2"):
        start_window(StartState(frames, np.zeros(2, np.int64)), tiny_game(2), L)


def test_a_batch_says_where_it_repeats_the_first_frame() -> None:
    batch = Windows(counted_rows([6]), tiny_game(), 3, extra=1).at(torch.arange(5))
    assert torch.equal(batch.border, torch.arange(-3, 1) + torch.arange(5).unsqueeze(1) < 0)
    assert set(batch.tensors()) == {"context", "actions", "targets", "border"}
    assert torch.equal(batch.tensors()["border"], batch.border)


def test_windows_never_cross_episodes() -> None:
    lengths = [1, L - 1, L, L + 1, 9]
    rows = counted_rows(lengths, ["a", "a", "a", "b", "b"])
    windows = Windows(rows, tiny_game(), L)
    assert len(windows) == sum(n - 1 for n in lengths)  # an episode of one frame has no target
    episode = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    batch = windows.at(torch.arange(len(windows)))
    context, targets = batch.context.flatten(1).long(), batch.targets.flatten().long()
    assert torch.equal(episode[context], episode[targets].unsqueeze(1).expand(-1, L))
    assert torch.equal(context[:, -1], targets - 1)
    assert (batch.actions[:, -1] == targets - 1).all()  # never the null action


def test_cross_resets_joins_episodes_of_one_stream_only() -> None:
    rows = counted_rows([3, 3, 3, 4], ["a", "a", "b", "b"])
    windows = Windows(rows, tiny_game(noop_action=2), L, cross_resets=True)
    assert len(windows) == 5 + 6  # one target fewer than rows, a stream
    assert shown(windows, 2) == ([0, 0, 1, 2], [2, 0, 1, 2], 3)  # row 2 ends an episode: its null action is the no-op
    assert shown(windows, 4) == ([1, 2, 3, 4], [1, 2, 3, 4], 5)
    assert shown(windows, 5) == ([6, 6, 6, 6], [2, 2, 2, 6], 7)  # the other stream begins anew
    stream = torch.tensor([0] * 6 + [1] * 7)
    batch = windows.at(torch.arange(len(windows)))
    assert torch.equal(
        stream[batch.context.flatten(1).long()], stream[batch.targets.flatten().long()].unsqueeze(1).expand(-1, L)
    )


def test_cross_resets_does_not_join_episodes_with_one_missing_between_them() -> None:
    rows = counted_rows([3, 3], ["a", "a"])
    gap = type(rows)(rows.arrays, rows.actions, rows.segments, rows.stream_ids, (0, 2))  # episode 1 is in another split
    assert len(Windows(gap, tiny_game(), L, cross_resets=True)) == 4


def test_cross_resets_does_not_join_over_a_truncation() -> None:
    """A recording that is cut after so many frames says nothing of how a game ends or when it begins."""
    rows = replace(counted_rows([3, 3, 3], ["a", "a", "a"]), truncated=(1,))
    windows = Windows(rows, tiny_game(noop_action=2), L, cross_resets=True)
    assert windows.targets.tolist() == [1, 2, 3, 4, 5, 7, 8]
    assert shown(windows, 4) == ([1, 2, 3, 4], [1, 2, 3, 4], 5)  # over the game that was over
    assert shown(windows, 5) == ([6, 6, 6, 6], [2, 2, 2, 6], 7)  # the cut one's successor begins anew


def test_extra_frames_come_before_the_context() -> None:
    windows = Windows(counted_rows([10]), tiny_game(), L, extra=2)
    assert shown(windows, 7) == ([2, 3, 4, 5, 6, 7], [2, 3, 4, 5, 6, 7], 8)
    assert shown(windows, 1) == ([0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 1], 2)


def test_an_epoch_covers_every_window_once_and_epochs_differ() -> None:
    windows = Windows(counted_rows([8, 5]), tiny_game(), L)
    count = len(windows)
    epochs = [windows.shuffled(3, range(e * count, (e + 1) * count)).targets.flatten().tolist() for e in range(3)]
    for epoch in epochs:
        assert sorted(epoch) == windows.targets.tolist()
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    assert epochs[0] != windows.targets.tolist()


def test_the_order_is_a_pure_function_of_seed_and_position() -> None:
    rows, game = counted_rows([8, 5]), tiny_game()
    used, fresh = Windows(rows, game, L), Windows(rows, game, L)
    stream = used.shuffled(1, range(40)).targets.flatten()
    for positions in ([39, 2, 13], [12], [11, 12]):  # across epochs, in any order, by an object with no history
        assert torch.equal(fresh.shuffled(1, positions).targets.flatten(), stream[positions])
    assert not torch.equal(used.shuffled(2, range(40)).targets.flatten(), stream)


def test_fewer_windows_than_a_batch_raises_with_both_figures() -> None:
    windows = Windows(counted_rows([1, 4]), tiny_game(), L)
    windows.check_batch(3)
    with pytest.raises(ValueError, match="3 windows, one global batch needs 4.*--train_batch_size"):
        windows.check_batch(4)


def test_limit_keeps_the_first_windows_and_reorders_only_them() -> None:
    windows = Windows(counted_rows([10]), tiny_game(), L)
    windows.shuffled(0, [0])
    windows.limit(None)
    assert len(windows) == 9
    windows.limit(4)
    assert sorted(windows.shuffled(0, range(4)).targets.flatten().tolist()) == [1, 2, 3, 4]
    windows.limit(100)
    assert len(windows) == 4


def test_split_without_windows() -> None:
    assert len(Windows(counted_rows([1, 1]), tiny_game(), L)) == 0


def test_window_actions_replace_border_and_null_actions_only() -> None:
    rows, border = window_rows(torch.tensor([1]), torch.tensor([0]), 3)
    assert rows.tolist() == [[0, 0, 1]] and border.tolist() == [[True, False, False]]
    assert window_actions(torch.tensor([2, -1]), rows, border, 0).tolist() == [[0, 2, 0]]


def test_stored_context_is_the_prompt_that_start_window_builds() -> None:
    """For every moment of an episode, also those with fewer frames before them than the context holds."""
    rows = counted_rows([6, 9])
    named = SimpleNamespace(
        actions=rows.actions, segments=rows.segments, gather=rows.gather, stream_ids=rows.stream_ids,
        indices_in_stream=rows.indices_in_stream, episode_ids=("a", "b"),
    )  # fmt: skip
    for frame in range(9):
        window = stored_context(named, [("b", frame)], noop_action=77, length=4)
        first = 6
        expected = [max(first, first + frame - 4 + 1 + i) for i in range(4)]
        assert window.context.flatten().unique_consecutive().tolist() == sorted(set(expected))
        causes = [row if row != following else 77 for row, following in zip(expected, expected[1:], strict=False)]
        assert window.actions[0].tolist() == causes
    with pytest.raises(ValueError, match="no episode 'c'"):
        stored_context(named, [("c", 0)], noop_action=0, length=4)


def test_preferred_windows_make_up_their_share_and_the_others_keep_their_order() -> None:
    windows = Windows(counted_rows([60, 41]), tiny_game(), 3)
    plain = windows.shuffled(3, range(300)).targets.flatten().tolist()
    wanted = torch.zeros(101, dtype=torch.bool)
    wanted[[7, 50, 80]] = True
    wanted[0] = True  # the first row of an episode is nobody's target
    assert windows.prefer(wanted, 0.25) == 3
    drawn = windows.shuffled(3, range(400)).targets.flatten().tolist()
    preferred, others = drawn[3::4], [row for i, row in enumerate(drawn) if i % 4 != 3]
    assert sorted(preferred[:3]) == [7, 50, 80] and sorted(preferred[3:6]) == [7, 50, 80], "each as often as any other"
    assert others == plain, "what is not preferred comes as without a preference, in the same order"
    at_once = [windows.shuffled(3, [p]).targets.item() for p in range(40)]
    assert at_once == drawn[:40], "a function of the position, however it is asked for"


def test_each_of_several_preferences_has_its_share_of_what_is_left() -> None:
    windows = Windows(counted_rows([60, 41]), tiny_game(), 3)
    once, again = (torch.zeros(101, dtype=torch.bool) for _ in range(2))
    once[[7, 50, 80]] = True
    again[[20, 21]] = True
    windows.prefer(once, 0.25)
    before = windows.shuffled(3, range(400)).targets.flatten().tolist()
    windows.prefer(again, 1 / 3)
    drawn = windows.shuffled(3, range(400)).targets.flatten().tolist()
    assert drawn[3::4] == before[3::4], "the first preference is as before"
    rest = [row for i, row in enumerate(drawn) if i % 4 != 3]
    assert {tuple(sorted(rest[2:][i : i + 4 : 3])) for i in range(0, 290, 6)} == {(20, 21)}
    others = [row for i, row in enumerate(before) if i % 4 != 3]
    assert [row for i, row in enumerate(rest) if i % 3 != 2] == others[:200], "the others keep their order"


def test_what_follows_an_event_is_preferred_too_inside_its_episode() -> None:
    windows = Windows(counted_rows([60, 41]), tiny_game(), 3)
    wanted = torch.zeros(101, dtype=torch.bool)
    wanted[[7, 8, 30, 59, 60, 100]] = True  # 60 begins an episode: nothing came there
    assert windows.prefer(wanted, 0.5, after=2) == 9
    drawn = windows.shuffled(3, range(18)).targets.flatten().tolist()[1::2]
    assert sorted(drawn) == [7, 8, 9, 10, 30, 31, 32, 59, 100]


def test_without_events_the_stream_is_as_before() -> None:
    windows = Windows(counted_rows([20]), tiny_game(), 3)
    plain = windows.shuffled(0, range(30)).targets
    assert windows.prefer(torch.zeros(20, dtype=torch.bool), 0.5, after=3) == 0
    assert torch.equal(windows.shuffled(0, range(30)).targets, plain)
    with pytest.raises(ValueError, match="0 to below 1"):
        windows.prefer(torch.ones(20, dtype=torch.bool), 1.0)


def test_an_event_comes_late_after_frames_that_stand_still() -> None:
    windows = Windows(counted_rows([60]), tiny_game(), L)
    plain = windows.shuffled(3, range(59 * 30))
    events = torch.zeros(60, dtype=torch.bool)
    events[[2, 30, 50]] = True
    windows.delay(events, 0.5)
    drawn = windows.shuffled(3, range(59 * 30))
    assert torch.equal(drawn.targets, plain.targets)
    kept: dict[int, list[int]] = {30: [], 50: []}
    for context, before, target in zip(drawn.context.flatten(1), plain.context.flatten(1), drawn.targets, strict=True):
        if int(target) in kept:
            kept[int(target)].append(len(context.unique()))
            assert context.tolist() == before.clamp(min=float(context.min())).tolist(), "copies of the oldest one kept"
        else:
            assert int(target) == 2 or torch.equal(context, before), "what is no event comes as recorded"
    repeated = drawn.context.flatten(1).diff(dim=1) == 0
    idle = (drawn.actions != plain.actions).any(1)
    expected = torch.where(idle[:, None] & repeated, tiny_game().noop_action, plain.actions[:, :-1])
    assert torch.equal(drawn.actions[:, :-1], expected) and torch.equal(drawn.actions[:, -1], plain.actions[:, -1])
    assert torch.equal(drawn.border[:, :-1], repeated) and not drawn.border[:, -1].any(), "copies are known as such"
    late = torch.isin(drawn.targets.flatten(), torch.tensor([30, 50])) & repeated.any(1)
    assert 0.2 < idle[late].float().mean() < 0.8, "some press keys in vain, some wait"
    for counts in kept.values():
        assert len(counts) == 30 and set(counts) == {1, 2, 3, 4}, "some as recorded, the others from any place on"
    at_once = [windows.shuffled(3, [p]).context.flatten().tolist() for p in range(100)]
    assert at_once == drawn.context[:100].flatten(1).tolist(), "a function of the position, however it is asked for"
    with pytest.raises(ValueError, match="expected 0 to 1, got 1.5"):
        windows.delay(events, 1.5)


def test_what_follows_an_event_comes_late_too() -> None:
    windows = Windows(counted_rows([60]), tiny_game(), L)
    events = torch.zeros(60, dtype=torch.bool)
    events[30] = True
    windows.delay(events, 1.0, after=2)
    drawn = windows.shuffled(3, range(59 * 60))
    stands = (drawn.context.flatten(1).diff(dim=1) == 0).any(1)
    targets = drawn.targets.flatten()
    assert sorted(set(targets[stands & (targets >= L)].tolist())) == [30, 31, 32]
    hangs = drawn.context.flatten(1)[(targets == 31) & stands].eq(30).all(1)
    assert 10 < int(hangs.sum()) < 50, "a ball that was served and hung there since goes on"


def test_nothing_follows_an_event_over_the_end_of_its_episode() -> None:
    windows = Windows(counted_rows([20, 20]), tiny_game(), L)
    events = torch.zeros(40, dtype=torch.bool)
    events[19] = True
    plain = windows.shuffled(3, range(38 * 20))
    windows.delay(events, 1.0, after=6)
    drawn = windows.shuffled(3, range(38 * 20))
    late = (drawn.context != plain.context).flatten(1).any(1)
    assert set(drawn.targets.flatten()[late].tolist()) == {19}


def test_without_padding_every_context_is_as_recorded() -> None:
    rows = counted_rows([20, 6, 3])
    windows = Windows(rows, tiny_game(), L, extra=2, padded=False)
    assert windows.targets.tolist() == [*range(4, 20), 24, 25], "episodes of up to L frames have none"
    assert not windows.at(torch.arange(len(windows))).border[:, -L:].any()
    padded = Windows(rows, tiny_game(), L, extra=2)
    chosen = torch.isin(padded.targets, windows.targets).nonzero().flatten()
    assert torch.equal(padded.at(chosen).context, windows.at(torch.arange(len(windows))).context)
