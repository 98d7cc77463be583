"""The switches panel: every row of switches, for the precise work."""

from __future__ import annotations

import ipywidgets

from circuit_nb.figures.style import html_text
from circuit_nb.graph import Supernode
from circuit_nb.panels.answer import NO_MODEL
from circuit_nb.panels.base import Drawing, Panel, lines, tooltip
from circuit_nb.panels.rows import SwitchRow
from circuit_nb.panels.session import Session
from circuit_nb.panels.state import Added
from circuit_nb.panels.transplant import Transplant

NO_ROWS = "Pin a feature or make a supernode: each gets a switch here."


class SwitchesPanel(Panel):
    """A switch, a multiplier and a choice of tokens for every group and feature.

    `switches["Texas"].value = False` and `multipliers["Texas"].value = -1` do what the reader does.

    Args:
        session: What is shown.
    """

    def __init__(self, session: Session) -> None:
        super().__init__(session, "Switches")
        self.rows: dict[str, SwitchRow] = {}
        """The controls of each row, by name."""
        self.reset = ipywidgets.Button(description="Reset", layout={"width": "64px"})
        tooltip(self.reset, "Everything back to the unmodified model; added features leave")
        self.undo = ipywidgets.Button(description="Undo", layout={"width": "64px"})
        tooltip(self.undo, "Take back the last change of switches, pins, groups or labels")
        self.transplant = Transplant(session, self.guard)
        self._rows = ipywidgets.VBox()
        self._shown: list[tuple[str, Supernode | Added]] = []
        tools = ipywidgets.HBox([self.reset, self.undo])
        tools.add_class("cnb-tools")
        self.body.children = [self._rows, tools, self.transplant.box]
        self.reset.on_click(self.guard(lambda _: session.reset()))
        self.undo.on_click(self.guard(lambda _: session.undo()))
        self.watch(self._show_rows, "setup", "selected", "learned")

    @property
    def switches(self) -> dict[str, ipywidgets.ToggleButton]:
        """The on/off toggle of each row, by name."""
        return {name: row.toggle for name, row in self.rows.items()}

    @property
    def multipliers(self) -> dict[str, ipywidgets.FloatSlider]:
        """The multiplier of each row, by name."""
        return {name: row.slider for name, row in self.rows.items()}

    @property
    def removers(self) -> dict[str, ipywidgets.Button]:
        """The button that takes an added row away, by name."""
        return {n: r.remover for n, r in self.rows.items() if r.remover is not None}

    def _show_rows(self) -> None:
        session, rows = self.session, self.session.rows
        if [*rows.items()] != self._shown or not self._rows.children:
            self._shown = [*rows.items()]
            old = {row.identity: row for row in self.rows.values()}
            self.rows = {}
            for name, row in rows.items():
                made = SwitchRow(session, self.guard, row, name)
                made.follow(old.get(made.identity))
                self.rows[name] = made
            told = NO_MODEL if session.model is None else NO_ROWS if not rows else ""
            note = ipywidgets.HTML(f'<div class="cnb cnb-empty">{html_text(told)}</div>')
            boxes = [row.box for row in self.rows.values()]
            self._rows.children = [note, *boxes] if told else boxes
        for row in self.rows.values():
            row.show()
        self.undo.disabled = not session.can_undo

    def draw(self) -> Drawing:
        """The settings of all rows."""
        session = self.session
        rows = session.rows.items()
        settings = [f"{name}: {session.switch(row).badge or 'on'}" for name, row in rows]
        empty = NO_MODEL if session.model is None else NO_ROWS
        return lines(
            [" · ".join(settings[i : i + 5]) for i in range(0, len(settings), 5)] or [empty]
        )
