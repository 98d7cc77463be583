"""YAML, and so JSON, of strangers: read within bounds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from circuit_nb.files import said, shown

MAX_BYTES = 10**6
"""Largest file read."""
MAX_VALUES = 20_000
"""Most values in one, those that an alias repeats counted as often as it does."""
MAX_DEPTH = 20
_TAG = "tag:yaml.org,2002:"
_TAGS = {None, *(_TAG + name for name in ("str", "int", "float", "bool", "null", "seq", "map"))}
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_yaml(path: Path) -> Any:
    """The content of a YAML file.

    Raises:
        ValueError: If it is too large, no YAML, or of a kind that no config needs.
    """
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise ValueError(
            f"{shown(path)} has {size / 1e6:.1f} MB; no config of a transcoder set has over "
            f"{MAX_BYTES / 1e6:.0f} MB."
        )
    try:
        text = path.read_bytes().decode("utf-8")
        _check_events(text)
        return yaml.load(text, Loader=_LOADER)
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{shown(path)} is not readable YAML ({said(error)}).") from None


def _check_events(text: str) -> None:
    """Refuse what would be deep or large once read, or be more than texts and numbers.

    An alias costs a few bytes and stands for all that its anchor holds, other aliases included:
    nine levels of nine would be a billion values.
    """
    sizes: dict[str, int] = {}
    open_: list[tuple[str | None, int]] = []
    total = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise ValueError("an alias stands for what it is in, or for nothing")
            total += sizes[event.anchor]
        elif isinstance(event, yaml.CollectionStartEvent):
            total += 1
            open_.append((event.anchor, total - 1))
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_.pop()
            if anchor:
                sizes[anchor] = total - before
        elif isinstance(event, yaml.ScalarEvent):
            total += 1
            if event.anchor:
                sizes[event.anchor] = 1
        if total > MAX_VALUES:
            raise ValueError(f"it holds over {MAX_VALUES} values")
        if len(open_) > MAX_DEPTH:
            raise ValueError(f"it is nested more than {MAX_DEPTH} levels deep")
        tag: object = getattr(event, "tag", None)
        if tag not in _TAGS:
            raise ValueError(f"it has the tag {tag!r}, which no config needs")
