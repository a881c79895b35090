"""Which kind of clip each input is."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

from gamengen.importing.arrays import ArrayClip
from gamengen.importing.clips import Clip, find_files
from gamengen.importing.images import ImageClip
from gamengen.importing.minari_datasets import PREFIX, find_minari, open_minari
from gamengen.importing.spec import ImportSpec
from gamengen.importing.videos import VideoClip


def open_clips(source: str, spec: ImportSpec, trust_remote_code: bool = False) -> Sequence[Clip]:
    """The clips of an input, in the order in which they are imported.

    Args:
        source: a folder of clips, one clip, or a Minari dataset (its folder, or `minari:` and its id).
    Raises:
        FileNotFoundError: nothing there; a clip without its log.
        ImportError: videos without PyAV, a Minari dataset without Minari.
    """
    if source.startswith(PREFIX) or find_minari(source) is not None:
        return open_minari(source, spec, trust_remote_code)
    clips: list[Clip] = []
    for files in find_files(source):
        if files.source.is_dir():
            clips.append(ImageClip(files, spec))
        elif files.source == files.log:
            clips.append(ArrayClip(files, spec))
        elif importlib.util.find_spec("av") is None:
            raise ImportError(f'{files.source}: videos need PyAV: pip install "gamengen[video]"')
        else:
            clips.append(VideoClip(files, spec))
    return clips
