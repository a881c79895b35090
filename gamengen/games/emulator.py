"""The real game: env factory, our own frame skip, every episode seeded so that it can be played again bit for bit."""

from __future__ import annotations

import contextlib
import difflib
import re
from typing import Any, Literal

import gymnasium
import numpy as np

from gamengen.contract import Action, GameContract, check_actions
from gamengen.games.doom import DoomEnv, doom_options, is_doom
from gamengen.noise import key_of

EMULATOR_FPS = 60.0
"""Frames a second of the Atari 2600 (NTSC)."""
_KEYS = {"UP": "ArrowUp", "DOWN": "ArrowDown", "LEFT": "ArrowLeft", "RIGHT": "ArrowRight", "FIRE": " "}
_DEFAULT_FPS = 30.0


def make_game_contract(
    env_id: str, *, frame_skip: int = 4, hold: tuple[int, int] = (1, 1), sticky_probability: float = 0.0,
    max_pool: bool = False, noop_start_max: int = 0, action_set: Literal["minimal", "full"] = "minimal",
    noop_action: int = 0,
) -> GameContract:  # fmt: skip
    """The contract of a stream that an environment is about to give.

    Args:
        env_id: an Atari game such as `ALE/Pong-v5`, one of ViZDoom's such as `VizdoomDeathmatch-v1`, or any registered
            environment with a discrete action space and `render_mode="rgb_array"`; `module:Name-v0` imports the
            module first.
    Raises:
        ValueError: unknown id (near matches are named), an environment of another kind, a setting out of range.
    """
    if frame_skip < 1 or not 1 <= hold[0] <= hold[1] or noop_start_max < 0 or not 0 <= sticky_probability <= 1:
        raise ValueError(
            f"frame_skip {frame_skip}, hold {hold}, noop_start_max {noop_start_max}, "
            f"sticky_probability {sticky_probability}: "
            "expected frame_skip >= 1, 1 <= hold[0] <= hold[1], noop_start_max >= 0 and a probability of 0 to 1"
        )
    env = make_env(env_id, action_set)
    try:
        env.reset(seed=0)
        height, width = _rendered(env).shape[:2]
        fps = EMULATOR_FPS if _console(env) is not None else float(env.metadata.get("render_fps") or _DEFAULT_FPS)
        meanings = action_meanings(env)
        keys = action_keys(env, meanings, noop_action)
    finally:
        env.close()
    return GameContract(
        env_id=env_id, frame_height=height, frame_width=width, fps=fps / frame_skip, frame_skip=frame_skip, hold=hold,
        actions=tuple(Action(meaning=meaning, keys=chord) for meaning, chord in zip(meanings, keys, strict=True)),
        sticky_probability=sticky_probability, max_pool=max_pool, noop_start_max=noop_start_max,
        action_set=action_set, noop_action=noop_action,
    )  # fmt: skip


