"""Writing episodes: complete ones only, several in a file, the index last, so that a kill loses what was unfinished."""

from __future__ import annotations

import hashlib
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gamengen.contract import (
    CONTRACT_FILE,
    GameContract,
    check_actions,
    check_compatible,
    read_game_contract,
    write_contract,
)
from gamengen.dataset.episodes import DATA_FOLDER, SPLITS, STREAM_FOLDER, Episode, read_stream, row_schema
from gamengen.dataset.frame_png import FrameEncoder
from gamengen.durable import TEMPORARY_SUFFIX, folder_lock, write_bytes, write_sealed_json
from gamengen.frames import check_size
from gamengen.hub.dataset_card import dataset_card
from gamengen.hub.world_card import CARD_FILE

ROWS_PER_FILE = 2048
"""A file is written when its complete episodes hold this many rows; so a kill loses less than that and one episode."""
_ROWS_PER_GROUP = 512


class EpisodeWriter:
    """Writes one stream of episodes into a dataset folder, frame by frame; continues where the stream stopped.

    A stream's files depend on its episodes alone: rewriting the same episodes gives the same bytes.

    Args:
        folder: made when it does not exist; refused when it was made under another contract.
        game: whose default keys do not matter where the folder has its own: its files all hold the folder's contract.
        stream_id: unique in the dataset, letters, digits, `-` and `_`; episodes of a stream follow one another.
        rows_per_file: see `ROWS_PER_FILE`.
    Raises:
        ContractMismatch: the folder's contract differs.
        ValueError: the folder is not a dataset.
    """

    def __init__(
        self, folder: str | Path, game: GameContract, stream_id: str, *, rows_per_file: int = ROWS_PER_FILE
    ) -> None:
        if not stream_id or not all(c.isalnum() or c in "-_" for c in stream_id):
            raise ValueError(f"stream id {stream_id!r}: expected letters, digits, - and _")
        self.folder, self.stream_id = Path(folder), stream_id
        self.game = open_dataset(self.folder, game)
        self._rows_per_file = rows_per_file
        self._schema = row_schema(self.game)
        self._encoder = FrameEncoder()
        fresh: dict[str, Any] = {"version": 1, "stream_id": stream_id, "files": [], "episodes": []}
        self._index: dict[str, Any] = read_stream(folder, stream_id) or fresh
        self._remove_leftovers()
        self._num_steps: int = sum(info["num_frames"] - 1 for info in self._index["episodes"])
        self._waiting: list[tuple[dict[str, Any], list[dict[str, Any]]]] = []  # complete episodes: (info, rows)
        self._rows: list[dict[str, Any]] = []
        self._info: dict[str, Any] = {}

    @property
    def num_episodes(self) -> int:
        """Complete episodes, on disk or waiting for their file."""
        return len(self._index["episodes"]) + len(self._waiting)

    @property
    def num_steps(self) -> int:
        """Actions of the complete episodes and of the one that runs."""
        return self._num_steps + max(len(self._rows) - 1, 0)

    def begin(
        self, frame: np.ndarray, *, seed: int, noop_starts: int = 0, split: str = "train", agent: str = "",
        lives: int | None = None, ram: np.ndarray | None = None,
    ) -> None:  # fmt: skip
        """Start an episode with `frames[0]`, uint8 (H, W, 3). One that runs and was not ended is dropped."""
        if split not in SPLITS:
            raise ValueError(f"unknown split {split!r}; expected one of: {', '.join(SPLITS)}")
        index = self.num_episodes
        self._info = {
            "episode_id": f"{self.stream_id}-{index:06d}", "stream_id": self.stream_id, "index_in_stream": index,
            "seed": seed, "noop_starts": noop_starts, "split": split, "agent": agent,
        }  # fmt: skip
        self._rows = []
        self._add_row(frame, lives, ram)

    def append(
        self, action: int, reward: float, frame: np.ndarray, *, lives: int | None = None, ram: np.ndarray | None = None
    ) -> None:
        """`actions[t]`, its reward, and `frames[t + 1]` that they led to."""
        if not self._rows:
            raise ValueError(f"{self.stream_id}: no episode runs; call begin first")
        check_actions((action,), self.game, f"{self.stream_id}, step {len(self._rows) - 1}")
        self._rows[-1] |= {"action": int(action), "reward": float(reward)}
        self._add_row(frame, lives, ram)

    def end(self, terminated: bool, truncated: bool) -> None:
        """The running episode is complete; its file is written as soon as it is full."""
        if len(self._rows) < 2:
            raise ValueError(f"{self.stream_id}: an episode needs at least one action before it ends")
        self._rows[-1] |= {"terminated": bool(terminated), "truncated": bool(truncated)}
        rewards = [row["reward"] for row in self._rows[:-1]]
        self._info |= {
            "num_frames": len(self._rows), "episode_return": float(np.sum(rewards)),
            "terminated": bool(terminated), "truncated": bool(truncated),
        }  # fmt: skip
        self._waiting.append((self._info, self._rows))
        self._num_steps += len(self._rows) - 1
        self._rows, self._info = [], {}
        if sum(len(rows) for _, rows in self._waiting) >= self._rows_per_file:
            self.flush()

    def write(self, episode: Episode) -> None:
        """Add a whole episode; its ids are this stream's, not those it came with."""
        lives = [None] * len(episode.frames) if episode.lives is None else [int(count) for count in episode.lives]
        ram = [None] * len(episode.frames) if episode.ram is None else list(episode.ram)
        self.begin(
            episode.frames[0], seed=episode.seed, noop_starts=episode.noop_starts, split=episode.split,
            agent=episode.agent, lives=lives[0], ram=ram[0],
        )  # fmt: skip
        for t, action in enumerate(episode.actions):
            reward = float(episode.rewards[t])
            self.append(int(action), reward, episode.frames[t + 1], lives=lives[t + 1], ram=ram[t + 1])
        self.end(episode.terminated, episode.truncated)

    def flush(self) -> None:
        """Write the complete episodes that wait: one file a split, then the stream's index."""
        if not self._waiting:
            return
        first = self._waiting[0][0]["index_in_stream"]
        index = {**self._index, "files": list(self._index["files"])}  # ours changes when all is on the disk
        for split in SPLITS:
            chosen = [(info, rows) for info, rows in self._waiting if info["split"] == split]
            if chosen:
                name = f"{DATA_FOLDER}/{split}-{self.stream_id}-{first:06d}.parquet"
                index["files"].append(self._write_file(name, split, chosen))
        index["episodes"] = [*self._index["episodes"], *(info for info, _ in self._waiting)]
        write_sealed_json(self.folder / STREAM_FOLDER / f"{self.stream_id}.json", index)
        self._index, self._waiting = index, []
        write_card(self.folder, self.game)

    def _write_file(
        self, name: str, split: str, episodes: list[tuple[dict[str, Any], list[dict[str, Any]]]]
    ) -> dict[str, Any]:
        """The file's entry in the index."""
        rows: list[dict[str, Any]] = []
        for info, episode_rows in episodes:
            info |= {"file": name, "first_row": len(rows)}
            rows += episode_rows
        buffer = io.BytesIO()
        pq.write_table(
            pa.Table.from_pylist(rows, schema=self._schema), buffer, compression="zstd", write_page_checksum=True,
            row_group_size=_ROWS_PER_GROUP,
        )  # fmt: skip
        data = buffer.getvalue()
        write_bytes(self.folder / name, data)
        entry = {"file": name, "split": split, "rows": len(rows), "bytes": len(data)}
        return entry | {"sha256": hashlib.sha256(data).hexdigest()}

    def _remove_leftovers(self) -> None:
        """Files of a kill between a data file and its index: `datasets.load_dataset` would read them."""
        known = {Path(entry["file"]).name for entry in self._index["files"]}
        ours = re.compile(rf"({'|'.join(SPLITS)})-{re.escape(self.stream_id)}-\d{{6}}\.parquet(\.tmp)?")
        for path in (self.folder / DATA_FOLDER).iterdir():
            if ours.fullmatch(path.name) and path.name not in known:
                path.unlink()
        (self.folder / STREAM_FOLDER / f"{self.stream_id}.json{TEMPORARY_SUFFIX}").unlink(missing_ok=True)
        if known:
            write_card(self.folder, self.game)  # the kill may have come just before

    def _add_row(self, frame: np.ndarray, lives: int | None, ram: np.ndarray | None) -> None:
        where = f"{self.stream_id}, frame {len(self._rows)}"
        check_size(frame.shape[0], frame.shape[1], self.game.frame_height, self.game.frame_width, where)
        info = self._info
        self._rows.append({
            "episode_id": info["episode_id"], "step": len(self._rows),
            "image": {"bytes": self._encoder.encode(frame), "path": None}, "action": None, "reward": None,
            "terminated": False, "truncated": False, "stream_id": self.stream_id,
            "index_in_stream": info["index_in_stream"], "seed": info["seed"], "noop_starts": info["noop_starts"],
            "agent": info["agent"], "lives": lives, "ram": None if ram is None else ram.tobytes(),
        })  # fmt: skip


