"""The page in a real browser: what is seen, pressed, touched, and how it looks.

Screenshots are kept where GAMENGEN_SCREENSHOTS says, else in pytest's temporary folder.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from gamengen.games.emulator import make_game_contract
from gamengen.games.emulator_world import EmulatorWorld
from gamengen.player.source import dream_source, game_source
from gamengen.world import Replay, StartState
from tests.browser import Page, browser, find_browser
from tests.player_server import Running, counter_source, running

pytestmark = pytest.mark.skipif(find_browser() is None, reason="no Chromium: apt-get install chromium")
FRAME = "Number(document.getElementById('hud-frame').textContent)"
LOUD_PADDLE = "92,186,92"
"""The colour of the own paddle in Pong."""


@pytest.fixture(scope="module")
def new_tab() -> Iterator[Callable[[], Page]]:
    command = find_browser()
    assert command is not None
    with browser(command) as tabs:
        yield tabs


@pytest.fixture(scope="module")
def pong() -> Iterator[Running]:
    """The real Pong as a dream of itself, so that every part of the page has something to show."""
    game = make_game_contract("ALE/Pong-v5", frame_skip=4)
    starts = pong_starts()
    source = dream_source("Pong", lambda size: EmulatorWorld(game, size), game, starts)
    with running(source, max_clients=2) as player:
        yield player


def pong_starts() -> list[StartState]:
    """States of one game, 40 frames apart, each with what was done next."""
    game = make_game_contract("ALE/Pong-v5", frame_skip=4)
    world = EmulatorWorld(game)
    first = game_source(game).starts[0]
    world.reset([first], [0])
    actions = np.random.default_rng(0).integers(game.num_actions, size=180).repeat(2)
    frames = [first.frames[-1], *(world.step([action]).frames[0] for action in actions)]
    world.close()
    assert first.replay is not None
    return [
        StartState(
            frames[t][None], np.zeros(0, np.int64), Replay(0, actions[:t], first.replay.noop_starts),
            actions[t : t + 40], f"episode pong-000000 frame {t:06d}",
        )
        for t in range(30, 320, 40)
    ]  # fmt: skip


def opened(tab: Page, player: Running, **window: object) -> Page:
    """The page, its game running."""
    player.wait_for_clients(0)
    tab.open(player.url + "/", **window)  # type: ignore[arg-type]
    tab.wait_for(f"{FRAME} > 3")
    return tab


def left(tab: Page) -> None:
    assert tab.errors == []
    tab.open("about:blank")


def paddle_height(tab: Page) -> float:
    """Mean row of the own paddle's pixels on the canvas; nan while there is none."""
    script = f"""(() => {{
      const canvas = document.getElementById('pane-0'), loud = [{LOUD_PADDLE}];
      const pixels = canvas.getContext('2d').getImageData(138, 34, 8, 160).data;
      let sum = 0, count = 0;
      for (let i = 0; i < pixels.length; i += 4)
        if (loud.every((level, c) => pixels[i + c] === level)) {{ sum += 34 + Math.floor(i / 32); count++; }}
      return count ? sum / count : null;
    }})()"""
    value = tab.evaluate(script)
    return float("nan") if value is None else float(value)


def held(tab: Page, key: str, seconds: float) -> float:
    tab.key(key, down=True)
    time.sleep(seconds)
    tab.key(key, down=False)
    return paddle_height(tab)


def test_the_paddle_goes_the_way_of_the_key(new_tab: Callable[[], Page], pong: Running, tmp_path: Path) -> None:
    """Pong's RIGHT is up and its LEFT is down. Frames follow each other, the pressed key is lit, the HUD counts."""
    tab = opened(new_tab(), pong)
    before = tab.evaluate("document.getElementById('pane-0').toDataURL()")
    low = held(tab, "ArrowLeft", 1.5)
    tab.key("ArrowRight", down=True)
    tab.wait_for("document.querySelector('#pad button.down').dataset.key === 'ArrowRight'")
    tab.wait_for("document.getElementById('doing').textContent === 'RIGHT'")
    time.sleep(1.5)
    high = paddle_height(tab)
    tab.key("ArrowRight", down=False)
    assert high < low - 40, f"the paddle's row went from {low} to {high}"
    assert tab.evaluate("document.getElementById('pane-0').toDataURL()") != before
    tab.wait_for("document.querySelector('#pad button.down') === null")
    first = tab.evaluate(FRAME)
    tab.wait_for(f"{FRAME} > {first} + 5")
    tab.wait_for("/^\\d+ \\/ 15$/.test(document.getElementById('hud-fps').textContent)")
    tab.wait_for("/^\\d+ \\/ \\d+ ms$/.test(document.getElementById('hud-latency').textContent)")
    tab.wait_for("/^[\\d.]+ ms$/.test(document.getElementById('hud-model').textContent)")
    keep(tab, tmp_path, "desktop")
    left(tab)


def test_time_stands_still_goes_on_and_back(new_tab: Callable[[], Page], pong: Running) -> None:
    tab = opened(new_tab(), pong)
    tab.key("p", down=True)
    tab.key("p", down=False)
    tab.wait_for("document.getElementById('hud-fps').textContent === 'paused'")
    frame = tab.evaluate(FRAME)
    tab.click("#step")
    tab.wait_for(f"{FRAME} === {frame} + 1")
    tab.key("Backspace", down=True)
    tab.key("Backspace", down=False)
    tab.wait_for(f"{FRAME} <= {frame}")
    assert tab.evaluate(FRAME) % 5 == 0, "a keyframe"
    tab.click("#pause")
    tab.wait_for(f"{FRAME} > {frame} + 30", timeout=40)
    tab.key("Backspace", down=True)
    tab.wait_for(f"{FRAME} < {frame} + 10")  # held, while the game was on
    tab.key("Backspace", down=False)
    tab.wait_for(f"{FRAME} > {frame} + 11")
    tab.click("#gallery button:nth-child(3)")
    tab.wait_for("document.getElementById('start-name').textContent.endsWith('000110')")
    tab.wait_for("document.querySelector('#gallery [aria-checked=true]').dataset.start === '2'")
    left(tab)


