"""player.server: what a page gets is what the worlds make, frame for frame, and nobody else gets anything."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from websockets.exceptions import ConnectionClosed, InvalidStatus

from gamengen.dataset.episodes import list_episodes, read_episodes
from gamengen.diffusion.latent_world import LatentWorld
from gamengen.games.emulator import make_game_contract
from gamengen.player.protocol import FrameMessage, Input
from gamengen.player.source import dataset_source, dream_source, game_source
from gamengen.rollout import random_actions, rollout
from tests.counter_env import COUNTER_ENV, Count, read_count
from tests.counter_world import CounterWorld
from tests.player_server import Running, counter_source, running
from tests.test_dataset_dataset_world import record
from tests.worlds import tiny_pipeline, tiny_starts


@pytest.fixture
def player() -> Iterator[Running]:
    with running(counter_source(), max_clients=4) as made:
        yield made


def test_a_frame_answers_to_the_action_that_its_header_names() -> None:
    """The time convention from the real game to the client's bytes: frame t + 1 shows action t."""
    game = make_game_contract(COUNTER_ENV, frame_skip=1)
    with running(game_source(game)) as player:
        client = player.client()
        first = client.restart(seed=5)
        assert read_count(first.panes[0]) == Count(5, 0, 0) and first.action == -1
        for t, action in enumerate([3, 1, 0, 2, 2], 1):
            frame = client.step(action)
            assert (frame.t, frame.action) == (t, action)
            assert read_count(frame.panes[0]) == Count(5, t, action)
            assert frame.reward == float(action), "the reward that came with this frame"


def test_the_server_agrees_bit_for_bit_with_a_rollout() -> None:
    """Same start, seed and actions as scripts/rollout.py plays them, through the pool, the loop and the socket."""
    starts = tiny_starts(2)
    pipeline = tiny_pipeline()
    game = LatentWorld(pipeline).contract.game
    actions = random_actions(game, 20, seed=3)
    expected = rollout(LatentWorld(pipeline, num_inference_steps=2), starts[1:], [11], actions[None]).frames[0]
    source = dream_source("tiny", lambda size: LatentWorld(tiny_pipeline(), size), game, starts)
    with running(source, max_clients=2) as player:
        client, other = player.client(), player.client()
        other.restart(seed=4)
        client.say("option", name="num_inference_steps", value=2)
        first = client.restart(seed=11, start=1)
        assert np.array_equal(first.panes[0], starts[1].frames[-1])
        for t, action in enumerate(actions):
            if t in (5, 6):
                other.step(0)  # another game in the same worlds, between two steps
            assert np.array_equal(client.step(int(action)).panes[0], expected[t]), f"frame {t}"


def test_clients_have_games_of_their_own() -> None:
    with running(counter_source(), max_clients=8) as player:
        clients = [player.client() for _ in range(8)]
        for number, client in enumerate(clients):
            client.restart(seed=100 + number)
        for t in range(1, 13):
            for number, client in enumerate(clients):
                client.say("step", action=(number + t) % 4)
            for number, client in enumerate(clients):
                assert read_count(client.frame().panes[0]) == Count(100 + number, t, (number + t) % 4)


def test_those_who_play_together_are_stepped_together() -> None:
    worlds: list[CounterWorld] = []

    def make(size: int) -> CounterWorld:
        worlds.append(CounterWorld(size))
        return worlds[-1]

    with running(replace(counter_source(), make_world=make), max_clients=4) as player:
        clients = [player.client() for _ in range(4)]
        until = time.monotonic() + 1.0
        while time.monotonic() < until:
            for client in clients:
                client.frame()
    batches = [size for world in worlds for size in world.batches]
    assert batches.count(4) > 15, f"batches of 4: {batches.count(4)} of {len(batches)}"


def test_strangers_are_refused(player: Running) -> None:
    """Another site's page, a name that was re-pointed at this machine, another server's page on this machine."""
    own = f"127.0.0.1:{player.port}"
    for headers in (
        {"Host": "evil.example"},
        {"Host": f"evil.example:{player.port}"},
        {"Host": own, "Origin": "http://evil.example"},
        {"Host": own, "Origin": "http://127.0.0.1:1"},
        {"Host": own, "Origin": "null"},
        {"Host": own, "Origin": f"http://evil.example@{own}"},
    ):
        assert player.get("/", headers=headers).status_code == 403, headers
        assert player.get("/metrics", headers=headers).status_code == 403, headers
    for origin in ("http://evil.example", "http://localhost:1", "null", f"file://{own}"):
        with pytest.raises(InvalidStatus) as refused:
            player.client(headers={"Origin": origin})
        assert refused.value.response.status_code == 403
    assert player.get("/", headers={"Host": own, "Origin": f"http://{own}"}).status_code == 200
    player.client(headers={"Origin": f"http://{own}"})


