"""Videos as clips, in every container and codec that PyAV reads, with the times at which their frames were shown."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from gamengen.importing.clips import FileClip, Scan, check_frame_size
from gamengen.importing.spec import ImportSpec

_READ_OTHER_FILES = {"concat", "concatf", "dash", "hls", "imf", "lavfi", "rtp", "rtsp", "sdp", "vapoursynth"}
"""Containers that are lists of other files or addresses: a clip must be one file, and reading it must open no other."""
_LOSSLESS = ("rgb", "bgr", "gbr", "pal8")


class VideoClip(FileClip):
    """A video file and its log."""

    def scan(self) -> Scan:
        """Decode all of it once: times in a container's index may not be those of the frames."""
        times: list[float] = []
        notes: list[str] = []
        size = (0, 0)
        for index, frame in enumerate(self._decoded()):
            if index == 0:
                size = (frame.height, frame.width)
                notes = _notes(frame)
            if (frame.height, frame.width) != size:
                raise ValueError(
                    f"{self.where}: frame {index} is {frame.height}x{frame.width}, the first {size[0]}x{size[1]} "
                    "(height x width); expected one size in a clip"
                )
            if frame.time is None:
                raise ValueError(f"{self.where}: frame {index} has no time; copy it into another container (mkv, mp4)")
            times.append(frame.time)
        if not times:
            raise ValueError(f"{self.where}: no frame of video in it")
        return Scan(len(times), np.array(times), *size, notes)

    def frames(self) -> Iterator[np.ndarray]:
        for frame in self._decoded():
            yield frame.to_ndarray(format="rgb24")

    def _decoded(self) -> Iterator[Any]:
        import av  # the extra `video`; `open_clips` has said so if it is missing

        allowed = sorted(name for name in av.formats_available if not name.startswith("image2"))
        options = {
            "format_whitelist": ",".join(name for name in allowed if name not in _READ_OTHER_FILES),
            "protocol_whitelist": "file",
        }
        with contextlib.ExitStack() as stack:
            try:
                container = stack.enter_context(av.open(str(self.files.source), options=options))
                if not container.streams.video:
                    raise ValueError(f"{self.where}: no video in it, only {[s.type for s in container.streams]}")
                stream = container.streams.video[0]
                check_frame_size(stream.height or 0, stream.width or 0, self.where)
                stream.thread_type = "AUTO"
                for index, frame in enumerate(container.decode(stream)):
                    _check_frame(frame, f"{self.where}, frame {index}", self.spec)
                    yield frame
            except (av.error.FFmpegError, EOFError) as error:
                raise ValueError(f"{self.where}: cannot be read as video, {error}") from error


def _check_frame(frame: Any, where: str, spec: ImportSpec) -> None:
    check_frame_size(frame.height, frame.width, where)
    if frame.is_corrupt:
        raise ValueError(f"{where}: damaged; restore the file, or cut it before this frame")
    if frame.rotation:
        raise ValueError(f"{where}: turned by {frame.rotation} degrees by its metadata; write it upright first")
    name = frame.format.name
    if name.startswith(("gray", "ya", "mono")) and not spec.accept_grayscale:
        raise ValueError(
            f"{where}: grayscale ({name}); write `accept_grayscale: true` to take it as three equal channels"
        )
    if name.startswith(("yuva", "rgba", "bgra", "argb", "abgr", "gbrap", "ya")) and not _is_opaque(frame):
        raise ValueError(f"{where}: has transparent pixels ({name}); put it over a background first")


def _is_opaque(frame: Any) -> bool:
    return bool((frame.to_ndarray(format="rgba")[..., 3] == 255).all())


def _notes(frame: Any) -> list[str]:
    """What the pixels went through before, as far as the file says."""
    name = frame.format.name
    notes = [] if name.startswith(_LOSSLESS) else [f"stored as {name}: colours are rounded, details may be lost"]
    if frame.interlaced_frame:
        notes.append("interlaced: every frame holds two half pictures; deinterlace it first (ffmpeg -vf bwdif)")
    if name.startswith("yuv") and int(frame.colorspace) in (0, 2) and frame.height >= 720:
        notes.append("names no colour matrix; read as BT.601, though HD videos are mostly BT.709: look at the colours")
    return notes
