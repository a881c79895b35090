"""gamengen.backends.agreement: the reference agrees with itself; a network that is a little wrong is found out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from gamengen.backends.agreement import MAX_STEP_ERROR, Agreement, check_step, measure_agreement
from gamengen.backends.eager import EagerBackend
from tests.worlds import tiny_pipeline


@dataclass
class Wrong:
    """The reference but for an error of a chosen size, in the network or in the pixels."""

    reference: EagerBackend
    output: float = 0.0
    pixels: int = 0
    name: str = "wrong"
    num_threads: int = 1

    def network(self, *inputs: Tensor) -> Tensor:
        return self.reference.network(*inputs) + self.output

    def decode(self, latents: Tensor) -> Tensor:
        return (self.reference.decode(latents).int() + self.pixels).clamp(0, 255).to(torch.uint8)


@pytest.fixture(scope="module")
def pipeline() -> Any:
    return tiny_pipeline()


def test_the_reference_agrees_with_itself_exactly(pipeline: Any) -> None:
    said: list[str] = []
    reference = EagerBackend(pipeline)
    found = measure_agreement(pipeline, reference, EagerBackend(pipeline), 20, progress=said.append)
    assert (found.step_error, found.psnr_change, found.num_frames) == (0.0, 0.0, 20)
    found.check("torch")
    assert [text[-len("frame 10 of 20") :] for text in said] == [" frame 0 of 20", "frame 10 of 20"]


def test_a_step_that_differs_is_measured_from_the_same_context_and_refused(pipeline: Any) -> None:
    """At one step of v-prediction the latent is minus the output: the error is the one that was put in."""
    reference = EagerBackend(pipeline)
    found = measure_agreement(pipeline, reference, Wrong(reference, output=3e-4), 12)
    assert found.step_error == pytest.approx(3e-4, rel=0.01)
    with pytest.raises(ValueError, match=r"backend wrong does not agree.*a step differs by 0.0003, expected at most 0"):
        found.check("wrong")
    measure_agreement(pipeline, reference, Wrong(reference, output=3e-6), 12).check("nearly")


def test_pixels_that_differ_are_refused_though_the_latents_agree(pipeline: Any) -> None:
    reference = EagerBackend(pipeline)
    found = measure_agreement(pipeline, reference, Wrong(reference, pixels=40), 5)
    assert found.step_error == 0.0 and found.psnr_change > 0.1
    with pytest.raises(ValueError, match=r"PSNR of 5 frames by .* dB"):
        found.check("wrong")


def test_nan_is_not_agreement(pipeline: Any) -> None:
    reference = EagerBackend(pipeline)
    broken = Wrong(reference, output=float("nan"))
    with pytest.raises(ValueError, match="differs by inf"):
        check_step(pipeline, broken, 2)
    with pytest.raises(ValueError, match="does not agree"):
        measure_agreement(pipeline, reference, broken, 2).check("broken")
    with pytest.raises(ValueError, match="does not agree"):
        Agreement(0.0, float("nan"), 1).check("broken")


def test_a_batch_is_checked_by_one_step(pipeline: Any) -> None:
    reference = EagerBackend(pipeline)
    assert check_step(pipeline, reference, 3) == 0.0
    assert check_step(pipeline, Wrong(reference, output=MAX_STEP_ERROR / 2), 3) == pytest.approx(5e-5, rel=0.02)
    with pytest.raises(ValueError, match="for 3 worlds differs by 0.0002"):
        check_step(pipeline, Wrong(reference, output=2e-4), 3)


def test_a_world_without_start_states_is_compared_too(pipeline: Any) -> None:
    bare = tiny_pipeline()
    bare.start_states = []
    reference = EagerBackend(bare)
    measure_agreement(bare, reference, reference, 3).check("torch")
