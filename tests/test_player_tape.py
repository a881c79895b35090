"""player.tape: clip and episodes of one game, side by side."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gamengen.dataset.episodes import list_episodes
from gamengen.games.emulator import make_game_contract
from gamengen.player.source import game_source
from gamengen.player.tape import Tape
from tests.counter_env import COUNTER_ENV
from tests.player_server import counter_source

FRAME = (np.zeros((32, 32, 3), np.uint8),)


def silent(name: str) -> None:
    """A world that tells nothing of itself."""


def test_a_clip_goes_back_with_its_game() -> None:
    tape = Tape(counter_source(), silent)
    assert not tape.add(0, None, False, False, FRAME) and tape.state() == {"clip": None, "recorded": None}
    tape.record(True, FRAME)
    for action in (1, 2, 3):
        assert not tape.add(action, None, False, False, FRAME)
    tape.go_back(2, FRAME)
    assert tape.state()["clip"] == {"running": True, "frames": 2}
    tape.go_back(5, FRAME)
    assert tape.state()["clip"] == {"running": True, "frames": 1}, "it began later than that: begun anew"
    assert tape.add(1, None, True, True, FRAME) and tape.state()["clip"] == {"running": False, "frames": 2}
    assert not tape.break_off()


def test_every_episode_is_kept_as_far_as_it_can_be_played_again(tmp_path: Path) -> None:
    source = game_source(make_game_contract(COUNTER_ENV, frame_skip=1), record_dir=tmp_path)
    tape = Tape(source, silent)
    for seed, (length, over) in enumerate([(3, True), (2, False), (4, False)]):
        tape.begin(source.start_at(0, seed), "human")
        for step in range(length):
            tape.add(1, 1.0, over and step == length - 1, seed < 2 and step == length - 1, FRAME)
    assert tape.state()["recorded"] == {"episodes": 2, "steps": 9}
    assert tape.break_off(), "what comes next does not follow from the last frame"
    tape.close()
    infos = list_episodes(tmp_path)
    assert [(info.num_frames, info.terminated, info.truncated) for info in infos] == [
        (4, True, False), (3, False, True), (5, False, True),
    ]  # fmt: skip
