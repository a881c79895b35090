"""gamengen.commands.evaluate: refusals cost nothing, figures go into the card, the fingerprint is of the weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from agents.policies import RandomPolicy
from agents.recorder import Player, Recorder, RecorderSettings
from gamengen.commands import evaluate
from gamengen.commands.evaluate import PRESETS, Config, main, world_fingerprint
from gamengen.contract import ContractMismatch, read_game_contract
from gamengen.dataset.episode_writer import EpisodeWriter
from gamengen.dataset.episodes import NO_SEED
from gamengen.evaluation import identity
from gamengen.evaluation.recordings import Recordings
from gamengen.evaluation.report import write_report
from gamengen.evaluation.rollouts import Rollouts
from gamengen.evaluation.run import evaluate as measure
from gamengen.evaluation.study import Study
from gamengen.evaluation.suite import Scale
from gamengen.games.emulator import make_game_contract
from tests.counter_env import COUNTER_ENV
from tests.evaluated_worlds import SquareWorld, episode, recordings
from tests.worlds import tiny_game, tiny_pipeline

SMALL = Scale(num_starts=2, steps=(1,), num_rollouts=2, horizon=2, rollout_steps=(1,))


def record(folder: Path, test_share: float = 0.5, frame_skip: int = 1) -> None:
    game = make_game_contract(COUNTER_ENV, frame_skip=frame_skip)
    settings = RecorderSettings(
        num_steps=60, num_envs=1, validation_share=0.0, test_share=test_share, max_episode_frames=15
    )
    Recorder(folder, game, [Player(RandomPolicy(4))], settings).run()


def test_the_paper_s_protocol_is_the_paper_s() -> None:
    """GameNGen (arXiv 2408.14837), section 5.1: 2048 next frames and 512 videos of 16 and 32 frames, four steps."""
    scale = PRESETS["paper"].scale
    assert (scale.num_starts, scale.num_rollouts) == (2048, 512)
    assert scale.steps == (4,) == scale.rollout_steps and scale.horizon >= 32
    assert {"next_frame", "rollouts"} <= set(scale.metrics)


def test_a_world_of_another_game_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    tiny_pipeline().save_pretrained(tmp_path / "world")
    record(tmp_path / "data")
    config = Config(world=str(tmp_path / "world"), dataset=str(tmp_path / "data"), output_dir=str(tmp_path / "eval"))
    with pytest.raises(ContractMismatch, match="env_id"):
        main(config)
    assert not (tmp_path / "eval").exists()


def test_held_out_episodes_alone_take_their_training_split_from_another_dataset(tmp_path: Path) -> None:
    record(tmp_path / "held_out", test_share=1.0)
    record(tmp_path / "data", test_share=0.0)
    record(tmp_path / "other", test_share=0.0, frame_skip=2)
    game = read_game_contract(tmp_path / "held_out")
    assert evaluate._training(Config(), game, tmp_path / "held_out") is None
    given = evaluate._training(Config(train_dataset=str(tmp_path / "data")), game, tmp_path / "held_out")
    assert given is not None and given.lengths == Recordings.open(tmp_path / "data", "train").lengths
    with pytest.raises(ContractMismatch, match="frame_skip"):
        evaluate._training(Config(train_dataset=str(tmp_path / "other")), game, tmp_path / "held_out")


@pytest.mark.parametrize("name", ["world", "dataset", "output_dir"])
def test_what_is_missing_is_named(name: str) -> None:
    values = {key: "x" for key in ("world", "dataset", "output_dir") if key != name}
    with pytest.raises(ValueError, match=f"--{name} is missing"):
        main(Config(**values))  # type: ignore[arg-type]


def test_an_agent_needs_somebody_who_loads_it() -> None:
    with pytest.raises(ValueError, match="scripts/evaluate.py"):
        main(Config(world="w", dataset="d", output_dir="o", agent="ppo.zip"))


def test_a_dry_run_says_what_it_would_cost(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(Config(world="w", dataset="d", output_dir="o", scale=SMALL, dry_run=True)) == {}
    out = capsys.readouterr().out
    assert "next frames         2" in out and "frames of rollouts  4" in out


def test_the_fingerprint_follows_the_weights_and_not_the_card(tmp_path: Path) -> None:
    tiny_pipeline().save_pretrained(tmp_path / "world")
    before = world_fingerprint(tmp_path / "world")
    (tmp_path / "world" / "README.md").write_text("another card")
    assert world_fingerprint(tmp_path / "world") == before
    tiny_pipeline(seed=1).save_pretrained(tmp_path / "other")
    assert world_fingerprint(tmp_path / "other") != before


def test_presets_name_themselves() -> None:
    assert all(config.preset == name for name, config in PRESETS.items())


def test_training_episodes_are_not_held_out(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"--split train: expected one of validation, test"):
        main(Config(world="w", dataset="d", output_dir="o", split="train"))


def test_training_episodes_that_are_also_held_out_are_refused(tmp_path: Path) -> None:
    training, held_out = recordings((30, 25)), recordings((30, 25, 40))
    with pytest.raises(
        ValueError, match=r"--train_dataset mine: 2 of its training episodes, such as e0, are also held"
    ):
        evaluate._check_apart(Config(train_dataset="mine", dataset="theirs"), training, held_out)
    other = Recordings.of([episode(number, 30) for number in (7, 8)])
    evaluate._check_apart(Config(train_dataset="mine", dataset="theirs"), other, held_out)


def imported(folder: Path) -> None:
    """A dataset of the tiny worlds' game, of episodes that cannot be replayed."""
    writer = EpisodeWriter(folder, tiny_game(), "clips")
    for number, split in enumerate(("train", "test", "train", "test")):
        writer.write(episode(number, 30, split, seed=NO_SEED))
    writer.flush()


