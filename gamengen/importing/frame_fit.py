"""A source's frame becomes a frame of the dataset: cut out, put into RGB, scaled."""

from __future__ import annotations

import numpy as np
from PIL import Image

from gamengen.frames import check_size
from gamengen.importing.spec import ImportSpec

_FILTERS = {"area": Image.Resampling.BOX, "nearest": Image.Resampling.NEAREST}


def check_source_size(height: int, width: int, spec: ImportSpec, where: str) -> None:
    """Raise ValueError when frames of this size cannot become frames of the dataset by the YAML's rule."""
    if spec.crop is not None:
        top, left, crop_height, crop_width = spec.crop
        if top + crop_height > height or left + crop_width > width:
            raise ValueError(
                f"{where}: frames are {height}x{width} (height x width), too small for crop [{top}, {left}, "
                f"{crop_height}, {crop_width}] (top, left, height, width)"
            )
        height, width = crop_height, crop_width
    if spec.resize == "exact" and (height, width) != (spec.frame_height, spec.frame_width):
        raise ValueError(
            f"{where}: frames are {height}x{width} (height x width){' after the crop' if spec.crop else ''}, "
            f"frame_size says {spec.frame_height}x{spec.frame_width}; write `resize: letterbox` to scale them, or "
            "another frame_size"
        )


def fit_frame(frame: np.ndarray, spec: ImportSpec, where: str) -> np.ndarray:
    """uint8 (h, w, 3) in the source's channel order -> uint8 RGB (H, W, 3), contiguous.

    `letterbox` scales by one factor for both sides, with black borders of equal width (the odd pixel at the bottom or
    the right). `area` averages the pixels that fall together, `nearest` keeps the colours of pixel graphics.

    Raises:
        ValueError: another dtype, number of channels or size.
    """
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        raise ValueError(f"{where}: expected uint8 (height, width, 3), got {frame.dtype} {frame.shape}")
    check_source_size(frame.shape[0], frame.shape[1], spec, where)
    if spec.crop is not None:
        top, left, height, width = spec.crop
        frame = frame[top : top + height, left : left + width]
    if spec.colour_order == "BGR":
        frame = frame[..., ::-1]
    if frame.shape[:2] != (spec.frame_height, spec.frame_width):
        frame = _letterbox(np.ascontiguousarray(frame), spec)
    check_size(frame.shape[0], frame.shape[1], spec.frame_height, spec.frame_width, where)
    return np.ascontiguousarray(frame)


def _letterbox(frame: np.ndarray, spec: ImportSpec) -> np.ndarray:
    scale = min(spec.frame_height / frame.shape[0], spec.frame_width / frame.shape[1])
    height, width = max(1, round(frame.shape[0] * scale)), max(1, round(frame.shape[1] * scale))
    scaled = np.asarray(Image.fromarray(frame).resize((width, height), _FILTERS[spec.resize_filter]))
    fitted = np.zeros((spec.frame_height, spec.frame_width, 3), np.uint8)
    top, left = (spec.frame_height - height) // 2, (spec.frame_width - width) // 2
    fitted[top : top + height, left : left + width] = scaled
    return fitted
