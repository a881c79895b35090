"""Clips become episodes of a dataset: each is checked, staged beside, published whole; a killed import goes on."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gamengen.dataset.episode_writer import ROWS_PER_FILE, EpisodeWriter, open_dataset, write_card
from gamengen.dataset.episodes import DATA_FOLDER, NO_SEED, STREAM_FOLDER, read_stream
from gamengen.dataset.splits import split_of
from gamengen.durable import folder_lock, fsync_folder, read_json, write_json
from gamengen.importing.clip_reader import ClipReader, MotionSample
from gamengen.importing.clips import Clip
from gamengen.importing.colours import ColourCount, check_same_order
from gamengen.importing.offset import MAX_STEPS, OffsetEstimate
from gamengen.importing.spec import ImportSpec
from gamengen.importing.steps import Piece, cut_episodes

REPORT_FOLDER = "imports"
_STAGE_FOLDER = ".importing"
_CLIP_FILE = ".clip.json"
_CHECKED_SHIFT = 3
_COLOUR_EVERY = 64
"""Frames between two of which the colours are counted."""


@dataclass(frozen=True, kw_only=True)
class ImportSettings:
    """How clips become episodes."""

    name: str = "import"
    """Of this import in the dataset; imports with different descriptions need different names."""
    max_episode_frames: int = 5_000
    """Actions of an episode; longer ones are cut into several."""
    validation_share: float = 0.05
    test_share: float = 0.05
    rows_per_file: int = ROWS_PER_FILE

    def __post_init__(self) -> None:
        if self.max_episode_frames < 1:
            raise ValueError(f"max_episode_frames {self.max_episode_frames}: expected at least 1")
        if not self.name or not all(c.isalnum() or c in "-_" for c in self.name):
            raise ValueError(f"name {self.name!r}: expected letters, digits, - and _")
        split_of(0, self.validation_share, self.test_share)


@dataclass(frozen=True)
class ClipReport:
    """What became of a clip. Written as imports/<name>-<clip>.json."""

    clip: str
    where: str
    fingerprint: str
    log_kind: str
    source_frames: int
    source_fps: float
    source_size: tuple[int, int]
    """Height, width."""
    ticks: int
    repeated_ticks: int
    unshown_frames: int
    episodes: int
    steps: int
    actions: list[int]
    """Steps of each action of the table."""
    dropped: dict[str, int]
    """Reason -> frames."""
    notes: dict[str, int]
    """What was passed over or decided -> how often."""
    remarks: list[str]
    """What a person should know of the source."""
    palette: list[list[list[float]]]

    def lines(self) -> list[str]:
        """For people."""
        text = [
            f"{self.clip}: {self.source_frames} frames at {self.source_fps:.4g} a second -> {self.episodes} episodes, "
            f"{self.steps} steps ({self.log_kind})"
        ]
        if self.repeated_ticks or self.unshown_frames:
            text.append(f"  {self.unshown_frames} source frames not taken, {self.repeated_ticks} shown twice")
        text += [f"  dropped: {count} {reason}" for reason, count in self.dropped.items()]
        text += [f"  {what}: {count}" for what, count in self.notes.items()]
        return [*text, *(f"  {remark}" for remark in self.remarks)]


@dataclass(frozen=True)
class Imported:
    """What an import gave."""

    clips: list[ClipReport]
    """Of all clips of the input, those imported before too."""
    new_clips: list[ClipReport]
    offset: OffsetEstimate | None
    """Of the newly imported clips, under the YAML's `action_offset`."""


