"""gamengen.backends.eager: the pipeline's own functions, and a number of threads that stays where it was set."""

from __future__ import annotations

import pytest
import torch

from gamengen.backends.eager import EagerBackend, torch_threads
from gamengen.backends.example import example_inputs
from tests.worlds import tiny_pipeline


@pytest.fixture
def two_threads() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_it_is_the_pipeline() -> None:
    pipeline = tiny_pipeline()
    backend, inputs = EagerBackend(pipeline), example_inputs(pipeline, 2)
    with torch.no_grad():
        assert torch.equal(backend.network(*inputs), pipeline.denoiser.network(*inputs))
        assert torch.equal(backend.decode(inputs[0]), pipeline.decode_latents(inputs[0]))


def test_a_thread_count_holds_during_a_call_and_no_longer(two_threads: None) -> None:
    pipeline, seen = tiny_pipeline(), []
    pipeline.unet.register_forward_pre_hook(lambda *_: seen.append(torch.get_num_threads()))
    pipeline.vae.decoder.register_forward_pre_hook(lambda *_: seen.append(torch.get_num_threads()))
    inputs = example_inputs(pipeline, 1)
    for count in (1, None):
        backend = EagerBackend(pipeline, count)
        with torch.no_grad():
            backend.network(*inputs)
            backend.decode(inputs[0])
        assert backend.num_threads == (count or 2)
        assert torch.get_num_threads() == 2
    assert seen == [1, 1, 2, 2]


def test_the_number_is_restored_after_an_error(two_threads: None) -> None:
    with pytest.raises(KeyError), torch_threads(1):
        assert torch.get_num_threads() == 1
        raise KeyError
    assert torch.get_num_threads() == 2
