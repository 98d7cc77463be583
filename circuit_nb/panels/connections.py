"""The connections panel: what feeds the selected node, and what it feeds."""

from __future__ import annotations

import ipywidgets
import numpy as np

from circuit_nb.figures.bars import connections
from circuit_nb.figures.names import node_place
from circuit_nb.figures.style import html_text, percent, signed
from circuit_nb.graph import Node
from circuit_nb.panels.attending import Carrier
from circuit_nb.panels.base import Drawing, Panel, lines, tooltip
from circuit_nb.panels.keys import node_from_key, node_key
from circuit_nb.panels.page import Clickable
from circuit_nb.panels.session import Session

SLOW = 0.6
"""Seconds from which heads are named only where that is asked for."""
QUICK = 0.1
"""Seconds up to which edges are listed with their heads at once, in place of twice."""
FEW = 40
"""Edges listed on either side until all are asked for."""
EMPTY = '<div class="cnb-empty">Select a node to see what feeds it and what it feeds.</div>'


class ConnectionsPanel(Panel):
    """Inputs and outputs of the selected node, the strongest first; a row jumps there.

    Args:
        session: What is shown.
    """

    def __init__(self, session: Session) -> None:
        super().__init__(session, "Connections")
        jump = self.guard(self._jump)
        self.inputs, self.outputs = Clickable(jump), Clickable(jump)
        self.all = ipywidgets.ToggleButton(False, description="all edges", layout={"width": "84px"})
        tooltip(self.all, f"List every edge instead of the {FEW} strongest on either side")
        self.heads = ipywidgets.ToggleButton(True, description="heads", layout={"width": "64px"})
        tooltip(self.heads, "Name the head that carried most of each edge")
        self.heads.layout.display = None if session.model is not None else "none"
        self._carriers: dict[Node, Carrier] = {}
        self._ready = self._by_hand = False
        self._took = float("inf")
        tools = ipywidgets.HBox([self.all, self.heads])
        self.body.children = [self.inputs, self.outputs, tools]
        self.heads.observe(self.guard(lambda _: None if self._by_hand else self._redraw()), "value")
        self.all.observe(self.guard(lambda _: self._redraw()), "value")
        self.watch(self._redraw, "selected", "setup", "learned", "tab")

    def _jump(self, key: str) -> None:
        node = self.session.selected
        if not key.startswith("via-") or node is None:
            self.session.select(node_from_key(key))
            return
        other = node_from_key(key.removeprefix("via-"))
        into = other in (n for n, _ in connections(self.session.graph, node, inputs=True))
        with self.session.together():
            if not into:  # edges are looked at from where they lead
                self.session.select(other)
            self.session.attending.choose_edge((other, node) if into else (node, other))
            self.session.tab = "attention"

    def prepare(self) -> None:
        """Name heads from now on: what is never displayed runs no model."""
        self._ready = True
        self._redraw()

    def _redraw(self) -> None:
        node = self.session.selected
        title = "" if node is None else html_text(self.session.title(node))
        shown = title or "Connections"
        self.heading.value = f'<div class="cnb cnb-title" title="{title}">{shown}</div>'
        self._carriers = {}
        named = node is not None and self._names_heads
        if not named or self._took > QUICK:
            self._show(node)  # the heads follow
        if node is not None and named:
            self._carriers = self._named(node)
            self._show(node)

    @property
    def _names_heads(self) -> bool:
        session = self.session
        return (
            self._ready
            and self.heads.value
            and session.model is not None
            and (session.tab == "connections")
        )

    def _show(self, node: Node | None) -> None:
        self.inputs.html = EMPTY if node is None else self._table(node, inputs=True)
        self.outputs.html = "" if node is None else self._table(node, inputs=False)

    def _named(self, node: Node) -> dict[Node, Carrier]:
        """The head of each listed edge; no longer without being asked where that takes long."""
        found: dict[Node, Carrier] = {}
        attending, self._took = self.session.attending, 0.0
        for inputs in (True, False):
            edges = connections(self.session.graph, node, inputs=inputs)
            others = [n for n, _ in edges][: None if self.all.value else FEW]
            found |= attending.carriers(node, others, inputs=inputs)
            self._took += attending.seconds
        if self._took > SLOW:
            self._by_hand = True  # they are shown this once, and again where that is asked for
            self.heads.value = False
            tooltip(
                self.heads, f"Name the heads of a node's edges: about {self._took:.0f} s each time"
            )
            self._by_hand = False
        return found

    def _table(self, node: Node, *, inputs: bool) -> str:
        edges = connections(self.session.graph, node, inputs=inputs)
        shown = edges if self.all.value else edges[:FEW]
        share = f", {percent(_share(edges, len(shown)))} of the strength" if edges else ""
        kind = "inputs" if inputs else "outputs"
        head = f"{kind}: {len(shown)} of {len(edges)}{share}" if edges else f"no {kind}"
        top = max((abs(w) for _, w in shown), default=1.0)
        rows = "".join(self._row(n, w, abs(w) / top) for n, w in shown)
        return (
            f'<div class="cnb-faint cnb-head">{head}</div>'
            f'<div class="cnb-scroll"><table role="listbox">{rows}</table></div>'
        )

    def _row(self, node: Node, weight: float, share: float) -> str:
        title = html_text(self.session.title(node))
        sign = "plus" if weight > 0 else "minus"
        return (
            f'<tr data-key="{node_key(node)}" tabindex="0" role="option" title="{title}">'
            f"<td>{html_text(self.session.name(node))} "
            f'<span class="cnb-faint">{html_text(node_place(self.session.graph, node))}</span></td>'
            f'<td class="cnb-meter"><span class="cnb-bar cnb-{sign}" '
            f'style="width:{max(1, round(44 * share))}px"></span></td>'
            f'<td class="cnb-number">{signed(weight)}</td>{self._via(node)}</tr>'
        )

    def _via(self, node: Node) -> str:
        """The head that carried most of an edge; a click explains it."""
        if not self._carriers:
            return ""
        carrier = self._carriers.get(node)
        if carrier is None:
            return '<td class="cnb-carrier"></td>'
        told = f"head {carrier.name} carried {percent(round(carrier.share, 2))} of this edge"
        return (
            f'<td class="cnb-carrier" data-key="via-{node_key(node)}" tabindex="0" role="button" '
            f'title="{told}">{carrier.name}</td>'
        )

    def draw(self) -> Drawing:
        """The strongest inputs and outputs as plain lines."""
        node = self.session.selected
        if node is None:
            return lines(["Select a node to see what feeds it and what it feeds."])
        texts = [self.session.title(node)]
        for inputs, sign in ((True, "←"), (False, "→")):
            for other, weight in connections(self.session.graph, node, inputs=inputs)[:6]:
                texts.append(f"{sign} {signed(weight)}  {self.session.title(other)}")
        return lines(texts)


def _share(edges: list[tuple[Node, float]], count: int) -> float:
    strength = np.abs([w for _, w in edges])
    return float(strength[:count].sum() / strength.sum())
