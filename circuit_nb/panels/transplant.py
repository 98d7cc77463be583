"""Taking features from another prompt: a form of the switches and of the circuit."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import ipywidgets

from circuit_nb.figures.style import html_text, token_text
from circuit_nb.graph import Feature, Supernode
from circuit_nb.panels.asking import features_of
from circuit_nb.panels.base import tooltip
from circuit_nb.panels.session import Session
from circuit_nb.panels.state import Row

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
            layout={"flex": "1 1 240px"},
        )
        tooltip(self.prompt, "A prompt whose features can be added to this one")
        self.read = ipywidgets.Button(description="Read", layout={"width": "56px"})
        tooltip(self.read, "Compute the graph of this prompt")
        self.choice = ipywidgets.Dropdown(options=[], layout={"flex": "1 1 160px"}, disabled=True)
        tooltip(self.choice, "What to take: a proposed group, or one of the strongest features")
        self.place = ipywidgets.Dropdown(
            options=[(SAME_PLACE, 0)], layout={"width": "120px"}, disabled=True
        )
        tooltip(self.place, "At which token of this prompt to put it")
        self.add = ipywidgets.Button(description="Add", layout={"width": "auto"}, disabled=True)
        tooltip(self.add, "Put it in, at the activation it has in the other prompt")
        self.leave = ipywidgets.Button(description="Close", layout={"width": "auto"})
        tooltip(self.leave, "Leave everything as it is")
        self.leave.layout.display = "none"
        self.heading = ipywidgets.HTML()
        wrap = {"flex_flow": "row wrap"}
        self.box = ipywidgets.VBox(
            [
                self.heading,
                ipywidgets.HBox([self.prompt, self.read], layout=wrap),
                ipywidgets.HBox([self.choice, self.place, self.add, self.leave], layout=wrap),
            ]
        )
        self.prompt.disabled = self.read.disabled = session.model is None
        self.instead_of: Row | None = None
        """What is switched off when something is added in its place; None where nothing is."""
        self._other: Session | None = None
        self._offered: dict[str, Supernode] = {}
        self._tell("add from another prompt")
        self.read.on_click(guard(lambda _: self._read()))
        self.add.on_click(guard(lambda _: self._add()))
        self.leave.on_click(guard(lambda _: self.close()))

    def _tell(self, text: str) -> None:
        self.heading.value = f'<div class="cnb cnb-faint">{html_text(text)}</div>'

    def offer(self, row: Row) -> None:
        """Open as a form that swaps a row with something of another prompt."""
        self.instead_of = row
        self._tell(f"swap {self.session.row_name(row)} with what another prompt has in its place")
        self.prompt.value = self.prompt.value or self.session.graph.prompt
        self.add.description = "Swap in"
        self.leave.layout.display = self.box.layout.display = None
        if self._other is not None:
            self._fill()

    def close(self) -> None:
        """Close the form that `offer` opened."""
        self.instead_of = None
        self.box.layout.display = "none"

    def _read(self) -> None:
        if not self.prompt.value.strip():
            raise ValueError("Type the other prompt first.")
        self._other = self.session.read_prompt(self.prompt.value)
        self._fill()

    def _fill(self) -> None:
        assert self._other is not None
        self._offered = self._offers(self._other)
        self.choice.options = tuple(self._offered)
        self.choice.index = 0 if self._offered else None  # ipywidgets 8 chooses none by itself
        tokens = self.session.graph.tokens
        places = [(f"{token_text(t)} ({p})", p) for p, t in enumerate(tokens) if p]
        self.place.options = [(SAME_PLACE, 0), *places]
        self.choice.disabled = self.place.disabled = self.add.disabled = False

    def _offers(self, other: Session) -> dict[str, Supernode]:
        """Proposed groups, those not at work in this prompt first; then single features.

        For a swap, those of the tokens and layers of what they are to replace before the others.
        """
        groups = other.propose()
        here = {s.name for s in self.session.setup.supernodes}
        groups.sort(key=lambda g: (self._distance(g), g.name in here))
        offers = {g.name: g for g in groups}
        grouped = {f for g in groups for f in g.features}
        view = other.view
        ranked = sorted(view.numbers.tolist(), key=lambda n: -float(view.influence[n]))
        for node in (other.graph.nodes[n] for n in ranked):
            if isinstance(node, Feature) and node not in grouped:
                offers[other.title(node)] = Supernode(other.name(node), [node])
        return offers

    def _distance(self, group: Supernode) -> tuple[int, float]:
        """How far a group is from what it would replace: by token, then by layer."""
        if self.instead_of is None:
            return 0, 0.0
        ours, theirs = features_of(self.instead_of), group.features
        shift = abs(max(f.position for f in ours) - max(f.position for f in theirs))
        layers = [sum(f.layer for f in part) / len(part) for part in (ours, theirs)]
        return shift, abs(layers[0] - layers[1])

    def _add(self) -> None:
        if self._other is None or self.choice.value not in self._offered:
            raise ValueError("Read another prompt and choose what to take from it first.")
        supernode = self._offered[self.choice.value]
        last = max(f.position for f in supernode.features)
        at = int(self.place.value or 0)
        if not at and self.instead_of is not None:
            at = max(f.position for f in features_of(self.instead_of))
        self.session.add(
            supernode, self._other.graph, at - last if at else 0, instead_of=self.instead_of
        )
        if self.instead_of is not None:
            self.close()
