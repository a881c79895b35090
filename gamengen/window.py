"""A window that shows frames as they come: `render_mode="human"`."""

from __future__ import annotations

import numpy as np

MIN_HEIGHT = 400
"""Pixels: smaller frames are enlarged by a whole number until the window is at least this high."""


class Window:
    """Opens with the first frame. Needs pygame, by the extra `human`.

    Args:
        fps: `show` waits so that no more frames a second are shown.
    Raises:
        ImportError: pygame is not installed.
    """

    def __init__(self, height: int, width: int, fps: float, title: str) -> None:
        try:
            import pygame
        except ImportError as error:
            raise ImportError(
                'render_mode="human" needs pygame: pip install "gamengen[human]"; render_mode="rgb_array" does without'
            ) from error
        self._pygame = pygame
        scale = -(-MIN_HEIGHT // height)
        self._size, self._fps, self._title = (width * scale, height * scale), fps, title
        self._screen: pygame.Surface | None = None
        self._clock = pygame.time.Clock()

    def show(self, frame: np.ndarray) -> None:
        """Show uint8 RGB (H, W, 3)."""
        pygame = self._pygame
        if self._screen is None:
            pygame.display.init()
            self._screen = pygame.display.set_mode(self._size)
            pygame.display.set_caption(self._title)
        surface = pygame.surfarray.make_surface(frame.swapaxes(0, 1))
        pygame.transform.scale(surface, self._size, self._screen)
        pygame.event.pump()  # or the system thinks that the window hangs
        pygame.display.flip()
        self._clock.tick(self._fps)

    def close(self) -> None:
        """Close the window; `show` would open another."""
        if self._screen is not None:
            self._pygame.display.quit()
            self._screen = None
