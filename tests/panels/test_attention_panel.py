"""The attention panel: the head of an edge, where it looked, and why; and heads in Connections."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pytest
from made import TEXAS

from circuit_nb.attribution import heads, looking
from circuit_nb.graph import Feature, TargetNode, TokenNode
from circuit_nb.intervention import HeadIntervention, intervene
from circuit_nb.model import ReplacementModel
from circuit_nb.panels import AttentionPanel, ConnectionsPanel, Explorer, Session


@pytest.fixture
def panel(explorer: Explorer) -> Iterator[AttentionPanel]:
    """On the strongest feature that feeds the answer."""
    session = explorer.session
    graph = session.graph
    session.select(Feature(*graph.features[int(graph.weights[-1, : len(graph.features)].argmax())]))
    made = AttentionPanel(session)
    yield made
    made.close()


def test_the_edge_the_head_and_where_it_looked(
    panel: AttentionPanel, atlas: ReplacementModel
) -> None:
    session = panel.session
    graph, attending = session.graph, session.attending
    assert attending.edge is not None
    source, target = attending.edge
    assert target == session.selected
    assert abs(graph.weight(source, target)) == np.abs(graph.inputs(target)).max()
    # Another edge, from another token: heads have to carry it.
    others = (e for e, _ in attending.offered if e != attending.edge)
    far = next(e for e in others if getattr(e[0], "position", 10) != 10)
    title = next(t for t, edge in panel._offered.items() if edge == far)
    panel.edges.value = title
    assert attending.edge == far and session.choice.edge == far
    found = heads(atlas, graph, [far[0]], [far[1]])
    best = found.top(1)[0]
    assert attending.head == (best.layer, best.head)
    assert f'aria-label="head {best.layer}.{best.head}: ' in panel.map.html
    assert f"{100 * best.share:.0f} %" in panel.map.html
    query, key = attending.places
    pattern = atlas.record(graph.prompt).patterns[best.layer][best.head]
    assert f"{100 * float(pattern[query, key]):.1f}".removesuffix(".0") in panel.pattern.html
    # Nothing is explained until a token is clicked.
    assert panel.why.html == "" and panel.pairs.disabled
    panel.pattern.click(f"to-{key}")
    why = looking(atlas, graph, best.layer, best.head, query, key, "mean")
    first = re.findall(r'cnb-number">([^<]+)<', panel.why.html)[0]
    strongest = why.query_shares[graph.number(why.asked[0])]
    assert float(first.replace("−", "-")) == pytest.approx(strongest, rel=1e-2)
    assert session.name(why.answered[0]) in panel.why.html
    panel.pairs.click()
    assert panel.plot.figure is not None
    panel.mean.value = False
    assert session.choice.against_mean is False and panel.plot.figure is None
    assert "above the mean" not in panel.why.html
    assert panel.failure.value == ""
    assert "looked from" in panel.picture()


def test_what_is_listed_adds_up_to_the_score(panel: AttentionPanel) -> None:
    attending = panel.session.attending
    panel.pattern.click(f"to-{attending.places[1]}")
    found = attending.looking
    for side in panel.why.html.split("<table>")[1:]:
        rows = re.findall(r'cnb-number">([^<]+)<', side)
        values = [float(v.replace("−", "-")) for v in rows]
        assert sum(values) == pytest.approx(found.score, abs=0.02 * max(map(abs, values)))


def test_a_head_is_chosen_and_knocked_out(panel: AttentionPanel, atlas: ReplacementModel) -> None:
    session = panel.session
    panel.map.click("head-2-11")
    assert session.attending.head == (2, 11)
    last = len(session.graph.tokens) - 1
    panel.pattern.click(f"from-{last}")
    assert session.attending.places[0] == last
    panel.out.click()
    out = [HeadIntervention.knock_out(2, 11, positions=[last])]
    after = intervene(atlas, session.graph.prompt, out).after.probability(" Austin")
    assert f"→ {100 * after:.1f} %" in panel._said.value
    # Another node: what was chosen for the last one is forgotten.
    session.select(TargetNode(0))
    assert session.choice.head is None and panel._said.value == ""
    # A word has no inputs: where it leads is looked at.
    session.select(TokenNode(4))
    edge = session.attending.edge
    assert edge is not None and edge[0] == TokenNode(4)
    session.select(None)
    assert "select a node" in panel.map.html and 'data-key="head-0-0"' in panel.map.html


def test_it_computes_while_it_is_open(explorer: Explorer) -> None:
    assert explorer.attention.map.html == ""
    explorer.session.tab = "attention"
    assert "<svg" in explorer.attention.map.html


def test_without_a_model_it_says_what_is_needed(session: Session) -> None:
    session.select(TEXAS)
    panel = AttentionPanel(session)
    assert "Load a model" in panel.map.html
    connections = ConnectionsPanel(session)
    connections.prepare()
    assert connections.heads.layout.display == "none"
    assert "cnb-carrier" not in connections.inputs.html


def test_connections_name_the_head_of_each_edge(
    explorer: Explorer, atlas: ReplacementModel
) -> None:
    session, panel = explorer.session, explorer.connections
    assert "cnb-carrier" not in panel.inputs.html  # nothing is run for what is not displayed
    panel.prepare()
    graph = session.graph
    last = len(graph.tokens) - 1
    far = next(f for f in (Feature(*r) for r in graph.features[::-1].tolist()) if f.layer == 3)
    session.select(far)
    told = dict(re.findall(r'data-key="via-([\w-]+)"[^>]*title="head ([\d.]+) ', panel.inputs.html))
    assert told
    for node in graph.nodes:
        from circuit_nb.panels.keys import node_key

        if (name := told.get(node_key(node))) is not None:
            best = heads(atlas, graph, [node], [far]).top(1)[0]
            assert name == f"{best.layer}.{best.head}"
    # A click on the head looks at its edge.
    key = next(iter(told))
    panel.inputs.click(f"via-{key}")
    assert session.tab == "attention"
    assert session.attending.edge is not None and session.attending.edge[1] == far
    assert last >= session.attending.places[0]
    # Turned off, or slow, no heads are named.
    session.tab = "connections"
    panel.heads.value = False
    assert "cnb-carrier" not in panel.inputs.html
    assert panel.failure.value == ""


def test_where_heads_are_quickly_told_the_list_is_sent_once(
    explorer: Explorer, monkeypatch
) -> None:
    import circuit_nb.panels.connections as module

    session, panel = explorer.session, explorer.connections
    panel.prepare()
    sent: list[str] = []
    panel.inputs.observe(lambda change: sent.append(change["new"]), "html")
    nodes = [Feature(*row) for row in session.graph.features[::-1].tolist()]
    for quick, node, times in ((-1.0, nodes[0], 2), (60.0, nodes[1], 1)):
        monkeypatch.setattr(module, "QUICK", quick)
        sent.clear()
        session.select(node)
        assert len(sent) == times
        assert "cnb-carrier" in sent[-1]


def test_a_small_graph_is_asked_for_all_its_heads_at_once(
    explorer: Explorer, atlas: ReplacementModel, monkeypatch
) -> None:
    import circuit_nb.panels.attending as module

    session, attending = explorer.session, explorer.session.attending
    asked: list[int] = []
    ask = module.Attending._ask
    monkeypatch.setattr(
        module.Attending, "_ask", lambda self, s, t: [ask(self, s, t), asked.append(len(t))][0]
    )
    features = [Feature(*row) for row in session.graph.features[::-1].tolist()]
    explorer.connections.prepare()
    for node in features[:5]:
        session.select(node)
    assert asked == [len(session.graph.rows)]
    for node in features[:3]:
        others = tuple(n for n in session.graph.nodes if not isinstance(n, TargetNode))[::7]
        ours, alone = attending._heads(others, (node,)), heads(atlas, session.graph, others, [node])
        assert (ours.sources, ours.targets) == (others, (node,))
        for name in ("edges", "flows", "past"):
            assert getattr(ours, name) == pytest.approx(getattr(alone, name), abs=1e-5)
    # In a large one only what is shown is asked for.
    monkeypatch.setattr(module, "FEW_NODES", 10)
    large = module.Attending(session)
    asked.clear()
    large.carriers(features[0], features[-3:], inputs=True)
    assert asked == [1]


def test_naming_heads_that_takes_long_waits_to_be_asked(explorer: Explorer, monkeypatch) -> None:
    import circuit_nb.panels.connections as module

    monkeypatch.setattr(module, "SLOW", -1.0)
    panel = explorer.connections
    panel.prepare()
    assert panel.heads.value is False and "about" in panel.heads.tooltip
    explorer.session.select(TokenNode(4))
    assert "cnb-carrier" not in panel.outputs.html
    panel.heads.value = True
    assert "cnb-carrier" in panel.outputs.html
