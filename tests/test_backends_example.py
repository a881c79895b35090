"""gamengen.backends.example: inputs that every network of the contract takes, the same each time."""

from __future__ import annotations

import torch

from gamengen.backends.example import example_inputs
from tests.worlds import LENGTH, tiny_pipeline


def test_they_fit_the_network_and_do_not_change() -> None:
    pipeline = tiny_pipeline()
    inputs = example_inputs(pipeline, 3)
    with torch.no_grad():
        assert pipeline.denoiser.network(*inputs).shape == (3, 2, 8, 8)
    noisy, timesteps, context, actions, bucket = inputs
    assert context.shape == (3, LENGTH, 2, 8, 8) and actions.shape == (3, LENGTH) and bucket.tolist() == [0, 0, 0]
    assert timesteps.tolist() == [999] * 3
    assert set(actions.unique().tolist()) == {0, 1, 2}, "every action of the table"
    assert not torch.equal(noisy[0], noisy[1])
    assert all(torch.equal(a, b) for a, b in zip(inputs, example_inputs(pipeline, 3), strict=True))
    assert torch.equal(example_inputs(pipeline, 1)[2], context[:1]), "a world's inputs do not depend on the others"


def test_they_are_of_the_pipelines_type() -> None:
    inputs = example_inputs(tiny_pipeline().to(dtype=torch.bfloat16), 1)
    assert [value.dtype for value in inputs] == [torch.bfloat16, torch.int64, torch.bfloat16, torch.int64, torch.int64]