def make_env(env_id: str, action_set: Literal["minimal", "full"] = "minimal") -> gymnasium.Env[Any, Any]:
    """A Gymnasium environment with single emulator steps, no sticky actions, and `render_mode="rgb_array"`.

    Raises:
        ValueError: unknown id, no discrete actions, or no RGB frames; says what to do.
    """
    options: dict[str, Any] = {}
    is_atari = env_id.startswith("ALE/") or "NoFrameskip" in env_id
    if is_atari:
        try:
            import ale_py
        except ImportError as error:
            raise ValueError(f'{env_id} needs ale-py: pip install "gamengen[record]"') from error
        gymnasium.register_envs(ale_py)
        ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)  # no banner for each game
        options = {"frameskip": 1, "repeat_action_probability": 0.0, "full_action_space": action_set == "full"}
    elif is_doom(env_id):
        options = doom_options()
    try:
        env = gymnasium.make(env_id, render_mode="rgb_array", disable_env_checker=True, **options)
    except (gymnasium.error.UnregisteredEnv, gymnasium.error.DeprecatedEnv, ModuleNotFoundError) as error:
        near = difflib.get_close_matches(env_id, _known_ids(), n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else "register it, or name its module: module:Name-v0"
        raise ValueError(f"unknown environment id {env_id!r}; {hint} ({error})") from error
    if is_doom(env_id):
        return DoomEnv(env, action_set)
    if not isinstance(env.action_space, gymnasium.spaces.Discrete) or env.action_space.start != 0:
        raise ValueError(f"{env_id}: expected a Discrete action space from 0, got {env.action_space}")
    if action_set == "full" and not is_atari:
        raise ValueError(f"{env_id}: only Atari games and Doom have a full action set; use action_set minimal")
    return env


def _known_ids() -> list[str]:
    with contextlib.suppress(ImportError):
        import ale_py

        gymnasium.register_envs(ale_py)  # `Pong-v5` means `ALE/Pong-v5`, whose name is not known before
    # Not the console's older ids, such as `Pong-v4`: those skip frames as they like.
    own = ((name, str(spec.entry_point)) for name, spec in gymnasium.registry.items())
    return [name for name, entry_point in own if name.startswith("ALE/") or not entry_point.startswith("ale_py")]


def action_meanings(env: gymnasium.Env[Any, Any]) -> list[str]:
    """What the game calls its actions; `ACTION_0`, ... where it does not say."""
    if hasattr(env.unwrapped, "get_action_meanings"):
        return [str(meaning) for meaning in env.unwrapped.get_action_meanings()]
    assert isinstance(env.action_space, gymnasium.spaces.Discrete)
    return [f"ACTION_{i}" for i in range(int(env.action_space.n))]


def action_keys(env: gymnasium.Env[Any, Any], meanings: list[str], noop_action: int = 0) -> list[tuple[str, ...]]:
    """Keys of each action: the environment's own `get_action_keys`, else what `default_keys` makes of its meanings."""
    own = getattr(env.unwrapped, "get_action_keys", None)
    if own is not None:
        return [tuple(keys) for keys in own()]
    return [default_keys(meaning, action, noop_action) for action, meaning in enumerate(meanings)]


def default_keys(meaning: str, action: int, noop_action: int = 0) -> tuple[str, ...]:
    """Arrows and space for Atari-like meanings (`RIGHTFIRE` is a chord), digits for others, nothing for the no-op."""
    parts = re.findall("|".join(_KEYS), meaning)
    if parts and "".join(parts) == meaning:
        return tuple(_KEYS[part] for part in parts)
    return () if action == noop_action or action > 9 else (str(action),)


class Emulator:
    """One real game. The same (seed, noop_starts, actions) give the same frames and rewards, bit for bit."""

    def __init__(self, game: GameContract) -> None:
        self.game = game
        self._env = make_env(game.env_id, game.action_set)
        found, expected = action_meanings(self._env), [action.meaning for action in game.actions]
        if found != expected:
            raise ValueError(
                f"{game.env_id} has the actions {found} here, its contract {expected}: another version of it?"
            )
        self._console = _console(self._env)
        # Driven below Gymnasium: one screen copy a recorded frame instead of one an emulator frame.
        self._console_actions: Any = getattr(self._env.unwrapped, "_action_set", None)
        self._ended = True
        self._frame: np.ndarray | None = None  # newest emulator frame, None while nobody asked for it
        self._previous: np.ndarray | None = None  # the emulator frame before, for max-pooling
        # Sticky actions are ours: the console's own clone forgets the action that it would repeat.
        self._last_action = game.noop_action
        self._sticky = np.random.default_rng(0)

    def reset(self, seed: int, noop_starts: int = 0) -> np.ndarray:
        """Begin an episode: seed, reset, then `noop_starts` recorded-stream steps of the no-op.

        Returns:
            The first recorded frame, uint8 (H, W, 3).
        """
        self._begin(seed)
        for _ in range(noop_starts):
            self.advance(self.game.noop_action)
            if self._ended:  # a game that ends under no-ops begins again without them
                self._begin(seed)
                break
        return self.frame()

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool]:
        """One recorded-stream step: `frame_skip` emulator frames, fewer when the episode ends in between.

        Returns:
            (frame, reward, terminated, truncated): the last emulator frame, uint8 (H, W, 3), and the summed reward.
        """
        reward, terminated, truncated = self.advance(action)
        return self.frame(), reward, terminated, truncated

    def advance(self, action: int) -> tuple[float, bool, bool]:
        """`step` without the frame, for replay."""
        if self._ended:
            raise ValueError(f"{self.game.env_id}: the episode has ended; call reset")
        check_actions((action,), self.game, "emulator")
        total, terminated, truncated = 0.0, False, False
        for _ in range(self.game.frame_skip):
            if self.game.max_pool:
                self._previous = self._newest()
            self._frame = None
            reward, terminated, truncated = self._single(action)
            total += reward
            if terminated or truncated:
                break
        self._ended = terminated or truncated
        return total, terminated, truncated

    def frame(self) -> np.ndarray:
        """The current recorded frame, uint8 (H, W, 3), a fresh array."""
        newest = self._newest()
        return newest.copy() if self._previous is None else np.maximum(newest, self._previous)

    def ram(self) -> np.ndarray | None:
        """The console's memory, uint8 (128,); None for other games."""
        return None if self._console is None else np.array(self._console.getRAM(), np.uint8)

    def lives(self) -> int | None:
        """Lives left, None where the game has no such count."""
        return None if self._console is None else int(self._console.lives())

    def clone(self) -> Any | None:
        """The whole state, its random generators included, for `restore` of any emulator of this game.

        None where the game cannot be cloned and has to be replayed.
        """
        if self._console is None:
            return None
        state = self._console.cloneState(include_rng=True)
        sticky = self._sticky.bit_generator.state
        return state, sticky, self._newest().copy(), self._previous, self._ended, self._last_action

    def restore(self, state: Any) -> None:
        """Stand where `clone` was called."""
        assert self._console is not None
        # The console's screen is stale until the next step: the frame comes with the state.
        self._console.restoreState(state[0])
        _, sticky, self._frame, self._previous, self._ended, self._last_action = state
        self._sticky.bit_generator.state = sticky

    def close(self) -> None:
        """Free the game."""
        self._env.close()

    def _begin(self, seed: int) -> None:
        self._env.reset(seed=seed)
        self._sticky = np.random.default_rng(key_of("sticky", seed))
        self._frame = self._previous = None
        self._ended, self._last_action = False, self.game.noop_action

    def _single(self, action: int) -> tuple[float, bool, bool]:
        """One emulator frame."""
        if self.game.sticky_probability and self._sticky.random() < self.game.sticky_probability:
            action = self._last_action
        self._last_action = action
        if self._console is not None:
            reward = self._console.act(self._console_actions[action])
            return float(reward), self._console.game_over(with_truncation=False), self._console.game_truncated()
        _, reward, terminated, truncated, _ = self._env.step(action)
        return float(reward), bool(terminated), bool(truncated)

    def _newest(self) -> np.ndarray:
        if self._frame is None:
            self._frame = self._console.getScreenRGB() if self._console is not None else _rendered(self._env)
        return self._frame


def _console(env: gymnasium.Env[Any, Any]) -> Any | None:
    return getattr(env.unwrapped, "ale", None)


def _rendered(env: gymnasium.Env[Any, Any]) -> np.ndarray:
    frame = env.render()
    if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        got = f"{frame.dtype} {frame.shape}" if isinstance(frame, np.ndarray) else type(frame).__name__
        raise ValueError(f"{env.spec.id if env.spec else env}: render() must give uint8 (H, W, 3), got {got}")
    return frame.copy()
