"""Start states: real prompts, chosen from episodes and shipped with every world in the episode row schema."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gamengen.contract import GameContract
from gamengen.dataset.episodes import NO_SEED, Episode, episode_from_rows, read_table, row_schema
from gamengen.dataset.frame_png import FrameEncoder
from gamengen.durable import write_file
from gamengen.manifest import verify_file
from gamengen.noise import key_of
from gamengen.world import Replay, StartState

START_STATES_FILE = "start_states.parquet"
_EXTRA_FIELDS = (
    pa.field("replay_actions", pa.list_(pa.int32())),
    pa.field("future_actions", pa.list_(pa.int32())),
)
"""Both in the last row of a state: what was done before it since the episode began, and what was done next."""


def start_states(
    episodes: Iterable[Episode], game: GameContract, context_length: int, num_states: int, horizon: int, seed: int = 0
) -> list[StartState]:
    """Choose states at random over all frames, each with `horizon` recorded actions left after its last frame.

    Args:
        episodes: read once, one in memory at a time; their order does not matter.
        context_length: frames of a state (L). Where the episode is younger the state is shorter, and the border
            rule of `windows` pads it.
        num_states: at most; fewer where the episodes hold fewer.
    Returns:
        States with their replay, named `episode <id> frame <t>` (see `locate`), in order of the name.
    Raises:
        ValueError: no episode is long enough.
    """
    kept: list[tuple[float, str, StartState]] = []  # a heap: the largest keys of all candidates stay
    longest = 0
    for episode in episodes:
        longest = max(longest, len(episode.actions))
        keys = np.random.default_rng(key_of("start_states", seed, episode.episode_id)).random(len(episode.frames))
        for t in range(len(episode.actions) - horizon + 1):
            if len(kept) < num_states or keys[t] > kept[0][0]:
                state = state_at(episode, t, context_length, horizon)
                candidate = (float(keys[t]), state.name, state)
                (heapq.heappush if len(kept) < num_states else heapq.heapreplace)(kept, candidate)
    if not kept:
        raise ValueError(
            f"no episode has a frame with {horizon} recorded actions after it (the longest has {longest}); "
            "ask for a shorter horizon or record longer episodes"
        )
    states = [state for _, _, state in sorted(kept, key=lambda item: item[1])]
    for state in states:
        state.check(game)
    return states


def state_at(episode: Episode, frame: int, context_length: int, horizon: int) -> StartState:
    """The state of an episode at `frames[frame]`, with up to `context_length` frames and `horizon` future actions."""
    first = max(0, frame - context_length + 1)
    replay = Replay(episode.seed, episode.actions[:frame].copy(), episode.noop_starts)
    return StartState(
        frames=episode.frames[first : frame + 1].copy(), actions=episode.actions[first:frame].copy(),
        replay=None if episode.seed == NO_SEED else replay,
        future_actions=episode.actions[frame : frame + horizon].copy(),
        name=f"episode {episode.episode_id} frame {frame:06d}",
    )  # fmt: skip


def locate(name: str) -> tuple[str, int]:
    """(episode id, index of the newest frame) from a state's name; ValueError for a state from elsewhere."""
    words = name.split()
    if len(words) != 4 or words[0] != "episode" or words[2] != "frame" or not words[3].isdigit():
        raise ValueError(f"start state {name!r} does not name its episode; expected `episode <id> frame <t>`")
    return words[1], int(words[3])


def check_filled(states: Iterable[StartState], context_length: int, folder: str | Path) -> None:
    """Refuse states that do not fill a context although their episodes had the frames: play would begin as no training
    window does, with a frame of mid-game repeated as if the game began there.

    Args:
        folder: of the latents that the states came with, for the error.
    Raises:
        ValueError: a state was cut shorter than `context_length`. One whose name does not `locate` is left alone.
    """
    for state in states:
        try:
            _, frame = locate(state.name)
        except ValueError:
            continue  # of a person, or from elsewhere: nobody knows what was before it
        if len(state.frames) < min(context_length, frame + 1):
            raise ValueError(
                f"{folder}: the context takes {context_length} frames, start state {state.name!r} holds "
                f"{len(state.frames)} of the {frame + 1} that were there; make the latents in a new folder with "
                f"encode_latents.py --start_state_frames {context_length}, or lower --context_length"
            )


def write_start_states(path: str | Path, states: Sequence[StartState], game: GameContract | None = None) -> None:
    """Write states as parquet: the rows of each are an episode of its own, named like the state.

    Args:
        game: stored with them where it is known.
    """
    encoder = FrameEncoder()
    rows = []
    for number, state in enumerate(states):
        for step, frame in enumerate(state.frames):
            last = step == len(state.frames) - 1
            rows.append({
                "episode_id": state.name, "step": step, "image": {"bytes": encoder.encode(frame), "path": None},
                "action": None if last else int(state.actions[step]), "reward": None, "terminated": False,
                "truncated": last, "stream_id": "start_states", "index_in_stream": number, "agent": "",
                "seed": NO_SEED if state.replay is None else state.replay.seed,
                "noop_starts": 0 if state.replay is None else state.replay.noop_starts,
                "replay_actions": state.replay.actions.tolist() if last and state.replay is not None else None,
                "future_actions": state.future_actions.tolist() if last and state.future_actions is not None else None,
            })  # fmt: skip
    table = pa.Table.from_pylist(rows, schema=row_schema(game, _EXTRA_FIELDS))
    write_file(path, lambda file: pq.write_table(table, file, compression="zstd", write_page_checksum=True))


def read_start_states(path: str | Path) -> list[StartState]:
    """What `write_start_states` wrote.

    Raises:
        FileNotFoundError, ValueError: missing or damaged, by name.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: expected the start states of a world")
    verify_file(path)
    table = read_table(path.read_bytes(), None, path)
    extra = [field.name for field in _EXTRA_FIELDS]
    if not set(extra) <= set(table.column_names):
        raise ValueError(f"{path} does not hold start states: expected the columns {extra}")
    before, after = (table.column(name).to_pylist() for name in extra)
    numbers = table.column("index_in_stream").to_pylist()
    ends = [row + 1 for row in range(len(numbers)) if row + 1 == len(numbers) or numbers[row] != numbers[row + 1]]
    states = []
    for start, end in zip([0, *ends], ends, strict=False):
        rows = table.slice(start, end - start).drop_columns(extra)
        episode = episode_from_rows(rows, split="", where=f"{path}, rows {start} to {end - 1}")
        actions = np.array(before[end - 1] or [], np.int64)
        replay = None if episode.seed == NO_SEED else Replay(episode.seed, actions, episode.noop_starts)
        future = None if after[end - 1] is None else np.array(after[end - 1], np.int64)
        states.append(StartState(episode.frames, episode.actions, replay, future, episode.episode_id))
    return states
