"""importing/videos.py: frames bit for bit where the codec keeps them, times, and files that are not what they seem."""

from __future__ import annotations

import http.server
import io
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from gamengen.importing.clips import Files
from gamengen.importing.spec import ImportSpec
from gamengen.importing.videos import VideoClip
from tests.codec_data import block_frames
from tests.own_clips import encode_video, make_spec

av = pytest.importorskip("av")
FRAMES = block_frames(20)


def clip(folder: Path, data: bytes, name: str = "a.mkv", spec: ImportSpec | None = None) -> VideoClip:
    (folder / name).write_bytes(data)
    return VideoClip(Files("a", folder / name, folder / "a.csv", None), spec or make_spec())


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "container"),
    [
        ("libx264rgb", "rgb24", "matroska"),
        ("ffv1", "bgr0", "matroska"),
        ("png", "rgb24", "mov"),
        ("rawvideo", "bgr24", "avi"),
    ],
)
def test_lossless_codecs_give_every_pixel_back(codec: str, pix_fmt: str, container: str, tmp_path: Path) -> None:
    video = clip(tmp_path, encode_video(FRAMES, 15, codec=codec, pix_fmt=pix_fmt, container=container))
    scan = video.scan()
    assert (scan.num_frames, scan.height, scan.width, scan.notes) == (20, 20, 28, [])
    assert scan.times is not None
    np.testing.assert_allclose(scan.times, np.arange(20) / 15, atol=1e-3)
    np.testing.assert_array_equal(np.stack(list(video.frames())), FRAMES)


def test_times_are_those_of_the_frames(tmp_path: Path) -> None:
    times = np.cumsum(np.random.default_rng(0).choice([0.02, 0.1, 0.35], 20)).round(3)
    scan = clip(tmp_path, encode_video(FRAMES, 30, times=times)).scan()
    assert scan.times is not None
    np.testing.assert_allclose(scan.times - scan.times[0], times - times[0], atol=1e-3)


@pytest.mark.parametrize("matrix", ["ITU601", "ITU709"])
def test_the_colour_matrix_that_a_file_names_is_used(matrix: str, tmp_path: Path) -> None:
    """Read with the wrong one, these colours are off by 14 levels and more."""
    from av.video.reformatter import Colorspace

    frame = np.zeros((32, 32, 3), np.uint8)
    frame[:16, :16], frame[16:, :16], frame[:16, 16:], frame[16:, 16:] = (
        (200, 40, 30),
        (30, 180, 60),
        (40, 60, 220),
        (90,) * 3,
    )
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=15, options={"qp": "0"})
        stream.height = stream.width = 32
        stream.pix_fmt = "yuv444p"
        stream.codec_context.colorspace = Colorspace[matrix]
        for index in range(2):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(
                format="yuv444p", dst_colorspace=Colorspace[matrix]
            )
            picture.pts = index
            file.mux(stream.encode(picture))
        file.mux(stream.encode(None))
    video = VideoClip(Files("a", path, path, None), make_spec())
    assert "yuv444p" in video.scan().notes[0]
    assert np.abs(next(video.frames()).astype(int) - frame).max() <= 3


def encode_alpha(opaque: bool) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mov") as file:
        stream = file.add_stream("png", rate=15)
        stream.height, stream.width, stream.pix_fmt = 20, 28, "rgba"
        alpha = np.full((20, 28, 1), 255 if opaque else 80, np.uint8)
        for frame in FRAMES:
            pixels = np.concatenate([frame, alpha], axis=2)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgba")))
        file.mux(stream.encode(None))
    return buffer.getvalue()


def test_alpha_and_gray(tmp_path: Path) -> None:
    np.testing.assert_array_equal(np.stack(list(clip(tmp_path, encode_alpha(True), "o.mov").frames())), FRAMES)
    with pytest.raises(ValueError, match=r"t.mov, frame 0: has transparent pixels"):
        clip(tmp_path, encode_alpha(False), "t.mov").scan()
    gray = encode_video(FRAMES, 15, codec="ffv1", pix_fmt="gray")
    with pytest.raises(ValueError, match=r"frame 0: grayscale \(gray\); write `accept_grayscale: true`"):
        clip(tmp_path, gray).scan()
    frame = next(clip(tmp_path, gray, spec=make_spec(accept_grayscale=True)).frames())
    assert (frame[..., 0] == frame[..., 1]).all() and (frame[..., 1] == frame[..., 2]).all()


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    for data in (b"", b"no video at all" * 100, encode_video(FRAMES, 15, container="mp4")[:900]):
        with pytest.raises(ValueError, match="a.mkv: cannot be read as video"):
            clip(tmp_path, data).scan()
    with av.open(str(tmp_path / "sound.mkv"), "w") as file:
        stream = file.add_stream("pcm_s16le", rate=8000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.int16), format="s16", layout="mono")
        sound.rate = 8000
        file.mux(stream.encode(sound))
        file.mux(stream.encode(None))
    with pytest.raises(ValueError, match=r"no video in it, only \['audio'\]"):
        VideoClip(Files("s", tmp_path / "sound.mkv", tmp_path, None), make_spec()).scan()


def test_interlaced_pictures_are_noted(tmp_path: Path) -> None:
    options = {"flags": "+ildct+ilme", "top": "1"}
    frames = block_frames(9, height=32, width=32)
    video = encode_video(frames, 25, codec="mpeg2video", pix_fmt="yuv420p", container="mpegts", options=options)
    assert any("interlaced" in note for note in clip(tmp_path, video, "a.ts").scan().notes)


def test_a_size_that_changes_is_named(tmp_path: Path) -> None:
    """Two MPEG transport streams put together, as recorders do after the window was resized."""
    small = encode_video(
        block_frames(9, height=32, width=32), 15, codec="mpeg2video", pix_fmt="yuv420p", container="mpegts"
    )
    large = encode_video(
        block_frames(9, height=48, width=32), 15, codec="mpeg2video", pix_fmt="yuv420p", container="mpegts"
    )
    with pytest.raises(ValueError, match=r"a.ts: frame \d+ is 48x32, the first 32x32"):
        clip(tmp_path, small + large, "a.ts").scan()


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    """A web server that notes what is asked of it."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as web:
        thread = threading.Thread(target=web.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{web.server_port}", asked
        web.shutdown()


def test_a_clip_opens_no_other_file_and_no_address(tmp_path: Path, server: tuple[str, list[str]]) -> None:
    """The canary: playlists and lists of files under the name of a video."""
    address, asked = server
    (tmp_path / "other.mkv").write_bytes(encode_video(FRAMES, 15))
    playlists = {
        "hls.mp4": f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{address}/canary.ts\n#EXT-X-ENDLIST\n",
        "local.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{tmp_path}/other.mkv\n#EXT-X-ENDLIST\n",
        "concat.mkv": f"ffconcat version 1.0\nfile '{tmp_path}/other.mkv'\n",
        "dash.mp4": f'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>{address}</BaseURL>'
        "</MPD>",
    }
    for name, text in playlists.items():
        with pytest.raises(ValueError, match=f"{name}: cannot be read as video"):
            clip(tmp_path, text.encode(), name).scan()
    assert asked == []


def test_a_huge_picture_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    data = encode_video(np.zeros((1, 2, 5000, 3), np.uint8), 15, codec="png", container="mov")
    with pytest.raises(ValueError, match="2x5000 pixels .* at most 4096"):
        clip(tmp_path, data).scan()
