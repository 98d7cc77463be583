"""How an explorer begins: what is opened, and what of it the reader sees first."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from circuit_nb import analysis
from circuit_nb.graph import AttributionGraph, TargetNode
from circuit_nb.graphsets.graphset import GraphSet
from circuit_nb.neuronpedia import Annotations, GraphFile
from circuit_nb.neuronpedia.reading import read_file
from circuit_nb.panels import store
from circuit_nb.panels.belonging import check_belongs
from circuit_nb.panels.cards import Cards, CardSource
from circuit_nb.panels.session import Session

if TYPE_CHECKING:
    from circuit_nb.model.replacement import ReplacementModel

Source: TypeAlias = "AttributionGraph | GraphFile | str | Path"
"""A graph, a file that was read, or the place of one."""
_SUFFIXES = (".json", ".safetensors")


def is_source(value: object) -> bool:
    """Whether this is a graph or a file of one, and no prompt."""
    if isinstance(value, str):
        return value.endswith(_SUFFIXES) and Path(value).is_file()
    return isinstance(value, AttributionGraph | GraphFile | Path)


def opened(
    source: Source,
    model: ReplacementModel | None,
    cards: CardSource | None,
    propose: bool | None,
) -> Session:
    """A session of a graph or a file, as the reader first sees it.

    Args:
        source: A graph, or a file with what was added to it: labels, pins, groups, selection.
        model: The model, if there is one.
        cards: Where feature cards come from.
        propose: Whether to begin with proposed groups; None for the file's or the model's own.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no graph file.
    """
    if isinstance(source, str | Path):
        if Path(source).suffix != ".json":
            return store.load(source, model, cards=cards)
        source = read_file(source)
    if isinstance(source, GraphFile):
        graph, notes = source
    else:
        graph, notes = source, Annotations()
    session = Session(graph, model, cards=cards, labels=notes.feature_labels or None)
    _set_up(session, notes, propose)
    session.run()
    _tell_the_story(session, pin=propose is None)
    if notes.selected is not None and notes.selected in graph:
        session.select(notes.selected)
    session.forget_changes()
    return session


def labelled(
    graphs: GraphSet, model: ReplacementModel | None, cards: CardSource | None
) -> GraphSet:
    """The set, with the labels at hand where it has none.

    Raises:
        ValueError: If it has no graphs, or they are not the model's.
    """
    if not graphs.places:
        raise ValueError("The set has no graphs; there is nothing to explore.")
    first = graphs[0]
    if model is not None:
        check_belongs(first, model)
    return graphs if graphs.labels else graphs.labelled(Cards(first, model, cards).elsewhere)


def _set_up(session: Session, notes: Annotations, propose: bool | None) -> None:
    """Groups and pins of the file, or those proposed, or those that ship with the model."""
    pins = [n for n in notes.pinned if n in session.graph]
    if notes.groups or pins:
        session.change(session.setup.accept(notes.groups).pin(pins))
    groups = session.propose() if propose else []
    if propose is None and not session.groups:
        groups = session.concepts()
    if groups:
        session.accept(groups)
    threshold, whole = notes.node_threshold, _held(session.graph)
    if threshold is not None and whole is not None and threshold < whole:
        session.kept = threshold / whole  # the file holds `whole` of the influence


def _held(graph: AttributionGraph) -> float | None:
    """The share of the influence that a published file was pruned to."""
    settings = graph.provenance.get("pruning_settings")
    held = settings.get("node_threshold") if isinstance(settings, dict) else None
    return held if isinstance(held, float) and 0 < held <= 1 else None


def _tell_the_story(session: Session, *, pin: bool) -> None:
    """Select the answer, and highlight how a word leads to it.

    Args:
        session: The session.
        pin: Whether the steps become the circuit where there is none yet.
    """
    graph = session.graph
    if not graph.targets:
        return
    labels, densities = session.cards.given, session.cards.densities
    found = analysis.story(graph, labels, density=densities, top_k=1, ways=2)
    if found:
        session.paths = tuple(found)
        session.ends = (found[0].nodes[0], found[0].nodes[-1])
        if pin and not session.groups:
            steps = tuple(dict.fromkeys(n for path in found for n in path.nodes))
            session.change(dataclasses.replace(session.setup, pinned=steps))
    session.select(TargetNode(0))
