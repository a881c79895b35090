"""The card of an episode dataset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gamengen.contract import GameContract
from gamengen.hub.markdown import front_matter, markdown_table
from gamengen.hub.world_card import CARD_FILE, PREVIEW_FILE, PROJECT, UNNAMED, game_section, licence


def dataset_card(
    game: GameContract,
    splits: Sequence[str],
    statistics: Sequence[tuple[str, Any]] = (),
    *,
    preview: bool = False,
    repo_id: str = UNNAMED,
) -> str:
    """The README.md of an episode dataset.

    Args:
        splits: those that have a file; a pattern without one would stop `datasets.load_dataset`.
        statistics: name -> value, what the recording holds.
        preview: whether `PREVIEW_FILE` lies beside it.
    """
    files = [{"split": split, "path": f"data/{split}-*.parquet"} for split in splits]
    metadata: dict[str, Any] = {
        "configs": [{"config_name": "default", "data_files": files}],
        "license": "other", "license_name": "game-content", "license_link": f"{CARD_FILE}#licence",
        "tags": [PROJECT, "world-model", "reinforcement-learning", "game", game.env_id.split("/")[-1]],
    }  # fmt: skip
    parts = [
        f"# {game.env_id}, recorded",
        f"![The recording]({PREVIEW_FILE})" if preview else "",
        _DATASET_INTRODUCTION,
        markdown_table(("recording", "value"), statistics) if statistics else "",
        "## How to use it",
        _USE_DATASET.format(repo_id=repo_id),
        "## Game",
        game_section(game),
        "## Limits",
        _DATASET_LIMITS,
        "## Licence",
        licence("The frames are pictures of", game),
    ]
    return front_matter(metadata) + "\n\n".join(part for part in parts if part) + "\n"


_USE_DATASET = """```python
from datasets import load_dataset

rows = load_dataset("{repo_id}", split="train", streaming=True)  # or the path of this folder
```

Or as what world models are trained on: `python scripts/encode_latents.py --dataset {repo_id} ...`."""

_DATASET_INTRODUCTION = """One row a frame, lossless (PNG, a palette of up to 256 colours). `action` is chosen on
seeing `image` and leads to the next row's image; in the last row of an episode `action` and `reward` are null, and
`terminated` or `truncated` says how it ended. Splits are by whole episode. `seed`, `noop_starts` and the actions since
the episode's first frame put the emulator back into any recorded state, where one stands behind it: imported episodes
have the seed -1, and `imports/` says what they were made from. `streams/` holds the size and sha256 of every file."""

_DATASET_LIMITS = """It shows how its players played, no more: what they never did is not in it. Sound and the console's
inner state (but for its memory, where `ram` is given) were not recorded."""
