"""Prompts from lists, files, rows and templates."""

from __future__ import annotations

from pathlib import Path

import pytest

from circuit_nb.graphsets.asking import Ask, asks, template
from circuit_nb.patterns.roles import align


def test_prompts_come_from_lists_rows_and_files(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n\ntwo \n", encoding="utf-8")
    assert [a.prompt for a in asks(tmp_path / "a.txt")] == ["one", "two "]
    (tmp_path / "a.jsonl").write_text('"one"\n{"prompt": "two", "targets": [" x", 3], "k": [1]}\n')
    assert asks(tmp_path / "a.jsonl") == [Ask("one"), Ask("two", (" x", 3), {"k": [1]})]
    (tmp_path / "a.csv").write_text('text,targets,kind\n"a, b"," x",state\nc,,\n')
    first, second = asks(tmp_path / "a.csv", column="text")
    assert first == Ask("a, b", (" x",), {"kind": "state"})
    assert second.targets is None
    assert asks([[1, 2], Ask("x")]) == [Ask((1, 2)), Ask("x")]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([], "no prompts"),
        ([{"text": "x"}], "name the column"),
        ([3], "is no prompt"),
        ("missing.txt", "is no file"),
    ],
)
def test_what_is_no_prompt_is_said(given: object, says: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=says):
        asks(given)  # type: ignore[arg-type]


def test_templates_fill_slots_with_plain_words() -> None:
    found = template("{a} is {b}", {"a": ["x", "{b}"], "b": ["y"]})
    assert [a.prompt for a in found] == ["x is y", "{b} is y"]
    assert found[0].metadata == {"template": "{a} is {b}", "a": "x", "b": "y"}
    [one] = template("in {c}", [{"c": "here", "targets": " z", "kind": 1}])
    assert one.targets == (" z",)
    assert one.metadata["kind"] == 1
    for text, says in (("none", "no slots"), ("{0.x}", "no slots"), ("{", "cannot be read")):
        with pytest.raises(ValueError, match=says):
            template(text, {"a": ["x"]})
    with pytest.raises(ValueError, match="no word"):
        template("{a}", [{"b": 1}])


def test_places_of_a_template_are_the_same_whatever_the_words_take() -> None:
    prompts = [["^", "in", " Dal", "las", " is"], ["^", "in", " Oak", " is"]]
    roles = align(prompts)
    names = [[roles.names[i] for i in one] for one in roles.of]
    assert names == [
        ["^", "in", "[after in -2]", "[after in]", "is"],
        ["^", "in", "[after in]", "is"],
    ]
    assert align(prompts, "last").names == ("-5", "-4", "-3", "-2", "-1")
    assert not align(prompts, "any").of[0].any()
    with pytest.raises(ValueError, match="by is"):
        align(prompts, "other")
