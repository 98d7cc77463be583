"""A folder of results: one graph file a prompt, the list of what was asked, what failed and why."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from circuit_nb.files import clear_stale, shown, write_text

GRAPH, FAILED, LIST = ".safetensors", ".failed.json", "set.json"
_SCHEMA = 1


@dataclass(frozen=True)
class Entry:
    """One prompt of a set."""

    name: str
    """What its file is called, without the suffix."""
    prompt: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])


class Folder:
    """A folder of results.

    Args:
        path: Where. It is made when something is written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def graph(self, name: str) -> Path:
        """Where a prompt's graph is."""
        return self.path / f"{name}{GRAPH}"

    def done(self) -> set[str]:
        """Names of the graphs that are there: each was put in its place when it was whole."""
        return self._with(GRAPH)

    def _with(self, suffix: str) -> set[str]:
        if not self.path.is_dir():
            return set()
        with os.scandir(self.path) as files:
            names = (file.name for file in files if not file.name.startswith("."))
            return {name.removesuffix(suffix) for name in names if name.endswith(suffix)}

    def fail(self, name: str, prompt: str, reason: str) -> None:
        """Keep why a prompt has no graph."""
        text = json.dumps({"prompt": prompt, "reason": reason}, ensure_ascii=False)
        write_text(self.path / f"{name}{FAILED}", text)

    def succeed(self, name: str) -> None:
        """Forget why a prompt had no graph."""
        with suppress(OSError):
            (self.path / f"{name}{FAILED}").unlink(missing_ok=True)

    def failures(self) -> dict[str, tuple[str, str]]:
        """Prompt and reason of each that failed, by name."""
        found: dict[str, tuple[str, str]] = {}
        for name in sorted(self._with(FAILED) - self.done()):
            stored = _read(self.path / f"{name}{FAILED}")
            found[name] = str(stored.get("prompt", "")), str(stored.get("reason", "unknown"))
        return found

    def entries(self) -> list[Entry]:
        """What was asked, in order; by name where the folder has no list.

        Raises:
            FileNotFoundError: If there is no such folder.
            ValueError: If the list is damaged.
        """
        if not self.path.is_dir():
            raise FileNotFoundError(f"There is no folder {shown(self.path)}.")
        path = self.path / LIST
        if not path.is_file():
            return [Entry(name) for name in sorted(self.done())]
        stored = _read(path)
        try:
            if stored["schema"] != _SCHEMA:
                raise ValueError(
                    f"{shown(path)} has schema {str(stored['schema'])[:20]}; this version of "
                    f"circuit-nb reads {_SCHEMA}. Upgrade circuit-nb to open it."
                )
            return [_entry(row) for row in stored["entries"]]
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{shown(path)} is no list of a set's prompts.") from error

    def add(self, entries: Iterable[Entry]) -> None:
        """Add to what is asked, before anything is computed. What is known already is replaced.

        Raises:
            OSError: If it cannot be written; one sentence says why.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        clear_stale(self.path / LIST)
        before = self.entries() if (self.path / LIST).is_file() else []
        found: dict[tuple[str, str], Entry] = {}
        for entry in [*before, *entries]:
            found[entry.name, json.dumps(entry.metadata, sort_keys=True)] = entry
        rows = [
            {"name": e.name, "prompt": e.prompt, "metadata": dict(e.metadata)}
            for e in found.values()
        ]
        text = json.dumps({"schema": _SCHEMA, "entries": rows}, ensure_ascii=False)
        write_text(self.path / LIST, text)


def _read(path: Path) -> dict[str, Any]:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{shown(path)} cannot be read: {str(error)[:80]}.") from error
    if not isinstance(stored, dict):
        raise ValueError(f"{shown(path)} is not what circuit-nb writes.")
    return stored


def _entry(row: Any) -> Entry:
    name, metadata = row["name"], row.get("metadata", {})
    # A name becomes a path: it is one that was made here, or refused.
    if not (isinstance(name, str) and name.isalnum() and isinstance(metadata, dict)):
        raise ValueError(f"The list of a set's prompts holds an odd entry: {str(row)[:80]}.")
    return Entry(name, str(row.get("prompt", "")), metadata)
