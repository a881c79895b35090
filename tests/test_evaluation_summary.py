"""evaluation.summary: one row a setting, and a table for the terminal."""

from __future__ import annotations

from gamengen.evaluation.figures import Figure
from gamengen.evaluation.section import Table
from gamengen.evaluation.summary import cell_text, summary_section, table_text


def figure(value: object, low: object = None, high: object = None) -> Figure:
    if isinstance(value, list):
        low, high = [None] * len(value), [None] * len(value)
    return Figure(value, low, high, 8, 2)


MEASURED = {
    "next_frame": {
        f"{label}/{name}": figure(value, value - 1, value + 1)
        for label, value in (("1 step", 30.0), ("4 steps", 32.0), ("copy last frame", 25.0), ("codec (ceiling)", 40.0))
        for name in ("psnr", "moving_psnr")
    },
    "speed": {"1 step/fps": figure(40.0), "4 steps/fps": figure(12.0)},
    "rollouts": {
        "1 step/error_to/own_paddle": figure([1.0, 2.0, 3.0, 4.0, 9.0]),
        "1 step/error_curve/own_paddle": figure([0.0] * 256),
        "1 step/first_lost": figure(100.0, 90.0, 110.0),
        "standing still/error_to/own_paddle": figure([5.0, 6.0, 7.0, 8.0, 9.0]),
        "standing still/error_curve/own_paddle": figure([0.0] * 256),
    },
}


def test_quality_objects_and_speed_stand_in_one_table() -> None:
    section = summary_section(MEASURED, "ALE/Pong-v5")
    rows = dict(section.tables[0].rows)
    assert list(rows) == ["1 step", "4 steps", "copy last frame", "codec (ceiling)"]
    values = [None if cell is None else cell.value for cell in rows["1 step"]]  # type: ignore[union-attr]
    assert values == [30.0, 30.0, 4.0, 100.0, 40.0], "the paddle's error is that of the first 64 frames"
    assert rows["copy last frame"][2].value == 8.0 and rows["copy last frame"][4] is None  # type: ignore[union-attr]
    assert list(section.plots[0].series) == ["1 step", "4 steps"]


def test_the_frames_that_the_own_error_is_of_are_those_of_the_rollouts() -> None:
    assert "over the first 64 frames" in summary_section(MEASURED, "ALE/Pong-v5").explanation
    short = {path: figure([1.0, 2.0, 3.0, 4.0][: 4 if "error_to" in path else None]) for path in MEASURED["rollouts"]}
    short |= {path: figure([0.0] * 20) for path in short if "error_curve" in path}
    section = summary_section({**MEASURED, "rollouts": short | {"1 step/first_lost": figure(9.0)}}, "ALE/Pong-v5")
    assert "over the first 20 frames" in section.explanation
    assert dict(section.tables[0].rows)["1 step"][2].value == 4.0  # type: ignore[union-attr]
    assert "over the first" not in summary_section({}, "ALE/Pong-v5").explanation


def test_a_game_without_readers_and_a_report_with_nothing_are_no_error() -> None:
    columns = summary_section({"next_frame": MEASURED["next_frame"]}, "Tiny-v0").tables[0].columns
    assert list(columns) == ["", "next frame, dB", "moving pixels, dB", "FPS, one game"]
    assert summary_section({}, "Tiny-v0").tables == []


def test_tables_line_up_in_the_terminal() -> None:
    table = Table(["", "dB"], [("a world", [figure(3.14159, 3.0, 3.5)]), ("b", [None]), ("c", ["text"])], title="T")
    lines = table_text(table).split("\n")
    assert lines[0] == "T" and lines[2] == "a world  3.14 [3.00, 3.50]"
    assert len(lines[3]) == len(lines[2]) and lines[3].endswith(" -") and lines[4].endswith(" text")
    assert cell_text(figure(None), 2) == "-" and cell_text(figure(1.0), 1) == "1.0"
