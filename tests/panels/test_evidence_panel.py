"""The evidence panel: it says what the experiments say, how long they take, and what is needed."""

from __future__ import annotations

import numpy as np
import pytest
from made import TEXAS

from circuit_nb import evidence
from circuit_nb.graph import AttributionGraph, Feature, Supernode
from circuit_nb.model import ReplacementModel
from circuit_nb.panels import EvidencePanel, Explorer, Session, trials
from circuit_nb.panels.evidence import duration


@pytest.fixture
def panel(explorer: Explorer, monkeypatch: pytest.MonkeyPatch) -> EvidencePanel:
    """With a fifth box, of features that the answer does not need; few draws, to be fast."""
    monkeypatch.setattr(trials, "DRAWS", 3)
    session = explorer.session
    at_of = [
        n
        for n in session.graph.nodes
        if isinstance(n, Feature) and session.graph.tokens[n.position] == " of"
    ]
    session.group("of", at_of)
    return explorer.evidence


def test_it_says_what_the_measures_say(panel: EvidencePanel, atlas: ReplacementModel) -> None:
    session = panel.session
    assert "press Measure" in panel.told.html
    session.tab = "evidence"
    assert "about" in panel.measure.description
    told: list[tuple[str, int, int]] = []
    session.observe(lambda c: told.append(c["new"]), "progress")
    panel.measure.click()
    assert panel.failure.value == ""
    kept = evidence.faithfulness(
        atlas, session.graph, session.setup.supernodes, draws=3, progress=False
    )
    for share in (kept.faithfulness, *kept.without):
        assert f"{100 * share:.0f} %" in panel.told.html
    mean = f"{100 * kept.control.mean:.0f} %"
    assert f"random features of the same number keep {mean}" in panel.told.html
    # The fifth box is not needed, and the others are.
    assert kept.needed.tolist() == [True, True, True, True, False]
    assert panel.told.html.count("not needed") == 1
    # Progress was told, as many runs as were announced, and is over.
    assert told[-1] is None and session.progress is None
    totals = {words: total for words, done, total in filter(None, told) if done}
    assert sum(totals.values()) == session.trials.runs("measure")
    assert "not needed" in panel.picture()


def test_effects_stand_on_the_boxes_and_predictions_where_they_are_off(
    panel: EvidencePanel, explorer: Explorer, atlas: ReplacementModel
) -> None:
    session = panel.session
    panel.measure.click()
    panel.measure.click()  # the first may only have announced how long it takes
    verified = evidence.verify(atlas, session.graph, parts=session.setup.supernodes, progress=False)
    effects = session.trials.effects()
    for i, part in enumerate(session.setup.supernodes):
        measured, predicted = effects[part]
        assert measured == pytest.approx(verified.measured[i, -1])
        far = abs(verified.predicted[i, -1] - measured) > 0.2 * abs(measured)
        assert (predicted is not None) == (far and abs(measured) > 0.02)
    badges = session.trials.badges()
    texas = next(p for p in session.setup.supernodes if p.name == "Texas")
    # Features cannot fall below 0; the graph, which is linear, does not know that.
    assert ", graph −" in badges[texas]
    assert badges[texas] in explorer.subgraph.canvas.html
    assert "when the box is switched off" in explorer.subgraph.scores.value
    # A switch is more than a measurement: its setting is shown instead.
    session.set_switch(texas, on=False)
    assert badges[texas] not in explorer.subgraph.canvas.html
    session.undo()
    assert badges[texas] in explorer.subgraph.canvas.html


def test_figures_are_a_click_away_and_go_with_the_boxes(panel: EvidencePanel) -> None:
    session = panel.session
    session.tab = "evidence"
    panel.measure.click()
    panel.told.click("curve")
    assert panel.plot.figure is not None
    assert "this circuit" in {trace.name for trace in panel.plot.figure.data}
    panel.told.click("predicted")
    assert panel.plot.figure.layout.yaxis.title.text == "measured"
    panel.combine.click()
    assert "Shapley" in panel.plot.children[0].value
    assert "combinations" in panel.told.html
    panel.told.click("part1")
    assert panel.plot.figure.layout.xaxis.title.text == "multiplier of Texas"
    before = session.trials.found
    # Another name is the same box; other boxes are another circuit, with findings of its own.
    session.rename(session.setup.supernodes[1], "Lone star")
    assert panel.plot.figure is None
    assert "Lone star" in panel.told.html
    session.unpin(session.setup.supernodes[0])
    assert "press Measure" in panel.told.html
    assert session.trials.badges() == {}
    session.undo()
    found = session.trials.found
    assert found.verified is before.verified
    assert np.array_equal(found.faithfulness.curve.values, before.faithfulness.curve.values)


def test_long_experiments_are_announced_first(panel: EvidencePanel, monkeypatch) -> None:
    session = panel.session
    monkeypatch.setattr(evidence, "pace", lambda *_: 10.0)
    runs: list[str] = []
    monkeypatch.setattr(session.trials, "combine", lambda: runs.append("combine"))
    panel.combine.click()
    assert runs == [] and panel.combine.description == "Combinations (about 5 min)"
    panel.combine.click()
    assert runs == ["combine"]
    assert [duration(s) for s in (0.02, 2.4, 80, 200)] == ["0.1 s", "2 s", "80 s", "3 min"]


def test_interrupted_it_says_so_and_leaves_everything(
    panel: EvidencePanel, atlas: ReplacementModel
) -> None:
    session = panel.session
    session.tab = "evidence"

    def stop(change: dict[str, object]) -> None:
        if change["new"] and str(change["new"]).startswith("('Switching"):
            raise KeyboardInterrupt("stopped here")

    session.observe(stop, "progress")
    panel.measure.click()
    session.unobserve(stop, "progress")
    assert "Interrupted" in panel.failure.value
    assert session.progress is None
    assert session.trials.found.faithfulness is None
    panel.measure.click()
    assert panel.failure.value == "" and session.trials.found.faithfulness is not None


def test_without_a_model_or_boxes_it_says_what_is_needed(
    session: Session, atlas: ReplacementModel, dallas: AttributionGraph
) -> None:
    panel = EvidencePanel(session)
    session.group("Texas", [TEXAS])
    session.tab = "evidence"
    assert "Load a model" in panel.told.html
    assert panel.measure.disabled and panel.combine.disabled
    alone = Session(dallas, atlas)
    panel = EvidencePanel(alone)
    assert "Group features into boxes" in panel.told.html and panel.measure.disabled
    many = [Supernode(str(i), [tuple(row)]) for i, row in enumerate(dallas.features.tolist()[:11])]
    alone.accept(many)
    assert panel.combine.disabled and not panel.measure.disabled
