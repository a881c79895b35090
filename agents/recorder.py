"""Records the play of a mix of policies in parallel games; a run that was killed goes on as if it had not been."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from agents.observation import FrameStack
from agents.policies import DecisionContext, Policy
from agents.stream import GameStream, StreamSettings, fire_action
from gamengen.contract import GameContract, to_dict
from gamengen.dataset.episode_writer import ROWS_PER_FILE, EpisodeWriter, open_dataset
from gamengen.dataset.splits import spread_choice
from gamengen.durable import folder_lock


@dataclass(frozen=True)
class Player:
    """One policy of the mix."""

    policy: Policy
    share: float = 1.0
    """Of the episodes, relative to the other players."""
    epsilon: float = 0.0
    """Probability that a decision is replaced by a random action."""
    source: str = ""
    """What the policy was loaded from (path and sha256): another one starts other streams."""

    @property
    def name(self) -> str:
        """In the dataset's column `agent`."""
        return f"{self.policy.name}@{self.epsilon:g}" if 0 < self.epsilon < 1 else self.policy.name

    @property
    def fire_on_reset(self) -> bool:
        """Fire is pressed for it where a game or a life begins. Only trained policies say so."""
        return bool(getattr(self.policy, "fire_on_reset", False))


@dataclass(frozen=True, kw_only=True)
class RecorderSettings:
    """How long and how. All but `num_steps` is part of a stream's name: the same settings continue its streams.

    How the games are shared out over processes is not: 8 games of one process and 4 of each of two give the same bytes.
    """

    num_steps: int
    """Actions to record, over all shards; a running episode is cut there, as truncated, and kept."""
    num_envs: int = 8
    """Parallel games of this process; those of all processes together are the recording's streams."""
    random_hold: tuple[int, int] = (1, 1)
    """Decisions for which a random action is kept, drawn from [min, max]: single random frames hardly move a paddle."""
    shard_id: int = 0
    num_shards: int = 1
    seed: int = 0
    max_episode_frames: int = 5_000
    rows_per_file: int = ROWS_PER_FILE
    validation_share: float = 0.05
    test_share: float = 0.05

    def __post_init__(self) -> None:
        if not 0 <= self.shard_id < self.num_shards:
            raise ValueError(f"shard_id {self.shard_id}: expected 0 to {self.num_shards - 1} (num_shards - 1)")
        if self.num_envs < 1 or self.num_steps < 1 or not 1 <= self.random_hold[0] <= self.random_hold[1]:
            raise ValueError(
                f"num_envs {self.num_envs}, num_steps {self.num_steps}, random_hold {self.random_hold}: "
                "expected at least 1 each, min <= max"
            )


@dataclass(frozen=True)
class Recorded:
    """What there is after (or, for progress, during) a recording, this process's streams only."""

    num_steps: int
    num_episodes: int
    mean_return: float
    """Of the episodes that ended in this run; nan before the first."""


