"""Any World as a Gymnasium vector environment: all games in one forward."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from gamengen.env import PlayedWorld, WorldSource
from gamengen.world import StartState, World


class WorldVectorEnv(VectorEnv[np.ndarray, np.ndarray, np.ndarray]):
    """`num_envs` games in one World: `gymnasium.make_vec("gamengen:World-v0", num_envs=16, world="runs/demo")`.

    The same seeds, actions and modes give what `gymnasium.vector.SyncVectorEnv` of as many `WorldEnv` gives, but every
    step is one batched step of the world. See `WorldEnv` for observations, rewards and seeds.

    Args:
        max_episode_steps: steps after which an episode is truncated; never when None.
        autoreset_mode: what happens to a game that has ended (https://farama.org/Vector-Autoreset-Mode).
            `NEXT_STEP`: the next step ignores its action and gives the first frame of its next episode. `SAME_STEP`:
            the step that ends it gives that frame, and its last one in `info["final_obs"]`. `DISABLED`:
            `reset(options={"reset_mask": ...})` has to be called.
        world, render_mode, start_states, settings: as for `WorldEnv`; there is no window for many games.
    """

    metadata: dict[str, Any] = {
        "render_modes": ["rgb_array"],
        "render_fps": 30,
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }
    world: World
    start_states: Sequence[StartState]

    def __init__(
        self,
        world: WorldSource,
        num_envs: int = 1,
        render_mode: str | None = None,
        *,
        max_episode_steps: int | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        start_states: Sequence[StartState] | None = None,
        **settings: Any,
    ) -> None:
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode: expected None or 'rgb_array' for many games at once, got {render_mode!r}")
        if max_episode_steps is not None and max_episode_steps < 1:
            raise ValueError(f"max_episode_steps: expected at least 1 or None, got {max_episode_steps}")
        self.num_envs, self.render_mode = num_envs, render_mode
        self._played = PlayedWorld(world, num_envs, start_states, settings)
        self.world, self.start_states = self._played.world, self._played.starts
        self._mode = AutoresetMode(autoreset_mode)
        self._max_steps = max_episode_steps
        own = {"autoreset_mode": self._mode}
        self.metadata = {**type(self).metadata, **self._played.metadata, **own}
        self.single_observation_space = self._played.observation_space
        self.single_action_space = self._played.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._generators: list[np.random.Generator | None] = [None] * num_envs
        self._frames = np.zeros(self.observation_space.shape or (), np.uint8)
        self._num_steps = np.zeros(num_envs, np.int64)
        self._ended = np.zeros(num_envs, bool)
        self._begun = np.zeros(num_envs, bool)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin an episode in every game, or in those of `options["reset_mask"]`, bool (B,).

        Args:
            seed: game b takes `seed + b`, or the b-th of a list.
            options: as for `WorldEnv.reset`; a list gives each game its own `start_state` or `seed`.
        Returns:
            (frames, infos): uint8 (B, H, W, 3).
        """
        options = dict(options or {})
        games = self._masked(options.pop("reset_mask", None))
        if seed is None or isinstance(seed, (int, np.integer)):
            seeds = [None if seed is None else int(seed) + game for game in range(self.num_envs)]
        else:
            seeds = list(seed)
        for name, value in (("seed", seeds), *options.items()):
            if isinstance(value, (list, tuple)) and len(value) != self.num_envs:
                raise ValueError(f"reset: {name}: expected {self.num_envs}, one a game, got {len(value)}")
        for game in games:
            if seeds[game] is not None:
                self._generators[game], _ = seeding.np_random(seeds[game])
        infos = self._begin(games, options, {})
        return self._frames.copy(), infos

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One frame of every game.

        Args:
            actions: integers (B,).
        Returns:
            (frames uint8 (B, H, W, 3), rewards float64 (B,), terminated bool (B,), truncated bool (B,), infos).
        """
        if not self._begun.all():
            raise gymnasium.error.ResetNeeded("call reset before the first step")
        if self._mode is AutoresetMode.DISABLED and self._ended.any():
            raise gymnasium.error.ResetNeeded(
                f"games {np.flatnonzero(self._ended).tolist()} have ended: reset them with options['reset_mask']"
            )
        beginning = self._ended & (self._mode is AutoresetMode.NEXT_STEP)
        rewards, terminated = np.zeros(self.num_envs), np.zeros(self.num_envs, bool)
        if not beginning.all():
            actions = np.where(beginning, self._played.game.noop_action, np.asarray(actions))
            step = self.world.step(actions)
            self._frames = step.frames.copy()
            if step.rewards is not None:
                rewards = np.where(beginning, 0.0, step.rewards.astype(np.float64))
            if step.terminated is not None:
                terminated = step.terminated & ~beginning
        self._num_steps += 1
        truncated = np.zeros(self.num_envs, bool)
        if self._max_steps is not None:
            truncated = (self._num_steps >= self._max_steps) & ~beginning
        infos = self._begin(np.flatnonzero(beginning), {}, {})
        self._ended = terminated | truncated
        if self._mode is AutoresetMode.SAME_STEP:
            infos = self._begin_again(np.flatnonzero(self._ended), infos)
        return self._frames.copy(), rewards, terminated, truncated, infos

    def render(self) -> tuple[np.ndarray, ...] | None:
        """The current frames, uint8 (H, W, 3) each, for `rgb_array`."""
        return tuple(self._frames.copy()) if self.render_mode == "rgb_array" else None

    def close_extras(self, **kwargs: Any) -> None:
        """Close the world."""
        self.world.close()

    def _begin_again(self, games: np.ndarray, infos: dict[str, Any]) -> dict[str, Any]:
        """SAME_STEP: the last frames of ended episodes go into the infos, the next episodes' first take their place."""
        for game in games:
            infos = self._add_info(infos, {"final_obs": self._frames[game].copy(), "final_info": {}}, int(game))
        return self._begin(games, {}, infos)

    def _begin(self, games: Iterable[int], options: dict[str, Any], infos: dict[str, Any]) -> dict[str, Any]:
        """Put games into start states, all of them in one reset of the world."""
        slots = [int(game) for game in games]
        if not slots:
            return infos
        chosen = []
        for slot in slots:
            own = {name: value[slot] if isinstance(value, (list, tuple)) else value for name, value in options.items()}
            chosen.append(self._played.choose(self._generator(slot), own))
        starts = [start for start, _ in chosen]
        self.world.reset(starts, [seed for _, seed in chosen], slots=slots)
        self._num_steps[slots], self._ended[slots], self._begun[slots] = 0, False, True
        for slot, (start, seed) in zip(slots, chosen, strict=True):
            self._frames[slot] = start.frames[-1]
            infos = self._add_info(infos, {"start_state": start.name, "seed": seed}, slot)
        return infos

    def _generator(self, game: int) -> np.random.Generator:
        generator = self._generators[game]
        if generator is None:
            generator, _ = seeding.np_random()
            self._generators[game] = generator
        return generator

    def _masked(self, mask: np.ndarray | None) -> np.ndarray:
        if mask is None:
            return np.arange(self.num_envs)
        mask = np.asarray(mask)
        if mask.shape != (self.num_envs,) or mask.dtype != np.bool_ or not mask.any():
            raise ValueError(
                f"reset_mask: expected bool ({self.num_envs},) with at least one True, got {mask.dtype} {mask.shape}"
            )
        return np.flatnonzero(mask)