def test_the_page_may_load_nothing_and_be_framed_by_nobody(player: Running) -> None:
    page = player.get("/")
    assert page.status_code == 200 and "<canvas" in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert page.headers["x-frame-options"] == "DENY" and page.headers["cache-control"] == "no-store"
    text = page.text.replace("http://www.w3.org", "")
    assert "http://" not in text and "https://" not in text and " src=" not in text, "one self-contained file"
    assert ' style="' not in text and " onclick=" not in text, "the policy forbids them"


def test_no_path_of_a_request_is_opened(player: Running) -> None:
    for path in ("/../pyproject.toml", "/%2e%2e/pyproject.toml", "/starts/..%2f0.png", "/starts/-1.png", "/etc/passwd",
                 "/player.html", "/starts/99.png", "/sessions/x/clip.gif", "/sessions/../clip.gif"):  # fmt: skip
        assert player.get(path).status_code == 404, path


def test_a_token_is_asked_for_where_there_is_one() -> None:
    with running(counter_source(), token="sesame") as player:
        assert player.get("/").status_code == 403 and player.get("/?token=open").status_code == 403
        assert player.get("/?token=sesame").status_code == 200 and player.get("/healthz").status_code == 200
        with pytest.raises(InvalidStatus):
            player.client()
        player.client(query="?token=sesame")


def test_who_comes_when_it_is_full_is_told_so(player: Running) -> None:
    clients = [player.client() for _ in range(4)]
    late = player.client(hello=False)
    assert late.read() == {"kind": "busy", "clients": 4}
    with pytest.raises(ConnectionClosed) as closed:
        late.read()
    assert closed.value.rcvd is not None and closed.value.rcvd.code == 1013
    clients[0].close()
    player.wait_for_clients(3)
    player.client()


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("x" * 5000, 1009), (b"\x00" * 5000, 1009), ("{", 1008), ('{"kind": "shutdown"}', 1008), (b"\x07", 1008),
        (Input(1, 77).pack(), 1008), ('{"kind": "speed", "value": NaN}', 1008),
        ('{"kind": "restart", "start": 0, "seed": -5}', 1008), ("[" * 4000, 1008),
    ],
)  # fmt: skip
def test_who_says_what_no_page_says_is_put_out(player: Running, message: str | bytes, code: int) -> None:
    client, other = player.client(), player.client()
    client.socket.send(message)
    with pytest.raises(ConnectionClosed) as closed:
        while True:
            client.read()
    said = closed.value.rcvd
    # Nobody reads the rest of a message that is too long: the reset that follows may overtake the reason.
    assert said.code == code if said is not None else code == 1009
    assert isinstance(other.frame(), FrameMessage)


def test_legal_commands_with_wrong_values_are_answered_and_change_nothing(player: Running) -> None:
    client = player.client()
    for kind, values, reason in (
        ("restart", {"start": 99}, "expected 0 to 2"),
        ("speed", {"value": 1000}, "expected 0.1 to 8"),
        ("option", {"name": "colour", "value": 3}, "no option 'colour'"),
        ("option", {"name": "stride", "value": 30}, "expected 1 to 9"),
        ("control", {"name": "nobody"}, "unknown controller"),
        ("compare", {"on": True}, "start states do not say"),
    ):
        client.say(kind, **values)
        assert reason in client.until("note")["text"]
    client.restart(seed=9)
    assert read_count(client.step(2).panes[0]) == Count(9, 1, 2)


def test_a_picture_begins_a_game(player: Running) -> None:
    client = player.client()
    client.restart(seed=3)
    buffer = io.BytesIO()
    picture = np.zeros((32, 32, 3), np.uint8)
    picture[8:, :, 1] = 200
    Image.fromarray(picture).save(buffer, "PNG")
    path = f"/sessions/{client.hello['key']}/image"
    assert player.get(path, method="POST", content=buffer.getvalue()).status_code == 200
    assert np.array_equal(client.frame().panes[0], picture), "of the frame's size: taken as it is"
    refused = player.get(path, method="POST", content=b"GIF89a and then nothing")
    assert refused.status_code == 422 and "not a picture" in refused.json()["text"]
    assert player.get(path, method="POST", content=bytes(9 << 20)).status_code == 413
    assert player.get("/sessions/guess/image", method="POST", content=buffer.getvalue()).status_code == 404
    assert read_count(client.step(1).panes[0]) == Count(3, 1, 1)


