"""Folders of images as clips, in the order of the numbers in their names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from gamengen.importing.clips import IMAGE_SUFFIXES, FileClip, Scan, check_frame_size, fingerprint_files, natural

_FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
"""Others are not tried whatever a file is called: some readers of Pillow start other programs."""
_GRAY = ("1", "L", "LA")


class ImageClip(FileClip):
    """A folder of images and its log."""

    def fingerprint(self) -> str:
        return fingerprint_files([*self._images(), self.files.log])

    def scan(self) -> Scan:
        images = self._images()
        _check_numbers(images, self.where)
        first: tuple[int, int] | None = None
        notes: list[str] = []
        for path in images:
            with _opened(path) as image:
                size = (image.height, image.width)
                if first is None:
                    first = size
                if image.format == "JPEG" and not notes:
                    notes = ["stored as JPEG: colours are rounded, details may be lost"]
            if size != first:
                raise ValueError(
                    f"{path}: {size[0]}x{size[1]}, the first image of the folder is {first[0]}x{first[1]} (height x "
                    "width); expected one size in a clip"
                )
        assert first is not None
        return Scan(len(images), None, *first, notes)

    def frames(self) -> Iterator[np.ndarray]:
        for path in self._images():
            yield read_image(path, self.spec.accept_grayscale)

    def _images(self) -> list[Path]:
        items = [item for item in self.files.source.iterdir() if not item.name.startswith(".")]
        return sorted((i for i in items if i.suffix.lower() in IMAGE_SUFFIXES), key=lambda item: natural(item.name))


def read_image(path: str | Path, accept_grayscale: bool) -> np.ndarray:
    """uint8 (h, w, 3). An alpha channel that is opaque everywhere is left away, as screenshots have it.

    Raises:
        ValueError: unreadable, too large, gray (unless accepted), more than 8 bits a channel, transparent pixels.
    """
    with _opened(path) as image:
        try:
            image.load()
        except (OSError, SyntaxError, ValueError) as error:
            raise ValueError(f"{path}: damaged image, {error}") from error
        if image.mode in _GRAY and not accept_grayscale:
            raise ValueError(f"{path}: grayscale; write `accept_grayscale: true` to take it as three equal channels")
        if image.mode.startswith(("I", "F")):
            raise ValueError(f"{path}: {image.mode} pixels, more than 8 bits a channel; expected RGB with 8 bits")
        if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
            if image.convert("RGBA").getchannel("A").getextrema()[0] != 255:
                raise ValueError(f"{path}: has transparent pixels; put it over a background first")
        elif image.mode not in ("RGB", "P", *_GRAY):
            raise ValueError(f"{path}: {image.mode} pixels; expected RGB")
        return np.array(image.convert("RGB"))


def _opened(path: str | Path) -> Image.Image:
    try:
        image = Image.open(path, formats=_FORMATS)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path}: cannot be read as {', '.join(_FORMATS)}, {error}") from error
    check_frame_size(image.height, image.width, str(path))
    count = getattr(image, "n_frames", 1)
    if count > 1:
        raise ValueError(f"{path}: an animation of {count} frames; expected a folder of single images")
    return image


def _check_numbers(images: list[Path], where: str) -> None:
    """Names that end in numbers have none missing: a lost image would shift all actions after it."""
    numbers = [re.search(r"([0-9]+)$", path.stem) for path in images]
    if None in numbers:
        return
    values = [int(found[1]) for found in numbers if found is not None]
    for path, before, value in zip(images[1:], values, values[1:], strict=False):
        if value != before + 1:
            raise ValueError(
                f"{where}: {path.name} follows number {before}; expected {before + 1}: an image is missing"
            )
