"""gamengen.noise: every draw is a function of its counters alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gamengen.noise import (
    MAX_NOISE_LEVEL,
    NUM_NOISE_BUCKETS,
    Noise,
    add_context_noise,
    drop_context,
    key_of,
    noise_bucket,
    play_noise,
    training_noise,
)


def test_keys_are_the_same_on_every_machine_and_in_every_process() -> None:
    """Written down: a change would make every recorded seed mean something else."""
    assert key_of("training", 0, 0, 0) == 3695363083269588022
    code = "from gamengen.noise import key_of; print(key_of('play', 7, 3))"
    root = Path(__file__).parent.parent
    other = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert int(other.stdout) == key_of("play", 7, 3)


def test_keys_differ_where_anything_differs() -> None:
    keys = [key_of(*counters) for counters in [(1, 23), (12, 3), ("1", 23), ("a", "bc"), ("ab", "c"), (1, 2, 3), (-1,)]]
    keys += [key_of("training", seed, step, index) for seed in range(5) for step in range(20) for index in range(20)]
    assert len(set(keys)) == len(keys) and min(keys) >= 0 and max(keys) < 1 << 63


def test_draws_do_not_depend_on_order_or_on_what_was_drawn_before() -> None:
    one, other = training_noise(0, 5, range(4)), training_noise(0, 5, range(4))
    first = (one.normal("context", (2, 3)), one.uniform("level"))
    other.normal("something else", (100,))
    torch.randn(7)
    second = (other.uniform("level"), other.normal("context", (2, 3)))
    assert torch.equal(first[0], second[1]) and torch.equal(first[1], second[0])


@pytest.mark.parametrize("parts", [[4, 4], [1, 7], [3, 3, 2]])
def test_ranks_and_micro_batches_draw_what_one_batch_draws(parts: list[int]) -> None:
    whole = training_noise(3, 11, range(8))
    start, pieces = 0, []
    for size in parts:
        pieces.append((training_noise(3, 11, range(start, start + size)), whole[start : start + size]))
        start += size
    for name, shape in (("noise", (4, 5)), ("other", ())):
        assert torch.equal(torch.cat([rank.normal(name, shape) for rank, _ in pieces]), whole.normal(name, shape))
        assert torch.equal(torch.cat([micro.uniform(name, shape) for _, micro in pieces]), whole.uniform(name, shape))


def test_samples_steps_seeds_names_and_play_all_draw_differently() -> None:
    draws = [
        training_noise(0, 0, [0, 1]).normal("a", (8,)),
        training_noise(0, 1, [0, 1]).normal("a", (8,)),
        training_noise(1, 0, [0, 1]).normal("a", (8,)),
        training_noise(0, 0, [0, 1]).normal("b", (8,)),
        play_noise([0, 1], [0, 0]).normal("a", (8,)),
        play_noise([0, 1], [1, 1]).normal("a", (8,)),
    ]
    rows = torch.cat(draws)
    assert len({tuple(row.tolist()) for row in rows}) == len(rows)


def test_a_world_in_a_batch_draws_what_it_draws_alone() -> None:
    batch = play_noise([5, 9, 2], [0, 40, 7]).normal("latent", (4, 3, 3))
    assert torch.equal(batch[1:2], play_noise([9], [40]).normal("latent", (4, 3, 3)))
    with pytest.raises(ValueError):
        play_noise([1, 2], [0])


def test_draws_are_distributed_as_they_say() -> None:
    noise = Noise([key_of(i) for i in range(200)])
    normal = noise.normal("n", (500,))
    assert abs(normal.mean()) < 0.02 and abs(normal.std() - 1) < 0.02
    assert abs((normal.abs() < 1).float().mean() - 0.6827) < 0.01
    uniform = noise.uniform("u", (500,))
    assert uniform.min() >= 0 and uniform.max() < 1
    counts = torch.histc(uniform, bins=10, min=0, max=1) / uniform.numel()
    assert (counts - 0.1).abs().max() < 0.01
    # The first draw of each key too: keys in a row must not give draws in a row.
    first = Noise([key_of("training", 0, step, 0) for step in range(4000)]).uniform("timestep")
    assert (torch.histc(first, bins=10, min=0, max=1) / 4000 - 0.1).abs().max() < 0.02
    assert torch.corrcoef(torch.stack([first[:-1], first[1:]]))[0, 1].abs() < 0.05


def test_the_callers_random_state_is_left_alone() -> None:
    before = torch.get_rng_state()
    training_noise(0, 0, range(3)).normal("a", (4,))
    assert torch.equal(torch.get_rng_state(), before)


def test_buckets_are_equally_wide_and_the_ends_belong_to_them() -> None:
    levels = (torch.arange(10_000) + 0.5) / 10_000 * MAX_NOISE_LEVEL
    counts = torch.bincount(noise_bucket(levels), minlength=NUM_NOISE_BUCKETS)
    assert counts.shape == (NUM_NOISE_BUCKETS,)
    assert counts.max() - counts.min() <= 2
    ends = noise_bucket(torch.tensor([0.0, MAX_NOISE_LEVEL, MAX_NOISE_LEVEL + 1e-6]))
    assert ends.dtype == torch.int64 and ends.tolist() == [0, 9, 9]
    assert noise_bucket(torch.tensor([0.5]), num_buckets=4, max_level=1.0).item() == 2
    assert (noise_bucket(levels).diff() >= 0).all()


def test_context_noise_is_added_in_units_of_the_latents_per_sample() -> None:
    context = torch.randn(3, 4, 2, 5, 5)
    noise = training_noise(0, 0, range(3)).normal("context", (4, 2, 5, 5))
    levels = torch.tensor([0.0, 0.1, 0.7])
    noisy = add_context_noise(context, levels, noise)
    assert torch.equal(noisy[0], context[0])  # level 0 is bit-exact: inference at level 0 sees clean context
    for sample in (1, 2):
        assert torch.allclose(noisy[sample], context[sample] + levels[sample] * noise[sample])
    assert add_context_noise(context.half(), levels, noise).dtype == torch.float16


def test_dropping_replaces_the_whole_context_of_chosen_samples_only() -> None:
    context = torch.randn(3, 4, 2, 5, 5)
    before = context.clone()
    kept = drop_context(context, torch.tensor([False, True, False]))
    assert torch.equal(kept[[0, 2]], context[[0, 2]]) and not kept[1].any()
    assert torch.equal(context, before)
