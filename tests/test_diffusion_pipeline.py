"""gamengen.diffusion.pipeline: a world folder that plays the same wherever it is loaded, and refuses strangers."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler
from torch import Tensor

from gamengen.codecs.autoencoder import fingerprint
from gamengen.contract import to_dict
from gamengen.diffusion.denoiser import Denoiser
from gamengen.diffusion.pipeline import GameNGenPipeline, build_pipeline
from gamengen.diffusion.sampler import sample, stacked_denoise
from gamengen.diffusion.schedule import build_scheduler
from gamengen.durable import DamagedFile
from gamengen.manifest import write_manifest
from tests.worlds import LENGTH, tiny_codec, tiny_pipeline, tiny_unet


@pytest.fixture(scope="module")
def pipeline() -> GameNGenPipeline:
    return tiny_pipeline()


def inputs(batch: int = 2) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "context": torch.randn((batch, LENGTH, 2, 8, 8), generator=generator),
        "actions": torch.randint(0, 3, (batch, LENGTH), generator=generator),
        "noise": torch.randn((batch, 2, 8, 8), generator=generator),
        "context_noise": torch.randn((batch, LENGTH, 2, 8, 8), generator=generator),
    }


PLAY: dict[str, Any] = {"num_inference_steps": 2, "guidance_scale": 1.5, "noise_level": 0.3}


def frames(pipeline: GameNGenPipeline, **options: Any) -> Tensor:
    return pipeline.decode_latents(pipeline(**inputs(), **{**PLAY, **options}))


@pytest.mark.parametrize("prediction_type", ["v_prediction", "epsilon", "sample", "flow"])
def test_save_and_load_are_bit_equal(prediction_type: Any, tmp_path: Path) -> None:
    pipeline = tiny_pipeline(prediction_type)
    pipeline.save_pretrained(tmp_path / "world")
    loaded = GameNGenPipeline.from_pretrained(tmp_path / "world")
    assert loaded.world_contract == pipeline.world_contract
    expected = FlowMatchEulerDiscreteScheduler if prediction_type == "flow" else DDIMScheduler
    assert type(loaded.scheduler) is expected
    pipeline.unet.to(memory_format=torch.channels_last)  # as a loaded one has it
    assert torch.equal(loaded(**inputs(), **PLAY), pipeline(**inputs(), **PLAY))
    assert torch.equal(frames(loaded), frames(pipeline))
    # Mapped from a file they would start anywhere, and some kernels would give other last bits.
    assert all(p.data_ptr() % 64 == 0 for p in [*loaded.unet.parameters(), *loaded.vae.parameters()])
    again = tmp_path / "again"
    loaded.save_pretrained(again)
    for file in sorted((tmp_path / "world").rglob("*.safetensors")):
        assert file.read_bytes() == (again / file.relative_to(tmp_path / "world")).read_bytes()


def test_stock_components_only(pipeline: GameNGenPipeline, tmp_path: Path) -> None:
    """A model class of our own inside a pipeline does not load from a Hub id."""
    pipeline.save_pretrained(tmp_path / "world")
    index = json.loads((tmp_path / "world" / "model_index.json").read_text())
    components = {name: value for name, value in index.items() if isinstance(value, list)}
    assert set(components) == {"unet", "vae", "scheduler"}
    assert all(library == "diffusers" for library, _ in components.values())
    assert not list((tmp_path / "world").rglob("*.bin")), "safetensors only"


def test_no_file_names_a_place_on_this_machine(pipeline: GameNGenPipeline, tmp_path: Path) -> None:
    pipeline.save_pretrained(tmp_path / "one")
    GameNGenPipeline.from_pretrained(tmp_path / "one").save_pretrained(tmp_path / "two")
    files = list((tmp_path / "two").rglob("*.json"))
    assert len(files) >= 4
    for file in files:
        text = file.read_text()
        assert str(tmp_path) not in text and "_name_or_path" not in text, file


def test_start_states_survive(pipeline: GameNGenPipeline, tmp_path: Path) -> None:
    pipeline.save_pretrained(tmp_path / "one")
    GameNGenPipeline.from_pretrained(tmp_path / "one").save_pretrained(tmp_path / "two")
    loaded = GameNGenPipeline.from_pretrained(tmp_path / "two")
    assert len(loaded.start_states) == len(pipeline.start_states) == 2
    for ours, theirs in zip(pipeline.start_states, loaded.start_states, strict=True):
        assert np.array_equal(ours.frames, theirs.frames) and np.array_equal(ours.actions, theirs.actions)
        assert np.array_equal(ours.future_actions, theirs.future_actions) and ours.name == theirs.name
        assert ours.replay.seed == theirs.replay.seed and ours.replay.noop_starts == theirs.replay.noop_starts
        assert np.array_equal(ours.replay.actions, theirs.replay.actions)


def test_saving_replaces_an_older_world_as_a_whole(pipeline: GameNGenPipeline, tmp_path: Path) -> None:
    pipeline.save_pretrained(tmp_path / "world")
    (tmp_path / "world" / "stale.txt").write_text("of the older world")
    tiny_pipeline(seed=1).save_pretrained(tmp_path / "world")
    assert not (tmp_path / "world" / "stale.txt").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["world"]
    assert not torch.equal(frames(GameNGenPipeline.from_pretrained(tmp_path / "world")), frames(pipeline))


@pytest.mark.parametrize(
    "names",
    [("thesis.tex",), ("run.json", "checkpoint-5/x"), ("model_index.json", "run.json"), ("model_index.json", ".git/x")],
)
def test_only_a_world_is_replaced_by_a_world(
    names: tuple[str, ...], pipeline: GameNGenPipeline, tmp_path: Path
) -> None:
    """`export_world --output_dir .` once took a whole checkout away."""
    folder = tmp_path / "mine"
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("precious")
    with pytest.raises(ValueError, match=r"mine: expected a new or empty folder.* holds .*--output_dir"):
        pipeline.save_pretrained(folder)
    assert all((folder / name).read_text() == "precious" for name in names)
    assert [item.name for item in tmp_path.iterdir()] == ["mine"]


def test_a_file_is_not_replaced_by_a_world_and_an_empty_folder_is(pipeline: GameNGenPipeline, tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("precious")
    with pytest.raises(ValueError, match="a file"):
        pipeline.save_pretrained(tmp_path / "notes")
    assert (tmp_path / "notes").read_text() == "precious"
    (tmp_path / "empty").mkdir()
    pipeline.save_pretrained(tmp_path / "empty")
    assert (tmp_path / "empty" / "model_index.json").is_file()


def test_half_precision_files_under_the_usual_names_load_as_float32(tmp_path: Path) -> None:
    """How small worlds are shipped."""
    pipeline = tiny_pipeline()
    expected = pipeline(**inputs(), **PLAY)
    pipeline.to(dtype=torch.float16).save_pretrained(tmp_path / "half")
    loaded = GameNGenPipeline.from_pretrained(tmp_path / "half")
    assert loaded.unet.dtype == loaded.vae.dtype == torch.float32
    torch.testing.assert_close(loaded(**inputs(), **PLAY), expected, rtol=0, atol=2e-2)
    # The fingerprint is that of the float16 values: nothing is refused.
    assert fingerprint(loaded.vae) == loaded.world_contract.codec.fingerprint


def test_a_contract_at_loading_is_refused(pipeline: GameNGenPipeline, tmp_path: Path) -> None:
    pipeline.save_pretrained(tmp_path / "world")
    with pytest.raises(ValueError, match="takes no contract"):
        GameNGenPipeline.from_pretrained(tmp_path / "world", contract=to_dict(pipeline.world_contract))


def test_another_encoder_is_refused_and_another_decoder_is_not(pipeline: GameNGenPipeline, tmp_path: Path) -> None:
    pipeline.save_pretrained(tmp_path / "world")
    other = tiny_codec(seed=5).vae
    with pytest.raises(ValueError) as error:
        GameNGenPipeline.from_pretrained(tmp_path / "world", vae=other)
    for value in (fingerprint(other), pipeline.world_contract.codec.fingerprint):
        assert value in str(error.value)
    tuned = tiny_codec(seed=0).vae
    with torch.no_grad():
        for parameter in tuned.decoder.parameters():
            parameter.mul_(1.1)
    loaded = GameNGenPipeline.from_pretrained(tmp_path / "world", vae=tuned)
    torch.testing.assert_close(loaded(**inputs(), **PLAY), pipeline(**inputs(), **PLAY), rtol=0, atol=1e-5)
    assert not torch.equal(frames(loaded), frames(pipeline))


def test_a_lost_scheduler_config_is_refused(pipeline: GameNGenPipeline, tmp_path: Path) -> None:
    pipeline.save_pretrained(tmp_path / "world")
    file = tmp_path / "world" / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps({"_class_name": "DDIMScheduler"}))
    with pytest.raises(DamagedFile, match="scheduler_config.json has"):
        GameNGenPipeline.from_pretrained(tmp_path / "world")
    write_manifest(tmp_path / "world")  # someone who means it
    with pytest.raises(ValueError, match="timestep_spacing is 'leading', expected 'trailing'"):
        GameNGenPipeline.from_pretrained(tmp_path / "world")


def test_a_unet_of_another_contract_is_refused(pipeline: GameNGenPipeline) -> None:
    longer = replace(pipeline.world_contract, context_length=LENGTH + 1)
    with pytest.raises(ValueError, match="in_channels is 17, expected 22"):
        build_pipeline(pipeline.unet, pipeline.vae, pipeline.scheduler, longer, [])


def test_uploading_before_the_start_states_are_written_is_refused(pipeline: GameNGenPipeline, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="push_to_hub"):
        pipeline.save_pretrained(tmp_path / "world", push_to_hub=True)
    assert not (tmp_path / "world").exists()


def test_loading_warns_of_nothing(
    pipeline: GameNGenPipeline, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("diffusers"), "propagate", True)
    pipeline.save_pretrained(tmp_path / "world")
    with caplog.at_level(logging.WARNING):
        GameNGenPipeline.from_pretrained(tmp_path / "world", vae=pipeline.vae)
    assert not [record.message for record in caplog.records]


def test_a_step_equals_its_parts(pipeline: GameNGenPipeline) -> None:
    values, contract = inputs(), pipeline.world_contract
    denoiser = Denoiser(pipeline.unet, contract)
    # Level 0.3 of 0.7 lies in bucket 4 of 10.
    noisy = values["context"] + 0.3 * values["context_noise"]
    bound = stacked_denoise(denoiser, noisy, values["actions"], torch.tensor([4, 4]), 1.5)
    with torch.no_grad():
        expected = sample(bound, pipeline.schedule, values["noise"], 2)
    torch.testing.assert_close(pipeline(**values, **PLAY), expected, rtol=0, atol=1e-6)


def test_by_default_the_context_is_clean_and_called_clean(pipeline: GameNGenPipeline) -> None:
    values = inputs()
    plain = pipeline(**values)
    del values["context_noise"]
    assert torch.equal(pipeline(**values, noise_level=0.0, guidance_scale=1.0, num_inference_steps=4), plain)


def test_a_noise_level_needs_its_noise_and_a_bucket(pipeline: GameNGenPipeline) -> None:
    """The network would be told of noise that is not there, or of less than there is."""
    values = inputs()
    for level in (-0.1, 0.8, float("nan")):
        with pytest.raises(ValueError, match=f"noise_level: expected 0 to 0.7, got {level}"):
            pipeline(**values, noise_level=level)
    del values["context_noise"]
    with pytest.raises(ValueError, match="needs context_noise"):
        pipeline(**values, noise_level=0.2)


def test_pixels_and_normalised_latents(pipeline: GameNGenPipeline) -> None:
    generator = np.random.default_rng(0)
    pixels = torch.as_tensor(generator.integers(0, 256, (3, 16, 16, 3), dtype=np.uint8))
    latents = pipeline.encode_frames(pixels)
    raw = pipeline.codec.encode(pixels)
    assert raw.dtype == torch.float16 and latents.dtype == torch.float32
    for channel, (mean, std) in enumerate(((0.1, 0.5), (-0.2, 0.25))):
        torch.testing.assert_close(latents[:, channel], (raw[:, channel].float() - mean) / std)
    # Decoding undoes the normalisation: the same frames as from the raw latents, up to one rounding.
    difference = pipeline.decode_latents(latents).int() - pipeline.codec.decode(raw).int()
    assert int(difference.abs().max()) <= 1


def test_pipeline_of_the_unet_that_is_trained(pipeline: GameNGenPipeline) -> None:
    """Validation builds it once: it must see the weights as they change."""
    contract = pipeline.world_contract
    unet = tiny_unet(contract, seed=3)
    own = build_pipeline(unet, pipeline.vae, build_scheduler("v_prediction"), contract, [])
    before = own(**inputs())
    with torch.no_grad():
        unet.conv_out.weight.mul_(2.0)
    assert not torch.equal(own(**inputs()), before)
