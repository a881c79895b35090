"""Cards: metadata that the Hub can read, every figure and setting in them, nothing that was not measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results

from gamengen.hub.world_card import (
    WorldFacts,
    read_world_facts,
    world_card,
    write_world_card,
)
from tests.worlds import tiny_contract

FIGURES = {
    "next_frame": {"4 steps": {"psnr": 31.25, "moving_psnr": None}, "codec (ceiling)": {"psnr": 44.0}},
    "control": {
        "1 step/f1": {"value": 0.5, "low": 0.4, "high": 0.6, "samples": 64, "episodes": 3, "unit": ""},
        "1 step/curve": {"value": [0.1, 0.2], "low": [0, 0], "high": [1, 1], "samples": 64, "episodes": 3, "unit": ""},
        "1 step/undefined": {"value": None, "low": None, "high": None, "samples": 0, "episodes": 0, "unit": "dB"},
    },
    "fast": True,
}


def metadata(card: str) -> dict[str, Any]:
    return yaml.safe_load(card.split("---\n")[1])


def test_a_world_card_says_what_is_known() -> None:
    contract = tiny_contract()
    facts = WorldFacts(FIGURES, {"max_train_steps": 700, "optimizer": "adafactor"}, b"GIF")
    card = world_card(contract, {"unet": 1_234_000, "vae": 20}, facts, "tester/dream")
    for text in (
        "1.23 M", "| last training, max train steps | 700 |", "| last training, optimizer | adafactor |",
        "0.50 (0.40 to 0.60)", "| 64 |",
        "![The dream](preview.gif)", 'load_world("tester/dream"', "| 1 | LEFT |", "3 frames and actions (0.2 s)",
        "v_prediction", "Apache-2.0", "trust_remote_code=True",
    ):  # fmt: skip
        assert text in card, text
    assert "More Information Needed" not in card and "None" not in card


def test_the_hub_reads_the_metadata() -> None:
    card = ModelCard(world_card(tiny_contract(), {"unet": 1}, WorldFacts(FIGURES)))
    assert card.data.library_name == "diffusers" and "world-model" in card.data.tags
    name, results = model_index_to_eval_results(metadata(str(card))["model-index"])
    assert name == "gamengen Tiny-v0"
    assert {r.metric_name: r.metric_value for r in results} == {
        "next_frame / 4 steps / psnr": 31.25,
        "control / 1 step / f1": 0.5,
    }
    assert {r.metric_type for r in results} == {"psnr", "f1"}
    assert all(r.dataset_name and r.task_name for r in results)


def test_nothing_is_claimed_that_was_not_measured() -> None:
    card = world_card(tiny_contract(), {"unet": 1}, WorldFacts())
    assert "Not measured yet" in card and "model-index" not in metadata(card) and "preview.gif" not in card
    assert 'load_world("this/folder"' in card and '"this/folder", "this/folder/pipeline.py"' in card


def test_facts_travel_with_the_folder(tmp_path: Path) -> None:
    facts = WorldFacts(FIGURES, {"max_train_steps": 7}, b"GIF89a", {"control": {"date": "2026-11-22"}})
    write_world_card(tmp_path, tiny_contract(), {"unet": 1}, facts)
    assert read_world_facts(tmp_path) == facts
    assert {path.name for path in tmp_path.iterdir()} == {"README.md", "facts.json", "preview.gif", "pipeline.py"}
    assert read_world_facts(tmp_path / "absent") == WorldFacts()
