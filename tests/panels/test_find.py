"""The one search: by label, token or number; features that are not in the graph are added."""

from __future__ import annotations

import pytest
from made import CAPITAL, HOSTILE, LABELS, SAY, TEXAS

from circuit_nb.graph import ErrorNode, TokenNode
from circuit_nb.panels import Explorer, Session
from circuit_nb.panels.find import FindPanel
from circuit_nb.panels.finding import NEW, find


def test_the_best_fit_comes_first_and_every_word_must_fit(session: Session) -> None:
    assert find(session, "texas")[0].node == TEXAS
    assert find(session, "TEXAS")[0].name == LABELS[TEXAS.layer, TEXAS.index]
    assert find(session, "say aus")[0].node == SAY
    assert find(session, "say nothing of the kind") == []
    assert find(session, "  ") == []
    assert len(find(session, "e", most=3)) == 3


def test_tokens_errors_and_places_are_found(session: Session) -> None:
    nodes = [found.node for found in find(session, "Dallas")]
    assert any(isinstance(node, TokenNode) for node in nodes)
    assert any(isinstance(found.node, ErrorNode) for found in find(session, "error", most=50))


@pytest.mark.parametrize("typed", ["{}/{}", "L{} #{}", "{}:{}", "{} {}", "{}, {}"])
def test_a_layer_and_an_index_name_a_feature(session: Session, typed: str) -> None:
    found = find(session, typed.format(CAPITAL.layer, CAPITAL.index))
    assert found[0].node == CAPITAL
    assert not any(f.key.startswith(NEW) for f in find(session, "3/999999"))


def test_choosing_selects_the_node_and_foreign_text_is_only_text(session: Session) -> None:
    panel = FindPanel(session)
    panel.finder.query = "say aus"
    panel.finder.choose(panel.found[0].key)
    assert session.selected == SAY
    with pytest.raises(ValueError, match="Nothing of the key"):
        panel.finder.choose("feature-9-9-9")
    session.relabel(TEXAS, HOSTILE[0])
    panel.finder.query = HOSTILE[0][:6]
    assert HOSTILE[0] not in panel.finder.html or "<" not in HOSTILE[0]
    panel.finder.query = "no such thing"
    assert "Nothing fits" in panel.finder.html
    panel.finder.query = ""
    assert panel.finder.html == ""


def test_a_feature_that_is_not_in_the_graph_becomes_a_switch(explorer: Explorer) -> None:
    session = explorer.session
    assert session.model is not None
    here = {(layer, index) for layer, _, index in session.graph.features.tolist()}
    label = {key: text for key, text in session.cards.elsewhere.items() if key not in here}
    (layer, index), text = next(iter(label.items()))
    explorer.find.finder.query = f"{layer}/{index}"
    assert explorer.find.found[0].name == text
    explorer.find.finder.choose(f"{NEW}-{layer}-{index}")
    assert session.tab == "switches"
    added = session.setup.added[-1]
    assert [(f.layer, f.index) for f in added.supernode.features] == [(layer, index)]
    assert explorer.find.failure.value == ""
    session.undo()


def test_there_is_one_search_and_dense_features_are_the_sessions_to_show(
    explorer: Explorer,
) -> None:
    session, panel = explorer.session, explorer.graph
    assert not hasattr(panel, "search")
    panel.everywhere.value = True
    assert session.everywhere and session.view.everywhere and panel.view.everywhere
    session.everywhere = False
    assert not panel.everywhere.value and not panel.view.everywhere
