"""Nodes as short texts: keys of rows on the page, and in saved sessions."""

from __future__ import annotations

from circuit_nb.graph import ErrorNode, Feature, Node, TargetNode, TokenNode

_KINDS: dict[str, type[Node]] = {
    "feature": Feature,
    "error": ErrorNode,
    "token": TokenNode,
    "target": TargetNode,
}
_DIGITS = 16
"""Of the longest number that a node has."""


def node_key(node: Node) -> str:
    """A node as a short text, e.g. `feature-0-9-173`."""
    kind = next(k for k, t in _KINDS.items() if isinstance(node, t))
    return "-".join([kind, *map(str, node_fields(node))])


def node_from_key(key: str) -> Node:
    """The node that `node_key` wrote.

    Raises:
        ValueError: If it is no such text.
    """
    kind, *numbers = key.split("-")
    node = _KINDS.get(kind)
    legal = all(n.isascii() and n.isdigit() and len(n) <= _DIGITS for n in numbers)
    if node is None or not legal or len(numbers) != len(node.__dataclass_fields__):
        raise ValueError(f"{key[:60]!r} names no node.")
    return node(*map(int, numbers))


def node_fields(node: Node) -> list[int]:
    """A node's own numbers, e.g. layer, position and index of a feature."""
    return [getattr(node, name) for name in node.__dataclass_fields__]
