"""importing/images.py: folders of images; every kind of image that must not pass; files that pretend."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gamengen.importing.clips import Files
from gamengen.importing.images import ImageClip, read_image
from gamengen.importing.spec import ImportSpec
from tests.codec_data import block_frames
from tests.own_clips import make_spec, write_images

FRAMES = block_frames(12)


def clip(folder: Path, spec: ImportSpec | None = None) -> ImageClip:
    return ImageClip(Files("shots", folder, folder / "actions.csv", None), spec or make_spec())


@pytest.mark.parametrize("suffix", [".png", ".bmp"])
def test_frames_come_in_the_order_of_their_numbers(suffix: str, tmp_path: Path) -> None:
    write_images(tmp_path / "shots", FRAMES, suffix)
    shots = clip(tmp_path / "shots")
    scan = shots.scan()
    assert (scan.num_frames, scan.times, scan.height, scan.width, scan.notes) == (12, None, 20, 28, [])
    np.testing.assert_array_equal(np.stack(list(shots.frames())), FRAMES)


def test_palettes_and_opaque_alpha_are_exact_and_jpeg_is_noted(tmp_path: Path) -> None:
    frame = FRAMES[0]
    image = Image.fromarray(frame)
    image.quantize(256).save(tmp_path / "palette.png")
    image.convert("RGBA").save(tmp_path / "alpha.png")
    np.testing.assert_array_equal(read_image(tmp_path / "alpha.png", False), frame)
    with Image.open(tmp_path / "palette.png") as palette:
        assert palette.mode == "P"
        np.testing.assert_array_equal(read_image(tmp_path / "palette.png", False), np.array(palette.convert("RGB")))
    write_images(tmp_path / "shots", FRAMES, ".jpg")
    assert "JPEG" in clip(tmp_path / "shots").scan().notes[0]


def write_bad(folder: Path, kind: str) -> Path:
    path = folder / "bad.png"
    gray = Image.fromarray(FRAMES[0][..., 0])
    if kind == "transparent":
        alpha = np.full((20, 28, 1), 255, np.uint8)
        alpha[3, 4] = 254
        Image.fromarray(np.concatenate([FRAMES[0], alpha], axis=2)).save(path)
    elif kind == "gray":
        gray.save(path)
    elif kind == "16 bit":
        Image.fromarray(FRAMES[0][..., 0].astype(np.uint16) * 256).save(path)
    elif kind == "cut":
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(path)
        path.write_bytes(path.read_bytes()[:4000])
    elif kind == "animation":
        Image.fromarray(FRAMES[0]).save(path, save_all=True, append_images=[Image.fromarray(FRAMES[1])])
    elif kind == "other":
        path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("transparent", "has transparent pixels"),
        ("gray", "grayscale; write `accept_grayscale: true`"),
        ("16 bit", "more than 8 bits a channel"),
        ("cut", "damaged image"),
        ("animation", "an animation of 2 frames"),
        ("other", "cannot be read as PNG, JPEG, WEBP, BMP"),
    ],
)
def test_each_bad_image_is_one_error(kind: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"bad.png.*{message}"):
        read_image(write_bad(tmp_path, kind), accept_grayscale=False)


def test_gray_becomes_three_equal_channels_where_that_is_wanted(tmp_path: Path) -> None:
    frame = read_image(write_bad(tmp_path, "gray"), accept_grayscale=True)
    np.testing.assert_array_equal(frame, FRAMES[0][..., :1].repeat(3, axis=2))


def test_a_huge_image_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    Image.new("1", (20_000, 20_000)).save(tmp_path / "huge.png")
    assert (tmp_path / "huge.png").stat().st_size < 100_000
    with pytest.raises(ValueError, match="20000x20000 pixels|cannot be read"):
        read_image(tmp_path / "huge.png", accept_grayscale=True)


def test_a_missing_image_and_another_size_are_named(tmp_path: Path) -> None:
    write_images(tmp_path / "shots", FRAMES)
    Image.new("RGB", (28, 21)).save(tmp_path / "shots/frame_7.png")
    with pytest.raises(ValueError, match=r"frame_7.png: 21x28, the first image of the folder is 20x28"):
        clip(tmp_path / "shots").scan()
    (tmp_path / "shots/frame_7.png").unlink()
    with pytest.raises(ValueError, match=r"frame_8.png follows number 6; expected 7: an image is missing"):
        clip(tmp_path / "shots").scan()
