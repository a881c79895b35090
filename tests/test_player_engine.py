"""player.engine: the clock neither queues nor waits, and one game's trouble stays its own."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed

from gamengen.player.engine import Engine
from gamengen.player.measures import Measures
from gamengen.player.protocol import FrameMessage
from tests.counter_env import Count, read_count
from tests.counter_world import CounterWorld
from tests.player_server import Client, counter_source, running


def frames_of(client: Client, seconds: float) -> list[tuple[float, FrameMessage]]:
    """What arrives in that time, and when."""
    until, seen = time.monotonic() + seconds, []
    while time.monotonic() < until:
        frame = client.frame()
        seen.append((time.monotonic(), frame))
    return seen


def test_the_rate_is_that_of_the_game_times_the_speed() -> None:
    with running(counter_source(fps=20)) as player:
        client = player.client()
        for speed in (1, 2):
            client.say("speed", value=speed)
            client.until("state", speed=speed)
            seen = frames_of(client, 1.5)
            rate = (seen[-1][1].t - seen[0][1].t) / (seen[-1][0] - seen[0][0])
            assert rate == pytest.approx(20 * speed, rel=0.2), f"{rate:.1f} frames a second at speed {speed}"


def test_a_world_slower_than_its_game_shows_fewer_frames_and_no_old_ones() -> None:
    """60 frames a second asked for, about 20 possible: keys are answered by the next frame or the one after."""
    with running(counter_source(fps=60, step_s=0.05)) as player:
        client = player.client()
        seen = frames_of(client, 1.0)
        rate = len(seen) / (seen[-1][0] - seen[0][0])
        assert 10 < rate < 21, f"{rate:.1f} frames a second"
        client.press(3)
        answers = [client.frame().action for _ in range(4)]
        assert 3 in answers[:3], f"actions after the press: {answers}"


def test_a_paused_game_stands_still_and_steps_when_asked() -> None:
    with running(counter_source(fps=50)) as player:
        client = player.client()
        client.restart(seed=1)
        with pytest.raises(TimeoutError):
            client.frame(timeout=0.3)
        assert [client.step(action).t for action in (1, 2)] == [1, 2]
        client.press(2)
        client.say("step")
        assert client.frame().action == 2, "without an action of its own a step takes the keys"
        client.say("pause", on=False)
        assert client.frame().t == 4


def test_one_games_failure_leaves_the_others_playing() -> None:
    """Games 1 to 3 share a batch with the poisoned one; they go on from at most a keyframe before."""
    with running(counter_source(fps=30, poison=13), max_clients=4) as player:
        clients = [player.client() for _ in range(4)]
        for number, client in enumerate(clients):
            client.restart(seed=10 + number)
        for client in clients:
            client.say("pause", on=False)
        note = clients[3].until("note")
        assert "the world failed: RuntimeError: poisoned" in note["text"]
        clients[3].until("state", paused=True)
        for number, client in enumerate(clients[:3]):
            seen = [frame for _, frame in frames_of(client, 0.5)]
            assert len(seen) > 3 and not client.notes
            for frame in seen:
                assert read_count(frame.panes[0]) == Count(10 + number, frame.t, max(frame.action, 0))
        clients[3].restart(seed=20)
        assert clients[3].step(1).t == 1, "its client plays on with another game"
        assert player.engine.measures.errors == 1


def test_different_settings_are_not_mixed_in_a_batch() -> None:
    with running(counter_source(fps=30), max_clients=2) as player:
        fast, slow = player.client(), player.client()
        for client, seed in ((fast, 5), (slow, 6)):
            client.restart(seed=seed)
        fast.say("option", name="stride", value=3)
        fast.until("state")
        for t in range(1, 6):
            for client in (fast, slow):
                client.say("step", action=0)
            assert read_count(fast.frame().panes[0]).t == 3 * t and read_count(slow.frame().panes[0]).t == t


def test_worlds_are_made_and_warm_before_anyone_comes() -> None:
    made: list[CounterWorld] = []
    lines: list[str] = []

    def make(size: int) -> CounterWorld:
        made.append(CounterWorld(size))
        return made[-1]

    engine = Engine(replace(counter_source(), make_world=make), max_clients=3, progress=lines.append)
    assert [world.num_worlds for world in made] == [1, 2] and all(world.batches for world in made)
    assert any("warming up" in line for line in lines) and isinstance(engine.measures, Measures)
    engine._worker.shutdown()
    no_future = replace(counter_source().starts[0], future_actions=np.zeros(0, np.int64))
    Engine(replace(counter_source(), start_at=lambda index, seed: no_future), max_clients=1)._worker.shutdown()
    with pytest.raises(ValueError, match="at least 1"):
        Engine(counter_source(), max_clients=0, progress=lines.append)


def test_a_session_that_cannot_go_on_is_put_out_and_the_server_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    with running(counter_source(fps=30), max_clients=2) as player:
        client, other = player.client(), player.client()
        client.restart(seed=1)
        (session, _) = player.engine.sessions

        def full(*args: object) -> None:
            raise OSError("no space left on device")

        monkeypatch.setattr(session.tape, "add", full)
        monkeypatch.setattr(session.tape, "go_back", full)
        client.say("step", action=1)
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                client.read()
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1011
        assert other.frame().t >= 0 and player.get("/healthz").json()["status"] == "ok"
