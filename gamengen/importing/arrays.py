"""An .npz as a clip: the array `frames`, and the log as further arrays beside it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gamengen.importing.clips import FileClip, Scan, check_frame_size
from gamengen.importing.npz import iterate_rows, read_headers


class ArrayClip(FileClip):
    """An .npz file with frames and actions."""

    def scan(self) -> Scan:
        headers = read_headers(self.files.source)
        if self._array not in headers:
            raise ValueError(
                f"{self.where}: no array {self._array!r} and no video or folder of images of the same name beside it; "
                f"it has: {', '.join(headers) or 'none'}. `columns: {{frames: NAME}}` in the YAML says which holds the "
                "frames"
            )
        header = headers[self._array]
        gray = self.spec.accept_grayscale and (len(header.shape) == 3 or header.shape[-1:] == (1,))
        if header.dtype != np.uint8 or not (gray or (len(header.shape) == 4 and header.shape[3] == 3)):
            raise ValueError(
                f"{self.where}, {self._array}: expected uint8 (frames, height, width, 3), got {header.dtype} "
                f"{header.shape}" + _advice(header.shape)
            )
        check_frame_size(header.shape[1], header.shape[2], self.where)
        return Scan(header.shape[0], None, header.shape[1], header.shape[2])

    def frames(self) -> Iterator[np.ndarray]:
        for frame in iterate_rows(self.files.source, self._array):
            yield frame if frame.shape[-1:] == (3,) and frame.ndim == 3 else _three_channels(frame)

    @property
    def _array(self) -> str:
        return dict(self.spec.columns).get("frames", "frames")


def _three_channels(frame: np.ndarray) -> np.ndarray:
    return np.repeat(frame.reshape(*frame.shape[:2], 1), 3, axis=2)


def _advice(shape: tuple[int, ...]) -> str:
    if len(shape) == 4 and shape[3] == 4:
        return "; it has an alpha channel: save frames[..., :3], put over a background where it is transparent"
    if len(shape) == 4 and shape[1] == 3:
        return "; it has channels first: save frames.transpose(0, 2, 3, 1)"
    if len(shape) == 3 or shape[3:] == (1,):
        return "; it is grayscale: write `accept_grayscale: true` to take it as three equal channels"
    return ""
