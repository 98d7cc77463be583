"""The panel Set: what it says of a prompt is so, and a prompt leads to its graph and its model."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from made import HOSTILE, hostile_graph, hostile_labels, small_graph

from circuit_nb import GraphSet, attribute_many, explore
from circuit_nb.graphsets import template
from circuit_nb.model import ReplacementModel
from circuit_nb.panels import SetPanel, plot

ROWS = [
    *({"kind": "state", "city": c} for c in ("Dallas", "Houston", "Oakland", "Fresno", "Miami")),
    {"kind": "country", "city": "Lyon"},
]
TEXT = "Fact: the capital of the {kind} containing {city} is"


@pytest.fixture(scope="module")
def graphs(atlas: ReplacementModel, tmp_path_factory: pytest.TempPathFactory) -> GraphSet:
    folder = tmp_path_factory.mktemp("set")
    return attribute_many(atlas, template(TEXT, ROWS), folder, progress=False)


@pytest.fixture
def panel(atlas: ReplacementModel, graphs: GraphSet) -> Iterator[SetPanel]:
    made = explore(atlas, graphs)
    yield made
    made.close()


def test_departures_are_those_counted_by_hand(graphs: GraphSet) -> None:
    """Places of these prompts are those counted from the last token, as cities are one token."""
    found = graphs.map(by="last")
    used = [
        {
            (la, at - len(p.tokens), i): v
            for (la, at, i), v in zip(p.features.tolist(), p.influence, strict=True)
        }
        for p in graphs.profiles
    ]
    for number, own in enumerate(used):
        others = used[:number] + used[number + 1 :]
        every = set().union(*used)
        share = {key: sum(key in other for other in others) / len(others) for key in every}
        departs = found.departs(number, 10**6)
        has = {(d.unit.layer, int(d.label.split("@ ")[-1]), d.unit.index): d for d in departs.has}
        lacks = {(d.unit.layer, int(d.label.split("@ ")[-1]), d.unit.index) for d in departs.lacks}
        assert has.keys() == {key for key in own if share[key] < 0.5}
        assert lacks == {key for key in every - own.keys() if share[key] > 0.5}
        for key, d in has.items():
            assert d.own == pytest.approx(own[key])
            assert d.share == pytest.approx(share[key])
            assert d.mean == pytest.approx(sum(o.get(key, 0) for o in others) / len(others))


def test_a_prompt_is_picked_by_row_search_and_number(panel: SetPanel) -> None:
    assert panel.number == int(panel.map.likeness.argmin())
    panel.prompts.click("p0")
    assert panel.number == 0
    assert "Dallas" in panel.picked.html
    # Texas is used by one other of five, and the label says so.
    texas = next(d for d in panel.map.departs(0).has if d.label.startswith("Texas @"))
    assert texas.share == pytest.approx(0.2)
    assert texas.label.replace("“", "").split(" @")[0] in panel.picked.html
    assert "20 %" in panel.picked.html
    assert panel.prompts.html.count('role="option"') == len(ROWS)
    panel.search.value = "paris"  # an answer
    assert panel.prompts.html.count('role="option"') == 1
    panel.prompts.click("p5")
    assert "Lyon" in panel.picked.html
    panel.search.value = "state"  # what is known of it
    assert panel.prompts.html.count('role="option"') == 5
    panel.search.value = "nowhere"
    assert "Nothing fits." in panel.prompts.html
    with pytest.raises(IndexError, match="no prompt 6; give 0 to 5"):
        panel.pick(6)
    assert panel.number == 5


def test_of_a_large_set_some_prompts_are_listed_with_the_one_picked() -> None:
    panel = explore(GraphSet.of([small_graph()] * 105))
    panel.pick(104)
    assert panel.prompts.html.count('role="option"') == 100
    assert 'data-key="p104"' in panel.prompts.html
    assert "100 of 105 listed" in panel.prompts.html
    panel.close()


def test_what_takes_time_is_said_until_it_is_drawn(
    panel: SetPanel, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[list[str]] = []

    def there() -> None:
        said.append([child.value for child in panel.plot.children if hasattr(child, "value")])

    common, widget = GraphSet.common, plot.go.FigureWidget
    monkeypatch.setattr(GraphSet, "common", lambda *a: (there(), common(*a))[1])
    monkeypatch.setattr(plot.go, "FigureWidget", lambda f: (there(), widget(f))[1])
    panel.tabs.click("circuit")
    computing, drawing = said
    assert ["Computing: average circuit" in text for text in computing] == [True]
    assert ["Drawing" in text for text in drawing] == [False, True]
    # The page hides it when it has drawn the figure; the kernel does not know when that is.
    waits = [child for child in panel.plot.children if "cnb-drawing" in child._dom_classes]
    assert len(waits) == 1
    figure = panel.plot.figure
    panel.pick(3)
    assert len(said) == 3 and len(said[2]) == 2, "the last figure stays until the next is there"
    assert panel.plot.figure is not figure


def test_every_view_can_be_opened_and_points_pick(panel: SetPanel) -> None:
    panel.pick(5)
    panel.tabs.click("circuit")
    figure = panel.plot.figure
    assert figure is not None
    hollow = {s for trace in figure.data for s in (trace.marker.symbol or ())} & {"circle-open"}
    assert bool(hollow) == bool(panel.map.departs(5).lacks)
    assert hollow  # what most prompts, of states, have
    panel.tabs.click("map")
    assert panel.plot.figure is not None
    assert [len(trace.x) for trace in panel.plot.figure.data] == [5, 1, 1]
    assert "1 outlier, " in panel.outliers.html
    assert "Lyon" in panel.outliers.html
    panel.pick(0)  # the ring follows
    assert panel.plot.figure.data[2].x[0] == panel.map.points[0, 0]
    panel.tabs.click("prompts")
    assert panel.plot.figure is None
    assert panel.prompts.layout.display is None


def test_its_graph_opens_beneath_and_the_switches_work(panel: SetPanel, graphs: GraphSet) -> None:
    panel.pick(0)
    panel.opener.click()
    assert panel.failure.value == ""
    first = panel.explorer
    assert first is not None
    assert first.session.graph.prompt == graphs[0].prompt
    texas = next(g for g in first.session.setup.supernodes if g.name == "Texas")
    first.session.set_switch(texas, on=False)
    assert first.session.after is not None
    assert first.session.after[" Austin"] < 0.1 < first.session.before[" Austin"]
    panel.pick(1)
    panel.opener.click()
    assert panel.explorer is not first
    assert panel.explorer.session.graph.prompt == graphs[1].prompt
    assert panel.beneath.children == (panel.explorer,)
    assert first.comm is None  # closed
    assert "20 % of the others" in panel.picture()


def test_a_graph_that_is_gone_is_said_and_the_last_stays(
    atlas: ReplacementModel, graphs: GraphSet, tmp_path: Path
) -> None:
    for path in graphs.folder.path.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    panel = explore(GraphSet.open(tmp_path))
    panel.opener.click()
    first = panel.explorer
    assert first is not None
    panel.pick(2)
    panel.graphs.places[2].path.unlink()
    panel.opener.click()
    assert "No graph file at" in panel.failure.value
    assert panel.explorer is first
    assert panel.beneath.children == (first,)
    panel.close()


def test_what_does_not_fit_is_refused_in_a_sentence(
    atlas: ReplacementModel, graphs: GraphSet
) -> None:
    with pytest.raises(ValueError, match="give at least three"):
        explore(graphs[:2])
    with pytest.raises(ValueError, match="no graphs; there is nothing to explore"):
        explore(graphs[:0])
    with pytest.raises(TypeError, match="Give the model first"):
        explore(graphs, "a prompt")
    with pytest.raises(ValueError, match="layers"):
        explore(atlas, GraphSet.of([small_graph()] * 3))


def test_hostile_texts_stay_texts() -> None:
    one = hostile_graph()
    other = dataclasses.replace(one, tokens=(*one.tokens[:-1], "</td><script>1</script>"))
    found = GraphSet.of([one, one, one, other], [{"note": HOSTILE[1]}] * 4)
    panel = explore(found.labelled(hostile_labels()))
    for view in ("circuit", "map", "prompts"):
        panel.tabs.click(view)
    for which in range(4):
        panel.pick(which)
        texts = (panel.prompts.html, panel.picked.html, panel.outliers.html, panel.heading.value)
        for text in (*texts, panel.picture()):
            for raw in ("<script", "<img", "<a ", "<b>", "<svg onload", "</td><"):
                assert raw not in text.replace("</td></tr>", "").replace("</td><td", "")
    panel.close()