class Importer:
    """Imports clips into the dataset `folder`.

    Every clip is a stream of its own and appears whole or not at all. What an import writes depends on its clips,
    description and settings alone: not on when it was killed, nor on others, of other names, into the same folder.
    """

    def __init__(self, folder: str | Path, spec: ImportSpec, settings: ImportSettings) -> None:
        self.folder, self.spec, self.settings = Path(folder), spec, settings
        self.game = spec.contract()
        self._sample = MotionSample(spec, _CHECKED_SHIFT, MAX_STEPS)
        self._stages = self.folder / _STAGE_FOLDER / settings.name

    def run(self, clips: Sequence[Clip], progress: Callable[[str, int, int], None] = lambda *_: None) -> Imported:
        """Import what is not imported yet.

        Args:
            progress: is told (clip, ticks done, ticks of the clip).
        Raises:
            ContractMismatch: the folder holds another game or other settings of the stream.
            ValueError: a clip that cannot be imported, by its place; those before it are in the dataset. A clip that
                was changed since it was imported. Another import into this folder under this name runs.
        """
        self.game = open_dataset(self.folder, self.game)
        (self.folder / REPORT_FOLDER).mkdir(exist_ok=True)
        with self._locked():
            self._clear_stages({self._stream(clip) for clip in clips})
            reports = {clip.name: report for clip in clips if (report := self._done_before(clip)) is not None}
            new_clips: list[ClipReport] = []
            for clip in clips:
                if clip.name not in reports:
                    number = sum(report.episodes for report in reports.values())
                    reports[clip.name] = self._import(clip, number, next(iter(reports.values()), None), progress)
                    new_clips.append(reports[clip.name])
            shutil.rmtree(self._stages, ignore_errors=True)
            write_card(self.folder, self.game)
        estimate = self._sample.estimate() if new_clips else None
        return Imported([reports[clip.name] for clip in clips], new_clips, estimate)

    def _import(
        self, clip: Clip, number: int, reference: ClipReport | None, progress: Callable[[str, int, int], None]
    ) -> ClipReport:
        """One clip, whose first episode has this number in the import; `reference` is another clip of it."""
        fingerprint = clip.fingerprint()
        reader = ClipReader(clip, self.spec)
        dropped: Counter[str] = Counter()
        pieces = cut_episodes(reader.steps, self.settings.max_episode_frames, dropped)
        if not pieces:
            raise ValueError(
                f"{clip.where}: no episode in it, {dict(dropped)}; expected two frames with an action between"
            )
        stage = self._open_stage(clip, fingerprint)
        writer = EpisodeWriter(stage, self.game, self._stream(clip), rows_per_file=self.settings.rows_per_file)
        colours = ColourCount(self.spec.known_colours)
        episodes = _EpisodeFeed(writer, reader, pieces, self.settings, clip.split, number)
        for tick, frame in enumerate(reader.frames()):
            if tick % _COLOUR_EVERY == 0:
                colours.add(frame)
            self._sample.add(frame)
            episodes.add(tick, frame)
            progress(clip.name, tick + 1, len(reader.timeline.source))
        self._sample.end_clip(reader)
        colours.check_known(clip.where)
        if reference is not None:
            check_same_order(colours.palette, np.array(reference.palette), clip.where, reference.where)
        writer.flush()
        report = _report(reader, fingerprint, pieces, dropped, colours)
        self._publish(stage, clip, report)
        return report

    def _publish(self, stage: Path, clip: Clip, report: ClipReport) -> None:
        """Move a staged clip into the dataset; its index, moved last, is what makes it appear."""
        stream = f"{self._stream(clip)}.json"
        for path in sorted((stage / DATA_FOLDER).iterdir()):
            os.replace(path, self.folder / DATA_FOLDER / path.name)
        fsync_folder(self.folder / DATA_FOLDER)
        write_json(self.folder / REPORT_FOLDER / stream, dataclasses.asdict(report))
        os.replace(stage / STREAM_FOLDER / stream, self.folder / STREAM_FOLDER / stream)
        fsync_folder(self.folder / STREAM_FOLDER)
        shutil.rmtree(stage)

    def _done_before(self, clip: Clip) -> ClipReport | None:
        if read_stream(self.folder, self._stream(clip)) is None:
            return None
        path = self.folder / REPORT_FOLDER / f"{self._stream(clip)}.json"
        report = ClipReport(**read_json(path))
        if report.fingerprint != clip.fingerprint():
            raise ValueError(
                f"{clip.where} or its log was changed since it was imported into {self.folder}; give the new one "
                "another file name, import under another --name, or start over with --overwrite"
            )
        return report

    def _open_stage(self, clip: Clip, fingerprint: str) -> Path:
        stage = self._stages / self._stream(clip)
        known = stage / _CLIP_FILE
        if stage.exists() and (not known.is_file() or read_json(known) != fingerprint):
            shutil.rmtree(stage)
        if not stage.exists():
            # Opening the stream removes what another version of the clip left, killed while it was published.
            EpisodeWriter(self.folder, self.game, self._stream(clip))
        stage.mkdir(parents=True, exist_ok=True)
        write_json(known, fingerprint)
        return stage

    def _clear_stages(self, planned: set[str]) -> None:
        for stage in self._stages.iterdir() if self._stages.is_dir() else ():
            if stage.name not in planned:
                shutil.rmtree(stage)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(folder_lock(self.folder, f".import-{self.settings.name}.lock", wait=False))
            except BlockingIOError as error:
                raise ValueError(
                    f"another import {self.settings.name!r} into {self.folder} runs; wait for it, or give this one "
                    "another --name"
                ) from error
            yield

    def _stream(self, clip: Clip) -> str:
        return f"{self.settings.name}-{clip.name}"


