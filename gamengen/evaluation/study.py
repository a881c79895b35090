"""What the metrics share: the world, its settings, held-out excerpts, and dreams that start from them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gamengen.contract import GameContract
from gamengen.evaluation.recordings import Excerpt, Place, Recordings
from gamengen.noise import key_of
from gamengen.world import World, WorldStep

STEPS_OPTION = "num_inference_steps"


@dataclass(frozen=True)
class Setting:
    """Options of the world under which it is measured, and their name in every path and table."""

    label: str
    options: Mapping[str, Any] = field(default_factory=dict)


def step_settings(world: World, steps: Sequence[int]) -> list[Setting]:
    """`4 steps` and so on; one setting named `world` for a world that has no denoising steps."""
    if STEPS_OPTION not in world.options:
        return [Setting("world")]
    return [Setting(f"{n} step{'' if n == 1 else 's'}", {STEPS_OPTION: n}) for n in dict.fromkeys(steps)]


@dataclass(frozen=True, kw_only=True)
class Study:
    """One evaluation."""

    world: World
    """B slots. Its options are changed and put back by `using`."""
    held_out: Recordings
    seed: int = 0
    play_world: World | None = None
    """The same world with one slot, for the speed of play."""
    training: Recordings | None = None
    """The training split, for readers that are trained (an inverse-dynamics model)."""
    real_game: Callable[[int], World] | None = None
    """Makes the emulator as a World of n slots; None where it cannot be had."""
    agent: Any = None
    """Who plays, injected by the script (this room knows no agents); each metric that needs one says what it calls."""
    folder: Path | None = None
    """For what a metric keeps besides its raw values, such as trained weights; None keeps nothing."""

    @property
    def game(self) -> GameContract:
        """The game that the world dreams."""
        return self.world.contract.game

    @contextlib.contextmanager
    def using(self, setting: Setting, world: World | None = None) -> Iterator[World]:
        """The world (or another one) under a setting; its options are put back afterwards."""
        chosen = self.world if world is None else world
        before = {name: chosen.options[name].value for name in setting.options if name in chosen.options}
        for name, value in setting.options.items():
            chosen.set_option(name, value)
        try:
            yield chosen
        finally:
            for name, value in before.items():
                chosen.set_option(name, value)

    def batches(self, places: Sequence[Place]) -> list[Sequence[Place]]:
        """Places in groups that the world takes at once."""
        size = self.world.num_worlds
        return [places[first : first + size] for first in range(0, len(places), size)]

    def excerpts(self, places: Sequence[Place], horizon: int) -> list[Excerpt]:
        """The held-out pieces at the places, with the world's context and `horizon` recorded steps."""
        length = self.world.contract.context_length
        return [self.held_out.excerpt(place, length, horizon) for place in places]

    def dream(
        self, world: World, excerpts: Sequence[Excerpt], actions: npt.NDArray[np.int64], key: int | str = "dream"
    ) -> Iterator[WorldStep]:
        """Step a world from excerpts: what it shows after each action, for the excerpts alone.

        A world of more slots than excerpts plays the last one again in the rest of them. The seed of a dream is a
        function of (the study's seed, `key`, the place), never of the slot or the batch.

        Args:
            excerpts: at most as many as the world has slots.
            actions: (len(excerpts), T).
        Yields:
            T steps: frames uint8 (n, H, W, 3), rewards and terminated (n,) or None.
        """
        count, spare = len(excerpts), world.num_worlds - len(excerpts)
        if not 0 < count <= world.num_worlds or actions.shape[0] != count:
            raise ValueError(
                f"dream: expected 1 to {world.num_worlds} excerpts with actions each, got {count}, {actions.shape}"
            )
        filled = [*excerpts, *[excerpts[-1]] * spare]
        world.reset([e.start for e in filled], [self.seed_of(e.place, key) for e in filled])
        filled_actions = np.concatenate([actions, actions[-1:].repeat(spare, axis=0)])
        for t in range(actions.shape[1]):
            step = world.step(filled_actions[:, t])
            yield WorldStep(
                step.frames[:count],
                None if step.rewards is None else step.rewards[:count],
                None if step.terminated is None else step.terminated[:count],
            )

    def seed_of(self, place: Place, key: int | str = "dream") -> int:
        """The seed of what starts at a place."""
        return key_of("evaluation", self.seed, key, place.episode, place.frame)
