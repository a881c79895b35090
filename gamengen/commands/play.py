"""Play in the browser: a learned world, the real game (every episode recorded), or a recorded dataset.

Reads   a world folder or a run folder (--world), or an episode dataset (--dataset), or nothing but the game (--env_id).
Writes  nothing by itself; with --record_dir an episode dataset: every episode of the real game, or of a dream the clips
        that are saved on the page.
Example
    gamengen play --world runs/breakout --num_inference_steps 1 --port 8000
    gamengen play --env_id ALE/Pong-v5 --record_dir data/human
    gamengen play --dataset data/pong
"""

from __future__ import annotations

import importlib.util
import secrets
import sys
import threading
import webbrowser
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gamengen.contract import CONTRACT_FILE, GameContract, read_game_contract
from gamengen.hub.repository import is_hub_id, resolve_dataset
from gamengen.run_folder import print_plan
from gamengen.world import World

if TYPE_CHECKING:
    from gamengen.player.controllers import ControllerFactory
    from gamengen.player.source import Source


@dataclass(frozen=True, kw_only=True)
class Config:
    """Play in the browser."""

    preset: str = "default"
    world: str | None = None
    """World folder, run folder or Hub id."""
    revision: str | None = None
    """Branch, tag or commit of what is on the Hub."""
    variant: str | None = None
    """Form of its weights, such as `fp16`."""
    env_id: str | None = None
    """Play the real game instead: an Atari game, or any Gymnasium environment that can be recorded."""
    dataset: str | None = None
    """Show a recorded dataset instead, episode by episode; a folder or Hub id."""
    record_dir: str | None = None
    """Dataset folder: of the real game every episode is written there, of a dream what is saved on the page."""
    frame_skip: int = 4
    """Of the real game: emulator frames a step; 4 gives 15 frames a second on Atari, 2 gives 30."""
    noop_start_max: int = 30
    """Of the real game: an episode begins after 0 to this many no-ops."""
    num_inference_steps: int | None = None
    """Denoising steps a frame to begin with, where the world has such a choice; its own when not given. The page
    changes it."""
    backend: str = "auto"
    """What runs the world's network: `auto` measures and picks, `torch` is the reference, `onnx`, `compile`."""
    device: str = "auto"
    num_threads: int | None = None
    """CPU threads of the network; by default the backend's choice."""
    seed: int | None = None
    """Of the first game; by default 0, and a new one each time where games are recorded."""
    host: str = "127.0.0.1"
    """Where to listen. Beyond this machine a token is asked for."""
    port: int = 8000
    """0 takes a free one."""
    token: str | None = None
    """Secret in the page's address; made up when listening beyond this machine."""
    allowed_hosts: tuple[str, ...] = ()
    """Further names under which browsers may reach this server."""
    max_clients: int = 2
    """Players at a time, each with a game of its own; those that play together are computed in batches."""
    open: bool = True
    """Open the page in a browser."""
    dry_run: bool = False


PRESETS = {"default": Config()}


def main(config: Config, agents: Mapping[str, ControllerFactory] | None = None) -> None:
    """Serve the page until interrupted.

    Args:
        agents: further controllers, by the names that the page shows.
    Raises:
        ValueError, FileNotFoundError: nothing to play, or something that cannot be played; the port is taken.
        ImportError: the extra `play` is not installed.
    """
    given = [name for name in ("world", "env_id", "dataset") if getattr(config, name) is not None]
    if config.dry_run:
        print_plan("play", config, {"disk": "nothing, but for what is recorded"})
        return
    if len(given) != 1:
        raise ValueError(f"expected one of --world, --env_id and --dataset, got {' and '.join(given) or 'none'}")
    absent = [name for name in ("starlette", "uvicorn", "websockets") if importlib.util.find_spec(name) is None]
    if absent:
        raise ImportError(f'the player needs {", ".join(absent)}: pip install "gamengen[play]"')
    from gamengen.player.engine import Engine
    from gamengen.player.safety import Gate, is_loopback, names_of
    from gamengen.player.server import Player
    from gamengen.player.serving import addresses, bind, serve

    local = is_loopback(config.host)
    token = config.token or (None if local else secrets.token_urlsafe(16))
    listener = bind(config.host, config.port)
    try:
        seed = config.seed if config.seed is not None else _first_seed(config)
        engine = Engine(make_source(config, seed, agents), max_clients=config.max_clients, seed=seed, progress=_say)
        app = Player(engine, codec="raw" if local else "webp").app(
            Gate(names_of(config.host, config.allowed_hosts), token)
        )
        shown, here = addresses(config.host, listener.getsockname()[1], token)
        serve(app, listener, lambda: _ready(shown, here if config.open else None))
    finally:
        listener.close()


def make_source(config: Config, seed: int, agents: Mapping[str, ControllerFactory] | None = None) -> Source:
    """What a config plays."""
    from gamengen.player.source import dataset_source, dream_source, game_source

    record_dir = None if config.record_dir is None else Path(config.record_dir)
    if config.dataset is not None:
        return dataset_source(str(resolve_dataset(config.dataset, revision=config.revision)))
    if config.env_id is not None:
        return game_source(_real_game(config), agents=agents, record_dir=record_dir, first_seed=seed)
    assert config.world is not None
    from gamengen.loading import find_world, load_contract, load_start_states

    path = find_world(config.world, config.revision)
    name = config.world if is_hub_id(config.world) else Path(config.world).resolve().name
    return dream_source(
        name, lambda size: _load(config, size), load_contract(path).game, load_start_states(path),
        agents=agents, record_dir=record_dir,
    )  # fmt: skip


def _load(config: Config, size: int) -> World:
    import torch

    from gamengen.loading import load_world

    assert config.world is not None
    device = ("cuda" if torch.cuda.is_available() else "cpu") if config.device == "auto" else config.device
    world = load_world(
        config.world, size, device=device, backend=config.backend, num_threads=config.num_threads, progress=_say,
        revision=config.revision, variant=config.variant,
    )  # fmt: skip
    if config.num_inference_steps is not None and "num_inference_steps" in world.options:
        world.set_option("num_inference_steps", config.num_inference_steps)
    return world


def _real_game(config: Config) -> GameContract:
    """As it was recorded in --record_dir before, so that episodes can be added; else as the flags say."""
    from gamengen.games.emulator import make_game_contract

    assert config.env_id is not None
    if config.record_dir is not None and (Path(config.record_dir) / CONTRACT_FILE).is_file():
        game = read_game_contract(config.record_dir)
        if game.env_id != config.env_id:
            raise ValueError(f"{config.record_dir} holds episodes of {game.env_id}, not of {config.env_id}")
        return game
    return make_game_contract(config.env_id, frame_skip=config.frame_skip, noop_start_max=config.noop_start_max)


def _first_seed(config: Config) -> int:
    return secrets.randbelow(2**31) if config.env_id is not None and config.record_dir is not None else 0


def _ready(shown: str, to_open: str | None) -> None:
    print(f"playing at {shown}  (Ctrl-C ends)", flush=True)
    if to_open is not None:
        # Some systems' openers wait for the browser to exit.
        threading.Thread(target=webbrowser.open, args=(to_open,), daemon=True).start()


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
