"""The switches panel: features on and off, and what the model then says."""

from __future__ import annotations

import ipywidgets

from circuit_nb.figures.bars import probability_spec
from circuit_nb.figures.style import html_text, percent, shorten, token_text
from circuit_nb.figures.svg import draw, to_svg
from circuit_nb.graph import Supernode
from circuit_nb.panels.base import Drawing, Panel, lines, stack, tooltip
from circuit_nb.panels.session import HIGHEST, LOWEST, Session
from circuit_nb.panels.state import Added, Row
from circuit_nb.panels.transplant import Transplant

NO_MODEL = "Load a model to use the switches: explore(model, graph)."
NO_ROWS = "Pin a feature or make a supernode: each gets a switch here."


class SwitchesPanel(Panel):
    """One switch and one multiplier for every supernode, pinned feature and added feature.

    `switches["Texas"].value = False` and `multipliers["Texas"].value = -1` do what the reader does.

    Args:
        session: What is shown.
    """

    def __init__(self, session: Session) -> None:
        super().__init__(session, "Switches")
        self.switches: dict[str, ipywidgets.ToggleButton] = {}
        """The on/off toggle of each row, by name."""
        self.multipliers: dict[str, ipywidgets.FloatSlider] = {}
        """The multiplier of each row, by name."""
        self.removers: dict[str, ipywidgets.Button] = {}
        """The button that takes an added row away, by name."""
        self.reset = ipywidgets.Button(description="Reset")
        tooltip(self.reset, "Everything back to the unmodified model; added features leave")
        self.undo = ipywidgets.Button(description="Undo")
        tooltip(self.undo, "Take back the last change of switches, pins, groups or labels")
        self.new_tokens = ipywidgets.BoundedIntText(
            session.new_tokens, min=0, max=200, description="continue by", continuous_update=False
        )
        tooltip(self.new_tokens, "How many tokens the model continues the text by")
        self.transplant = Transplant(session, self.guard)
        self._rows = ipywidgets.VBox()
        self._busy = ipywidgets.HTML()
        self._bars = ipywidgets.HTML()
        self._texts = ipywidgets.HTML()
        self._syncing = False
        self._shown: list[tuple[str, Supernode | Added]] = []
        self._arrange()
        self.reset.on_click(self.guard(lambda _: session.reset()))
        self.undo.on_click(self.guard(lambda _: session.undo()))
        self.new_tokens.observe(self.guard(lambda c: self._continue(c["new"])), "value")
        self.watch(self._show_rows, "setup", "selected", "learned")
        self.watch(self._show_outcome, "outcome", "setup")
        self.watch(self._show_busy, "busy", at_once=True)

    def _arrange(self) -> None:
        for button in (self.reset, self.undo):
            button.layout.width = "64px"
        self.new_tokens.layout.width = "140px"
        self.new_tokens.style.description_width = "initial"
        tools = ipywidgets.HBox(
            [self.reset, self.undo, self.new_tokens, self._busy], layout={"flex_flow": "row wrap"}
        )
        self._bars.add_class("cnb-outcome")
        left = ipywidgets.VBox([self._rows, tools, self.transplant.box])
        right = ipywidgets.VBox([self._bars, self._texts])
        left.layout.flex, right.layout.flex = "1 1 400px", "1 1 380px"
        self.body.children = [ipywidgets.HBox([left, right], layout={"flex_flow": "row wrap"})]

    def _continue(self, count: int) -> None:
        if count != self.session.new_tokens:
            try:
                self.session.new_tokens = count
            finally:
                self.new_tokens.value = self.session.new_tokens

    def _show_rows(self) -> None:
        rows = self.session.rows
        if [*rows.items()] != self._shown or not self._rows.children:
            self._shown = [*rows.items()]
            self._build_rows()
        self._syncing = True
        try:
            for name, row in rows.items():
                switch = self.session.switch(row)
                toggle, slider = self.switches[name], self.multipliers[name]
                toggle.value, toggle.description = switch.on, "on" if switch.on else "off"
                slider.value, slider.disabled = switch.multiplier, not switch.on
        finally:
            self._syncing = False
        self.undo.disabled = not self.session.can_undo

    def _build_rows(self) -> None:
        rows = self.session.rows
        self.switches = {n: self._toggle(r) for n, r in rows.items()}
        self.multipliers = {n: self._slider(r) for n, r in rows.items()}
        self.removers = {n: self._remover(r) for n, r in rows.items() if isinstance(r, Added)}
        boxes: list[ipywidgets.Widget] = []
        for name, row in rows.items():
            count = len((row.supernode if isinstance(row, Added) else row).features)
            origin = f" from “{shorten(row.prompt, 60)}”" if isinstance(row, Added) else ""
            told = f"{name}: {count} feature{'s' if count != 1 else ''}{origin}"
            text = ipywidgets.HTML(
                f'<div class="cnb" title="{html_text(told)}">{html_text(shorten(name, 34))}'
                f"{' <span class=cnb-faint>added</span>' if origin else ''}</div>",
                layout={"width": "190px"},
            )
            parts = [self.switches[name], text, self.multipliers[name]]
            parts += [self.removers[name]] if name in self.removers else []
            box = ipywidgets.HBox(parts, layout={"align_items": "center"})
            box.add_class("cnb-row")
            boxes.append(box)
        empty = NO_MODEL if self.session.model is None else NO_ROWS
        self._rows.children = boxes or [
            ipywidgets.HTML(f'<div class="cnb cnb-empty">{html_text(empty)}</div>')
        ]

    def _toggle(self, row: Row) -> ipywidgets.ToggleButton:
        toggle = ipywidgets.ToggleButton(True, description="on", layout={"width": "48px"})
        tooltip(toggle, "On: as the multiplier says. Off: the features' activation is set to 0")
        toggle.disabled = self.session.model is None
        toggle.observe(self.guard(lambda c: self._switch(row, on=c["new"])), "value")
        return toggle

    def _slider(self, row: Row) -> ipywidgets.FloatSlider:
        slider = ipywidgets.FloatSlider(
            1.0,
            min=LOWEST,
            max=HIGHEST,
            step=0.25,
            readout_format=".2f",
            layout={"width": "210px"},
        )
        tooltip(slider, "Activation as a multiple of what it is; below 0 turns it around")
        slider.observe(self.guard(lambda c: self._switch(row, multiplier=c["new"])), "value")
        return slider

    def _remover(self, row: Added) -> ipywidgets.Button:
        button = ipywidgets.Button(description="×", layout={"width": "32px"})
        tooltip(button, "Take these added features away again")
        button.on_click(self.guard(lambda _: self.session.drop(row)))
        return button

    def _switch(self, row: Row, *, on: bool | None = None, multiplier: float | None = None) -> None:
        if not self._syncing:
            try:
                self.session.set_switch(row, on=on, multiplier=multiplier)
            except BaseException:
                self._show_rows()  # back to the last good state
                raise

    def _show_outcome(self) -> None:
        session = self.session
        figure = probability_spec(session.before, session.after, most=8)
        legend = "grey before, blue after" if session.after is not None else ""
        self._bars.value = (
            f'<div class="cnb">{self._says()} <span class="cnb-faint">{legend}</span></div>'
            + to_svg(figure, width=460)
        )
        self._texts.value = "".join(
            f'<div class="cnb cnb-text"><span class="cnb-faint">{when}</span> '
            f"{html_text(session.graph.prompt)}<b>{html_text(text)}</b></div>"
            for when, text in session.continuations()
        )

    def _says(self) -> str:
        """The most likely next token, and what it becomes under the switches."""
        tops = [self.session.before, self.session.after or {}]
        told = [max(shares.items(), key=lambda pair: pair[1]) for shares in tops if shares]
        return "says " + " → ".join(
            f'<b class="cnb-says">{html_text(token_text(t))}</b> {percent(p)}' for t, p in told
        )

    def _show_busy(self) -> None:
        busy = self.session.busy
        self._busy.value = (
            f'<div class="cnb cnb-busy" role="status">{html_text(busy)}<i></i></div>'
            if busy
            else ""
        )

    def draw(self) -> Drawing:
        """The settings, and the probabilities before and after."""
        session = self.session
        settings = [
            f"{name}: {session.switch(row).badge or 'on'}" for name, row in session.rows.items()
        ]
        figure = probability_spec(session.before, session.after, most=8)
        texts = [f"{when}: …{text}" for when, text in session.continuations()]
        empty = NO_MODEL if session.model is None else NO_ROWS
        return stack(
            [
                ("", lines([" · ".join(settings) or empty, *texts])),
                ("", draw(figure, width=520)),
            ],
            gap=2,
        )