class Recorder:
    """Plays `players` in parallel games and writes what they show into the dataset `folder`.

    The dataset depends on (game, players, settings) alone: not on when the recorder was killed, not on other
    processes that write into the same folder.

    Raises:
        ContractMismatch: the folder holds another game or other settings of the stream.
    """

    def __init__(
        self, folder: str | Path, game: GameContract, players: Sequence[Player], settings: RecorderSettings
    ) -> None:
        if not players or any(player.share <= 0 or not 0 <= player.epsilon <= 1 for player in players):
            raise ValueError("expected at least one player, shares above 0 and epsilons of 0 to 1")
        self.folder, self.game, self.players, self.settings = Path(folder), game, players, settings
        self.writer_id = f"record-{_digest(game, players, settings)}"

    def run(self, progress: Callable[[Recorded], None] = lambda recorded: None, progress_every: int = 100) -> Recorded:
        """Record until this process's share of `num_steps` is on disk.

        Raises:
            ValueError: another process records the same shard of the same recording.
        """
        open_dataset(self.folder, self.game)
        with contextlib.ExitStack() as stack:
            for env in range(self.settings.num_envs):
                try:
                    stack.enter_context(folder_lock(self.folder, f".{self._stream_id(env)}.lock", wait=False))
                except BlockingIOError as error:
                    raise ValueError(
                        f"another process records stream {self._stream_id(env)} into {self.folder}; give this one "
                        "another --seed, or both the same --num_shards and a --shard_id of their own"
                    ) from error
            slots = [self._slot(env) for env in range(self.settings.num_envs)]
            try:
                return self._record(slots, progress, progress_every)
            finally:
                for slot in slots:
                    slot.stream.close()

    def _stream_id(self, env: int) -> str:
        # The 000 was the shard's number once, when each had streams of its own: recordings of one process keep names.
        return f"{self.writer_id}-000-{self.settings.shard_id * self.settings.num_envs + env:03d}"

    def _slot(self, env: int) -> _Slot:
        settings = self.settings
        stream_number = settings.shard_id * settings.num_envs + env
        num_streams = settings.num_shards * settings.num_envs
        stream_id = self._stream_id(env)
        shared = StreamSettings(
            seed=settings.seed, num_streams=num_streams, max_episode_frames=settings.max_episode_frames,
            validation_share=settings.validation_share, test_share=settings.test_share,
        )  # fmt: skip
        writer = EpisodeWriter(self.folder, self.game, stream_id, rows_per_file=settings.rows_per_file)
        before, after = (settings.num_steps * number // num_streams for number in (stream_number, stream_number + 1))
        stream = GameStream(self.game, shared, stream_id, stream_number, writer)
        return _Slot(stream_number, stream, writer, after - before, self.players, settings)

    def _record(self, slots: list[_Slot], progress: Callable[[Recorded], None], progress_every: int) -> Recorded:
        running = [slot for slot in slots if slot.steps_left > 0]
        for slot in running:
            slot.begin()
        rounds = 0
        while running:
            _decide([slot for slot in running if slot.hold_left == 0])
            for slot in running:
                slot.step()
            running = [slot for slot in running if slot.steps_left > 0]
            rounds += 1
            if rounds % progress_every == 0:
                progress(_summary(slots))
        for slot in slots:
            slot.writer.flush()
        progress(_summary(slots))
        return _summary(slots)


class _Slot:
    """One of the parallel games: its stream, its number over all processes, and the decision that is in force."""

    def __init__(
        self, number: int, stream: GameStream, writer: EpisodeWriter, quota: int, players: Sequence[Player],
        settings: RecorderSettings,
    ) -> None:  # fmt: skip
        self.number, self.stream, self.writer, self.quota = number, stream, writer, quota
        self.returns: list[float] = []
        self.hold_left = 0
        self.player = players[0]
        self._players, self._settings = players, settings
        self._stack: FrameStack | None = None
        self._action = 0
        self._random_left = 0
        self._fire = fire_action(stream.game)
        self._fire_due = self._life_lost = False

    @property
    def steps_left(self) -> int:
        return self.quota - self.writer.num_steps

    def begin(self) -> None:
        """Start the next episode with the player whose turn it is."""
        shares = [player.share for player in self._players]
        offset = self._settings.seed * 0.5**0.5
        self.player = self._players[spread_choice(self.stream.episode_number, shares, offset)]
        self.stream.begin(self.player.name)
        self.hold_left = self._random_left = 0
        self._begin_life()
        skip = self.player.policy.observation_skip
        self._stack = None if skip is None else FrameStack(max(1, round(skip / self.stream.game.frame_skip)))
        if self._stack is not None:
            self._stack.reset(self.stream.frame)

    def draw_random(self) -> bool:
        """Whether chance decides this time; draws how long the decision is held."""
        rng, (low, high) = self.stream.rng, self.stream.game.hold
        self.hold_left = int(rng.integers(low, high + 1))
        chance = rng.random() < self.player.epsilon
        if self._random_left > 0:
            self._random_left -= 1
            return True
        if chance:
            low, high = self._settings.random_hold
            self._random_left = int(rng.integers(low, high + 1)) - 1
            self._action = int(rng.integers(self.stream.game.num_actions))
        return bool(chance)

    def context(self) -> DecisionContext:
        """What the policy sees."""
        observation = None if self._stack is None else self._stack.observation()
        return DecisionContext(
            self.number, self.stream.rng, self.stream.frame, self.stream.ram, observation, self.stream.seed
        )

    def decide(self, action: int) -> None:
        """The policy's answer."""
        self._action = action

    def step(self) -> None:
        """One recorded frame under the decision in force, or under the fire button where a life begins."""
        lives = self.stream.lives
        _, terminated, truncated = self.stream.step(self._fire if self._fire_due else self._action)
        self.hold_left -= 1
        self._fire_due = False
        self._life_lost |= lives is not None and self.stream.lives is not None and self.stream.lives < lives
        ended = terminated or truncated
        if not ended and self.steps_left == 0:
            self.stream.cut()
            ended = True
        if ended:
            self.returns.append(self.stream.episode_return)
            if self.steps_left > 0:
                self.begin()
            return
        if self._stack is not None:
            self._stack.push(self.stream.frame)
        if self._life_lost and self.hold_left == 0:
            self._begin_life()

    def _begin_life(self) -> None:
        """Press fire in the next recorded frame for a policy in whose training that was done for it."""
        self._life_lost = False
        if self.player.fire_on_reset and self._fire is not None:
            self._fire_due, self.hold_left = True, 1


def _decide(slots: Sequence[_Slot]) -> None:
    """New decisions for the slots, each policy asked once with all that are its own."""
    asking: dict[int, list[_Slot]] = {}
    for slot in slots:
        if not slot.draw_random():
            asking.setdefault(id(slot.player.policy), []).append(slot)
    for group in asking.values():
        actions = group[0].player.policy.act([slot.context() for slot in group])
        for slot, action in zip(group, actions, strict=True):
            slot.decide(action)


def _summary(slots: Sequence[_Slot]) -> Recorded:
    returns = [value for slot in slots for value in slot.returns]
    return Recorded(
        num_steps=sum(slot.writer.num_steps for slot in slots),
        num_episodes=sum(slot.writer.num_episodes for slot in slots),
        mean_return=float(np.mean(returns)) if returns else float("nan"),
    )  # fmt: skip


def _digest(game: GameContract, players: Sequence[Player], settings: RecorderSettings) -> str:
    values = asdict(settings)
    for name in ("num_steps", "shard_id"):
        del values[name]
    # As if one process played them all.
    values |= {"num_envs": settings.num_envs * settings.num_shards, "num_shards": 1}
    mix = [(player.name, player.share, player.epsilon, player.source) for player in players]
    return hashlib.blake2b(json.dumps([to_dict(game), mix, values], sort_keys=True).encode(), digest_size=4).hexdigest()
