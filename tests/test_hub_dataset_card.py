"""The dataset card: what `load_dataset` needs of it, and what a reader does."""

from __future__ import annotations

from dataclasses import replace

import pytest
from huggingface_hub import DatasetCard

from gamengen.contract import Action
from gamengen.hub.dataset_card import dataset_card
from tests.worlds import tiny_game


def test_a_dataset_card_names_the_files_of_each_split() -> None:
    text = dataset_card(tiny_game(), ["train", "test"], [("episodes, train", 12)], preview=True, repo_id="tester/data")
    card = DatasetCard(text)
    files = card.data.to_dict()["configs"][0]["data_files"]
    assert files == [
        {"split": "train", "path": "data/train-*.parquet"}, {"split": "test", "path": "data/test-*.parquet"}
    ]  # fmt: skip
    assert "| episodes, train | 12 |" in text and "![The recording](preview.gif)" in text
    assert 'load_dataset("tester/data"' in text and "this/folder" not in text
    assert "![The recording]" not in dataset_card(tiny_game(), ["train"])


@pytest.mark.parametrize("key", ["|", "`", " "])
def test_odd_keys_do_not_break_a_table(key: str) -> None:
    game = replace(tiny_game(), actions=(Action(meaning="FIRE|UP", keys=(key, "ArrowUp")),))
    row = next(line for line in dataset_card(game, ["train"]).splitlines() if line.startswith("| 0 |"))
    assert row.replace("\\|", "").count("|") == 4