def test_who_looks_at_another_tab_comes_back_to_the_game(
    new_tab: Callable[[], Page], pong: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hidden page draws nothing; its frames must be acknowledged nevertheless."""
    monkeypatch.setattr("gamengen.player.engine.ACK_TIMEOUT_S", 1.0)
    tab = opened(new_tab(), pong)
    tab.evaluate("""(() => {
      window.drawn = []; window.requestAnimationFrame = (callback) => { drawn.push(callback); return 0; };
      Object.defineProperty(document, 'hidden', { value: true, configurable: true });
    })()""")
    tab.wait_for("drawn.length > 0")
    tab.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    time.sleep(3)
    assert tab.evaluate("page.state.paused")
    frame = tab.evaluate(FRAME)
    tab.evaluate("""(() => {
      window.requestAnimationFrame = (callback) => setTimeout(callback, 15);
      delete document.hidden;
      document.dispatchEvent(new Event('visibilitychange')); drawn.forEach((callback) => callback());
    })()""")
    tab.wait_for(f"{FRAME} > {frame} + 3")
    left(tab)


def test_the_real_game_stands_beside_the_dream(new_tab: Callable[[], Page], pong: Running, tmp_path: Path) -> None:
    """This dream is the real game: the panes are equal, the difference is none; recorded actions drive both."""
    tab = opened(new_tab(), pong)
    tab.click("#compare")
    tab.wait_for("!document.getElementById('figure-1').hidden")
    tab.click("[data-name=recorded]")
    tab.wait_for(f"{FRAME} > 10 && document.getElementById('divergence-now').textContent === '0.00 of 255 levels'")
    pictures = "[0, 1].map((pane) => document.getElementById(`pane-${pane}`).toDataURL())"
    assert len(set(tab.evaluate(pictures))) == 1
    tab.click("#record")
    tab.wait_for("document.getElementById('record-word').textContent === 'Stop'")
    keep(tab, tmp_path, "compare")
    tab.click("#record")
    tab.wait_for("!document.getElementById('clip-row').hidden")
    tab.key("ArrowRight", down=True)
    tab.wait_for("document.querySelector('[data-name=human]').getAttribute('aria-checked') === 'true'")
    tab.key("ArrowRight", down=False)
    left(tab)


def test_on_a_phone_it_fits_and_is_played_by_touch(new_tab: Callable[[], Page], pong: Running, tmp_path: Path) -> None:
    tab = opened(new_tab(), pong, width=390, height=844, phone=True)
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    tab.touch("#pad [data-key=ArrowLeft]", down=True)
    time.sleep(1.5)
    keep(tab, tmp_path, "phone")
    tab.wait_for("document.querySelector('#pad [data-key=ArrowLeft]').classList.contains('down')")
    low = paddle_height(tab)
    tab.touch("#pad [data-key=ArrowLeft]", down=False)
    tab.touch("#pad [data-key=ArrowRight]", down=True)
    time.sleep(1.5)
    assert paddle_height(tab) < low - 40
    tab.touch("#pad [data-key=ArrowRight]", down=False)
    small = tab.evaluate(
        "[...document.querySelectorAll('button, select, input[type=number]')].filter((e) => e.offsetParent && "
        "!e.closest('#map, #gallery') && e.getBoundingClientRect().height < 40).map((e) => e.id || e.textContent)"
    )
    assert small == [], "large enough for a finger"
    left(tab)


def test_keys_are_chosen_and_remembered(new_tab: Callable[[], Page]) -> None:
    with running(counter_source()) as player:
        tab = opened(new_tab(), player)
        tab.evaluate("document.getElementById('keys-card').open = true")
        tab.click("#map button:nth-of-type(2)")
        for key in "wd":
            tab.key(key, down=True)
        for key in "wd":
            tab.key(key, down=False)
        tab.wait_for("document.querySelector('#map button:nth-of-type(2)').textContent === 'w + d'")
        tab.open("about:blank")
        opened(tab, player)
        for key in "wd":
            tab.key(key, down=True)
        tab.wait_for("document.getElementById('doing').textContent === 'ACTION_1'")
        tab.key("w", down=False)
        tab.wait_for("document.getElementById('doing').textContent === 'ACTION_0'")
        tab.key("d", down=False)
        left(tab)


def test_the_steps_of_the_world_are_a_slider_and_who_is_late_is_told(new_tab: Callable[[], Page]) -> None:
    with running(counter_source(), max_clients=1) as player:
        tab, late = opened(new_tab(), player), new_tab()
        late.open(player.url + "/")
        late.wait_for("document.getElementById('veil-text').textContent.startsWith('All 1 places')")
        tab.evaluate(
            "(() => { const e = document.getElementById('option-stride'); e.value = 5;"
            " e.dispatchEvent(new Event('input')) })()"
        )
        tab.wait_for("document.querySelector('.option output').textContent === '5'")
        assert tab.evaluate("document.querySelector('#compare').disabled")
        left(tab)
        late.wait_for(f"{FRAME} > 3", timeout=30)
        late.open("about:blank")


def keep(tab: Page, folder: Path, name: str) -> None:
    """A screenshot, for people to look at."""
    tab.screenshot(Path(os.environ.get("GAMENGEN_SCREENSHOTS", folder)) / f"{name}.png")
