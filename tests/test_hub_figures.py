"""Figures of a card: found in reports of either form, laid out by setting, the world's own ones for the Hub."""

from __future__ import annotations

from gamengen.hub.figures import NOT_MEASURED, Fact, facts_of, measured_section, model_index
from tests.worlds import tiny_contract

FIGURES = {
    "next_frame": {
        "copy last frame": {"psnr": 35.0},
        "4 steps": {"psnr": 31.25, "moving_psnr": None},
        "codec (ceiling)": {"psnr": 44.0},
    },
    "control": {
        "1 step/f1": {"value": 0.5, "low": 0.4, "high": 0.6, "samples": 64, "episodes": 3, "unit": ""},
        "1 step/f1/LEFT": {"value": 0.5, "low": 0.4, "high": 0.6, "samples": 60, "episodes": 3, "unit": ""},
        "real game, recorded/f1": {"value": 1, "low": None, "high": None, "samples": 60, "episodes": 3, "unit": ""},
        "1 step/curve": {"value": [0.1, 0.2], "low": [0, 0], "high": [1, 1], "samples": 64, "episodes": 3, "unit": ""},
        "1 step/undefined": {"value": None, "low": None, "high": None, "samples": 0, "episodes": 0, "unit": "dB"},
    },
    "fast": True,
}
FACTS = list(facts_of(FIGURES))
SOURCE = {"date": "2026-11-22", "machine": "cpu", "dataset": "data/x, test", "held out": "3 episodes"}


def test_single_figures_of_either_form_are_found_and_curves_left_out() -> None:
    assert [
        Fact("next_frame / copy last frame / psnr", 35.0),
        Fact("next_frame / 4 steps / psnr", 31.25),
        Fact("next_frame / codec (ceiling) / psnr", 44.0),
        Fact("control / 1 step / f1", 0.5, 0.4, 0.6, 64),
        Fact("control / 1 step / f1 / LEFT", 0.5, 0.4, 0.6, 60),
        Fact("control / real game, recorded / f1", 1.0, samples=60),
    ] == FACTS


def test_the_hub_is_told_of_the_world_alone() -> None:
    game = tiny_contract().game
    (index,) = model_index("name", game, FACTS)["model-index"]
    assert [metric["name"] for metric in index["results"][0]["metrics"]] == [
        "next_frame / 4 steps / psnr", "control / 1 step / f1", "control / 1 step / f1 / LEFT",
    ]  # fmt: skip
    (index,) = model_index("a part", game, [Fact("reconstruction / psnr", 40.0)])["model-index"]
    assert index["results"][0]["metrics"][0]["value"] == 40.0
    assert model_index("name", game, FACTS[:1]) == model_index("name", game, []) == {}


def test_a_table_a_metric_with_the_world_before_what_it_is_compared_with() -> None:
    text = measured_section(FACTS, {"next_frame": SOURCE})
    for line in (
        "### Next frame\n\n2026-11-22. cpu. 3 episodes of data/x, test.\n\n| figure | 4 steps | copy last frame |",
        "| psnr | 31.25 | 35.00 | 44.00 |  |",
        "### Control\n\n| figure | 1 step | real game, recorded | samples |",
        "| f1 | 0.50 (0.40 to 0.60) | 1.00 | 60 to 64 |",
        "| f1 / LEFT | 0.50 (0.40 to 0.60) | - | 60 |",
    ):
        assert line in text, line


def test_one_evaluation_of_all_is_named_once() -> None:
    text = measured_section(FACTS, dict.fromkeys(FIGURES, SOURCE))
    assert text.count("2026-11-22") == 1 and text.index("2026-11-22") < text.index("### Next frame")
    assert measured_section([], {}) == NOT_MEASURED
