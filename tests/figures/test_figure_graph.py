from __future__ import annotations

import html
import itertools
import re
from dataclasses import replace

import numpy as np
import plotly.graph_objects as go
import pytest
from made import (
    CAPITAL,
    DIMMER,
    HOSTILE,
    LABELS,
    OTHER,
    SAY,
    TEXAS,
    crowd,
    hostile_graph,
    hostile_labels,
    small_graph,
)
from real import NAMES, real_graph

from circuit_nb import figures
from circuit_nb.analysis import paths, story
from circuit_nb.figures.edges import BACKGROUND_EDGES, background, selected_edges, steps_of
from circuit_nb.figures.graph import ORDER, scene_traces
from circuit_nb.figures.measures import Measures
from circuit_nb.figures.scene import Scene
from circuit_nb.figures.style import NEGATIVE, POSITIVE, hue
from circuit_nb.figures.view import GraphView, Room
from circuit_nb.graph import ErrorNode, Supernode, TargetNode, TokenNode

WIDTHS = (690, 950, 1366, 1920)


def trace(figure: go.Figure, name: str) -> go.Scatter:
    return figure.data[ORDER.index(name)]


def edges(shapes, *names: str) -> int:
    """How many edges the shapes of these names hold."""
    return sum(s["path"].count("M") for s in shapes if s["name"].startswith(names))


def whole(graph) -> GraphView:
    return GraphView(Measures(graph), kept=1.0)


def test_every_kind_of_node_has_its_shape() -> None:
    figure = figures.graph_figure(small_graph(), kept=1.0)
    shapes = {
        n: trace(figure, n).marker.symbol for n in ("features", "errors", "tokens", "outputs")
    }
    assert shapes == {
        "features": "circle",
        "errors": "diamond-open",
        "tokens": "square",
        "outputs": "square",
    }
    assert len(trace(figure, "features").x) == 5
    assert len(trace(figure, "errors").x) == 18
    assert len(trace(figure, "tokens").x) == 6
    assert len(trace(figure, "outputs").x) == 2


def test_size_and_opacity_follow_influence() -> None:
    graph = small_graph()
    drawn = trace(figures.graph_figure(graph, kept=1.0), "features")
    influence = Measures(graph).influence[graph.blocks.features]
    assert (np.argsort(drawn.marker.size) == np.argsort(influence)).all()
    assert drawn.marker.opacity[int(influence.argmax())] == 1.0


def test_errors_can_be_hidden_and_little_influence_drops_nodes() -> None:
    assert len(trace(figures.graph_figure(small_graph(), kept=1.0, errors=False), "errors").x) == 0
    few = trace(figures.graph_figure(small_graph(), kept=0.5, paths=[]), "features")
    assert 0 < len(few.x) < 5


def test_the_selected_nodes_edges_are_all_there_by_sign() -> None:
    view = whole(small_graph())
    shapes = selected_edges(view, SAY)
    # Five inputs, one of them negative; two outputs, one of them negative.
    assert (edges(shapes, "raises"), edges(shapes, "lowers")) == (5, 2)
    colours = {s["name"].split()[0]: s["line"]["color"] for s in shapes}
    assert colours == {"raises": POSITIVE, "lowers": NEGATIVE}
    assert edges(selected_edges(view, SAY, "inputs"), "raises", "lowers") == 5
    assert edges(selected_edges(view, SAY, "outputs"), "raises", "lowers") == 2


@pytest.mark.parametrize("node", [TokenNode(4), TargetNode(0), ErrorNode(0, 4)])
def test_ends_can_be_selected_too(node) -> None:
    shapes = Scene(whole(small_graph())).moving(node)
    assert sum(s["name"] == "selected" for s in shapes) == 1
    assert edges(shapes, "raises", "lowers") >= 1


def test_the_background_is_the_strongest_edges_and_no_carpet() -> None:
    view = whole(crowd())
    drawn = edges(background(view), "edges")
    assert 50 < drawn <= BACKGROUND_EDGES
    flow = view.measures.flow(view.drawn)
    assert drawn <= np.count_nonzero(flow)


def test_a_selection_changes_no_trace_and_nothing_behind_it() -> None:
    scene = Scene(GraphView(Measures(crowd()), kept=0.4))
    before = scene_traces(scene), list(scene.backdrop)
    strongest = int(scene.view.influence.argmax())
    assert scene.moving(scene.view.graph.nodes[strongest])
    assert (scene_traces(scene), scene.backdrop) == before
    named = {s["name"].split()[0] for s in scene.moving(TargetNode(0))}
    assert named <= {"raises", "lowers", "selected", "selection's", "word"}


