"""The connections panel: what feeds the selected node, and what it feeds."""

from __future__ import annotations

import ipywidgets
import numpy as np

from circuit_nb.figures.bars import connections
from circuit_nb.figures.names import node_place
from circuit_nb.figures.style import html_text, percent, signed
from circuit_nb.graph import Node
from circuit_nb.panels.base import Drawing, Panel, lines, tooltip
from circuit_nb.panels.keys import node_from_key, node_key
from circuit_nb.panels.page import Clickable
from circuit_nb.panels.session import Session

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
        self.body.children = [self.inputs, self.outputs, self.all]
        self.all.observe(self.guard(lambda _: self._redraw()), "value")
        self.watch(self._redraw, "selected", "setup", "learned")

    def _jump(self, key: str) -> None:
        self.session.select(node_from_key(key))

    def _redraw(self) -> None:
        node = self.session.selected
        title = "" if node is None else html_text(self.session.title(node))
        shown = title or "Connections"
        self.heading.value = f'<div class="cnb cnb-title" title="{title}">{shown}</div>'
        self.inputs.html = EMPTY if node is None else self._table(node, inputs=True)
        self.outputs.html = "" if node is None else self._table(node, inputs=False)

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
            f'<td class="cnb-number">{signed(weight)}</td></tr>'
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
