"""What a trained agent sees: grey 84x84, four of them. Never used for the world model."""

from __future__ import annotations

import numpy as np

OBSERVATION_SIZE = 84
STACK_LENGTH = 4


def grey_observation(frame: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3) -> uint8 (84, 84).

    Source: Mnih et al. 2015, as Stable-Baselines3's WarpFrame does it (luma, area interpolation). Departure: of the
    recorded frame, so without max-pooling unless the stream has it.
    """
    try:
        import cv2
    except ImportError as error:
        raise ValueError('trained agents need opencv: pip install "gamengen[record]"') from error
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.resize(grey, (OBSERVATION_SIZE, OBSERVATION_SIZE), interpolation=cv2.INTER_AREA))


class FrameStack:
    """The last four observations of one game, `stride` recorded frames apart; begins with the first one repeated."""

    def __init__(self, stride: int = 1) -> None:
        self._stride = stride
        self._past = np.zeros(((STACK_LENGTH - 1) * stride + 1, OBSERVATION_SIZE, OBSERVATION_SIZE), np.uint8)

    def reset(self, frame: np.ndarray) -> None:
        """Begin an episode with its first frame, uint8 (H, W, 3)."""
        self._past[:] = grey_observation(frame)

    def push(self, frame: np.ndarray) -> None:
        """Add the next recorded frame."""
        self._past[:-1] = self._past[1:]
        self._past[-1] = grey_observation(frame)

    def observation(self) -> np.ndarray:
        """uint8 (4, 84, 84), oldest first, a fresh array."""
        return self._past[:: self._stride].copy()
