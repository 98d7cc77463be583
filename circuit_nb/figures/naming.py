"""What features are called where nobody has labelled them."""

from __future__ import annotations

import numpy as np

from circuit_nb.figures.measures import Measures
from circuit_nb.figures.names import FIRES_ON, NO_LABELS, PROMOTES, Labels, node_name
from circuit_nb.figures.style import token_text
from circuit_nb.graph import Feature, Node

ALSO = 0.6
"""A second output is named if it is raised by this share of the first."""


def picture_name(measures: Measures, feature: Feature, labels: Labels = NO_LABELS) -> str:
    """What a feature is called on the picture, where there is little room; plain text.

    Its label; else what it fires on → what it promotes; where that is not known either, → the
    outputs it raises most on this prompt, through all paths: its column says what it fires on.

    Args:
        measures: Of the graph.
        feature: The feature.
        labels: Labels of features by (layer, index).
    """
    graph = measures.graph
    label = labels.get((feature.layer, feature.index), "").strip()
    if label and not label.startswith(FIRES_ON):
        return label
    if measures.everywhere[graph.number(feature)]:
        return "fires on everything"
    if PROMOTES in label:
        return label.removeprefix(FIRES_ON).replace(PROMOTES, " → ")
    outputs = ", ".join(raised(measures, feature))
    if not outputs:
        return node_name(graph, feature)
    return f"→ {outputs}"


def told_name(measures: Measures, node: Node, labels: Labels = NO_LABELS) -> str:
    """`node_name`, but a feature that nobody labelled by what it does, as the picture calls it.

    Where it is known what it fires on, that stands first: two features of one token often differ
    in what they do alone.

    Args:
        measures: Of the graph.
        node: The node.
        labels: Labels of features by (layer, index).
    """
    if not isinstance(node, Feature) or node not in measures.graph:
        return node_name(measures.graph, node, labels)
    label = labels.get((node.layer, node.index), "").strip()
    if label and not label.startswith(FIRES_ON):
        return node_name(measures.graph, node, labels)
    name = picture_name(measures, node, labels)
    fires_on = label.removeprefix(FIRES_ON)
    return f"{fires_on} {name}" if fires_on and name.startswith("→") else name


def raised(measures: Measures, feature: Feature) -> list[str]:
    """The one or two outputs that a feature raises most above the others, through all paths."""
    graph = measures.graph
    effects = measures.effects[graph.number(feature)]
    above = effects - effects.mean() if len(effects) > 1 else effects
    best = np.argsort(-above).tolist()[:2]
    return [token_text(graph.targets[i]) for i in best if above[i] >= ALSO * above.max() > 0]
