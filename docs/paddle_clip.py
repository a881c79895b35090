"""A little game to try docs/own-game.md with: a ball, a paddle, a screen recording of it and the log of the keys.

Draws the game with NumPy, lets a careless player play it, and writes what a screen recorder and a key logger would have
written: OUTPUT_DIR/clip-00.mp4 and clip-00.csv, and so on. The same arguments give the same files.

Example:
    python docs/paddle_clip.py --output_dir recordings
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np

from gamengen.media import write_animation

HEIGHT, WIDTH, FPS = 64, 80, 15
BALL, PADDLE_HEIGHT, PADDLE_LEFT, SPEED = 4, 14, 4, 3
GROUND, WALL, WHITE, PADDLE = (24, 28, 60), (90, 96, 130), (240, 240, 240), (240, 120, 32)
KEYS = {-1: "w", 0: None, 1: "s"}
"""How the paddle moves -> what the player presses for it."""


class PaddleGame:
    """One step a frame; the direction pressed on seeing a frame shows in the next one."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self.paddle = HEIGHT // 2 - PADDLE_HEIGHT // 2
        self._serve()

    def step(self, direction: int) -> None:
        """Move the paddle by -1, 0 or 1 and the ball by its velocity."""
        self.paddle = int(np.clip(self.paddle + direction * SPEED, 2, HEIGHT - 2 - PADDLE_HEIGHT))
        self.ball += self._velocity
        if not 2 <= self.ball[0] <= HEIGHT - 2 - BALL:
            self._velocity[0] *= -1
            self.ball[0] = np.clip(self.ball[0], 2, HEIGHT - 2 - BALL)
        if self.ball[1] > WIDTH - 2 - BALL:
            self._velocity[1] *= -1
        meets = self.paddle - BALL < self.ball[0] < self.paddle + PADDLE_HEIGHT
        if self._velocity[1] < 0 and self.ball[1] <= PADDLE_LEFT + 2 and meets:
            self._velocity[1] *= -1
        elif self.ball[1] < 0:
            self._serve()

    def draw(self) -> np.ndarray:
        """uint8 (HEIGHT, WIDTH, 3)."""
        frame = np.full((HEIGHT, WIDTH, 3), GROUND, np.uint8)
        frame[:2], frame[-2:], frame[:, -2:] = WALL, WALL, WALL
        frame[self.paddle : self.paddle + PADDLE_HEIGHT, PADDLE_LEFT - 2 : PADDLE_LEFT + 2] = PADDLE
        top, left = self.ball.round().astype(int)
        frame[max(top, 0) : top + BALL, max(left, 0) : left + BALL] = WHITE
        return frame

    def _serve(self) -> None:
        self.ball = np.array([self._random.uniform(10, HEIGHT - 14), WIDTH * 0.6])
        self._velocity = np.array([self._random.choice([-2.0, -1.0, 1.0, 2.0]), -3.0])


def play(seed: int, num_frames: int) -> tuple[np.ndarray, list[tuple[float, str, str]]]:
    """Frames uint8 (num_frames, HEIGHT, WIDTH, 3), and the key log: (seconds, key, down or up)."""
    game, random = PaddleGame(seed), np.random.default_rng([seed, 1])
    frames, events, direction, hold = [], [], 0, 0
    for t in range(num_frames):
        frames.append(game.draw())
        before = direction
        if hold == 0:
            hold = int(random.integers(1, 8))
            aim = np.sign(game.ball[0] + BALL / 2 - game.paddle - PADDLE_HEIGHT / 2)
            direction = int(random.integers(-1, 2)) if random.random() < 0.4 else int(aim)
        hold -= 1
        if direction != before:
            # The hand was there between the last frame and this one: the game reads the keys once a frame.
            seconds = max(t - float(random.uniform(0, 0.9)), 0.0) / FPS
            events += [(seconds, key, "up") for key in [KEYS[before]] if key]
            events += [(seconds, key, "down") for key in [KEYS[direction]] if key]
        game.step(direction)
    return np.stack(frames), events


def main() -> None:
    """Write the clips."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", required=True)
    parser.add_argument("--num_clips", type=int, default=12)
    parser.add_argument("--num_frames", type=int, default=600, help="of each clip, 15 a second")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    folder = Path(arguments.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    for clip in range(arguments.num_clips):
        frames, events = play(arguments.seed + clip, arguments.num_frames)
        path = write_animation(folder / f"clip-{clip:02d}.mp4", frames, FPS)
        with open(path.with_suffix(".csv"), "w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["time", "key", "event"])
            rows.writerows((f"{seconds:.4f}", key, event) for seconds, key, event in events)
        print(f"wrote {path}: {len(frames)} frames, {len(events)} key events")


if __name__ == "__main__":
    main()