class _EpisodeFeed:
    """Gives a clip's ticks to the writer, episode by episode; those that a killed import has staged are passed over."""

    def __init__(
        self, writer: EpisodeWriter, reader: ClipReader, pieces: Sequence[Piece], settings: ImportSettings,
        split: str | None, number: int,
    ) -> None:  # fmt: skip
        self._writer, self._steps, self._settings, self._split = writer, reader.steps, settings, split
        self._first_number = number
        self._number = writer.num_episodes
        self._pieces = pieces

    def add(self, tick: int, frame: np.ndarray) -> None:
        """The next tick. The frame between two pieces of one game is the last of one and the first of the other."""
        if self._number < len(self._pieces) and tick > (piece := self._pieces[self._number]).first:
            step = tick - 1
            self._writer.append(int(self._steps.actions[step]), float(self._steps.rewards[step]), frame)
            if tick == piece.last:
                self._writer.end(piece.terminated, not piece.terminated)
                self._number += 1
        if self._number < len(self._pieces) and tick == self._pieces[self._number].first:
            number = self._first_number + self._number
            split = self._split or split_of(number, self._settings.validation_share, self._settings.test_share)
            self._writer.begin(frame, seed=NO_SEED, split=split, agent=self._settings.name)


def estimate_action_offset(clips: Sequence[Clip], spec: ImportSpec, max_shift: int) -> OffsetEstimate:
    """By how many frames to change the YAML's `action_offset`, from MAX_STEPS steps or all. Writes nothing."""
    sample = MotionSample(spec, max_shift, MAX_STEPS)
    for clip in clips:
        reader = ClipReader(clip, spec)
        for frame in reader.frames():
            sample.add(frame)
            if sample.full:
                break
        sample.end_clip(reader)
        if sample.full:
            break
    return sample.estimate()


def _report(
    reader: ClipReader, fingerprint: str, pieces: Sequence[Piece], dropped: Counter[str], colours: ColourCount
) -> ClipReport:
    clip, scan, timeline, counts = reader.clip, reader.scan, reader.timeline, reader.keys.counts
    taken = np.concatenate([reader.steps.actions[piece.first : piece.last] for piece in pieces])
    notes: dict[str, Any] = dict(reader.notes)
    notes |= {f"ignored key {key!r}": count for key, count in counts.ignored_keys.items()}
    notes |= {
        f"no action is {keys}, the largest part taken": count for keys, count in counts.other_combinations.items()
    }
    return ClipReport(
        clip=clip.name, where=clip.where, fingerprint=fingerprint, log_kind=reader.kind, source_frames=scan.num_frames,
        source_fps=timeline.source_fps, source_size=(scan.height, scan.width), ticks=len(timeline.source),
        repeated_ticks=timeline.repeated, unshown_frames=timeline.unshown, episodes=len(pieces), steps=len(taken),
        actions=np.bincount(taken, minlength=len(reader.spec.actions)).tolist(),
        dropped=dict(dropped), notes=notes, remarks=scan.notes, palette=np.round(colours.palette, 6).tolist(),
    )  # fmt: skip
