"""The circuit: pinned nodes and supernodes, what flows between them, and a switch on each."""

from __future__ import annotations

import ipywidgets

from circuit_nb import analysis
from circuit_nb.evidence import RULE
from circuit_nb.figures.arrows import Box
from circuit_nb.figures.circuit import Circuit, Group, circuit
from circuit_nb.figures.style import html_text, percent
from circuit_nb.figures.subgraph import subgraph_spec
from circuit_nb.figures.svg import draw
from circuit_nb.graph import Feature, Supernode, TargetNode
from circuit_nb.panels.base import Drawing, Panel, lines, tooltip
from circuit_nb.panels.boxes import SWAP, WHERE, Shown, circuit_html
from circuit_nb.panels.page import Clickable
from circuit_nb.panels.session import Session
from circuit_nb.panels.state import Added, Row
from circuit_nb.panels.transplant import Transplant

EMPTY = "Pin a node to build the circuit, or let groups be proposed."
SCORES = (
    "How much of the influence on the outputs these boxes, and how much the whole graph, explain"
)
WIDTH = 600
"""Pixels that boxes are spread over until the page says how many there are."""
HEIGHT = 230
"""Pixels that few boxes are spread over from top to bottom."""
TALLEST = 380
"""Pixels of height beyond which the circuit scrolls."""


