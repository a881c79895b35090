"""gamengen.backends.choice: what is named is taken or refused with a reason; `auto` takes the fastest it measured."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from gamengen.backends.choice import BackendChoice, Candidate, make_backend, measure, thread_counts
from gamengen.backends.eager import EagerBackend
from gamengen.diffusion.latent_world import LatentWorld
from tests.worlds import tiny_pipeline, tiny_starts


@pytest.fixture(scope="module")
def pipeline() -> Any:
    return tiny_pipeline()


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.getbasetemp() / "exports"


@pytest.fixture
def without_onnx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)


def test_unknown_names_and_numbers_are_refused(pipeline: Any) -> None:
    with pytest.raises(ValueError, match="backend: expected one of auto, torch, compile, onnx, got 'tensorrt'"):
        make_backend(pipeline, "tensorrt")
    with pytest.raises(ValueError, match="num_threads: expected at least 1, got 0"):
        make_backend(pipeline, "torch", num_threads=0)


def test_onnx_plays_float32_only() -> None:
    half = tiny_pipeline().to(dtype=torch.bfloat16)
    with pytest.raises(ValueError, match=r"plays float32 worlds on the CPU, this one is torch.bfloat16 on cpu"):
        make_backend(half, "onnx")


def test_a_named_backend_that_is_not_installed_is_an_error_not_another_backend(
    pipeline: Any, without_onnx: None, tmp_path: Path
) -> None:
    with pytest.raises(ImportError, match=r"gamengen\[onnx\]"):
        make_backend(pipeline, "onnx", cache_dir=tmp_path)


def test_the_reference_is_the_default(pipeline: Any) -> None:
    said: list[str] = []
    backend, choice = make_backend(pipeline, progress=said.append)
    assert isinstance(backend, EagerBackend) and choice.name == "torch" and choice.candidates == ()
    threads = torch.get_num_threads()
    assert choice.num_threads == threads
    assert said == [f"backend torch, {threads} thread{'s' if threads > 1 else ''}"]


def test_auto_takes_the_fastest_that_it_measured(pipeline: Any, cache: Path) -> None:
    pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    said: list[str] = []
    backend, choice = make_backend(pipeline, "auto", num_inference_steps=2, cache_dir=cache, progress=said.append)
    measured = [candidate for candidate in choice.candidates if candidate.step_ms is not None]
    assert {candidate.backend for candidate in measured} == {"torch", "onnx"}
    times = [candidate.frame_ms(2) for candidate in measured]
    assert times == sorted(times) and times[0] > 0
    assert (backend.name, backend.num_threads) == (measured[0].backend, measured[0].num_threads)
    assert (choice.name, choice.num_threads) == (backend.name, backend.num_threads)
    assert "compile: not tried, compiling takes minutes" in choice.summary() == said[-1]
    assert f"{backend.name}, {backend.num_threads} thread" in said[-1] and f"{times[0]:.1f} ms" in said[-1]


def test_auto_says_what_it_could_not_try(pipeline: Any, without_onnx: None, tmp_path: Path) -> None:
    backend, choice = make_backend(pipeline, "auto", cache_dir=tmp_path)
    assert backend.name == "torch"
    assert 'onnx: backend onnx needs ONNX Runtime: pip install "gamengen[onnx]"' in choice.summary()


def test_auto_leaves_the_number_of_threads_of_the_process_alone(pipeline: Any, without_onnx: None) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        world = LatentWorld(pipeline, backend="auto")
        world.reset(tiny_starts(1), [0])
        world.step([1])
        assert torch.get_num_threads() == 2
        tried = {c.num_threads for c in world.backend_choice.candidates if c.backend == "torch"}
        assert tried == set(thread_counts()) and 1 in tried
    finally:
        torch.set_num_threads(before)


def test_thread_counts_are_powers_of_two_and_the_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(12)), raising=False)
    for most, expected in ((1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8]), (64, [1, 2, 4, 8, 12])):
        monkeypatch.setattr(torch, "get_num_threads", lambda most=most: most)
        assert thread_counts() == expected
    assert thread_counts(3) == [3]


def test_a_backend_that_takes_longer_is_measured_to_take_longer(pipeline: Any) -> None:
    class Slow(EagerBackend):
        name = "slow"

        def network(self, *inputs: Any) -> torch.Tensor:
            for _ in range(4):
                output = super().network(*inputs)
            return output

    fast, slow = measure(pipeline, [EagerBackend(pipeline), Slow(pipeline)], num_worlds=2)
    assert (fast.backend, slow.backend) == ("torch", "slow")
    assert fast.step_ms is not None and slow.step_ms is not None and slow.step_ms > 2 * fast.step_ms > 0


def test_a_choice_describes_itself() -> None:
    candidates = (
        Candidate("onnx", 2, step_ms=10.0, decode_ms=4.0),
        Candidate("torch", 1, step_ms=30.0, decode_ms=5.0),
        Candidate("compile", 0, reason="not tried"),
    )
    choice = BackendChoice("onnx", 2, 3, 4, candidates)
    assert choice.summary() == (
        "backend onnx, 2 threads: a frame at 4 steps, 3 worlds takes "
        "onnx, 2 threads: 44.0 ms; torch, 1 thread: 125.0 ms; compile: not tried"
    )
    assert Candidate("torch", 1).frame_ms(1) == float("inf")
