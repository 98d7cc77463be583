"""Taking features from another prompt: the lower part of the switches panel."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import ipywidgets

from circuit_nb.figures.style import token_text
from circuit_nb.graph import Feature, Supernode
from circuit_nb.panels.base import tooltip
from circuit_nb.panels.session import Session

Guard: TypeAlias = Callable[[Callable[..., None]], Callable[..., None]]
SAME_PLACE = "same place"


class Transplant:
    """Reads another prompt and adds features of its graph to this one.

    Args:
        session: The session that features are added to.
        guard: Shows the errors of an action in the panel this belongs to.
    """

    def __init__(self, session: Session, guard: Guard) -> None:
        self.session = session
        self.prompt = ipywidgets.Text(
            placeholder="another prompt, e.g. with Oakland for Dallas",
            continuous_update=False,
            layout={"flex": "1 1 260px"},
        )
        tooltip(self.prompt, "A prompt whose features can be added to this one")
        self.read = ipywidgets.Button(description="Read", layout={"width": "56px"})
        tooltip(self.read, "Compute the graph of this prompt")
        self.choice = ipywidgets.Dropdown(options=[], layout={"flex": "1 1 180px"}, disabled=True)
        tooltip(self.choice, "What to take: a proposed group, or one of the strongest features")
        self.place = ipywidgets.Dropdown(
            options=[(SAME_PLACE, 0)], layout={"width": "130px"}, disabled=True
        )
        tooltip(self.place, "At which token of this prompt to put it")
        self.add = ipywidgets.Button(description="Add", layout={"width": "52px"}, disabled=True)
        tooltip(self.add, "Put it in, at the activation it has in the other prompt")
        heading = ipywidgets.HTML('<div class="cnb cnb-faint">add from another prompt</div>')
        self.box = ipywidgets.VBox(
            [
                heading,
                ipywidgets.HBox([self.prompt, self.read]),
                ipywidgets.HBox([self.choice, self.place, self.add]),
            ]
        )
        self.prompt.disabled = self.read.disabled = session.model is None
        self._other: Session | None = None
        self._offered: dict[str, Supernode] = {}
        self.read.on_click(guard(lambda _: self._read()))
        self.add.on_click(guard(lambda _: self._add()))

    def _read(self) -> None:
        if not self.prompt.value.strip():
            raise ValueError("Type the other prompt first.")
        self._other = self.session.read_prompt(self.prompt.value)
        self._offered = self._offers(self._other)
        self.choice.options = tuple(self._offered)
        tokens = self.session.graph.tokens
        places = [(f"{token_text(t)} ({p})", p) for p, t in enumerate(tokens) if p]
        self.place.options = [(SAME_PLACE, 0), *places]
        self.choice.disabled = self.place.disabled = self.add.disabled = False

    def _offers(self, other: Session) -> dict[str, Supernode]:
        """Proposed groups, those not at work in this prompt first; then single features."""
        groups = other.propose()
        here = {s.name for s in self.session.setup.supernodes}
        groups.sort(key=lambda g: g.name in here)
        offers = {g.name: g for g in groups}
        grouped = {f for g in groups for f in g.features}
        view = other.view
        ranked = sorted(view.numbers.tolist(), key=lambda n: -float(view.influence[n]))
        for node in (other.graph.nodes[n] for n in ranked):
            if isinstance(node, Feature) and node not in grouped:
                offers[other.title(node)] = Supernode(other.name(node), [node])
        return offers

    def _add(self) -> None:
        if self._other is None or self.choice.value not in self._offered:
            raise ValueError("Read another prompt and choose what to take from it first.")
        supernode = self._offered[self.choice.value]
        shift = 0
        if self.place.value:
            shift = int(self.place.value) - max(f.position for f in supernode.features)
        self.session.add(supernode, self._other.graph, shift)
