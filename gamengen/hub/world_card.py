"""The cards of worlds: what it is, how it was made, how good it is, how to use it, what it cannot do; and their parts.

A card is a README.md with metadata that the Hub reads, the figures among it (`model-index`). It is a function of what
the folder holds, so it is written anew whenever that changes, and says nothing that was not measured.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gamengen.contract import GameContract, WorldContract
from gamengen.durable import read_json, write_bytes, write_json
from gamengen.hub.figures import Fact, facts_of, measured_section, model_index
from gamengen.hub.markdown import front_matter, markdown_table

CARD_FILE = "README.md"
FACTS_FILE = "facts.json"
PREVIEW_FILE = "preview.gif"
PIPELINE_FILE = "pipeline.py"
UNNAMED = "this/folder"
"""Stands in the lines to copy of a card that was not pushed yet."""
PROJECT = "gamengen"
_STANDALONE = Path(__file__).with_name("standalone_pipeline.py")


@dataclass(frozen=True)
class WorldFacts:
    """What a world folder knows about its making beyond its contract. It travels with the folder."""

    figures: Mapping[str, Any] = field(default_factory=dict)
    """Of an evaluation, as `facts_of` reads them."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """Setting -> value, JSON values: how it was trained."""
    preview: bytes | None = None
    """A GIF of the dream."""
    evaluations: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Metric -> when, where and on what its figures were measured."""


def read_world_facts(folder: str | Path) -> WorldFacts:
    """The facts in a world folder; empty ones where it has none."""
    folder = Path(folder)
    known = read_json(folder / FACTS_FILE) if (folder / FACTS_FILE).is_file() else {}
    preview = folder / PREVIEW_FILE
    return WorldFacts(
        known.get("figures", {}), known.get("training", {}), preview.read_bytes() if preview.is_file() else None,
        known.get("evaluations", {}),
    )  # fmt: skip


def write_world_card(
    folder: str | Path,
    contract: WorldContract,
    parameters: Mapping[str, int],
    facts: WorldFacts,
    repo_id: str = UNNAMED,
) -> None:
    """Put card, facts, preview and the self-contained pipeline.py into a world folder.

    Args:
        parameters: component -> number of its weights.
        repo_id: where it goes, for the lines to copy.
    """
    folder = Path(folder)
    known = {"figures": facts.figures, "training": facts.training, "evaluations": facts.evaluations}
    write_json(folder / FACTS_FILE, known)
    if facts.preview is not None:
        write_bytes(folder / PREVIEW_FILE, facts.preview)
    write_bytes(folder / CARD_FILE, world_card(contract, parameters, facts, repo_id).encode())
    shutil.copyfile(_STANDALONE, folder / PIPELINE_FILE)


def world_card(
    contract: WorldContract, parameters: Mapping[str, int], facts: WorldFacts, repo_id: str = UNNAMED
) -> str:
    """The README.md of a world, metadata first."""
    game, codec = contract.game, contract.codec
    measured = list(facts_of(facts.figures))
    seconds = contract.context_length / game.fps
    settings = [
        ("kind of world", contract.kind),
        ("context", f"{contract.context_length} frames and actions ({seconds:.2g} s)"),
        ("latents", f"{'x'.join(map(str, codec.array_shape))} from {game.frame_height}x{game.frame_width} pixels"),
        *((f"parameters, {name}", f"{count / 1e6:.2f} M") for name, count in parameters.items()),
        *((name.replace("_", " "), value) for name, value in contract.settings.items()),
        *((f"last training, {name.replace('_', ' ')}", value) for name, value in facts.training.items()),
    ]
    parts = [
        f"# {game.env_id}, dreamt",
        f"![The dream]({PREVIEW_FILE})" if facts.preview is not None else "",
        f"A diffusion world model of `{game.env_id}`: from the last {contract.context_length} frames and the action it "
        f"makes the next frame, {game.fps:g} of them a second of the game. No game runs underneath. Made with "
        f"{PROJECT}, after [GameNGen](https://arxiv.org/abs/2408.14837).",
        "## How to use it",
        _USE_WORLD.format(
            repo_id=repo_id,
            pipeline=f"{repo_id}/{PIPELINE_FILE}" if repo_id == UNNAMED else repo_id,
            file=PIPELINE_FILE,
        ),
        "## Game and data",
        game_section(game),
        "## Settings",
        markdown_table(("setting", "value"), settings),
        "## Measured",
        measured_section(measured, facts.evaluations),
        "## Limits",
        _WORLD_LIMITS.format(length=contract.context_length, seconds=f"{seconds:.2g}"),
        "## Licence",
        licence("The weights were learnt from", game),
    ]
    return front_matter(_world_metadata(game, measured)) + "\n\n".join(part for part in parts if part) + "\n"


