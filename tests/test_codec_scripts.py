"""train_vae, encode_latents and finetune_decoder: the chain of the codec, run as a user runs it, twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from gamengen.codecs.autoencoder import load_autoencoder_codec, save_codec
from gamengen.config import parse
from gamengen.contract import ContractMismatch
from gamengen.dataset.start_states import read_start_states
from gamengen.durable import read_json
from gamengen.latents.shards import load_codec, load_table, read_contract
from tests.codec_data import block_dataset, block_game, small_codec
from tests.test_scripts import SCRIPTS, load

STAGES = ("train_vae", "encode_latents", "finetune_decoder", "train_unet")
MODULES = {path.stem: load(path) for path in SCRIPTS if path.stem in STAGES}
SMALL = ["--train_batch_size", "2", "--validation_frames", "8", "--lr_warmup_steps", "0", "--validation_steps", "0"]
VAE = ["--patch_size", "4", "--latent_channels", "2", "--encoder_width", "8", "--decoder_width", "8"]


def run(script: str, *flags: str | Path) -> dict[str, Any]:
    module = MODULES[script]
    result: dict[str, Any] = module.main(parse(module.PRESETS, ["--preset", "tiny", *map(str, flags)], ""))
    return result


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("chain")
    block_dataset(root / "data")
    run("train_vae", "--dataset", root / "data", "--output_dir", root / "vae", *VAE, *SMALL, "--crop_size", "16")
    run("encode_latents", "--dataset", root / "data", "--vae", root / "vae", "--output_dir", root / "latents")
    return root


def test_the_vae_folder_is_a_codec_with_figures(root: Path) -> None:
    results = read_json(root / "vae" / "run.json")["results"]
    assert results["steps"] == 20 and results["psnr"] > 5 and results["psnr_moving"] is not None
    codec = load_autoencoder_codec(root / "vae")
    assert codec.contract.array_shape == (2, 8, 8) and codec.contract.patch_size == 4
    assert load_codec(root / "latents").contract == codec.contract


def test_the_latents_folder_is_complete(root: Path) -> None:
    contract = read_contract(root / "latents")
    arrays = load_table(root / "latents", "train").gather(torch.arange(10)).float()
    assert contract.mean is not None and contract.std is not None and torch.isfinite(arrays).all()
    assert 0 < len(read_start_states(root / "latents" / "start_states.parquet")) <= 4
    results = read_json(root / "latents" / "run.json")["results"]
    assert results["frames_per_second"] > 0 and results["bytes_per_frame"] > 2 * 2 * 8 * 8


def test_the_same_commands_again_do_nothing(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = root / "vae" / "diffusion_pytorch_model.safetensors"
    written = weights.stat().st_mtime_ns
    run("train_vae", "--dataset", root / "data", "--output_dir", root / "vae", *VAE, *SMALL, "--crop_size", "16")
    assert "nothing to do" in capsys.readouterr().out and weights.stat().st_mtime_ns == written
    again = run("encode_latents", "--dataset", root / "data", "--vae", root / "vae", "--output_dir", root / "latents")
    assert again["frames"] == 0 and again["complete"]


def test_a_fine_tuned_decoder_fits_the_latents(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--dataset", root / "data", "--vae", root / "vae", "--output_dir", root / "decoder", *SMALL]
    figures = run("finetune_decoder", *flags, "--crop_size", "16")
    assert "fingerprint unchanged" in capsys.readouterr().out
    assert figures["before"]["psnr"] > 0 and figures["psnr"] != figures["before"]["psnr"]
    tuned, codec = load_autoencoder_codec(root / "decoder"), load_codec(root / "latents")
    assert tuned.contract == codec.contract
    arrays = load_table(root / "latents", "validation").gather(torch.arange(4))
    assert not torch.equal(tuned.decode(arrays), codec.decode(arrays))


def test_a_vae_is_trained_on_from_where_it_was(root: Path) -> None:
    """Its own shape is kept, whatever `vae` says; after steps of no size it is as good as it was."""
    flags = ["--dataset", root / "data", "--pretrained_model_name_or_path", root / "vae", *SMALL, "--crop_size", "16"]
    begun = load_autoencoder_codec(root / "vae")
    before = read_json(root / "vae" / "run.json")["results"]
    same = run("train_vae", *flags, "--output_dir", root / "same", "--learning_rate", "1e-9")
    assert same["psnr"] == pytest.approx(before["psnr"], abs=0.01)
    after = run("train_vae", *flags, "--output_dir", root / "further")
    trained = load_autoencoder_codec(root / "further").contract
    assert trained.array_shape == begun.contract.array_shape and trained.fingerprint != begun.contract.fingerprint
    assert after["psnr"] == pytest.approx(before["psnr"], abs=2)


def test_what_would_train_badly_is_refused_before_it_is_written(root: Path) -> None:
    flags = ["--dataset", root / "data", "--output_dir", root / "refused"]
    with pytest.raises(ValueError, match="--crop_size 0"):
        run("train_vae", *flags, "--autoencoder", "kl", "--patch_size", "1")
    with pytest.raises(ValueError, match="leaves out its input scaling"):
        run("train_vae", *flags, *VAE, "--gradient_checkpointing")
    other = root / "refused-vae"
    save_codec(small_codec(game=block_game("Pong-v5")), other)
    for script in ("encode_latents", "finetune_decoder"):
        with pytest.raises(ContractMismatch, match="Pong-v5"):
            run(script, *flags, "--vae", other)
    with pytest.raises(ContractMismatch, match="Pong-v5"):
        run("train_vae", *flags, "--pretrained_model_name_or_path", other)
    assert not (root / "refused").exists()


def test_a_dry_run_estimates_disk_and_time(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--dataset", root / "data", "--vae", root / "vae", "--output_dir", root / "planned", "--dry_run"]
    run("encode_latents", *flags)
    text = capsys.readouterr().out
    assert "MB" in text and "minutes to encode" in text and not (root / "planned").exists()


def test_every_plan_with_its_inputs_there_says_what_it_will_cost(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """tests/test_scripts.py plans without inputs, where some scripts can only say which is missing."""
    inputs = {
        "train_vae": ["--dataset", root / "data"],
        "finetune_decoder": ["--dataset", root / "data", "--vae", root / "vae"],
        "train_unet": ["--latents", root / "latents"],
    }
    for script, flags in inputs.items():
        run(script, *flags, "--output_dir", root / "planned", "--dry_run")
        text = capsys.readouterr().out
        assert f"{script}: dry run" in text and "parameters" in text and "steps" in text, script
        assert not (root / "planned").exists()


def test_two_processes_make_the_same_shards(root: Path) -> None:
    for shard_id in (1, 0):
        run(
            "encode_latents", "--dataset", root / "data", "--vae", root / "vae", "--output_dir", root / "two",
            "--shard_id", str(shard_id), "--num_shards", "2", "--shard_rows", "12",
        )  # fmt: skip
    run(
        "encode_latents", "--dataset", root / "data", "--vae", root / "vae", "--output_dir", root / "one",
        "--shard_rows", "12",
    )  # fmt: skip
    assert (root / "one" / "index.json").read_bytes() == (root / "two" / "index.json").read_bytes()


def test_one_process_finishes_what_two_began_and_encodes_the_rest_only(root: Path) -> None:
    flags = ["--dataset", root / "data", "--vae", root / "vae", "--output_dir", root / "fewer", "--shard_rows", "12"]
    begun = run("encode_latents", *flags, "--shard_id", "0", "--num_shards", "2")
    rest = run("encode_latents", *flags)
    rows = sum(shard["rows"] for shard in read_json(root / "fewer" / "index.json")["shards"])
    assert begun["frames"] > 0 and not begun["complete"]
    assert rest["complete"] and begun["frames"] + rest["frames"] == rows


def test_a_finished_training_is_extended_and_its_extension_survives_a_kill(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--dataset", root / "data", "--output_dir", root / "longer", *VAE, *SMALL, "--crop_size", "16"]
    run("train_vae", *flags, "--max_train_steps", "1")
    with monkeypatch.context() as patch:
        patch.setattr(MODULES["train_vae"], "train", lambda *args, **kwargs: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run("train_vae", *flags, "--max_train_steps", "2")
    capsys.readouterr()
    assert run("train_vae", *flags, "--max_train_steps", "2")["steps"] == 2
    assert "nothing to do" not in capsys.readouterr().out
    # The same global batch, shared out in another way, is the same run.
    shared = ["--train_batch_size", "1", "--gradient_accumulation_steps", "2"]
    assert run("train_vae", *flags, "--max_train_steps", "3", *shared)["steps"] == 3
    with pytest.raises(ValueError, match="2 there, 4 now"):
        run("train_vae", *flags, "--max_train_steps", "3", "--gradient_accumulation_steps", "2")


def test_a_kl_autoencoder_trains_on_whole_frames(root: Path) -> None:
    run(
        "train_vae", "--dataset", root / "data", "--output_dir", root / "kl", *SMALL, "--autoencoder", "kl",
        "--patch_size", "1", "--block_out_channels", "4", "8", "--crop_size", "0", "--max_train_steps", "2",
    )  # fmt: skip
    assert load_autoencoder_codec(root / "kl").contract.array_shape == (4, 12, 16)


def test_who_runs_again_leaves_what_is_finished_readable(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process that ends meanwhile counts the finished shards: none may be missing for a moment."""
    flags = ["--dataset", root / "data", "--vae", root / "vae", "--output_dir", root / "again", "--shard_rows", "12"]
    run("encode_latents", *flags)
    written: list[str] = []
    monkeypatch.setattr("gamengen.latents.encoding.write_sealed_json", lambda path, *_: written.append(path.name))
    run("encode_latents", *flags)
    assert written == []
