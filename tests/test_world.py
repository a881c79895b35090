"""gamengen.world: start states and options say what is wrong with them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gamengen.contract import Action, GameContract
from gamengen.world import Option, StartState, check_option

GAME = GameContract(
    env_id="Toy-v0",
    frame_height=6,
    frame_width=9,
    fps=15,
    actions=(Action(meaning="NOOP"), Action(meaning="FIRE")),
)
OPTIONS = {
    "num_inference_steps": Option(4, "steps", minimum=1, maximum=64),
    "guidance_scale": Option(1.0, "guidance", minimum=0.0),
    "sampler": Option("ddim", "which", choices=("ddim", "euler")),
}


def state(num_frames: int = 3, actions: Any = (0, 1), **changes: Any) -> StartState:
    frames = changes.pop("frames", np.zeros((num_frames, 6, 9, 3), np.uint8))
    return StartState(frames, np.asarray(actions, np.int64), name="episode 12 frame 340", **changes)


@pytest.mark.parametrize("good", [state(), state(1, ()), state(5, (1, 1, 0, 1))])
def test_good_start_states_pass(good: StartState) -> None:
    good.check(GAME)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (state(3, (0,)), r"expected 2 actions between 3 frames, got 1"),
        (state(0, ()), r"expected uint8 frames \(K, H, W, 3\), got uint8 \(0, 6, 9, 3\)"),
        (
            state(3, (0, 2)),
            r"action 2 at position 1 is not in the action table of Toy-v0; expected one of: 0 NOOP, 1 FIRE",
        ),
        (state(frames=np.zeros((3, 6, 9, 3))), r"got float64"),
        (state(frames=np.zeros((3, 6, 9), np.uint8)), r"got uint8 \(3, 6, 9\)"),
        (state(frames=np.zeros((3, 9, 6, 3), np.uint8)), r"frames are 9x6 .*expected 6x9"),
    ],
)
def test_bad_start_states_are_named_with_what_was_expected(bad: StartState, said: str) -> None:
    with pytest.raises(ValueError, match=said) as error:
        bad.check(GAME)
    assert "episode 12 frame 340" in str(error.value)


@pytest.mark.parametrize(
    ("name", "value"), [("num_inference_steps", 1), ("num_inference_steps", 64), ("sampler", "euler")]
)
def test_legal_options_pass(name: str, value: Any) -> None:
    check_option(OPTIONS, name, value)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("steps", 1, "no option 'steps'; it has: guidance_scale, num_inference_steps, sampler"),
        ("num_inference_steps", 0, "expected 1 to 64, got 0"),
        ("num_inference_steps", 65, "expected 1 to 64, got 65"),
        ("guidance_scale", -0.1, "got -0.1"),
        ("sampler", "heun", r"expected one of \['ddim', 'euler'\], got 'heun'"),
    ],
)
def test_illegal_options_name_the_legal_ones(name: str, value: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check_option(OPTIONS, name, value)


def test_a_world_without_options_says_so() -> None:
    with pytest.raises(ValueError, match="it has: none"):
        check_option({}, "num_inference_steps", 1)
