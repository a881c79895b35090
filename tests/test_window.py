"""gamengen.window: shows what it is given, and says what it needs."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from gamengen.window import MIN_HEIGHT, Window


def test_it_shows_the_frame_enlarged_by_a_whole_number() -> None:
    pygame = pytest.importorskip("pygame", reason="the extra `human` is not installed")
    frame = np.random.default_rng(0).integers(0, 256, (30, 20, 3), dtype=np.uint8)
    window = Window(30, 20, fps=1000, title="test")
    assert not pygame.display.get_init() or pygame.display.get_surface() is None
    for shown in (frame, frame[::-1]):
        window.show(shown)
        screen = pygame.surfarray.array3d(pygame.display.get_surface()).swapaxes(0, 1)
        scale = screen.shape[0] // 30
        assert screen.shape == (30 * scale, 20 * scale, 3) and screen.shape[0] >= MIN_HEIGHT
        assert np.array_equal(screen, shown.repeat(scale, axis=0).repeat(scale, axis=1))
    assert pygame.display.get_caption()[0] == "test"
    window.close()
    window.close()
    assert not pygame.display.get_init()


def test_without_pygame_it_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pygame", None)
    with pytest.raises(ImportError, match=r'pip install "gamengen\[human\]"'):
        Window(210, 160, fps=15, title="test")
