"""`page`: a session as a page to share."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from circuit_nb.analysis import normalized
from circuit_nb.analysis.flow import flow
from circuit_nb.figures.names import node_place
from circuit_nb.figures.naming import picture_name
from circuit_nb.graph import AttributionGraph, Feature, Node
from circuit_nb.panels.feature import AROUND
from circuit_nb.panels.keys import node_key
from circuit_nb.panels.session import Session
from circuit_nb.sharing import public
from circuit_nb.sharing.measured import attention_data, evidence_data
from circuit_nb.sharing.outcomes import outcomes
from circuit_nb.sharing.page import Page, short
from circuit_nb.sharing.pictures import STYLE, boxes, circuit_data, levels, pictures, still
from circuit_nb.version import __version__

if TYPE_CHECKING:
    from circuit_nb.cards import Example, FeatureCard

MOST_NODES, MOST_EDGES = 800, 30_000
"""Of a larger graph the page holds the most influential nodes, and the strongest edges."""
EXAMPLES, EFFECTS = 5, 6
"""Texts of a card, and tokens it promotes and suppresses, at most."""
NEW_TOKENS = 8
"""How many tokens a continuation has where the session asks for none."""


def page(session: Session, *, new_tokens: int | None = None, progress: bool = True) -> Page:
    """Gather what a page to share holds; the model is run on every setting it can show.

    Args:
        session: What is explored: its selection, circuit, switches and thresholds are where the
            page begins.
        new_tokens: How many tokens each continuation has; by default as many as the session
            shows, else 8.
        progress: Whether a bar is shown while the model runs.
    """
    if new_tokens is None:
        new_tokens = session.new_tokens or NEW_TOKENS
    held = _held(session)
    numbers = {int(n): i for i, n in enumerate(held)}
    groups = boxes(session)
    parts: dict[str, Any] = {
        "graph": _graph(session, held),
        "view": _view(session, numbers),
        "circuit": circuit_data(session, numbers),
        "cards": _cards(session, held),
        "outcomes": outcomes(session, groups, new_tokens=new_tokens, progress=progress),
        "evidence": evidence_data(session, groups),
        "attention": attention_data(session, numbers),
    }
    scores = session.scores
    about = {
        "version": __version__,
        "contents": public.contents(parts),
        "scores": {
            "replacement": short(scores.replacement),
            "completeness": short(scores.completeness),
        },
        "settings": public.settings(session.graph.provenance),
        "paper": public.paper(session.graph, (scores.replacement, scores.completeness)),
    }
    return Page(**parts, about=about, picture=still(session))


def _held(session: Session) -> np.ndarray[Any, Any]:
    """Numbers of the nodes that the page holds, ascending: those wanted, then the strongest."""
    graph, measures = session.graph, session.measures
    strength = measures.influence.copy()
    strength[graph.blocks.tokens.start :] = np.inf
    wanted = {*session.view.always, *(n for p in session.paths for n in p.nodes)}
    strength[[graph.number(n) for n in wanted if n in graph]] = np.inf
    return np.sort(np.argsort(-strength, kind="stable")[:MOST_NODES])


def _restricted(session: Session, held: np.ndarray[Any, Any]) -> AttributionGraph:
    """The graph of the held nodes, with its strongest edges."""
    graph = session.graph
    keep = np.zeros(graph.n_nodes, dtype=np.bool_)
    keep[held] = True
    rows, columns = keep[graph.rows], keep[: graph.weights.shape[1]]
    weights = graph.weights[np.ix_(rows, columns)]
    if np.count_nonzero(weights) > MOST_EDGES:
        reach = session.measures.reach[graph.rows[rows]]
        strength = (normalized(graph.weights)[np.ix_(rows, columns)] * reach[:, None]).ravel()
        least = np.partition(strength, -MOST_EDGES)[-MOST_EDGES]
        weights = np.where(strength.reshape(weights.shape) >= least, weights, np.float32(0))
    features, errors = keep[graph.blocks.features], keep[graph.blocks.errors]
    return dataclasses.replace(
        graph,
        features=graph.features[features],
        activations=graph.activations[features],
        errors=graph.errors[errors],
        weights=weights,
        provenance=public.settings(graph.provenance),
    )


def _graph(session: Session, held: np.ndarray[Any, Any]) -> dict[str, Any]:
    """`AttributionGraph.to_dict` of what is held, each node with what the panels say of it."""
    graph = session.graph
    found = _restricted(session, held).to_dict()
    into = np.zeros(graph.n_nodes, dtype=np.float32)
    into[graph.rows] = flow(graph).sums
    out = np.zeros(graph.n_nodes, dtype=np.float32)
    out[: graph.weights.shape[1]] = np.abs(graph.weights).sum(axis=0)
    for number, node in zip(held.tolist(), found["nodes"], strict=True):
        there = graph.nodes[number]
        node.update(
            name=session.name(there),
            title=session.title(there),
            place=node_place(graph, there),
            influence=short(session.measures.influence[number]),
            into=short(into[number]),
            out=short(out[number]),
        )
        if isinstance(there, Feature):
            node["short"] = picture_name(session.measures, there, session.labels)
    found["held"] = [len(held), graph.n_nodes, len(found["edges"]), int((graph.weights != 0).sum())]
    return found


def _view(session: Session, numbers: dict[int, int]) -> dict[str, Any]:
    graph = session.graph

    def number(node: Node | None) -> int | None:
        return None if node is None or node not in graph else numbers.get(graph.number(node))

    ends = [number(node) for node in session.ends]
    return {
        "selected": None if session.selected is None else node_key(session.selected),
        "kept": session.kept,
        "errors": session.errors,
        "tab": session.tab,
        "levels": levels(session),
        "ends": ends,
        "paths": [
            {"nodes": [number(n) for n in p.nodes], "share": short(p.share), "sign": p.sign}
            for p in session.paths
        ],
        "pinned": [number(n) for n in session.setup.pinned if n in graph],
        "style": STYLE,
        "pictures": pictures(session, numbers),
    }


def _cards(session: Session, held: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Cards of the held features: all that are at hand, and those that were asked for already."""
    found: dict[str, Any] = {}
    nodes = [session.graph.nodes[n] for n in held.tolist()]
    cards = session.cards
    for key in dict.fromkeys((n.layer, n.index) for n in nodes if isinstance(n, Feature)):
        card = cards.card(key) if cards.at_hand else cards.known(key)
        if card is not None:
            examples = cards.examples(key) if cards.at_hand else card.examples
            found[f"{key[0]}-{key[1]}"] = _card(card, examples)
    return found


def _card(card: FeatureCard, examples: tuple[Example, ...]) -> dict[str, Any]:
    url = card.url if card.url and card.url.startswith("https://") else None
    return {
        "label": card.label,
        "source": card.source,
        "density": card.density,
        "url": url,
        "promotes": [[t, short(v)] for t, v in card.promotes[:EFFECTS]],
        "suppresses": [[t, short(v)] for t, v in card.suppresses[:EFFECTS]],
        "histogram": None if card.histogram is None else [list(part) for part in card.histogram],
        "examples": [_window(example) for example in examples[:EXAMPLES]],
    }


def _window(example: Example) -> list[list[Any]]:
    """[token, activation] around the strongest token."""
    values = example.activations
    peak = max(range(len(values)), key=lambda i: values[i], default=0)
    near = range(max(0, peak - AROUND), min(len(values), peak + AROUND + 1))
    return [[example.tokens[i], float(f"{values[i]:.3g}")] for i in near]