class SubgraphPanel(Panel):
    """The pinned part of the graph, from tokens at the left to the answer at the right.

    Args:
        session: What is shown.
    """

    def __init__(self, session: Session) -> None:
        super().__init__(session, "Circuit")
        self.canvas = Clickable(self.guard(self._act), measured=True)
        self.name = ipywidgets.Text(placeholder="name", layout={"width": "120px"})
        tooltip(self.name, "Name of the supernode to make, or its new name")
        self.group = self._button("Group", "Make one supernode of the chosen boxes")
        self.rename = self._button("Rename", "Give the chosen supernode this name")
        self.ungroup = self._button("Ungroup", "Dissolve the chosen supernode into its features")
        self.unpin = self._button("Unpin", "Take the chosen boxes out of the circuit")
        self.propose = self._button("Propose groups", RULE)
        self.reset = self._button("Reset", "Everything on; added features leave")
        self.undo = self._button("Undo", "Take back the last change")
        self.scores = ipywidgets.HTML()
        self.swap = Transplant(session, self.guard)
        self.swap.box.layout.display = "none"
        self.chosen: list[Group] = []
        self._scored: object = None
        self._arrange()
        self._listen()

    def _button(self, text: str, told: str) -> ipywidgets.Button:
        button = ipywidgets.Button(description=text, layout={"width": "auto"})
        tooltip(button, told)
        return button

    def _arrange(self) -> None:
        wrap = {"flex_flow": "row wrap", "align_items": "center"}
        self._edit = ipywidgets.HBox([self.name, self.group, self.rename, self.ungroup, self.unpin])
        self._edit.layout.flex_flow = "row wrap"
        tools = ipywidgets.HBox([self.propose, self.reset, self.undo, self._edit], layout=wrap)
        tools.add_class("cnb-tools")
        self.heading.layout.flex = "0 0 auto"
        head = ipywidgets.HBox([self.heading, tools], layout={**wrap, "flex": "1 1 0"})
        self.top.children = [head, *self.top.children[1:]]
        self.canvas.layout.width = "100%"
        frame = ipywidgets.Box([self.canvas], layout={"overflow": "auto", "width": "100%"})
        frame.layout.max_height = f"{TALLEST}px"
        frame.add_class("cnb-wide")
        self.body.children = [frame, self.swap.box, self.scores]

    def _listen(self) -> None:
        for button, action in (
            (self.group, self._group),
            (self.rename, self._rename),
            (self.ungroup, self._ungroup),
            (self.unpin, self._unpin),
            (self.propose, self._propose),
            (self.reset, self.session.reset),
            (self.undo, self.session.undo),
        ):
            button.on_click(self.guard(lambda _, action=action: action()))
        self.canvas.observe(self.guard(lambda _: self._redraw()), "width")
        self.watch(self._redraw, "setup", "outcome", "learned", "measured")

    # What is clicked

    def _act(self, key: str) -> None:
        name, _, rest = key.removeprefix("g").partition(":")
        group = self.boxes[int(name)]
        what, _, value = rest.partition("=")
        if what == "switch":
            row = self._row(group)
            self.session.set_switch(row, on=not self.session.switch(row).on)
        elif what == "menu":
            self._from_menu(self._row(group), value)
        else:
            self._toggle(group)

    def _from_menu(self, row: Row, value: str) -> None:
        if value == SWAP:
            self.swap.offer(row)
            self._redraw()  # the menu shows the multiplier again
        elif value == WHERE:
            self.session.tab = "switches"
            self._redraw()
        else:
            self.session.set_switch(row, on=True, multiplier=float(value))

    def _toggle(self, group: Group) -> None:
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

    @property
    def boxes(self) -> tuple[Group, ...]:
        """What is drawn: the groups, then what was added."""
        return (*self.session.groups, *(a.supernode for a in self.session.setup.added))

    def _row(self, group: Group) -> Row:
        """The row whose switch a box carries."""
        for added in self.session.setup.added:
            if added.supernode == group:
                return added
        if isinstance(group, Supernode | Feature):
            return group
        raise ValueError("Only features have a switch.")

    def choose(self, *groups: Group) -> None:
        """Choose these boxes and no others."""
        self.chosen = [g for g in groups if g in self.boxes]
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
            row = self._row(group) if isinstance(group, Supernode) else group
            if isinstance(row, Added):
                self.session.drop(row)
            else:
                self.session.unpin(row)

    def _propose(self) -> None:
        proposals = self.session.propose()
        if not proposals:
            raise ValueError("No groups were found among the drawn features; draw more of them.")
        self.session.accept(proposals)

    # What is shown

    def _redraw(self) -> None:
        session = self.session
        self.chosen = [g for g in self.chosen if g in self.boxes]
        self._edit.layout.display = None if self.chosen else "none"
        self.undo.disabled = not session.can_undo
        self.reset.disabled = session.model is None
        if not self.boxes:
            self.canvas.html = f'<div class="cnb-empty">{EMPTY}</div>'
            self.scores.value = ""
            self._scored = None
            return
        drawn = self._circuit()
        shown = [
            self._how(group, box, drawn) for group, box in zip(self.boxes, drawn.boxes, strict=True)
        ]
        self.canvas.html = circuit_html(
            drawn, shown, enabled=session.model is not None, room=self.canvas.width
        )
        self._show_scores()

    def _circuit(self) -> Circuit:
        session = self.session
        return circuit(
            session.graph,
            self.boxes,
            labels=session.labels,
            guests=[a.supernode for a in session.setup.added],
            fractions=session.fractions(),
            badges=self._badges(),
            answers=self._answers(),
            width=self.canvas.width or WIDTH,
            height=HEIGHT,
            controls=session.model is not None,
        )

    def _badges(self) -> dict[Group, str]:
        session = self.session
        added = {a.supernode: session.switch(a).badge or "added" for a in session.setup.added}
        return {**self._effects(), **session.badges(), **added}

    def _effects(self) -> dict[Group, str]:
        """What switching each box off was measured to do; nothing while switches are set."""
        return {} if self.session.intervening else self.session.trials.badges()

    def _answers(self) -> dict[int, str]:
        """What is written under each output: its probability before and, under switches, after."""
        session, told = self.session, dict[int, str]()
        if session.outcome is None:
            return told
        for group in session.groups:
            if not isinstance(group, TargetNode):
                continue
            token = int(session.graph.target_ids[group.index])
            if token >= 0:
                shares = [session.outcome.before.probability(token)]
                if session.after is not None:
                    shares.append(session.outcome.after.probability(token))
                told[group.index] = " → ".join(map(percent, shares)).replace(" % →", " →")
        return told

    def _how(self, group: Group, box: Box, drawn: Circuit) -> Shown:
        switch = self.session.switch(self._row(group)) if box.switchable else None
        at = drawn.boxes.index(box)
        said = [box.title, *([box.told] if box.told else [])]
        if switch is not None and self.session.model is not None:
            said.append(f"switch {switch.badge or 'on'}")
        fed = [f"{drawn.boxes[a.target].title} {a.text}" for a in drawn.arrows if a.source == at]
        said += [f"feeds {', '.join(fed[:3])}"] if fed else []
        return Shown(switch, group in self.chosen, "; ".join(said))

    def _show_scores(self) -> None:
        features = frozenset(self.session.setup.grouped) | {
            n for n in self.session.setup.pinned if isinstance(n, Feature)
        }
        effects = bool(self._effects())
        if (features, effects) == self._scored:
            return
        self._scored = (features, effects)
        here = analysis.scores(self.session.graph, features)
        whole = self.session.scores
        text = (
            f"replacement {percent(here.replacement)} of {percent(whole.replacement)} · "
            f"completeness {percent(here.completeness)} of {percent(whole.completeness)} · "
            "on arrows: share of the input"
        )
        if effects:
            text += " · in boxes: what the answer's logit gains when the box is switched off"
        self.scores.value = f'<div class="cnb cnb-faint" title="{SCORES}">{html_text(text)}</div>'

    def draw(self) -> Drawing:
        """The circuit as it is now."""
        session = self.session
        if not self.boxes:
            return lines([EMPTY])
        figure = subgraph_spec(
            session.graph,
            self.boxes,
            labels=session.labels,
            fractions=session.fractions(),
            badges=self._badges(),
            guests=[a.supernode for a in session.setup.added],
        )
        return draw(figure)
