"""JSON from strangers: limited in size, numbers and depth, and read through checked accessors."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, NoReturn, cast

from circuit_nb.graph_check import MAX_DEPTH, MAX_LAYERS, MAX_NUMBER

MAX_BYTES = 100 * 2**20
"""Largest file read."""
MAX_VALUES = 10 * 10**6
"""Most values in one file; a graph of 100 MB holds about 8 million."""
MAX_INTEGER = 10**40
"""Integers are below it: the numbers that stand for features are long."""
_MAX_DEPTH = MAX_DEPTH + 2
_ENDS = ("source", "target", "weight")


class Link(NamedTuple):
    """One edge, as compact as Python holds it: a file can have a million of them."""

    source: str
    target: str
    weight: Any
    source_type: str | None = None

    def plain(self) -> dict[str, Any]:
        """The object it was made of."""
        fields = self._asdict()
        return fields if self.source_type else {key: fields[key] for key in _ENDS}


def parse(data: bytes, name: str) -> Any:
    """Parse JSON text with limits on what it may build.

    Links come back as `Link`, everything else as `json.loads` returns it.

    Args:
        data: The file's bytes.
        name: What the file is called in errors.

    Raises:
        ValueError: If it is too large, too deep, or no JSON; NaN is no JSON.
    """
    if len(data) > MAX_BYTES:
        raise ValueError(f"{name} is over {MAX_BYTES // 2**20} MB; no larger graph is read.")
    # Every value but the first of an array or object follows a comma, bracket or brace.
    if data.count(b",") + data.count(b"[") + data.count(b"{") > MAX_VALUES:
        raise ValueError(f"{name} holds over {MAX_VALUES:,} values; no such graph is read.")
    shared: dict[str, str] = {}

    def compact(item: dict[str, Any]) -> Any:
        # Nothing may be lost: an object of this form need not be a link.
        if len(item) > 4 or "weight" not in item:
            return item
        source, target, kind = item.get("source"), item.get("target"), item.get("source_type")
        if not isinstance(source, str) or not isinstance(target, str):
            return item
        if len(item) != (4 if isinstance(kind, str) and kind else 3):
            return item
        source, target = shared.setdefault(source, source), shared.setdefault(target, target)
        return Link(source, target, item["weight"], kind)

    try:
        text = data.decode("utf-8-sig")
        return json.loads(text, object_hook=compact, parse_int=_integer, parse_constant=_constant)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ValueError(f"{name} is no graph that can be read: {reason[:100]}.") from None


def _integer(digits: str) -> int:
    if len(digits) > 40:
        raise ValueError(f"a number has {len(digits)} digits")
    return int(digits)


def _constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number")


def clean(text: str) -> str:
    """Text that can be written as UTF-8 again."""
    return text.encode("utf-8", "replace").decode("utf-8")


def plain(value: Any, depth: int = 0) -> Any:
    """A JSON value with strings cleaned; what lies deeper than provenance may becomes None."""
    if isinstance(value, Link):
        value = value.plain()
    if depth > _MAX_DEPTH:
        return None
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        items = cast("dict[str, Any]", value).items()
        return {clean(key): plain(item, depth + 1) for key, item in items}
    if isinstance(value, list):
        return [plain(item, depth + 1) for item in cast("list[Any]", value)]
    return value


class Reader:
    """One JSON object, read field by field; a wrong type is refused with the field's place."""

    def __init__(self, value: Any, name: str) -> None:
        self.name = name
        if not isinstance(value, Mapping):
            raise ValueError(f"{name} is no JSON object.")
        self._fields = cast("Mapping[str, Any]", value)

    def fail(self, reason: str) -> NoReturn:
        """Raise ValueError about this object."""
        raise ValueError(f"{self.name} {reason}.")

    def get(self, key: str) -> Any:
        """A field as it is; None if it is not there."""
        return self._fields.get(key)

    def child(self, key: str, *, optional: bool = False) -> Reader:
        """An object within this one; an empty one if it may be missing and is."""
        value = self.get(key)
        if value is None and not optional:
            self.fail(f"has no {key!r}")
        return Reader({} if value is None else value, f"{self.name}: {key}")

    def items(self, key: str) -> list[Any]:
        """An array."""
        value = self.get(key)
        if not isinstance(value, list):
            self.fail(f"has no array {key!r}")
        return cast("list[Any]", value)

    def entries(self, key: str) -> Iterator[tuple[str, Any]]:
        """Names and values of an object within this one, which may hold any names."""
        value = self.get(key)
        if not isinstance(value, Mapping):
            self.fail(f"has no object {key!r}")
        for name, item in cast("Mapping[str, Any]", value).items():
            yield clean(name), item

    def texts(self, key: str) -> Iterator[str]:
        """An array of texts; a missing one is empty."""
        for value in self.items(key) if self.get(key) is not None else ():
            if not isinstance(value, str):
                self.fail(f"has a {type(value).__name__} among the texts of {key!r}")
            yield clean(value)

    def text(self, key: str, default: str | None = None) -> str:
        """A text; without a default it must be there."""
        value = self.get(key)
        if value is None and default is not None:
            return default
        if not isinstance(value, str):
            self.fail(f"has {type(value).__name__} for {key!r}, where a text is needed")
        return clean(value)

    def number(self, key: str, default: float = 0.0) -> float:
        """A finite number of a graph's range; the default where it is missing or null."""
        value = self.get(key)
        return default if value is None else finite(value, f"{self.name}: {key}")

    def integer(
        self, key: str, default: int | None = None, *, least: int = 0, below: int = 2**63
    ) -> int:
        """An integer from `least` up to but not including `below`."""
        value = self.get(key)
        if value is None and default is not None:
            return default
        if not isinstance(value, int) or isinstance(value, bool):
            self.fail(f"has {type(value).__name__} for {key!r}, where an integer is needed")
        if not least <= value < below:
            self.fail(f"has {value} for {key!r}, where {least} to {below - 1} is possible")
        return value

    def layer(self, key: str = "layer") -> int:
        """A layer, written as a number or as its digits; -1 for a name such as `E`."""
        value = self.get(key)
        if isinstance(value, str):
            if not (value.isascii() and value.isdigit() and len(value) < 10):
                return -1
            value = int(value)
        # Targets lie above the last layer.
        return Reader({key: value}, self.name).integer(key, below=MAX_LAYERS + 2)


def finite(value: Any, name: str) -> float:
    """A number of a graph's range.

    Raises:
        ValueError: If it is no number, infinite or too large.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name} is {type(value).__name__}, where a number is needed.")
    if not math.isfinite(value) or abs(value) > MAX_NUMBER:
        raise ValueError(f"{name} is infinite or too large.")
    return float(value)
