"""The links of an attribution-graph file as a weight matrix.

An error node's id can equal that of a feature of layer 0, so a link's source can mean two nodes.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from circuit_nb.graph import ErrorNode, Feature, Node, TargetNode, TokenNode
from circuit_nb.neuronpedia import ids
from circuit_nb.strict_json import Link, Reader, finite

MAX_CELLS = 2**27
"""Largest weight matrix that is built from a file: 512 MiB, so that reading stays below 1 GiB."""


class Entry(NamedTuple):
    """One checked element of `nodes`."""

    node: Node
    node_id: str
    place: int
    """Which element of the file's `nodes` it is."""
    layer: int
    """-1 where the file writes a letter."""
    vocab: int
    """Vocabulary id of a token or target, else -1."""
    label: str
    value: float
    """Activation of a feature, probability of a target."""


class _Source(NamedTuple):
    column: int
    entry: Entry


def matrix(entries: Sequence[Entry], top: Reader, n_positions: int) -> npt.NDArray[np.float32]:
    """`weights[target, source]` from the file's links, shaped as in `AttributionGraph`.

    Args:
        entries: The nodes in the graph's order: features, errors, tokens, targets.
        top: The whole file.
        n_positions: Number of tokens.

    Raises:
        ValueError: If a link is malformed, names no node, or is there twice.
    """
    features, errors, tokens, targets = (
        [e for e in entries if type(e.node) is kind]
        for kind in (Feature, ErrorNode, TokenNode, TargetNode)
    )
    n_inner = len(features) + len(errors)
    shape = (len(features) + len(targets), n_inner + n_positions)
    if shape[0] * shape[1] > MAX_CELLS:
        top.fail(f"holds {len(features)} features and {len(errors)} errors, more than fit in 1 GiB")
    rows = {e.node_id: (row, e) for row, e in enumerate([*features, *targets])}
    columns: dict[str, list[_Source]] = {}
    for column, entry in enumerate([*features, *errors]):
        columns.setdefault(entry.node_id, []).append(_Source(column, entry))
    for entry in tokens:
        assert isinstance(entry.node, TokenNode)
        source = _Source(n_inner + entry.node.position, entry)
        columns.setdefault(entry.node_id, []).append(source)
    weights = np.zeros(shape, dtype=np.float32)
    at, given = _cells(top, rows, columns)
    weights[at] = given
    if (weights[at] != given).any():
        top.fail("gives one link two weights")
    return weights


def _cells(
    top: Reader, rows: dict[str, tuple[int, Entry]], columns: dict[str, list[_Source]]
) -> tuple[tuple[npt.NDArray[np.int64], ...], npt.NDArray[np.float32]]:
    """Row and column of every link, and its weight."""
    places, values = (array("q"), array("q")), array("d")
    items = top.items("links")
    used: set[tuple[int, int]] = set()
    before, before_target = -1, ""
    for number, item in enumerate(items):
        link = _link(item, f"{top.name}: links[{number}]")
        for name, known in ((link.source, columns), (link.target, rows)):
            if name not in known:
                top.fail(f"links[{number}] names {name[:80]!r}, which no such end has")
        row, target = rows[link.target]
        source = columns[link.source][0]
        if len(columns[link.source]) > 1:
            possible = [s for s in columns[link.source] if (row, s.column) not in used]
            low = before if before_target == link.target else -1
            high = _next_place(items[number + 1 : number + 2], link.target, columns)
            source = _meant(possible or [source], target, link, low, high)
            used.add((row, source.column))
        if not _climbs(source.entry, target):
            top.fail(f"links[{number}] does not lead from a lower layer to a higher one")
        before, before_target = source.entry.place, link.target
        places[0].append(row)
        places[1].append(source.column)
        values.append(link.weight)
    at = tuple(np.frombuffer(p, dtype=np.int64) for p in places)
    return at, np.frombuffer(values).astype(np.float32)


def _climbs(source: Entry, target: Entry) -> bool:
    """Whether an edge can be there: none reaches its own layer or a lower one."""
    from_below = isinstance(source.node, TokenNode) or isinstance(target.node, TargetNode)
    return from_below or source.layer < target.layer


def _link(item: Any, name: str) -> Link:
    if not isinstance(item, Link):
        fields = Reader(item, name)
        item = Link(
            fields.text("source"),
            fields.text("target"),
            fields.get("weight"),
            fields.get("source_type"),
        )
    return item._replace(weight=finite(item.weight, f"{name}: weight"))


def _next_place(items: Sequence[Any], target: str, columns: dict[str, list[_Source]]) -> float:
    """Where in `nodes` the next link's source stands, if it has the same target and one source."""
    for item in items:
        link = _link(item, "The next link")
        if link.target == target and len(columns.get(link.source, ())) == 1:
            return columns[link.source][0].entry.place
    return float("inf")


def _meant(possible: list[_Source], target: Entry, link: Link, low: float, high: float) -> _Source:
    """Which node a link starts at, where a feature of layer 0 and an error share an id.

    Our own files say it. Otherwise one of them may lie too high, and circuit-tracer writes a
    target's links in the order of `nodes`; where that leaves both, the feature is meant.

    Args:
        possible: The nodes of that id, the feature first.
        target: Where the link ends.
        link: The link.
        low: Place in `nodes` of the source of the link before, if it has the same target.
        high: The same for the link after.
    """
    for source in possible:
        if link.source_type == (
            ids.FEATURE if isinstance(source.entry.node, Feature) else ids.ERROR
        ):
            return source
    below = [s for s in possible if _climbs(s.entry, target)] or possible
    return next((s for s in below if low < s.entry.place < high), below[0])
