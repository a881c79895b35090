"""importing/spec_file.py: every mistake in a YAML is reported with its line; nothing unfolds or runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from gamengen.importing.spec_file import MAX_BYTES, read_yaml


def written(folder: Path, text: str) -> Path:
    (folder / "x.yaml").write_text(text)
    return folder / "x.yaml"


def test_entries_know_their_lines_and_names(tmp_path: Path) -> None:
    root = read_yaml(written(tmp_path, "a: 1\n\nb:\n  - {c: text}\n  - {c: 2.5}\n")).fields()
    assert (root["a"].line, root["a"].whole(0)) == (1, 1)
    second = root["b"].items()[1].fields()["c"]
    assert (second.line, second.name, second.number()) == (5, "b[1].c", 2.5)
    assert root["b"].plain() == [{"c": "text"}, {"c": 2.5}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2\n", r"line 2: field 'a' stands twice"),
        ("a: &x 1\nb: *x\n", r"line 2: aliases"),
        ("a: [1, 2\n", r"not YAML: .*line 2"),
        ("a: !!python/object/apply:os.system [touch canary]\n", r"the tag .*os.system.* is not read"),
        ("", "is empty"),
    ],
)
def test_what_is_not_a_plain_file_is_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"(?s)x.yaml.*{message}"):
        read_yaml(written(tmp_path, text))
    assert not Path("canary").exists()


def test_a_bomb_of_aliases_and_a_large_file_are_refused_at_once(tmp_path: Path) -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
    with pytest.raises(ValueError, match="aliases"):
        read_yaml(written(tmp_path, bomb))
    with pytest.raises(ValueError, match="at most"):
        read_yaml(written(tmp_path, "a: " + "x" * MAX_BYTES))


def test_values_of_another_kind_are_named(tmp_path: Path) -> None:
    fields = read_yaml(written(tmp_path, "a: yes\nb: []\nc: 3\nd: .inf\n")).fields()
    for name, ask in (("a", "text"), ("b", "number"), ("c", "flag"), ("c", "items"), ("a", "fields")):
        with pytest.raises(ValueError, match=rf"x.yaml, line \d, {name}: expected .*, got"):
            getattr(fields[name], ask)()
    with pytest.raises(ValueError, match="above 0"):
        fields["d"].number(above=0)
    with pytest.raises(ValueError, match="line 4: unknown field 'd'; did you mean 'dd'"):
        read_yaml(tmp_path / "x.yaml").fields(["a", "b", "dd", "c"])
    with pytest.raises(FileNotFoundError, match="own-game.md"):
        read_yaml(tmp_path / "none.yaml")
