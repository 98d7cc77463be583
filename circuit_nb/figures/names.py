"""What nodes are called: the reader's label, else the shipped one, else layer and index."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from circuit_nb.figures.style import percent, shorten, token_text
from circuit_nb.graph import AttributionGraph, ErrorNode, Feature, Node, TokenNode

Labels: TypeAlias = Mapping[tuple[int, int], str]
"""Labels of features by (layer, index)."""

NO_LABELS: Labels = {}
OUTPUT_LENGTH = 16
"""Characters of an output on the picture."""


def node_name(graph: AttributionGraph, node: Node, labels: Labels = NO_LABELS) -> str:
    """A node's name as plain text, not escaped.

    Args:
        graph: The graph the node belongs to.
        node: The node.
        labels: Labels of features by (layer, index).
    """
    if isinstance(node, Feature):
        label = labels.get((node.layer, node.index), "").strip()
        return label or f"L{node.layer} #{node.index}"
    if isinstance(node, ErrorNode):
        return f"error of layer {node.layer}"
    if isinstance(node, TokenNode):
        return token_text(graph.tokens[node.position])
    return token_text(graph.targets[node.index])


def node_place(graph: AttributionGraph, node: Node) -> str:
    """Where a node is, as plain text: layer and token, or the kind of end it is."""
    if isinstance(node, Feature | ErrorNode):
        return f"layer {node.layer} at {token_text(graph.tokens[node.position])}"
    if isinstance(node, TokenNode):
        return f"token {node.position} of the prompt"
    return f"output, {percent(float(graph.target_probabilities[node.index]))}"


def node_title(graph: AttributionGraph, node: Node, labels: Labels = NO_LABELS) -> str:
    """A name and place that tell a node from every other, as plain text."""
    name = node_name(graph, node, labels)
    if isinstance(node, Feature):
        number = f"L{node.layer} #{node.index}"
        told = number if name == number else f"{name} · {number}"
        return f"{told} at {_at(graph, node.position)}"
    if isinstance(node, ErrorNode):
        return f"{name} at {_at(graph, node.position)}"
    if isinstance(node, TokenNode):
        return f"token {_at(graph, node.position)}"
    return f"output {name}"


def _at(graph: AttributionGraph, position: int) -> str:
    return f"{token_text(graph.tokens[position])} ({position})"


def output_text(graph: AttributionGraph, index: int) -> str:
    """An output and its probability, as the picture says them; plain text, not escaped."""
    share = percent(float(graph.target_probabilities[index]))
    return f"{shorten(token_text(graph.targets[index]), OUTPUT_LENGTH)} {share}"


FIRES_ON, PROMOTES = "fires on ", " → promotes "
"""How labels that were made up from what a feature does begin, and go on."""


def named(labels: Labels) -> Labels:
    """The labels that say what a feature stands for, not only what it fires on."""
    return {key: text for key, text in labels.items() if not text.startswith(FIRES_ON)}
