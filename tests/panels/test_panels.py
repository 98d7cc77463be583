"""Every interaction of every panel that needs no model, driven as a program would."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import ipywidgets
import pytest
from made import (
    DIMMER,
    HOSTILE,
    OTHER,
    SAY,
    TEXAS,
    card,
    cards,
    crowd,
    hostile_graph,
    hostile_labels,
    small_graph,
)

from circuit_nb.analysis import story
from circuit_nb.figures.graph import ORDER
from circuit_nb.graph import ErrorNode, Feature, Supernode, TargetNode, TokenNode
from circuit_nb.panels import (
    AttentionPanel,
    ConnectionsPanel,
    EvidencePanel,
    Explorer,
    FeaturePanel,
    GraphPanel,
    PathsPanel,
    PromptPanel,
    Session,
    SubgraphPanel,
    SwitchesPanel,
    explore,
)
from circuit_nb.panels.keys import node_key

PANELS = (
    PromptPanel,
    GraphPanel,
    ConnectionsPanel,
    PathsPanel,
    FeaturePanel,
    SubgraphPanel,
    SwitchesPanel,
    AttentionPanel,
    EvidencePanel,
    Explorer,
)


def drawn(panel: GraphPanel, name: str):
    return panel.figure.data[ORDER.index(name)]


def count(panel: GraphPanel, name: str) -> int:
    """How many shapes of a name the picture has."""
    shapes = [*panel.figure.layout.shapes, *panel.lens.over]
    return sum(shape["name"] == name for shape in shapes)


def words(panel: GraphPanel) -> list[str]:
    """What is written on the picture."""
    moving = [s["label"]["text"] for s in panel.lens.over if "label" in s]
    return [*drawn(panel, "words").text, *moving]


def widgets(root: ipywidgets.Widget) -> list[ipywidgets.Widget]:
    found = [root]
    for child in getattr(root, "children", ()):
        found += widgets(child)
    return found


# Graph


def test_a_click_on_a_node_selects_it(session: Session) -> None:
    panel = GraphPanel(session)
    session.kept = 1.0
    panel.click(SAY)
    assert session.selected == SAY
    assert count(panel, "selected") == 1
    with pytest.raises(ValueError, match="not in this graph"):
        panel.click(Feature(0, 1, 1))


def test_what_the_browser_reports_selects_and_shift_pins(session: Session) -> None:
    panel = GraphPanel(session)
    session.kept = 1.0
    trace = drawn(panel, "features")
    place = list(trace.customdata).index(session.graph.number(TEXAS))

    class Points:
        point_inds = (place,)

    class Shift:
        shift = True

    panel._click(trace, Points, None)
    assert session.selected == TEXAS
    assert session.setup.pinned == ()
    panel._click(trace, Points, Shift)
    assert session.setup.pinned == (TEXAS,)


def test_the_slider_and_the_error_button_change_what_is_drawn(session: Session) -> None:
    panel = GraphPanel(session)
    panel.kept.value = 1.0
    assert len(drawn(panel, "features").x) == 5
    assert len(drawn(panel, "errors").x) == 18
    panel.errors.value = False
    assert len(drawn(panel, "errors").x) == 0
    panel.kept.value = 0.3
    assert len(drawn(panel, "features").x) < 5
    assert session.kept == pytest.approx(0.3)


def test_links_choose_which_edges_are_drawn(session: Session) -> None:
    panel = GraphPanel(session)
    panel.kept.value = 1.0
    session.select(SAY)

    counts = {}
    for links in ("both", "inputs", "outputs"):
        panel.links.value = links
        counts[links] = sum(
            shape["path"].count("M")
            for shape in panel.lens.over
            if shape["name"].startswith(("raises", "lowers"))
        )
    assert counts == {"both": 7, "inputs": 5, "outputs": 2}


def test_pinning_needs_a_selection_and_draws_a_ring(session: Session) -> None:
    panel = GraphPanel(session)
    assert panel.pin.disabled
    panel.pin.click()
    assert "Select a node first" in panel.failure.value
    session.select(SAY)
    panel.pin.click()
    assert session.setup.pinned == (SAY,)
    assert count(panel, "pinned") == 1
    assert panel.failure.value == ""


def test_what_changed_before_it_is_displayed_is_in_a_new_figure(session: Session) -> None:
    panel = GraphPanel(session)
    assert panel.frame.children == ()
    panel._repr_mimebundle_()
    first = panel.figure
    assert panel.frame.children == (first,)
    session.select(SAY)
    panel._repr_mimebundle_()
    assert panel.figure is first
    session.group("a", [TEXAS, OTHER])
    session.kept = 0.3
    session.kept = 1.0
    panel._repr_mimebundle_()
    assert panel.figure is not first
    assert panel.frame.children == (panel.figure,)
    assert len(drawn(panel, "features").x) == 5
    callbacks = drawn(panel, "features")._click_callbacks
    assert len(callbacks) == 1


def test_a_click_on_what_is_drawn_sends_nothing_to_plotly() -> None:
    session = Session(crowd(), cards=lambda keys: {})
    panel = GraphPanel(session)
    sent: list[object] = []
    panel.figure._send_update_msg = lambda *a, **k: sent.append((a, k))
    for number in panel.view.numbers[panel.view.drawn[panel.view.numbers]][:20:4]:
        before = panel.lens.over
        session.select(session.graph.nodes[number])
        assert panel.lens.over != before
        assert count(panel, "selected") == 1
    assert sent == []
    session.kept = 0.2
    assert len(sent) == 1


def test_a_selected_node_is_drawn_whatever_is_left_out(session: Session) -> None:
    session.errors = False
    panel = GraphPanel(session)
    error = ErrorNode(0, 4)
    assert not panel.view.drawn[session.graph.number(error)]
    session.select(error)
    assert panel.view.drawn[session.graph.number(error)]


def test_what_the_browser_reports_of_the_room_lays_the_picture_out_anew(session: Session) -> None:
    panel = GraphPanel(session)
    receive = panel.lens._receive
    receive(panel.lens, {"room": [900, 0]}, [])
    assert panel.view.room == (868, 480)  # near enough
    receive(panel.lens, {"room": [1300, 0]}, [])
    assert panel.view.room == (1300, 480)
    assert panel.view.placement.width < 1300
    receive(panel.lens, {"room": [1350, 900]}, [])
    assert panel.view.room == (1350, 900)
    receive(panel.lens, {"room": [300, 0]}, [])
    assert panel.view.room == (640, 480)
    assert panel.failure.value == ""


def test_keys_walk_pin_and_are_spoken(session: Session) -> None:
    panel = GraphPanel(session)
    for way in ("up", "down", "down"):
        panel.lens._receive(panel.lens, {"walk": way}, [])
    assert session.selected == TEXAS
    assert panel.lens.said == session.title(TEXAS)
    panel.lens._receive(panel.lens, {"pin": True}, [])
    assert session.setup.pinned == (TEXAS,)
    panel.lens._receive(panel.lens, "nonsense", [])
    panel.lens._receive(panel.lens, {"walk": "away"}, [])
    assert session.selected == TEXAS


def test_marks_open_on_a_click_and_close_again() -> None:
    session = Session(crowd(), cards=lambda keys: {})
    session.kept = 1.0
    panel = GraphPanel(session)
    marks = drawn(panel, "marks")
    place = next(i for i, (level, _) in enumerate(marks.customdata) if 0 < level < 20)
    inside = panel.view.placement.marks[place].numbers

    class Points:
        point_inds = (place,)

    panel._click(marks, Points, None)
    assert panel.view.drawn[list(inside)].all()
    assert panel.failure.value == ""
    panel.lens._receive(panel.lens, {"back": True}, [])
    assert not panel.view.drawn[list(inside)].any()


def test_what_is_drawn_is_always_said(session: Session) -> None:
    panel = GraphPanel(session)
    assert "31 of 31 nodes drawn" in panel.note.value
    panel.errors.value = False
    assert "13 of 31 nodes drawn; left out: 18 errors" in panel.note.value
    panel.layers.value = (0, 1)
    assert "1 in other layers" in panel.note.value
    assert "other layers" not in GraphPanel(session).note.value


def test_a_highlighted_path_is_drawn_and_named(session: Session) -> None:
    path = story(session.graph, session.labels)[0]
    session.kept = 0.3
    panel = GraphPanel(session)
    session.paths = (path,)
    assert count(panel, "path raises") == 1
    assert {"<b>Texas</b>", "<b>say Austin</b>"} <= set(words(panel))
    assert "<b>Dallas</b>" in panel.figure.layout.xaxis.ticktext
    session.paths = ()
    assert count(panel, "path raises") == 0


# Connections and paths


def test_connections_list_both_sides_and_jump(session: Session) -> None:
    panel = ConnectionsPanel(session)
    assert "Select a node" in panel.inputs.html
    session.select(SAY)
    assert "say Austin" in panel.heading.value
    assert panel.inputs.html.count("data-key") == 5
    assert panel.outputs.html.count("data-key") == 2
    panel.inputs.click(node_key(TEXAS))
    assert session.selected == TEXAS
    with pytest.raises(ValueError, match="Nothing shown"):
        panel.inputs.click(node_key(DIMMER))


def test_all_edges_are_listed_on_request() -> None:
    session = Session(crowd(), cards=lambda keys: {})
    panel = ConnectionsPanel(session)
    session.select(TargetNode(0))
    few = panel.inputs.html.count("data-key")
    panel.all.value = True
    assert few == 40 or panel.inputs.html.count("data-key") == few
    busiest = max(
        session.graph.nodes[:2000], key=lambda n: int((session.graph.inputs(n) != 0).sum())
    )
    session.select(busiest)
    expected = int((session.graph.inputs(busiest) != 0).sum())
    assert panel.inputs.html.count("data-key") == expected


def test_two_nodes_list_their_paths_which_highlight_and_pin(session: Session) -> None:
    graph_panel, panel = GraphPanel(session), PathsPanel(session)
    panel.source.value = session.title(TokenNode(4))
    panel.target.value = session.title(TargetNode(0))
    assert panel.found.html.count("data-key") >= 2
    panel.found.click("path-0")
    panel.found.click("path-1")
    assert len(session.paths) == 2
    lines = [s.path for s in graph_panel.figure.layout.shapes if s.name == "path raises"]
    assert "".join(lines).count("M") >= 5
    panel.found.click("path-1")
    assert len(session.paths) == 1
    panel.pin.click()
    assert session.setup.pinned == session.paths[0].nodes


def test_paths_from_and_to_the_selected_node(session: Session) -> None:
    panel = PathsPanel(session)
    session.select(TEXAS)
    panel.from_here.click()
    session.select(SAY)
    panel.to_here.click()
    assert session.ends == (TEXAS, SAY)
    assert panel._listed[0].nodes == (TEXAS, SAY)
    panel.source.value = "nobody"
    assert "No node is called" in panel.failure.value


# Feature


def test_the_card_shows_what_is_known(session: Session) -> None:
    panel = FeaturePanel(session)
    assert "Select a feature" in panel.card.value
    session.select(TEXAS)
    assert panel.label.value == "Texas"
    text = panel.card.value
    for part in ("background:rgba", "+1.25", "−0.75", "active on 2.5 %", "activations"):
        assert part in text
    assert "javascript:" not in text


def test_a_feature_without_a_card_says_what_would_supply_one(session: Session) -> None:
    panel = FeaturePanel(session)
    session.select(DIMMER)
    assert "circuit_nb.cards.compute" in panel.card.value
    session.select(TokenNode(1))
    assert "only features have a card" in panel.card.value
    assert panel.label.disabled


def test_labels_are_edited_and_seen_everywhere(session: Session) -> None:
    graph_panel, panel = GraphPanel(session), FeaturePanel(session)
    session.kept = 1.0
    session.select(TEXAS)
    panel.label.value = "Lone Star"
    assert session.setup.labels == {(0, 7): "Lone Star"}
    assert any("Lone Star" in text for text in words(graph_panel))
    session.select(SAY)
    assert panel.label.value == "say Austin"
    assert session.setup.labels == {(0, 7): "Lone Star"}


# Subgraph


def test_the_subgraph_is_grouped_renamed_and_taken_apart(session: Session) -> None:
    panel = SubgraphPanel(session)
    assert "Pin a node" in panel.canvas.html
    session.pin(TEXAS, OTHER, SAY, TokenNode(4))
    assert panel.canvas.html.count("data-key") == 4
    panel.canvas.click("g0")
    panel.canvas.click("g1")
    assert session.selected == OTHER
    panel.name.value = "Texas"
    panel.group.click()
    assert [s.name for s in session.setup.supernodes] == ["Texas"]
    panel.name.value = "state"
    panel.rename.click()
    assert [s.name for s in session.setup.supernodes] == ["state"]
    panel.canvas.click("g0")
    panel.ungroup.click()
    assert session.setup.supernodes == ()
    panel.choose(TEXAS)
    panel.unpin.click()
    assert TEXAS not in session.setup.pinned


def test_wrong_uses_of_the_subgraph_are_explained(session: Session) -> None:
    panel = SubgraphPanel(session)
    for button, words in (
        (panel.group, "at least one feature"),
        (panel.rename, "Choose one supernode"),
        (panel.ungroup, "Choose one supernode"),
        (panel.unpin, "Choose a box"),
    ):
        button.click()
        assert words in panel.failure.value
        assert "<details>" in panel.failure.value


def test_proposed_groups_are_one_click_away(session: Session) -> None:
    panel = SubgraphPanel(session)
    panel.propose.click()
    assert [s.name for s in session.setup.supernodes] == ["say Austin", "Texas", "capital", "is"]
    assert "replacement" in panel.scores.value
    assert "position" in panel.propose.tooltip


# All panels


@pytest.mark.parametrize("kind", PANELS, ids=lambda k: k.__name__)
def test_every_panel_has_a_picture_for_where_nothing_runs(kind, session: Session) -> None:
    session.accept(session.propose())
    session.select(TEXAS)
    bundle = kind(session)._repr_mimebundle_()
    assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"]
    ET.fromstring(bundle["image/svg+xml"])


@pytest.mark.parametrize("kind", PANELS, ids=lambda k: k.__name__)
def test_every_panel_alone_shows_hostile_text_as_text(kind) -> None:
    def source(keys):
        return {k: card(hostile_labels().get(k, "x")) for k in keys}

    session = Session(hostile_graph(), cards=source)
    session.group(HOSTILE[0], [TEXAS, OTHER])
    session.pin(SAY, TokenNode(2), TargetNode(0))
    session.select(SAY)
    panel = kind(session)
    for widget in widgets(panel):
        for name in ("value", "html"):
            markup = getattr(widget, name, "")
            if isinstance(widget, ipywidgets.Text | ipywidgets.Combobox | ipywidgets.Dropdown):
                continue  # shown by the browser as plain text
            if isinstance(markup, str) and "<style>" not in markup:
                assert not any(h in markup for h in HOSTILE)
                assert "<script" not in markup
                assert "<img" not in markup
        # ipywidgets 7 takes descriptions for HTML.
        assert not any(h in getattr(widget, "description", "") for h in HOSTILE)
    for element in ET.fromstring(panel.picture()).iter():
        assert element.tag.split("}")[1] in {
            "svg", "g", "path", "rect", "circle", "text", "title"
        }  # fmt: skip
        assert not any(a.startswith("on") for a in element.attrib)


@pytest.mark.parametrize("kind", PANELS, ids=lambda k: k.__name__)
def test_every_control_is_explained(kind, session: Session) -> None:
    for widget in widgets(kind(session)):
        if isinstance(
            widget,
            ipywidgets.Button
            | ipywidgets.ToggleButton
            | ipywidgets.Text
            | ipywidgets.Combobox
            | ipywidgets.Dropdown
            | ipywidgets.FloatSlider
            | ipywidgets.BoundedIntText,
        ):
            told = getattr(widget, "tooltip", None) or getattr(widget, "description_tooltip", None)
            assert told, widget


def test_panels_do_not_know_each_other(session: Session) -> None:
    explorer = Explorer(session)
    others = set(map(id, explorer.panels))
    for panel in explorer.panels:
        assert not any(id(v) in others for v in vars(panel).values())


def test_a_closed_panel_follows_no_longer(session: Session) -> None:
    panel = ConnectionsPanel(session)
    panel.close()
    session.select(SAY)
    assert "Select a node" in panel.inputs.html


def test_one_panels_error_leaves_the_others_alive(session: Session, monkeypatch) -> None:
    connections, feature = ConnectionsPanel(session), FeaturePanel(session)

    def broken(*_: object, **__: object) -> str:
        raise RuntimeError("broken <b>badly</b>")

    monkeypatch.setattr(connections, "_table", broken)
    session.select(TEXAS)
    assert "broken &lt;b&gt;badly&lt;/b&gt;" in connections.failure.value
    assert "RuntimeError" in connections.failure.value
    assert feature.label.value == "Texas"
    monkeypatch.undo()
    session.select(SAY)
    assert connections.failure.value == ""


def test_without_a_model_the_switches_say_what_to_do(session: Session) -> None:
    panel = SwitchesPanel(session)
    assert "Load a model to use the switches" in panel._rows.children[0].value
    assert panel.transplant.read.disabled
    session.group("Texas", [TEXAS])
    assert panel.switches["Texas"].disabled


def test_explore_a_graph_alone_and_keep_it(tmp_path) -> None:
    explorer = explore(small_graph(), cards=cards, propose=True)
    assert "Texas" in [s.name for s in explorer.session.setup.supernodes]
    explorer.session.relabel(SAY, "the answer")
    explorer.save(tmp_path / "kept")
    again = explore.load(tmp_path / "kept", cards=cards)
    assert again.session.setup == explorer.session.setup
    assert isinstance(again.session.setup.supernodes[0], Supernode)


def test_explore_says_what_it_takes() -> None:
    with pytest.raises(TypeError, match="model first"):
        explore(small_graph(), "a prompt")
    with pytest.raises(TypeError, match="Give a prompt"):
        explore(object())
