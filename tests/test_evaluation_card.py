"""What of a report stands in a world's card: figures by horizon, where they come from, the rest untouched."""

from __future__ import annotations

from pathlib import Path

from gamengen.evaluation.card import card_figures, update_card, with_figures
from gamengen.hub.world_card import WorldFacts, read_world_facts
from tests.worlds import tiny_pipeline

FIGURE = {"value": 31.5, "low": 31.0, "high": 32.0, "samples": 8, "episodes": 2, "unit": "dB", "better": "higher"}
FACTS = {
    "world": "w (12)", "dataset": "/data/held, out, test (388f)", "held out": "39 episodes", "machine": "a cpu",
    "date": "2026-11-22 23:51 UTC", "kind": "latent_diffusion", "seed": "0",
}  # fmt: skip


def report(**metrics: str) -> dict[str, object]:
    found = {name: {"figures": {path: FIGURE} if path else {}} for name, path in metrics.items()}
    return {"metrics": found, "facts": FACTS}


def test_a_card_has_the_objects_figures_by_horizon() -> None:
    figure = {"value": [1.0, 0.9, None], "low": [0.9, 0.8, None], "high": None, "samples": 3, "unit": ""}
    curve = {**figure, "value": [1.0] * 6}
    figures = {"1 step/kept_curve": curve, "1 step/recall/ball": figure, "1 step/error_to/ball": figure}
    found = card_figures({"metrics": {"rollouts": {"figures": figures}, "speed": {"figures": {}}}})
    assert list(found) == ["rollouts"] and set(found["rollouts"]) == {
        "1 step/recall/ball in frames 1", "1 step/recall/ball in frames 2-4",
        "1 step/error_to/ball in frames 1-1", "1 step/error_to/ball in frames 1-4",
    }  # fmt: skip
    second = found["rollouts"]["1 step/recall/ball in frames 2-4"]
    assert (second["value"], second["low"], second["high"], second["samples"]) == (0.9, 0.8, None, 3)


def test_where_a_figure_comes_from_goes_with_it_but_no_folder_of_the_machine() -> None:
    facts = with_figures(WorldFacts(training={"seed": 7}), report(next_frame="4 steps/psnr", speed=""))
    assert facts.training == {"seed": 7} and list(facts.figures) == ["next_frame"]
    assert facts.evaluations == {
        "next_frame": {
            "date": "2026-11-22 23:51 UTC", "machine": "a cpu", "held out": "39 episodes",
            "dataset": "held, out, test (388f)",
        }
    }  # fmt: skip
    relative = {**report(speed="1 step/fps"), "facts": {**FACTS, "dataset": "data/x, test (388f)"}}
    assert with_figures(facts, relative).evaluations["speed"]["dataset"] == "data/x, test (388f)"


def test_figures_go_into_the_worlds_card_and_leave_the_rest(tmp_path: Path) -> None:
    folder = tmp_path / "world"
    tiny_pipeline().save_pretrained(folder)
    update_card(folder, report(next_frame="4 steps/psnr"))
    assert read_world_facts(folder).figures["next_frame"]["4 steps/psnr"]["value"] == 31.5
    card = (folder / "README.md").read_text()
    assert "next_frame / 4 steps / psnr" in card and "31.50 (31.00 to 32.00) dB" in card and "a cpu" in card
    update_card(folder, report(speed="1 step/fps"), all_metrics=False)
    assert sorted(read_world_facts(folder).figures) == ["next_frame", "speed"], "one metric measured again"
    assert sorted(read_world_facts(folder).evaluations) == ["next_frame", "speed"]
    update_card(folder, report(speed="1 step/fps"))
    assert sorted(read_world_facts(folder).figures) == ["speed"], "all were asked for, one could be measured"
    assert sorted(read_world_facts(folder).evaluations) == ["speed"]