def test_supernodes_have_colours_and_one_label() -> None:
    supernodes = [Supernode("state", [TEXAS, OTHER]), Supernode("asked", [CAPITAL])]
    graph = small_graph()
    figure = figures.graph_figure(graph, labels=LABELS, supernodes=supernodes, kept=0.1)
    drawn = trace(figure, "features")
    colours = dict(zip(drawn.customdata, drawn.marker.color, strict=True))
    assert colours[graph.number(TEXAS)] == colours[graph.number(OTHER)] == hue(0)
    assert colours[graph.number(CAPITAL)] == hue(1)
    words = [re.sub("</?b>", "", text) for text in trace(figure, "words").text]
    assert words.count("state") == words.count("asked") == 1


def test_paths_are_drawn_edge_by_edge_and_named() -> None:
    graph = small_graph()
    found = paths(graph, TokenNode(4), TargetNode(0), 1)
    scene = Scene(whole(graph), LABELS, paths=tuple(found))
    assert edges(scene.backdrop, "path raises") == len(found[0].nodes) - 1
    assert edges(scene.backdrop, "path lowers") == 0
    bold = {w.lines[0] for w in scene.standing.words if w.bold and w.number < 5}
    assert bold == {LABELS[n.layer, n.index] for n in found[0].nodes if n in graph.nodes[:5]}


def test_a_node_that_is_not_in_the_graph_is_not_drawn() -> None:
    gone = type(DIMMER)(2, 1, 1)
    figure = figures.graph_figure(small_graph(), supernodes=[Supernode("gone", [gone])])
    assert "gone" not in trace(figure, "words").text


def test_hover_and_words_show_foreign_text_as_it_is() -> None:
    figure = figures.graph_figure(hostile_graph(), labels=hostile_labels(), kept=1.0)
    texts = [
        *(t for d in figure.data for t in (d.hovertext or ())),
        *(t for d in figure.data for t in (d.text or ())),
        *(s.label.text or "" for s in figure.layout.shapes),
        *figure.layout.xaxis.ticktext,
    ]
    own = {"b", "br", "/b"}
    for text in texts:
        assert {t.strip("<>") for t in re.findall(r"<[^<>]*>", text)} <= own
        assert "$" not in text
    spoken = html.unescape(" ".join(t for d in figure.data for t in (d.hovertext or ())))
    assert all(h[:55] in spoken for h in HOSTILE)


def test_figures_change_no_template_and_show_nothing() -> None:
    import plotly.io

    before = plotly.io.templates.default
    figures.graph_figure(small_graph())
    assert plotly.io.templates.default == before


def test_a_graph_with_no_features_is_drawn() -> None:
    graph = small_graph()
    empty = replace(
        graph,
        features=np.zeros((0, 3)),
        activations=np.zeros(0),
        weights=graph.weights[5:, 5:],
    )
    assert len(trace(figures.graph_figure(empty, kept=1.0), "features").x) == 0


# Real graphs, at the widths they are read at


def scene_of(name: str, width: int) -> Scene:
    graph, labels = real_graph(name)
    measures = Measures(graph)
    path = story(graph, labels)[0]
    view = GraphView(measures, measures.usual, always=frozenset(path.nodes), room=Room(width, 480))
    return Scene(view, labels, paths=(path,))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", NAMES)