def _world_metadata(game: GameContract, measured: Sequence[Fact]) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "library_name": "diffusers", "license": "other", "license_name": "game-content",
        "license_link": f"{CARD_FILE}#licence",
        "tags": [PROJECT, "world-model", "diffusers", "reinforcement-learning", "game", game.env_id.split("/")[-1]],
    }  # fmt: skip
    return metadata | model_index(f"{PROJECT} {game.env_id}", game, measured)


def licence(what: str, game: GameContract) -> str:
    """Whose the content is. `what` begins the sentence, such as `The frames are pictures of`."""
    return _LICENCE.format(what=what, env_id=game.env_id)


def game_section(game: GameContract) -> str:
    """The recording settings and the action table."""
    hold = f"{game.hold[0]} to {game.hold[1]}" if game.hold[0] != game.hold[1] else str(game.hold[0])
    settings = [
        ("game", f"`{game.env_id}`"),
        ("frames", f"{game.frame_height}x{game.frame_width} {game.colour_order}, {game.fps:g} a second"),
        ("emulator frames a recorded frame", game.frame_skip),
        ("recorded frames a decision was held", hold),
        ("sticky actions", game.sticky_probability),
        ("max-pooling of the last two emulator frames", "yes" if game.max_pool else "no"),
        ("random no-op starts, at most", game.noop_start_max),
        ("action set", game.action_set),
    ]
    actions = [
        (number, action.meaning, " + ".join(f"`{'space' if key == ' ' else key}`" for key in action.keys) or "-")
        for number, action in enumerate(game.actions)
    ]
    return (
        f"{markdown_table(('setting', 'value'), settings)}\n\n{markdown_table(('action', 'meaning', 'keys'), actions)}"
    )


_USE_WORLD = """With gamengen installed:

```python
from gamengen.loading import load_start_states, load_world

world = load_world("{repo_id}", num_worlds=1)
world.reset(load_start_states("{repo_id}")[:1], seeds=[0])
frame = world.step([0]).frames[0]  # uint8 (H, W, 3) after action 0
```

`gamengen play --world {repo_id}` plays it in a browser, `gamengen rollout --world {repo_id}` makes a clip.

Without it, by the code in `pipeline.py` (read it before you trust it; needs `diffusers`, `pyarrow`):

```python
from diffusers import DiffusionPipeline

folder, code = "{repo_id}", "{pipeline}"
dream = DiffusionPipeline.from_pretrained(folder, custom_pipeline=code, trust_remote_code=True)
dream.reset(start=0, seed=0)
frame = dream.step(0)  # the same frame
```

Offline both are the path of a downloaded copy, `custom_pipeline` with `/{file}` behind it."""

_WORLD_LIMITS = """- It remembers {length} frames ({seconds} s). What left the screen before that is
  forgotten and may come back otherwise.
- It knows what its recordings show: situations and actions that are rare there are dreamt badly.
- Small errors feed back into later frames; a dream may drift or leave the game's rules, the score's among them.
- It is no replacement for the game in any comparison of players or agents."""

_LICENCE = """{what} `{env_id}`, which is the property of its owners; no rights to it are given here. The code that
made this is under Apache-2.0."""