def open_dataset(folder: str | Path, game: GameContract) -> GameContract:
    """Make a dataset folder, or check that an existing one has this contract.

    Returns:
        The folder's own contract: as `game`, but for the default keys, which are the player's taste.
    Raises:
        ContractMismatch: names every field that differs.
        ValueError: the folder holds something else.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with folder_lock(folder):
        (folder / f"{CONTRACT_FILE}{TEMPORARY_SUFFIX}").unlink(missing_ok=True)
        if (folder / CONTRACT_FILE).is_file():
            check_compatible(game, read_game_contract(folder), "this recording", folder / CONTRACT_FILE)
        else:
            foreign = sorted(item.name for item in folder.iterdir() if not item.name.startswith("."))
            foreign = [name for name in foreign if name not in (DATA_FOLDER, STREAM_FOLDER, f"{CONTRACT_FILE}.tmp")]
            if foreign:
                raise ValueError(f"{folder} is not an episode dataset (it holds {foreign[0]!r}); choose another")
            write_contract(folder, game)
        (folder / DATA_FOLDER).mkdir(exist_ok=True)
        (folder / STREAM_FOLDER).mkdir(exist_ok=True)
        return read_game_contract(folder)


def write_card(folder: Path, game: GameContract) -> None:
    """README.md names the splits that have a file: a pattern without a file would stop `load_dataset`."""
    splits = [split for split in SPLITS if any((folder / DATA_FOLDER).glob(f"{split}-*.parquet"))]
    card = dataset_card(game, splits).encode()
    path = folder / CARD_FILE
    with folder_lock(folder):
        path.with_name(path.name + TEMPORARY_SUFFIX).unlink(missing_ok=True)
        if not path.is_file() or path.read_bytes() != card:
            write_bytes(path, card)
