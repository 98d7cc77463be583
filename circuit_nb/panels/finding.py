"""Finding nodes and features by what they are called, promote, fire on, or by their number."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from circuit_nb.figures.names import node_place
from circuit_nb.figures.style import shorten, token_text
from circuit_nb.graph import Feature, Node
from circuit_nb.panels.keys import node_from_key, node_key
from circuit_nb.panels.session import Session

NEW = "new"
"""How the key of a feature that is not in the graph begins."""
_NUMBER = re.compile(r"L?(\d{1,4})\s*[/:#,. -]\s*#?(\d{1,9})", re.IGNORECASE)
"""Layer and index, as `12/3456`, `12:3456`, `L12 #3456`."""


@dataclass(frozen=True)
class Found:
    """Something that fits what was asked."""

    key: str
    """Of a node, or of a feature that is not in the graph."""
    name: str
    place: str
    """Where it is, or that it is not in this graph."""
    why: str
    """What of it fits, where that is not its name."""

    @property
    def node(self) -> Node | None:
        """The node of the graph; None for a feature that is not in it."""
        return None if self.key.startswith(NEW) else node_from_key(self.key)

    @property
    def feature(self) -> tuple[int, int]:
        """(layer, index) of a feature that is not in the graph."""
        _, layer, index = self.key.split("-")
        return int(layer), int(index)


def find(session: Session, text: str, most: int = 12) -> list[Found]:
    """What fits a text, the best first: nodes of the graph before features that are not in it.

    Args:
        session: What is searched: nodes, labels, tokens that features promote, texts they fire on.
        text: Words, all of which must fit, or a layer and an index such as `12/3456`.
        most: How many at most.
    """
    words = text.casefold().split()
    if not words:
        return []
    ranked: list[tuple[tuple[float, ...], Found]] = []
    strength = session.measures.influence
    for number, node in enumerate(session.graph.nodes):
        rank, why = _fit(words, *_told(session, node))
        if rank:
            place = node_place(session.graph, node)
            found = Found(node_key(node), session.name(node), place, why)
            ranked.append(((-rank, -float(strength[number])), found))
    ranked.sort(key=lambda pair: pair[0])
    there = [found for _, found in ranked]
    numbered = list(_by_number(session, text))
    outside = _outside(session, words) if session.model is not None else ()
    return list({f.key: f for f in (*numbered, *there, *outside)}.values())[:most]


def _told(session: Session, node: Node) -> tuple[str, list[tuple[str, str]]]:
    """A node's name, and other texts about it with how each is introduced."""
    others = [("", session.title(node))]
    if isinstance(node, Feature):
        others += _of_card(session, (node.layer, node.index))
    return session.name(node), others


def _of_card(session: Session, key: tuple[int, int]) -> Iterator[tuple[str, str]]:
    """What a card that is known already says; none is asked for."""
    card = session.cards.known(key)
    if card is not None:
        yield "promotes ", ", ".join(token_text(t) for t, _ in card.promotes)
        for example in card.examples:
            yield "fires in ", "".join(example.tokens)


def _fit(words: list[str], name: str, others: Iterable[tuple[str, str]]) -> tuple[float, str]:
    """How well words fit, 0 for not at all, and what they fit where that is not the name."""
    told = name.casefold()
    if all(word in told for word in words):
        whole = told == " ".join(words)
        begins = any(re.search(rf"\b{re.escape(w)}", told) for w in words)
        return (4.0 if whole else 3.0 if begins else 2.5), ""
    for rank, (verb, text) in zip((2.0, 1.5, *[1.0] * 99), others, strict=False):
        if all(word in text.casefold() for word in words):
            return rank, f"{verb}{_around(text, words[0])}" if verb else ""
    return 0.0, ""


def _around(text: str, word: str) -> str:
    """The text near a word of it."""
    start = max(0, text.casefold().find(word) - 24)
    return ("…" if start else "") + shorten(text[start:], 60)


def _by_number(session: Session, text: str) -> Iterator[Found]:
    match = _NUMBER.fullmatch(text.strip())
    if match is None:
        return
    layer, index = int(match[1]), int(match[2])
    rows = session.graph.features
    here = rows[(rows[:, 0] == layer) & (rows[:, 2] == index)]
    for row in here.tolist():
        node = Feature(*row)
        yield Found(node_key(node), session.name(node), node_place(session.graph, node), "")
    if not len(here) and session.model is not None:
        try:
            session.model.transcoders.check(layer, index)
        except ValueError:
            return
        yield _new(session, (layer, index))


def _outside(session: Session, words: list[str]) -> Iterator[Found]:
    """Features with a label or a card that fit, and are not in the graph."""
    here = {(layer, index) for layer, _, index in session.graph.features.tolist()}
    found: list[tuple[float, Found]] = []
    for key, label in session.cards.elsewhere.items():
        if key not in here:
            rank, why = _fit(words, label, _of_card(session, key))
            if rank:
                found.append((-rank, _new(session, key, label, why)))
    return iter(f for _, f in sorted(found, key=lambda pair: pair[0]))


def _new(session: Session, key: tuple[int, int], label: str = "", why: str = "") -> Found:
    layer, index = key
    known = label or session.labels.get(key) or session.cards.elsewhere.get(key)
    name = known or f"L{layer} #{index}"
    place = f"layer {layer}, not active here: adds a switch"
    return Found(f"{NEW}-{layer}-{index}", name, place, why)
