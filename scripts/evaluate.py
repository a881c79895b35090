"""Measure a world on held-out episodes: the command `gamengen evaluate` of a checkout.

Reads, Writes and the Example stand in gamengen/commands/evaluate.py:
    python scripts/evaluate.py --world runs/breakout --dataset data/breakout --output_dir runs/breakout/eval
"""

from __future__ import annotations

from gamengen.commands import evaluate
from gamengen.commands.evaluate import PRESETS, main
from gamengen.config import parse

if __name__ == "__main__":
    main(parse(PRESETS, description=evaluate.__doc__))
