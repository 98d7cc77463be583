"""What is asked of a model many times: prompts with their targets and what is known of them.

They come as a list, from a text, JSONL or CSV file, from rows such as those of a Hugging Face
dataset, or from a template with slots. Everything is text from elsewhere: data, never run.
"""

from __future__ import annotations

import csv
import itertools
import json
import os
import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias, cast

from circuit_nb.files import shown

TARGETS = "targets"
"""The column, or key, of a row that holds what is to be explained."""
_PLAIN = (str, int, float, bool, type(None))


@dataclass(frozen=True)
class Ask:
    """One prompt.

    Args:
        prompt: Text, or token ids.
        targets: What to explain, as for `attribute`; the most likely next tokens if `None`.
        metadata: What is known of it: JSON values by name.
    """

    prompt: str | tuple[int, ...]
    targets: tuple[Any, ...] | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])


Prompts: TypeAlias = "str | os.PathLike[str] | Iterable[Any]"
"""A file, or one thing a prompt: text, token ids, an `Ask`, or a mapping as of a dataset's row."""


def template(
    text: str, slots: Mapping[str, Iterable[Any]] | Iterable[Mapping[str, Any]]
) -> list[Ask]:
    """Prompts from a template, such as `"The capital of the state containing {city} is"`.

    Args:
        text: The text, slots in braces; a brace itself is written twice.
        slots: Words for each slot, of which every combination is asked; or one mapping a prompt,
            of which `targets` are targets and all else is kept as metadata.

    Returns:
        The prompts; each keeps its words, and the template, as metadata.

    Raises:
        ValueError: If the text has no slots, or a slot has no word.
    """
    try:
        names = [name for _, name, _, _ in string.Formatter().parse(text) if name is not None]
    except ValueError as error:
        raise ValueError(f"The template {text[:80]!r} cannot be read: {error}.") from error
    if not names or not all(name.isidentifier() for name in names):
        raise ValueError(
            f"The template {text[:80]!r} has no slots with names; write them as {{city}}."
        )
    rows: Iterable[Mapping[str, Any]]
    if isinstance(slots, Mapping):
        words = cast("Mapping[str, Iterable[Any]]", slots)
        every = itertools.product(*words.values())
        rows = (dict(zip(words, some, strict=True)) for some in every)
    else:
        rows = slots
    found: list[Ask] = []
    for number, row in enumerate(rows):
        missing = sorted(set(names) - set(row))
        if missing:
            raise ValueError(
                f"Prompt {number} has no word for {{{missing[0]}}}; it has {sorted(row)[:6]}."
            )
        # Only names stand in braces, so nothing of a word is looked into.
        filled = string.Formatter().vformat(text, (), {name: str(row[name]) for name in names})
        found.append(_ask({"prompt": filled, "template": text, **row}, "prompt", number))
    return found


def asks(prompts: Prompts, column: str = "prompt") -> list[Ask]:
    """Everything that is asked, in order.

    Args:
        prompts: See `Prompts`. Of a file, .txt has one prompt a line, .jsonl one object or text a
            line, .csv one row a prompt under a line of names.
        column: The key or column with the prompt; `targets` has the targets, a text, an id or a
            list; all others become metadata.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If something is no prompt; it says which.
    """
    if isinstance(prompts, (str, os.PathLike)):
        path = Path(prompts)
        if not path.is_file():
            raise FileNotFoundError(
                f"{os.fspath(prompts)[:80]!r} is no file; give a list of prompts, or a .txt, "
                ".jsonl or .csv file of them."
            )
        rows: Iterable[Any] = _rows(path)
    else:
        rows = prompts
    found = [_ask(row, column, number) for number, row in enumerate(rows)]
    if not found:
        raise ValueError("There are no prompts; give at least one.")
    return found


def _rows(path: Path) -> Iterator[Any]:
    """The rows of a file."""
    if path.suffix not in (".txt", ".jsonl", ".csv"):
        raise ValueError(f"{shown(path)} is no .txt, .jsonl or .csv file, which are read.")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix == ".csv":
                yield from ({k: v for k, v in row.items() if k} for row in csv.DictReader(file))
                return
            for number, line in enumerate(file, start=1):
                text = line.rstrip("\r\n")
                if text.strip():
                    yield text if path.suffix == ".txt" else _json(text, path, number)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(
            f"{shown(path)} is not text in UTF-8 that can be read: {error}."
        ) from error


def _json(text: str, path: Path, number: int) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{shown(path)}, line {number}, is no JSON: {str(error)[:80]}.") from error


def _ask(row: Any, column: str, number: int) -> Ask:
    """One prompt of whatever stands for it."""
    if isinstance(row, Ask):
        return replace(row, metadata=_json_value(row.metadata))
    if isinstance(row, str):
        return Ask(row)
    if isinstance(row, Mapping):
        if column not in row:
            names = ", ".join(sorted(map(str, row))[:8])
            raise ValueError(
                f"Prompt {number} has no {column!r} but {names}; name the column with the prompt."
            )
        rest = {str(k): _json_value(v) for k, v in row.items() if k not in (column, TARGETS)}
        return Ask(_ask(row[column], column, number).prompt, _targets(row.get(TARGETS)), rest)
    values = row.tolist() if hasattr(row, "tolist") else row
    if isinstance(values, Sequence) and values and all(type(v) is int for v in values):
        return Ask(tuple(values))
    raise ValueError(
        f"Prompt {number} is {str(row)[:60]!r}, which is no prompt; give text, token ids, an Ask, "
        f"or a mapping with {column!r}."
    )


def _targets(given: Any) -> tuple[Any, ...] | None:
    """Targets as a row has them: one, several, or none."""
    if given is None or (isinstance(given, str) and not given):
        return None
    if isinstance(given, str) and given.startswith("["):  # as a CSV file has a list
        try:
            given = json.loads(given)
        except ValueError:
            return (given,)
    return tuple(given) if isinstance(given, (list, tuple)) else (given,)


def _json_value(value: Any) -> Any:
    """A value as JSON has it; what has no form there becomes text."""
    value = value.item() if hasattr(value, "item") and getattr(value, "size", 0) == 1 else value
    if isinstance(value, (list, tuple)):
        return [_json_value(part) for part in value]
    if isinstance(value, Mapping):
        return {str(k): _json_value(v) for k, v in value.items()}
    return value if isinstance(value, _PLAIN) else str(value)
