"""Where labels and texts of features come from, and what is said when they cannot be had."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import neuronpedia_server
import pytest
from made import CAPITAL, SAY, TEXAS, small_graph
from neuronpedia_server import SiteState

from circuit_nb.cards import Texts
from circuit_nb.cards.sources import _PATIENCE
from circuit_nb.panels import ConnectionsPanel, FeaturePanel, GraphPanel, PathsPanel, Session
from circuit_nb.panels.explorer import Explorer

ORIGIN = {"model": "google/gemma-2-2b", "transcoders": "mwhanna/gemma-scope-transcoders"}


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[SiteState]:
    with neuronpedia_server.serve() as state:
        state.add(0, 7, "Texas, says Neuronpedia")
        state.add(2, 11, "Austin, says Neuronpedia")
        monkeypatch.setenv("NEURONPEDIA_URL", state.url)
        monkeypatch.setenv("CIRCUIT_NB_CACHE", str(tmp_path))
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        monkeypatch.setattr("circuit_nb.cards.sources._PATIENCE", replace(_PATIENCE, attempts=1))
        yield state


@pytest.fixture
def session(site: SiteState) -> Session:
    made = Session(replace(small_graph(), provenance=ORIGIN))
    made.kept = 1.0
    return made


def test_labels_of_neuronpedia_are_seen_in_every_panel(session: Session) -> None:
    explorer = Explorer(session)
    session.pin(TEXAS, SAY)
    session.select(SAY)
    for panel in (explorer.graph, explorer.connections, explorer.paths, explorer.subgraph):
        assert "Texas, says Neuronp" in panel.picture()
    assert "Austin, says Neuronpedia" in explorer.connections.heading.value
    assert explorer.feature.label.value == "Austin, says Neuronpedia"
    card = explorer.feature.card.value
    assert "card: neuronpedia" in card and " Dallas</span>" in card and "page</a>" in card
    assert explorer.feature.problem.value == ""


@pytest.mark.parametrize("status", [429, 503])
def test_what_keeps_labels_away_is_said_and_can_be_tried_again(
    site: SiteState, status: int
) -> None:
    site.down = status
    session = Session(replace(small_graph(), provenance=ORIGIN))
    graph, feature = GraphPanel(session), FeaturePanel(session)
    others = (ConnectionsPanel(session), PathsPanel(session))
    session.select(TEXAS)
    assert f"({status})" in feature.problem.value
    assert feature.again.layout.display is None
    assert feature.label.value == "fires on Dallas"
    assert [p.failure.value for p in (graph, feature, *others)] == [""] * 4

    asked = len(site.asked)
    session.select(CAPITAL)
    session.select(SAY)
    assert len(site.asked) == asked, "the site is left alone until asked to try again"

    site.down = None
    feature.again.click()
    assert feature.problem.value == ""
    assert feature.again.layout.display == "none"
    assert feature.label.value == "Austin, says Neuronpedia"
    assert "Texas, says Neuronpedia" in graph.figure.to_json()
    assert "Texas, says Neuronpedia" in others[0].inputs.html
    assert "Texas, says Neuronpedia" in others[1].found.html


def test_no_network_is_said_too(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEURONPEDIA_URL", "http://127.0.0.1:9")
    session.cards.ask_again()
    assert session.cards.problem == ""  # all is known already
    alone = Session(replace(small_graph(), provenance=ORIGIN))
    assert "cannot be reached" in FeaturePanel(alone).problem.value


def test_the_prompt_itself_shows_where_a_feature_fires(session: Session) -> None:
    panel = FeaturePanel(session)
    session.select(TEXAS)
    activation = float(session.graph.activations[session.graph.number(TEXAS)])
    assert "fires on, in this prompt" in panel.card.value
    assert f'title="Dallas: {activation:.3g}"> Dallas</span>' in panel.card.value
    assert 'title="capital: 0"> capital</span>' in panel.card.value


def test_the_embedded_model_brings_texts_along(atlas, dallas) -> None:
    session = Session(dallas, atlas)
    panel = FeaturePanel(session)
    texas = next(s for s in session.concepts() if s.name == "Texas").features[0]
    layer, index = texas.layer, texas.index
    session.select(texas)
    found = session.cards.examples((layer, index))
    assert len(found) == 5
    for example in found:
        record = atlas.record("".join(example.tokens[1:]).strip())
        told = {
            p: v
            for (la, p, i), v in zip(
                record.features.tolist(), record.activations.tolist(), strict=True
            )
            if (la, i) == (layer, index)
        }
        shown = {p: v for p, v in enumerate(example.activations) if v}
        assert shown == pytest.approx(told, rel=1e-4)
    peaks = [max(e.activations) for e in found]
    assert peaks == sorted(peaks, reverse=True)
    assert panel.card.value.count('class="cnb-text"') == 6


def test_texts_where_a_feature_is_off_are_no_examples(atlas) -> None:
    text = "Fact: the capital of Texas is Austin."
    texts = Texts(atlas, [text])
    on = {(layer, index) for layer, _, index in atlas.record(text).features.tolist()}
    off = next(i for i in range(100) if (0, i) not in on)
    assert texts.examples(0, off) == ()
    assert all(len(texts.examples(*key)) == 1 for key in list(on)[:20])
    with pytest.raises(ValueError, match="no texts"):
        Texts(atlas, [])
    with pytest.raises(ValueError, match="does not exist"):
        texts.examples(0, 10**6)