def test_everything_is_inside_counted_and_apart(name: str, width: int) -> None:
    scene = scene_of(name, width)
    view, placement = scene.view, scene.view.placement
    assert placement.width <= width
    assert 60 <= int(view.drawn.sum()) <= 150
    x, y = placement.x[view.drawn], placement.y[view.drawn]
    half = view.sizes[view.drawn] / 2
    assert (x - half >= 0).all() and (x + half <= placement.width).all()
    assert (y - half >= 0).all() and (y + half <= placement.height).all()
    # Every node is drawn, in a mark, or counted as left out.
    gathered = sum(len(m.numbers) for m in placement.marks)
    assert gathered == view.left_out.get("room", 0)
    assert int(view.drawn.sum()) + sum(view.left_out.values()) == view.graph.n_nodes
    assert f"{int(view.drawn.sum())} of {view.graph.n_nodes} nodes drawn" in view.summary


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", NAMES)
def test_nodes_can_be_told_apart(name: str, width: int) -> None:
    view = scene_of(name, width).view
    numbers = np.flatnonzero(view.drawn)
    x, y = view.placement.x[numbers], view.placement.y[numbers]
    far = np.hypot(x[:, None] - x, y[:, None] - y) + 1e3 * np.eye(len(numbers))
    assert far.min() >= 8


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", NAMES)
def test_words_lie_inside_and_on_nothing(name: str, width: int) -> None:
    scene = scene_of(name, width)
    view, placement = scene.view, scene.view.placement
    features = view.graph.blocks.features
    ranked = np.argsort(-view.influence[features] * view.drawn[features])
    for selected in (TargetNode(0), *(view.graph.nodes[n] for n in ranked[:3])):
        words = [*scene.standing.words, *scene._selection_words(selected, "both")]
        boxes = np.array([w.box for w in words])
        assert (boxes[:, :2] >= 0).all()
        assert (boxes[:, 2] <= placement.width).all()
        assert (boxes[:, 3] <= placement.height).all()
        for a, b in itertools.combinations(boxes, 2):
            assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
        assert all(len(w.lines) <= 2 for w in words)
        for word in words:
            left, bottom, right, top = word.box
            half = view.sizes / 2
            covered = (
                (placement.x + half > left)
                & (placement.x - half < right)
                & (placement.y + half > bottom)
                & (placement.y - half < top)
            )
            assert not covered.any(), word
    # The answer, and every feature of the path, have a word.
    named = {w.number for w in scene.standing.words}
    assert view.graph.number(TargetNode(0)) in named
    on_path = {view.graph.number(n) for n in scene.paths[0].nodes[1:]}
    assert on_path <= named


def _crossed(scene: Scene) -> int:
    """How many words a highlighted path runs through, by more than their margin."""
    view, at = scene.view, np.stack([scene.view.placement.x, scene.view.placement.y], axis=1)
    sources, targets = steps_of(view, scene.paths)
    t = np.linspace(0, 1, 400)[:, None, None]
    # A cubic curve with upright ends: x eases, y hastens.
    eased = np.concatenate([t * t * (3 - 2 * t), 1.5 * t - 1.5 * t**2 + t**3], axis=2)
    points = (at[sources] + (at[targets] - at[sources]) * eased).reshape(-1, 2)
    boxes = [np.array(word.box) + (2, 2, -2, -2) for word in scene.standing.words]
    return sum(((points > b[:2]) & (points < b[2:])).all(axis=1).any() for b in boxes)


def _misleading(scene: Scene) -> int:
    """How many words have a line that runs over another node before it comes to theirs."""
    view, found = scene.view, 0
    at = np.stack([view.placement.x, view.placement.y], axis=1)
    for word in scene.standing.words:
        if word.leader is not None:
            away = np.hypot(*(at[word.number] - word.leader))
            ways = np.linspace(0, 1, 200)[:, None] * (at[word.number] - word.leader) + word.leader
            far = np.hypot(*(at[None] - ways[:, None]).transpose(2, 0, 1))
            over = (far < view.sizes / 2).any(axis=0)
            over[word.number] = False
            found += bool(over.any() and away)
    return found


def test_hardly_a_word_is_crossed_by_a_path_or_led_over_a_node() -> None:
    """One word in eight was crossed where a path was a dozen points to the words, however long it
    is; and one line in three ran over other nodes."""
    scenes: list[Scene] = []
    for name, width in itertools.product(NAMES, (950, 1366, 1920)):
        scene, told = scene_of(name, width), story(*real_graph(name), top_k=1, ways=2)
        on_paths = frozenset(n for path in told for n in path.nodes)
        scenes.append(replace(scene, view=replace(scene.view, always=on_paths), paths=(*told,)))
    words = [word for scene in scenes for word in scene.standing.words]
    assert sum(map(_crossed, scenes)) <= 0.05 * len(words)
    assert sum(map(_misleading, scenes)) <= 0.25 * sum(w.leader is not None for w in words)


@pytest.mark.parametrize("name", NAMES)
def test_the_answer_stands_over_the_last_token(name: str) -> None:
    view = scene_of(name, 950).view
    answer = view.graph.number(TargetNode(0))
    assert view.placement.columns[-1].low < view.placement.x[answer]
    assert abs(view.placement.x[answer] - view.placement.columns[-1].middle) < 40
