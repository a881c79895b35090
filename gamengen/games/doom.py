"""ViZDoom's Gymnasium environments as games: one table of chords, the screen alone as the frame, GameNGen's reward.

What their own wrapper gives does not fit a recorder: some take dictionaries of binary and continuous actions, `render`
puts the map beside the screen, an episode's last frame is black, and its first one in a fresh process is not the one
that the same seed gives later. Here every episode is a function of its seed and actions, bit for bit.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import gymnasium
import numpy as np

from gamengen.games.doom_reward import DoomReward

PREFIX = "Vizdoom"
"""What the ids of ViZDoom's environments begin with: `VizdoomDeathmatch-v1`, `VizdoomFreedoom2MAP01-S3-v0`, ..."""

KEYS = {
    "MOVE_FORWARD": "w", "MOVE_BACKWARD": "s", "MOVE_LEFT": "a", "MOVE_RIGHT": "d",
    "TURN_LEFT": "ArrowLeft", "TURN_RIGHT": "ArrowRight", "ATTACK": " ", "SPEED": "Shift", "USE": "e",
    **{f"SELECT_WEAPON{n}": str(n) for n in range(1, 8)},
}  # fmt: skip
"""The buttons that the table knows -> the key that presses each. Others (looking up and down, ...) stay unpressed."""
CHORD_BUTTONS = tuple(name for name in KEYS if not name.startswith("SELECT") and name not in ("USE", "SPEED"))
OPPOSITES = ({"MOVE_FORWARD", "MOVE_BACKWARD"}, {"MOVE_LEFT", "MOVE_RIGHT"}, {"TURN_LEFT", "TURN_RIGHT"})


def is_doom(env_id: str) -> bool:
    """Whether an environment is one of ViZDoom's."""
    return env_id.startswith(PREFIX)


def doom_options() -> dict[str, Any]:
    """Registers ViZDoom's environments; what `gymnasium.make` has to be told for `DoomEnv`.

    320x240 with the status bar, as GameNGen records it; every other buffer off.

    Raises:
        ValueError: ViZDoom is not installed.
    """
    try:
        import vizdoom.gymnasium_wrapper  # noqa: F401
    except ImportError as error:
        raise ValueError('Vizdoom environments need ViZDoom: pip install "gamengen[doom]"') from error
    buffers = ("automap", "depth", "labels", "audio", "notifications")
    return {
        "screen_resolution": "RES_320X240", "screen_format": "RGB24", "render_hud": True, "max_buttons_pressed": 0,
        **{f"{buffer}_buffer_enabled": False for buffer in buffers},
    }  # fmt: skip


def chords(buttons: Sequence[str], action_set: Literal["minimal", "full"]) -> list[tuple[str, ...]]:
    """The action table of a scenario with these buttons: the no-op first, then chords in a fixed order.

    `minimal`: up to two of moving, turning and attacking at once, never opposite ones, and USE alone. `full`: up to
    three, running (SPEED) with one move, and the weapon keys alone. The paper does not list its actions; this table
    holds every key that its players press.
    """
    free = [name for name in CHORD_BUTTONS if name in buttons]
    sizes = range(3 if action_set == "minimal" else 4)
    table = [chord for size in sizes for chord in itertools.combinations(free, size)]
    table = [chord for chord in table if not any(pair <= set(chord) for pair in OPPOSITES)]
    alone = ["USE"] if action_set == "minimal" else ["USE", *(name for name in KEYS if name.startswith("SELECT"))]
    table += [(name,) for name in alone if name in buttons]
    if action_set == "full" and "SPEED" in buttons:
        table += [("SPEED", name) for name in free if name.startswith("MOVE")]
    return table


class DoomEnv(gymnasium.Env[np.ndarray, np.int64]):
    """One of ViZDoom's environments with discrete actions and frames uint8 RGB (240, 320, 3).

    The reward is that of GameNGen's agent (see `DoomReward`), whatever the scenario's own is. The last frame of an
    episode is the one before its end, since the game shows nothing after it.

    Args:
        env: made by `gymnasium.make(env_id, **doom_options())`; closed with this one.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 35}
    """35: the tics a second of Doom."""
    render_mode = "rgb_array"

    def __init__(self, env: Any, action_set: Literal["minimal", "full"] = "minimal") -> None:
        self.spec = env.spec
        self._env = env.unwrapped
        self._game = self._env.game
        buttons = [button.name for button in self._game.get_available_buttons()]
        table = chords(buttons, action_set)
        self._meanings = ["+".join(chord) or "NOOP" for chord in table]
        self._keys = [tuple(KEYS[name] for name in chord) for chord in table]
        self._pressed = [[float(name in chord) for name in buttons] for chord in table]
        self._reward = DoomReward(self._game)
        self.action_space = gymnasium.spaces.Discrete(len(table))
        self.observation_space = gymnasium.spaces.Box(0, 255, (240, 320, 3), np.uint8)
        self._frame = np.zeros((240, 320, 3), np.uint8)
        # The engine writes its settings when it ends and reads them when it starts: into a folder of its own, since
        # otherwise what somebody set in the working directory would change the game.
        self._settings = tempfile.TemporaryDirectory(prefix="gamengen-doom-")
        self._game.set_doom_config_path(str(Path(self._settings.name) / "engine.ini"))
        # The first episode of a game's process differs from later ones of the same seed: let it pass.
        self._env.reset(seed=0)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin an episode; the same seed gives the same one."""
        super().reset(seed=seed)
        self._env.reset(seed=seed)
        self._look()
        self._reward.begin()
        return self._frame.copy(), {}

    def step(self, action: int | np.integer) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """One tic, a 35th of a second. `truncated` is the scenario's time limit."""
        self._game.make_action(self._pressed[int(action)])
        self._look()
        over = self._game.is_episode_finished()
        dead = self._game.is_player_dead()
        truncated = over and not dead and self._game.is_episode_timeout_reached()
        return self._frame.copy(), self._reward.step(dead), over and not truncated, truncated, {}

    def render(self) -> np.ndarray:
        """The screen, uint8 RGB (240, 320, 3)."""
        return self._frame.copy()

    def close(self) -> None:
        """End the game's process."""
        self._env.close()
        self._settings.cleanup()

    def get_action_meanings(self) -> list[str]:
        """Buttons joined by `+`, by action."""
        return self._meanings

    def get_action_keys(self) -> list[tuple[str, ...]]:
        """The browser's keys of each action."""
        return self._keys

    def _look(self) -> None:
        state = self._game.get_state()
        if state is not None:  # None after the end
            self._frame = state.screen_buffer.copy()
