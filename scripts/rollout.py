"""Dream a game: the command `gamengen rollout` of a checkout.

Reads, Writes and the Example stand in gamengen/commands/rollout.py:
    python scripts/rollout.py --world runs/breakout --num_inference_steps 4 --output rollout.gif
"""

from __future__ import annotations

from gamengen.commands import rollout
from gamengen.commands.rollout import PRESETS, main
from gamengen.config import parse

if __name__ == "__main__":
    main(parse(PRESETS, description=rollout.__doc__))
