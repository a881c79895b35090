"""Players: what a policy sees, what it answers, and those that need no training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from gamengen.contract import GameContract
from gamengen.noise import key_of


@dataclass(frozen=True)
class DecisionContext:
    """What one game shows to its policy when a decision is due."""

    slot: int
    """Which of the parallel games."""
    rng: np.random.Generator
    """The episode's own generator: all chance of a policy comes from it."""
    frame: np.ndarray
    """uint8 (H, W, 3), the newest recorded frame."""
    ram: np.ndarray | None
    """uint8 (128,), the console's memory; None for other games."""
    observation: np.ndarray | None
    """uint8 (4, 84, 84) as `observation.FrameStack` gives it; None unless the policy asks for it."""
    seed: int = 0
    """Of the episode: what a policy decides once for some of its frames, such as with which part of a paddle it will
    meet the ball, is a function of it and of what is seen."""


class Policy(Protocol):
    """A batch of decision contexts -> as many action ids. Keeps no state between calls."""

    name: str
    observation_skip: int | None
    """Emulator frames between two observations of its stack; None: it looks at no observation."""

    def act(self, contexts: Sequence[DecisionContext]) -> list[int]: ...


class ConstantPolicy:
    """Always one action: the no-op makes an idle player."""

    observation_skip = None

    def __init__(self, action: int, name: str = "noop") -> None:
        self.name = name
        self._action = action

    def act(self, contexts: Sequence[DecisionContext]) -> list[int]:
        return [self._action] * len(contexts)


class RandomPolicy:
    """Each action equally likely."""

    observation_skip = None
    name = "random"

    def __init__(self, num_actions: int) -> None:
        self._num_actions = num_actions

    def act(self, contexts: Sequence[DecisionContext]) -> list[int]:
        return [int(context.rng.integers(self._num_actions)) for context in contexts]


_NAMES = {False: "scripted", True: "varied"}


class ScriptedPong:
    """Moves the right paddle to the height of the ball: about as strong as the console's own player.

    RAM addresses. Source: AtariARI (arXiv 1906.08226), checked against the screen in tests.

    Args:
        varied: meet the balls between two points with a part of the paddle of their own, not always with its middle.
    """

    observation_skip = None
    _BALL_Y, _PADDLE_Y, _POINTS = 54, 51, (13, 14)
    _PADDLE_CENTRE, _REACH = 7, 6
    """From the paddle's address to the ball's when the ball is level with the middle; measured on the screen."""
    _DEAD_ZONE = 4
    """Memory units; less makes the paddle tremble around the ball, since it moves several units a step."""

    def __init__(self, game: GameContract, varied: bool = False) -> None:
        self._up, self._down, self._stay = (_action_id(game, meaning) for meaning in ("RIGHT", "LEFT", "NOOP"))
        self._varied, self.name = varied, _NAMES[varied]

    def act(self, contexts: Sequence[DecisionContext]) -> list[int]:
        return [self._choose(context, _ram(context, self.name)) for context in contexts]

    def _choose(self, context: DecisionContext, ram: np.ndarray) -> int:
        if ram[self._BALL_Y] == 0:  # no ball on the court
            return self._stay
        offset = int(ram[self._BALL_Y]) - int(ram[self._PADDLE_Y]) - self._PADDLE_CENTRE
        if self._varied:
            offset += _aim(context, ram, self._POINTS, self._REACH)
        if offset < -self._DEAD_ZONE:
            return self._up
        return self._down if offset > self._DEAD_ZONE else self._stay


class ScriptedBreakout:
    """Follows the ball with the paddle and presses fire to serve. RAM addresses: as `ScriptedPong`.

    Args:
        varied: meet the ball with a part of the paddle that changes with every brick that is hit, and take time to
            serve. The console is deterministic: who always does the same sees the same few flights again and again, and
            never that nothing happens while nobody serves.
    """

    observation_skip = None
    _BALL_X, _BALL_Y, _PADDLE_X, _HITS = 99, 101, 72, (77, 57)
    _PADDLE_CENTRE, _REACH = 8, 6
    """From the paddle's address to the ball's when the ball is over the middle; measured."""
    _DEAD_ZONE = 3
    _SERVES = 0.15
    """Of the decisions of one who takes time."""

    def __init__(self, game: GameContract, varied: bool = False) -> None:
        self._varied, self.name = varied, _NAMES[varied]
        meanings = ("RIGHT", "LEFT", "NOOP", "FIRE")
        self._right, self._left, self._stay, self._fire = (_action_id(game, meaning) for meaning in meanings)

    def act(self, contexts: Sequence[DecisionContext]) -> list[int]:
        return [self._choose(context, _ram(context, self.name)) for context in contexts]

    def _choose(self, context: DecisionContext, ram: np.ndarray) -> int:
        if ram[self._BALL_Y] == 0:  # no ball: it waits for the serve
            return self._stay if self._varied and context.rng.random() > self._SERVES else self._fire
        offset = int(ram[self._BALL_X]) - int(ram[self._PADDLE_X]) - self._PADDLE_CENTRE
        if self._varied:
            offset += _aim(context, ram, self._HITS, self._REACH)
        if offset > self._DEAD_ZONE:
            return self._right
        return self._left if offset < -self._DEAD_ZONE else self._stay


def scripted_policy(game: GameContract, varied: bool = False) -> Policy:
    """The scripted player of a game; ValueError names the games that have one."""
    players = {"Pong": ScriptedPong, "Breakout": ScriptedBreakout}
    for title, player in players.items():
        if game.env_id.split("/")[-1].startswith((f"{title}-", f"{title}NoFrameskip-")):
            return player(game, varied)
    raise ValueError(
        f"no scripted player for {game.env_id}, only for {', '.join(players)}; use random, noop or a trained policy"
    )


def _aim(context: DecisionContext, ram: np.ndarray, addresses: Sequence[int], reach: int) -> int:
    """-reach to reach, the same as long as these bytes of the memory are the same in the same episode."""
    return int(key_of("aim", context.seed, *(int(ram[address]) for address in addresses)) % (2 * reach + 1)) - reach


def _action_id(game: GameContract, meaning: str) -> int:
    return [action.meaning for action in game.actions].index(meaning)


def _ram(context: DecisionContext, name: str) -> np.ndarray:
    if context.ram is None:
        raise ValueError(f"policy {name} reads the console's memory, which this game does not have")
    return context.ram