def test_a_clip_is_taken_away_and_saved_as_an_episode(tmp_path: Path) -> None:
    with running(replace(counter_source(), record_dir=tmp_path / "clips")) as player:
        client = player.client()
        first = client.restart(seed=3)
        base = f"/sessions/{client.hello['key']}"
        assert player.get(f"{base}/clip.gif").status_code == 404, "nothing recorded yet"
        client.say("record", on=True)
        frames = [first, *(client.step(action) for action in (1, 3, 2, 0, 1))]
        assert player.get(f"{base}/clip.gif").status_code == 404, "still running"
        client.say("record", on=False)
        client.until("state", clip={"running": False, "frames": 6})
        gif = player.get(f"{base}/clip.gif")
        with Image.open(io.BytesIO(gif.content)) as image:
            assert gif.headers["content-type"] == "image/gif" and image.n_frames == 6
        assert player.get(f"{base}/clip.exe").status_code == 404
        assert player.get(f"{base}/episode", method="POST").status_code == 200
        assert client.hello["key"] not in player.get("/metrics").text
    (episode,) = read_episodes(tmp_path / "clips")
    assert np.array_equal(episode.frames, np.stack([frame.panes[0] for frame in frames]))
    assert episode.actions.tolist() == [1, 3, 2, 0, 1] and episode.truncated and episode.agent == "dream-human"


def test_every_game_of_the_real_game_is_recorded(tmp_path: Path) -> None:
    """What the page saw is what the dataset holds, the last game included that was left in its middle."""
    game = make_game_contract(COUNTER_ENV, frame_skip=1)
    with running(game_source(game, record_dir=tmp_path, first_seed=40), seed=40) as player:
        client = player.client()
        frames = [client.restart(seed=41)]
        frames += [client.step(t % 4) for t in range(1, 20)]  # the game of seed 41 has 19 steps
        assert client.step(0).t == 0, "another game begins by itself"
        client.step(2)
        client.say("rewind")
        assert "cannot be rewound" in client.until("note")["text"]
    kept = {info.seed: info for info in list_episodes(tmp_path)}
    assert set(kept) >= {41, 42} and kept[41].terminated and kept[42].truncated and kept[42].num_frames == 2
    (episode,) = (episode for episode in read_episodes(tmp_path) if episode.seed == 41)
    assert np.array_equal(episode.frames, np.stack([frame.panes[0] for frame in frames]))
    assert episode.actions.tolist() == [t % 4 for t in range(1, 20)] and episode.agent == "human"


def test_a_recorded_dataset_is_shown_as_it_is(tmp_path: Path) -> None:
    (episode, *_) = record(tmp_path, 2)
    with running(dataset_source(tmp_path), max_clients=2) as player:
        client, other = player.client(), player.client()
        client.restart(seed=0)
        client.press(3)
        for t, action in enumerate(episode.actions):
            client.say("step")
            frame = client.frame()
            assert (frame.action, frame.reward) == (action, episode.rewards[t])
            assert np.array_equal(frame.panes[0], episode.frames[t + 1])
        assert other.frame().t == 0 and other.frame().t == 1, "at its own pace"
        assert client.hello["controllers"] == ["recorded"]


def test_measures_and_health(player: Running) -> None:
    client = player.client()
    client.press(1)
    for _ in range(10):
        client.frame()
    lines = dict(line.rsplit(" ", 1) for line in player.get("/metrics").text.splitlines() if line[0] != "#")
    assert float(lines["gamengen_clients"]) == 1 and float(lines["gamengen_frames_total"]) >= 10
    assert 0 < float(lines['gamengen_frame_ms{quantile="0.5"}']) < 1000
    assert float(lines["gamengen_latency_ms_count"]) == 1 and float(lines["gamengen_resident_bytes"]) > 1e6
    assert player.get("/healthz").json() == {"status": "ok", "clients": 1}


def test_frames_over_a_network_are_smaller_and_the_same() -> None:
    with running(counter_source(), codec="webp") as player:
        client = player.client()
        client.restart(seed=7)
        assert read_count(client.step(3).panes[0]) == Count(7, 1, 3)


def test_the_hello_tells_all_that_the_page_needs(player: Running) -> None:
    hello = player.client().hello
    assert hello["source"] == "dream" and hello["world"] == "counter" and hello["game"]["fps"] == 30
    assert [action["keys"] for action in hello["game"]["actions"]] == [[], ["a"], ["b"], ["c"]]
    assert hello["controllers"] == ["human", "recorded", "random", "noop"] and len(hello["starts"]) == 3
    assert json.dumps(hello) and player.get("/starts/2.png").headers["content-type"] == "image/png"
