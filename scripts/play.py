"""Play in the browser: the command `gamengen play` of a checkout, and agents that may take the controls.

Reads, Writes and further Examples stand in gamengen/commands/play.py:
    python scripts/play.py --world runs/breakout --num_inference_steps 1 --port 8000
    python scripts/play.py --world runs/demo --agent runs/demo/agent/ppo.zip
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agents.controllers import agent_controller
from gamengen.commands import play
from gamengen.config import parse
from gamengen.player.controllers import ControllerFactory


@dataclass(frozen=True, kw_only=True)
class Config(play.Config):
    """Play in the browser."""

    agent: str | None = None
    """A Stable-Baselines3 zip that the page can hand the controls to."""
    trust_remote_code: bool = False
    """Unpickle an agent that cannot be read as plain weights: runs code that the file holds."""


PRESETS = {"default": Config()}


def main(config: Config) -> None:
    """Serve the page until interrupted."""
    play.main(config, agents=_agents(config))


def _agents(config: Config) -> Mapping[str, ControllerFactory]:
    if config.agent is None:
        return {}
    return {"agent": agent_controller(config.agent, trust_remote_code=config.trust_remote_code)}


if __name__ == "__main__":
    main(parse(PRESETS, description=f"{__doc__}\n{play.__doc__}"))
