"""What the command line says in one word: a mix of policies (`scripted@0.1:3,random:1,runs/agent/ppo.zip`), a range."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from agents.policies import ConstantPolicy, Policy, RandomPolicy, scripted_policy
from agents.recorder import Player
from gamengen.contract import GameContract

SPELLING = (
    "NAME[@EPSILON][:SHARE], comma separated; NAME: scripted, varied, random, noop or a Stable-Baselines3 zip's path"
)

PONG_MIX = "scripted@0.03:3,scripted@0.1:3,scripted@0.3:3,random:0.7,noop:0.3"
"""Who plays when nobody is named."""


@dataclass(frozen=True)
class PolicySpec:
    """One entry of the mix, as written."""

    name: str
    epsilon: float | None
    """None: the recording's own."""
    share: float


def parse_mix(text: str) -> list[PolicySpec]:
    """Read the entries; the marks may stand in either order.

    Raises:
        ValueError: shows the spelling.
    """
    return [_parse_entry(entry.strip(), text) for entry in text.split(",")]


def make_players(
    text: str, game: GameContract, epsilon: float, load: Callable[[str], tuple[Policy, str]]
) -> list[Player]:
    """The players of a mix.

    Args:
        epsilon: for entries that name none.
        load: path of a trained policy -> (policy, what it was loaded from).
    """
    players = []
    for spec in parse_mix(text):
        policy, source = _builtin(spec.name, game) or load(spec.name)
        own = 1.0 if spec.name == "random" else spec.epsilon  # so its actions are kept like any random ones
        players.append(Player(policy, spec.share, epsilon if own is None else own, source))
    return players


def parse_range(text: str, flag: str) -> tuple[int, int]:
    """`4` -> (4, 4), `1-4` -> (1, 4); ValueError names the flag."""
    low, _, high = text.partition("-")
    if not low.isdigit() or (high and not high.isdigit()):
        raise ValueError(f"--{flag} {text!r}: expected a number such as 4, or a range such as 1-4")
    return int(low), int(high or low)


def _builtin(name: str, game: GameContract) -> tuple[Policy, str] | None:
    if name in ("scripted", "varied"):
        return scripted_policy(game, name == "varied"), ""
    if name == "random":
        return RandomPolicy(game.num_actions), ""
    return (ConstantPolicy(game.noop_action), "") if name == "noop" else None


def _parse_entry(entry: str, text: str) -> PolicySpec:
    name, marks = entry, {"@": None, ":": None}
    for _ in marks:
        at = max(name.rfind(mark) for mark in marks)
        value = _number(name[at + 1 :]) if at > 0 else None
        if value is None:
            break  # the rest is a path that holds such a mark
        marks[name[at]] = value
        name = name[:at]
    epsilon, share = marks["@"], marks[":"]
    if not name or (epsilon is not None and not 0 <= epsilon <= 1) or (share is not None and share <= 0):
        raise ValueError(f"policy {entry!r} of {text!r}: expected {SPELLING}; epsilon 0 to 1, share above 0")
    return PolicySpec(name, epsilon, 1.0 if share is None else share)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
