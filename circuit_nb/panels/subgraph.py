"""The subgraph panel: pinned nodes and supernodes, and what flows between them."""

from __future__ import annotations

import ipywidgets

from circuit_nb import analysis
from circuit_nb.figures.style import html_text, percent
from circuit_nb.figures.subgraph import Group, subgraph_spec
from circuit_nb.figures.svg import draw, to_svg
from circuit_nb.graph import Feature, Supernode
from circuit_nb.panels.base import Drawing, Panel, lines, tooltip
from circuit_nb.panels.grouping import RULE
from circuit_nb.panels.page import Clickable
from circuit_nb.panels.session import Session

EMPTY = "Pin a node to build the subgraph, or let groups be proposed."


class SubgraphPanel(Panel):
    """The pinned part of the graph, from tokens below to the answer above.

    Args:
        session: What is shown.
    """

    def __init__(self, session: Session) -> None:
        super().__init__(session, "Subgraph")
        self.canvas = Clickable(self.guard(self._toggle))
        self.name = ipywidgets.Text(placeholder="name", layout={"width": "130px"})
        tooltip(self.name, "Name of the supernode to make, or its new name")
        self.group = self._button("Group", "Make one supernode of the chosen boxes")
        self.rename = self._button("Rename", "Give the chosen supernode this name")
        self.ungroup = self._button("Ungroup", "Dissolve the chosen supernode into its features")
        self.unpin = self._button("Unpin", "Take the chosen boxes out of the subgraph")
        self.propose = self._button("Propose groups", RULE)
        self.scores = ipywidgets.HTML()
        self.chosen: list[Group] = []
        controls = [self.name, self.group, self.rename, self.ungroup, self.unpin, self.propose]
        self.body.children = [
            ipywidgets.HBox(controls, layout={"flex_flow": "row wrap"}),
            ipywidgets.Box([self.canvas], layout={"overflow": "auto hidden"}),
            self.scores,
        ]
        self.group.on_click(self.guard(lambda _: self._group()))
        self.rename.on_click(self.guard(lambda _: self._rename()))
        self.ungroup.on_click(self.guard(lambda _: self._ungroup()))
        self.unpin.on_click(self.guard(lambda _: self._unpin()))
        self.propose.on_click(self.guard(lambda _: self._propose()))
        self._scored: frozenset[Feature] | None = None
        self.watch(self._redraw, "setup", "outcome")

    def _button(self, text: str, told: str) -> ipywidgets.Button:
        button = ipywidgets.Button(description=text, layout={"width": "auto"})
        tooltip(button, told)
        return button

    def _toggle(self, key: str) -> None:
        group = self.session.groups[int(key.removeprefix("g"))]
        if group in self.chosen:
            self.chosen.remove(group)
        else:
            self.chosen.append(group)
            self.name.value = group.name if isinstance(group, Supernode) else ""
        self._redraw()
        inside = (
            [f for f in group.features if f in self.session.graph]
            if isinstance(group, Supernode)
            else [group]
        )
        if inside:
            self.session.select(inside[0])

    def choose(self, *groups: Group) -> None:
        """Choose these boxes and no others."""
        self.chosen = [g for g in groups if g in self.session.groups]
        self._redraw()

    def _group(self) -> None:
        self.chosen = [self.session.group(self.name.value, self.chosen)]
        self._redraw()

    def _one_supernode(self) -> Supernode:
        named = [g for g in self.chosen if isinstance(g, Supernode)]
        if len(named) != 1:
            raise ValueError("Choose one supernode first: click its box.")
        return named[0]

    def _rename(self) -> None:
        supernode = self._one_supernode()
        if not self.name.value.strip():
            raise ValueError("Type the new name first.")
        self.session.rename(supernode, self.name.value)

    def _ungroup(self) -> None:
        self.session.ungroup(self._one_supernode())

    def _unpin(self) -> None:
        if not self.chosen:
            raise ValueError("Choose a box first: click it.")
        for group in list(self.chosen):
            self.session.unpin(group)

    def _propose(self) -> None:
        proposals = self.session.propose()
        if not proposals:
            raise ValueError("No groups were found among the drawn features; draw more of them.")
        self.session.accept(proposals)

    def _redraw(self) -> None:
        session = self.session
        self.chosen = [g for g in self.chosen if g in session.groups]
        if not session.groups:
            self.canvas.html = f'<div class="cnb-empty">{EMPTY}</div>'
            self.scores.value = ""
            self._scored = None
            return
        figure = subgraph_spec(
            session.graph,
            session.groups,
            labels=session.labels,
            fractions=session.fractions(),
            badges=session.badges(),
            chosen=self.chosen,
        )
        self.canvas.html = to_svg(figure, keys=True)
        self._show_scores()

    def _show_scores(self) -> None:
        features = frozenset(self.session.setup.grouped) | {
            n for n in self.session.setup.pinned if isinstance(n, Feature)
        }
        if features == self._scored:
            return
        self._scored = features
        here = analysis.scores(self.session.graph, features)
        whole = analysis.scores(self.session.graph)
        text = (
            f"replacement {percent(here.replacement)} (graph {percent(whole.replacement)}) · "
            f"completeness {percent(here.completeness)} (graph {percent(whole.completeness)}) · "
            "numbers on edges: share of the box's input"
        )
        self.scores.value = f'<div class="cnb cnb-faint">{html_text(text)}</div>'

    def draw(self) -> Drawing:
        """The subgraph as it is now."""
        session = self.session
        if not session.groups:
            return lines([EMPTY])
        figure = subgraph_spec(
            session.graph,
            session.groups,
            labels=session.labels,
            fractions=session.fractions(),
            badges=session.badges(),
        )
        return draw(figure)
