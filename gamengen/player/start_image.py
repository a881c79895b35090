"""A dropped picture as a start state: decoded with limits, fitted to the game's frame."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from gamengen.contract import GameContract
from gamengen.world import StartState

MAX_IMAGE_BYTES = 8 << 20
MAX_IMAGE_PIXELS = 24_000_000
"""A telephone's photograph; looked up in the header, before a pixel is decoded."""
MIN_SIDE = 8
MAX_STRETCH = 4.0
"""How much wider or narrower than the game's frame a picture may be: beyond, most of the frame would be border."""
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")


def start_from_image(data: bytes, game: GameContract) -> StartState:
    """A start state of one frame.

    The picture is scaled to fit into the frame as a whole, and its border pixels are repeated outwards where it does
    not fill it: the same padding that codecs use. A picture of the frame's size is taken as it is.

    Raises:
        ValueError: says why the picture is refused.
    """
    if len(data) > MAX_IMAGE_BYTES:
        raise ValueError(f"the picture has {len(data) >> 20} MB; at most {MAX_IMAGE_BYTES >> 20} MB are read")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_size(image.width, image.height, game)
            image.draft("RGB", (2 * game.frame_width, 2 * game.frame_height))  # JPEG: decode no more than is needed
            upright = ImageOps.exif_transpose(image)
            _check_size(upright.width, upright.height, game)
            picture = _on_black(upright)
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"not a picture that can be read; expected one of: {', '.join(FORMATS)}") from error
    frame = _fit(picture, game.frame_height, game.frame_width)
    return StartState(frames=frame[None], actions=np.zeros(0, np.int64), name="dropped picture")


def _check_size(width: int, height: int, game: GameContract) -> None:
    if width * height > MAX_IMAGE_PIXELS:
        raise ValueError(f"the picture is {width}x{height}; at most {MAX_IMAGE_PIXELS // 10**6} megapixels are decoded")
    if min(width, height) < MIN_SIDE:
        raise ValueError(f"the picture is {width}x{height}; both sides must be at least {MIN_SIDE} pixels")
    stretch = (width / height) / (game.frame_width / game.frame_height)
    if not 1 / MAX_STRETCH <= stretch <= MAX_STRETCH:
        raise ValueError(
            f"the picture is {width}x{height}, the game {game.frame_width}x{game.frame_height} (width x height): "
            "the shapes differ too much; crop it first"
        )


def _on_black(image: Image.Image) -> Image.Image:
    """RGB; what is transparent becomes black."""
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, (0, 0, 0, 255)), layer)
    return image.convert("RGB")


def _fit(picture: Image.Image, height: int, width: int) -> np.ndarray:
    if picture.size != (width, height):
        scale = min(width / picture.width, height / picture.height)
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        picture = picture.resize(size, Image.Resampling.BOX if scale < 1 else Image.Resampling.NEAREST)
    frame = np.asarray(picture)
    vertical, horizontal = height - frame.shape[0], width - frame.shape[1]
    around = ((vertical // 2, vertical - vertical // 2), (horizontal // 2, horizontal - horizontal // 2), (0, 0))
    return np.pad(frame, around, mode="edge")
