"""evaluation.rollout_section: worlds first, the codec at the marks, curves over all frames."""

from __future__ import annotations

from gamengen.evaluation.next_frame import CODEC
from gamengen.evaluation.rollout_section import horizon_of
from gamengen.evaluation.rollouts import START, Rollouts
from gamengen.evaluation.run import evaluate
from gamengen.evaluation.study import Study, step_settings
from tests.evaluated_worlds import SquareWorld, recordings


def test_tables_and_curves_hold_what_was_measured() -> None:
    world = SquareWorld(4, noise=60, with_steps=True)
    metric = Rollouts(
        settings=step_settings(world, (1, 4)), num_starts=4, horizon=10, not_measured=("FVD: no weights",)
    )
    figures = evaluate(Study(world=world, held_out=recordings()), [metric])["rollouts"].figures
    (section,) = metric.sections(figures)
    assert horizon_of(figures) == 10 and section.notes == ("FVD: no weights",)
    assert [table.title for table in section.tables] == ["PSNR, dB", "PSNR, moving pixels, dB", "SSIM"]
    table = section.tables[0]
    assert list(table.columns) == ["frame", "1", "4", "10"]
    assert [name for name, _ in table.rows][:2] == ["1 step", "4 steps"]
    assert {name for name, _ in table.rows} == {"1 step", "4 steps", START, CODEC}
    plot = section.plots[0]
    assert list(plot.series["1 step"].x) == list(range(1, 11)) and not plot.series["1 step"].dashed
    assert list(plot.series[CODEC].x) == [1, 4, 10] and plot.series[CODEC].dashed and plot.series[START].dashed
