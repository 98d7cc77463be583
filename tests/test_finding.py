"""Features found by a reader's words, the most influential first."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from made import CAPITAL, DIMMER, LABELS, OTHER, SAY, TEXAS, hostile_graph, small_graph

from circuit_nb import AttributionGraph, Feature, Supernode, analysis, attribute
from circuit_nb.atlas import DALLAS
from circuit_nb.cards import FeatureCard

GRAPH = small_graph()


def test_the_top_are_the_most_influential() -> None:
    reach = analysis.influence(GRAPH)
    expected = sorted([TEXAS, CAPITAL, SAY, OTHER, DIMMER], key=lambda f: -reach[GRAPH.number(f)])
    assert GRAPH.top() == expected
    assert GRAPH.top(2) == expected[:2] == [SAY, TEXAS]
    assert GRAPH.find() == expected
    assert GRAPH.top(0) == []


@pytest.mark.parametrize("count", [-1, 2.5, "3", True, None])
def test_a_count_is_a_whole_number(count: Any) -> None:
    with pytest.raises(ValueError, match=r"count is .*; give a whole number"):
        GRAPH.top(count)


def test_found_by_label_token_layer_and_index() -> None:
    assert GRAPH.find("texas", labels=LABELS) == [TEXAS, OTHER]
    assert GRAPH.find("Austin", labels=LABELS) == [SAY]
    assert GRAPH.find("Paris", labels=LABELS) == []
    assert GRAPH.find(token="Dallas", layer=0) == [TEXAS]
    assert set(GRAPH.find(token=" dallas")) == {TEXAS, OTHER}
    assert set(GRAPH.find(layer=1)) == {OTHER, DIMMER}
    assert GRAPH.find(index=11) == [SAY]
    assert GRAPH.find("Texas", labels=LABELS, token="Dallas", layer=1, index=2) == [OTHER]
    assert GRAPH.find(layer=7) == []


def test_labels_may_be_cards_or_stand_by_feature() -> None:
    cards = {key: FeatureCard(label) for key, label in LABELS.items()}
    assert GRAPH.find("texas", labels=cards) == [TEXAS, OTHER]
    assert GRAPH.find("texas", labels={OTHER: "Texas", SAY: "say Austin"}) == [OTHER]


def test_what_cannot_be_found_is_said() -> None:
    with pytest.raises(ValueError, match=r"no labels to find 'Texas' in: none ship"):
        GRAPH.find("Texas")
    with pytest.raises(ValueError, match=r"no labels to find"):
        replace(GRAPH, provenance={"model": {"atlas": 1}}).find("Texas")
    with pytest.raises(ValueError, match=r"'Houston' is no token of this prompt; its tokens are"):
        GRAPH.find(token="Houston")
    with pytest.raises(ValueError) as told:
        hostile_graph().find(token="Houston")
    assert len(str(told.value)) < 300


def test_the_embedded_models_labels_are_known_by_provenance(atlas: Any) -> None:
    graph = attribute(atlas, DALLAS, progress=False)
    found = graph.find("Texas", token="Dallas")
    assert found and {f.position for f in found} == {graph.tokens.index(" Dallas")}
    assert all("Texas" in _labels()[f.layer, f.index] for f in found)
    small = analysis.prune(graph)
    kept = [f for f in small.find("Texas", token="Dallas") if f in found]
    assert kept and Supernode("Texas", kept)
    reach = analysis.influence(graph)[: len(graph.features)]
    assert graph.top(1) == [Feature(*graph.features[int(np.argmax(reach))].tolist())]


def _labels() -> dict[tuple[int, int], str]:
    from circuit_nb.atlas import labels

    return labels()


def test_a_saved_graph_still_knows_its_labels(atlas: Any, tmp_path: Any) -> None:
    graph = attribute(atlas, DALLAS, progress=False)
    again = AttributionGraph.load(graph.save(tmp_path / "dallas.safetensors"))
    assert again.find("Texas") == graph.find("Texas") != []
