"""The programs that `tests/crash.py` kills: training, shards, episodes, a world, a codec, and whole trainers."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import os
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from gamengen.codecs.autoencoder import load_autoencoder_codec, save_codec
from gamengen.config import parse
from gamengen.dataset.episode_writer import EpisodeWriter
from gamengen.dataset.episodes import list_episodes, read_episodes, verify_dataset
from gamengen.diffusion.pipeline import GameNGenPipeline
from gamengen.durable import DamagedFile, sha256_file
from gamengen.latents.encoding import encode_dataset
from gamengen.latents.finishing import finalise
from gamengen.latents.shards import load_table
from gamengen.training.checkpoints import list_checkpoints, newest_checkpoint, step_of
from gamengen.training.loop import train
from tests.codec_data import LENGTHS, SPLITS, block_dataset, block_episode, block_game, small_codec
from tests.crash import Program
from tests.test_scripts import load
from tests.test_training_run import CONFIG, batch_fn, loss_fn, make_line
from tests.worlds import tiny_codec, tiny_pipeline

ROOT = Path(__file__).resolve().parent.parent
ROWS = 12


def content(root: Path, *without: str) -> dict[str, str]:
    """Every file below a folder and its sha256; hidden files and those named are left out."""
    files = (path for path in sorted(root.rglob("*")) if path.is_file() and not path.name.startswith("."))
    return {str(p.relative_to(root)): sha256_file(p) for p in files if p.relative_to(root).parts[0] not in without}


def train_line(root: Path) -> None:
    """Four steps, a checkpoint after each, two kept; 1 or 2 ranks of the same global batch."""
    ranks = int(os.environ.get("WORLD_SIZE", 1))
    config = dataclasses.replace(
        CONFIG, max_train_steps=4, train_batch_size=4 // ranks, checkpointing_steps=1, checkpoints_total_limit=2,
        num_processes=ranks,
    )  # fmt: skip
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        train(config, {"line": make_line()}, loss_fn, batch_fn, root)


def trained(root: Path) -> Any:
    """The last checkpoint but for the time that it took, and the names of all that is there."""
    checkpoint = newest_checkpoint(root)
    assert checkpoint is not None
    state = torch.load(checkpoint / "training_state.pt", weights_only=True)
    del state["seconds"]
    weights = {name: digest for name, digest in content(checkpoint).items() if name.startswith("line")}
    names = sorted(path.name for path in root.iterdir() if not path.name.startswith("."))
    return {"state": str(state), "weights": weights, "names": names}


def a_checkpoint_is_left(root: Path, before: list[str]) -> None:
    """The newest one that was ever published is whole: nothing that was done is lost."""
    done = [int(match[1]) for name in before[:-1] if (match := re.fullmatch(r"rename checkpoint-(\d+)", name))]
    newest = newest_checkpoint(root)
    if done:
        assert newest is not None and step_of(newest) >= max(done), f"{newest} is left, {max(done)} was published"
    whole = [path for path in list_checkpoints(root) if newest is not None and step_of(path) <= step_of(newest)]
    assert len(whole) == len(list_checkpoints(root)), "a damaged one stands under a final name"


def encode(root: Path) -> None:
    """Two shares of one dataset, one after the other, and the finish."""
    codec = small_codec()
    for share in (0, 1):
        encode_dataset(
            root / "data", codec, root / "latents", shard_id=share, num_shards=2, shard_rows=ROWS, progress=False
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        finalise(root / "data", codec, root / "latents", shard_rows=ROWS)


def rows_are_true(root: Path, before: list[str]) -> None:
    """A table opens and holds what was encoded, or it does not open."""
    try:
        table = load_table(root / "latents", "train")
    except (FileNotFoundError, DamagedFile):
        return
    episodes = list(read_episodes(root / "data", "train"))
    arrays = torch.cat([small_codec().encode(torch.from_numpy(episode.frames)) for episode in episodes])
    assert torch.equal(table.gather(torch.arange(len(table))), arrays)


def record(root: Path) -> None:
    """The episodes that a stream does not have yet."""
    writer = EpisodeWriter(root, block_game(), "main", rows_per_file=16)
    for number in range(writer.num_episodes, len(LENGTHS)):
        writer.write(block_episode(number, LENGTHS[number], SPLITS[number]))
    writer.flush()


def episodes_are_whole(root: Path, before: list[str]) -> None:
    """What is listed can be read, and is what was written."""
    if not (root / "contract.json").is_file():
        return
    verify_dataset(root)
    infos = sorted(list_episodes(root), key=lambda info: info.index_in_stream)
    assert [info.index_in_stream for info in infos] == list(range(len(infos)))
    for episode in read_episodes(root):
        wanted = block_episode(episode.index_in_stream, LENGTHS[episode.index_in_stream], episode.split)
        assert (episode.frames == wanted.frames).all() and (episode.actions == wanted.actions).all()


def replace_world(root: Path) -> None:
    tiny_pipeline(seed=1).save_pretrained(root / "world")


def a_world_is_there(root: Path, before: list[str]) -> None:
    """The old one or the new one, at every moment."""
    weights = GameNGenPipeline.from_pretrained(root / "world").unet.conv_out.weight
    assert any(torch.equal(weights, tiny_pipeline(seed=seed).unet.conv_out.weight) for seed in (0, 1))


def add_codec(root: Path) -> None:
    """Into a folder that holds other things too, over an older codec."""
    save_codec(tiny_codec(seed=1), root / "vae", replace=False)


def a_codec_is_true(root: Path, before: list[str]) -> None:
    """The old one, the new one, or a refusal; never parts of both."""
    try:
        weights = load_autoencoder_codec(root / "vae").vae.state_dict()
    except (FileNotFoundError, DamagedFile):
        return
    wanted = [tiny_codec(seed=seed).vae.state_dict() for seed in (0, 1)]
    assert any(all(torch.equal(weights[name], value) for name, value in state.items()) for state in wanted)


SCRIPTS = {name: load(ROOT / "scripts" / f"{name}.py") for name in ("train_vae", "finetune_decoder", "train_unet")}
STEPS = ["--max_train_steps", "4", "--checkpointing_steps", "2", "--lr_warmup_steps", "0", "--report_to", "none"]
CROPS = ["--crop_size", "16", "--validation_frames", "8", "--validation_steps", "0"]
SHAPE = ["--patch_size", "4", "--latent_channels", "2", "--encoder_width", "8", "--decoder_width", "8"]


def start_script(name: str, root: Path, *flags: str) -> None:
    """Run a trainer as a user does, in as many ranks as there are."""
    ranks = int(os.environ.get("WORLD_SIZE", 1))
    given = ["--preset", "tiny", "--output_dir", str(root / name), "--train_batch_size", str(4 // ranks)]
    given += ["--num_processes", str(ranks), *STEPS, *flags]
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        SCRIPTS[name].main(parse(SCRIPTS[name].PRESETS, given, ""))


def latents(root: Path) -> None:
    """What train_unet and finetune_decoder read."""
    block_dataset(root / "data")
    encode(root)
    save_codec(small_codec(), root / "vae")


def train_vae(root: Path) -> None:
    start_script("train_vae", root, "--dataset", str(root / "data"), *SHAPE, *CROPS)


def finetune_decoder(root: Path) -> None:
    start_script("finetune_decoder", root, "--dataset", str(root / "data"), "--vae", str(root / "vae"), *CROPS)


def train_unet(root: Path) -> None:
    small = ["--context_length", "2", "--num_validation_windows", "2", "--validation_steps", "2"]
    start_script("train_unet", root, "--latents", str(root / "latents"), *small)


def made_by(name: str) -> Callable[[Path], Any]:
    """Weights, averages and optimizer of the last checkpoint, and every file of what the stage is for."""

    def result(root: Path) -> Any:
        checkpoint = newest_checkpoint(root / name)
        assert checkpoint is not None and checkpoint.name == "checkpoint-4"
        state = torch.load(checkpoint / "training_state.pt", weights_only=True)
        del state["seconds"]
        told = ("run.json", "metrics.jsonl", "checkpoint-2", "checkpoint-4")  # of the time that it took, among others
        made = {file: digest for file, digest in content(root / name, *told).items() if "README" not in file}
        parts = {file: digest for file, digest in content(checkpoint).items() if file.startswith(("unet", "vae"))}
        return {"state": hashlib.sha256(str(state).encode()).hexdigest(), "parts": parts, "made": made}

    return result


def checkpoints_are_left(name: str) -> Callable[[Path, list[str]], None]:
    def check(root: Path, before: list[str]) -> None:
        a_checkpoint_is_left(root / name, [event.replace(f"{name}/", "") for event in before])

    return check


TRAINERS = ("train_vae", "finetune_decoder", "train_unet")
PROGRAMS = {
    **{
        name: Program(
            (lambda root: block_dataset(root / "data") and None) if name == "train_vae" else latents,
            run, made_by(name), checkpoints_are_left(name),
        )
        for name, run in zip(TRAINERS, (train_vae, finetune_decoder, train_unet), strict=True)
    },
    "checkpoint": Program(lambda root: root.mkdir(), train_line, trained, a_checkpoint_is_left),
    "shards": Program(
        lambda root: block_dataset(root / "data") and None, encode,
        lambda root: content(root / "latents"), rows_are_true,
    ),
    "episodes": Program(lambda root: root.mkdir(), record, content, episodes_are_whole),
    "world": Program(
        lambda root: tiny_pipeline(seed=0).save_pretrained(root / "world"), replace_world, content, a_world_is_there
    ),
    "codec": Program(
        lambda root: save_codec(tiny_codec(seed=0), root / "vae", replace=False), add_codec, content, a_codec_is_true
    ),
}  # fmt: skip