def test_a_seedless_dataset_is_measured_and_another_machine_does_not_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib", reason="the extra `eval` is not installed")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    tiny_pipeline().save_pretrained(tmp_path / "world")
    imported(tmp_path / "data")
    config = Config(
        world=str(tmp_path / "world"), dataset=str(tmp_path / "data"), output_dir=str(tmp_path / "world" / "eval"),
        scale=replace(SMALL, metrics=("next_frame", "action_reading", "counterfactual")), num_worlds=2,
        with_clips=False, write_card=False, device="cpu",
    )  # fmt: skip
    report = main(config)
    assert "has no seed, so no emulator can replay it" in capsys.readouterr().out
    missing = {name for name, one in report["metrics"].items() if one["missing"] is not None}
    assert missing == {"action_reading", "counterfactual"}
    assert "no episode has 48 recorded steps" in report["metrics"]["action_reading"]["missing"]
    assert report["fingerprints"]["real game"] == "none" and report["facts"]["machine"]
    # It goes on, with its own output in the world's folder; on another machine it does not.
    assert main(config)["fingerprints"] == report["fingerprints"]
    monkeypatch.setattr(identity, "processor", lambda: "another processor")
    with pytest.raises(ValueError, match=r"belongs to another run(?s:.*)another processor"):
        main(config)


def test_a_comparison_is_drawn_into_the_first_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib", reason="the extra `eval` is not installed")
    for name in ("a", "b"):
        study, metric = Study(world=SquareWorld(2), held_out=recordings()), Rollouts(num_starts=2, horizon=4)
        record = {"config": {"split": "test"}, "fingerprints": {"dataset": "abc"}}
        write_report(tmp_path / name, study, [metric], measure(study, [metric]), {}, record, clip_minutes=0)
    folders = (str(tmp_path / "a"), str(tmp_path / "b"))
    assert main(Config(compare=folders)) == {}
    assert {path.name for path in (tmp_path / "a" / "compare").iterdir()} == {"compare.html", "compare.png"}
    assert f"wrote {tmp_path / 'a' / 'compare' / 'compare.html'}" in capsys.readouterr().out
    main(Config(compare=folders, output_dir=str(tmp_path / "both")))
    assert (tmp_path / "both" / "compare.png").is_file()
