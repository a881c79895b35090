"""Measure a world on held-out episodes: the command `gamengen evaluate` of a checkout, which also takes an --agent.

Reads, Writes and the Example stand in gamengen/commands/evaluate.py:
    python scripts/evaluate.py --world runs/breakout --dataset data/breakout --output_dir runs/breakout/eval
"""

from __future__ import annotations

from typing import Any

from gamengen.commands import evaluate
from gamengen.commands.evaluate import PRESETS, Config
from gamengen.commands.evaluate import main as evaluate_world
from gamengen.config import parse
from gamengen.contract import GameContract


def load_agent(path: str, game: GameContract) -> Any:
    from agents.watcher import load_watcher  # imports Stable-Baselines3

    return load_watcher(path, game)


def main(config: Config) -> dict[str, Any]:
    return evaluate_world(config, load_agent)


if __name__ == "__main__":
    main(parse(PRESETS, description=evaluate.__doc__))
