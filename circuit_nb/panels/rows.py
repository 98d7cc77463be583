"""One row of the switches: on or off, how much, and at which tokens."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeAlias

import ipywidgets

from circuit_nb.figures.style import html_text, shorten, token_text
from circuit_nb.graph import Supernode
from circuit_nb.panels.asking import features_of
from circuit_nb.panels.base import tooltip
from circuit_nb.panels.page import Clickable
from circuit_nb.panels.session import HIGHEST, LOWEST, Session
from circuit_nb.panels.state import Added, Identity, Switch

Guard: TypeAlias = Callable[[Callable[..., None]], Callable[..., None]]
OWN, GENERATED, ONWARD = "own", "generated", "onward"


class SwitchRow:
    """The controls of one row; they show the session's setting and change nothing else.

    Args:
        session: The session.
        guard: Shows the errors of an action in the panel this belongs to.
        row: What is switched.
        name: What it is called.
    """

    def __init__(self, session: Session, guard: Guard, row: Supernode | Added, name: str) -> None:
        self.session, self.row, self.name = session, row, name
        self.identity = Identity.of(row)
        self._guard, self._syncing = guard, False
        self.toggle = ipywidgets.ToggleButton(True, description="on", layout={"width": "48px"})
        tooltip(self.toggle, "On: as the multiplier says. Off: the features are set to 0")
        self.slider = self._new_slider("Activation as a multiple of what it is")
        self.where = ipywidgets.ToggleButton(
            False, description="where", layout={"width": "auto", "flex": "none"}
        )
        tooltip(self.where, "Choose the tokens at which it acts, and a multiplier for each")
        self.remover: ipywidgets.Button | None = None
        """Takes an added row away; None for others."""
        self.value: ipywidgets.FloatText | None = None
        """The activation of a single added feature; None for others, and until `where` is on."""
        self.places: Clickable | None = None
        """The tokens to act at; made when `where` is first on."""
        self.apart: ipywidgets.ToggleButton | None = None
        """Whether each token has a multiplier of its own; made when `where` is first on."""
        self.each: dict[int, ipywidgets.FloatSlider] = {}
        """The multiplier at each token, by position, where each has its own."""
        self._sliders = ipywidgets.VBox()
        self._more = ipywidgets.VBox(layout={"display": "none"})
        self._more.add_class("cnb-more")
        self._last = 0
        self.box = self._arrange()
        self._listen()

    def _new_slider(self, told: str) -> ipywidgets.FloatSlider:
        slider = ipywidgets.FloatSlider(
            1.0, min=LOWEST, max=HIGHEST, step=0.25, readout_format=".2f"
        )
        slider.layout.width = "190px"
        tooltip(slider, told)
        return slider

    def _arrange(self) -> ipywidgets.VBox:
        count = len(features_of(self.row))
        told = f"{self.name}: {count} feature{'s' if count != 1 else ''}"
        note = ""
        if isinstance(self.row, Added):
            origin = f" from “{shorten(self.row.prompt, 60)}”" if self.row.prompt else ""
            told, note = f"{told}{origin}", " <span class=cnb-faint>added</span>"
            self.remover = ipywidgets.Button(description="×", layout={"width": "32px"})
            tooltip(self.remover, "Take these added features away again")
        text = ipywidgets.HTML(
            f'<div class="cnb cnb-rowname" title="{html_text(told)}">'
            f"{html_text(shorten(self.name, 34))}{note}</div>",
            layout={"flex": "1 1 110px", "min_width": "0"},
        )
        parts = [self.toggle, text, self.slider, self.where]
        parts += [self.remover] if self.remover is not None else []
        line = ipywidgets.HBox(parts, layout={"align_items": "center"})
        line.add_class("cnb-row")
        return ipywidgets.VBox([line, self._more])

    def _listen(self) -> None:
        session, guard = self.session, self._guard
        for control in (self.toggle, self.slider, self.where):
            control.disabled = session.model is None
        self.toggle.observe(guard(lambda c: self._set(on=c["new"])), "value")
        self.slider.observe(guard(lambda c: self._set(multiplier=c["new"])), "value")
        self.where.observe(guard(lambda _: self.show()), "value")
        row = self.row
        if isinstance(row, Added) and self.remover is not None:
            self.remover.on_click(guard(lambda _: session.drop(row)))

    def _open(self) -> tuple[Clickable, ipywidgets.ToggleButton]:
        """The controls of where it acts, made now if they are not there."""
        if self.places is None or self.apart is None:
            self.places = Clickable(self._guard(self._place))
            self.apart = ipywidgets.ToggleButton(False, description="a slider for each token")
            self.apart.layout.width = "auto"
            tooltip(self.apart, "Give each of the chosen tokens a multiplier of its own")
            self.apart.observe(self._guard(lambda c: self._split(c["new"])), "value")
            beside: list[ipywidgets.Widget] = [self.apart]
            if isinstance(self.row, Added) and len(self.row.values) == 1:
                self.value = self._new_value(self.row)
                beside.insert(0, self.value)
            self._more.children = [self.places, ipywidgets.HBox(beside), self._sliders]
        return self.places, self.apart

    def _new_value(self, row: Added) -> ipywidgets.FloatText:
        value = ipywidgets.FloatText(
            row.values[0], description="activation", layout={"width": "150px"}
        )
        value.continuous_update = False
        value.style.description_width = "initial"
        tooltip(value, "The activation that the feature gets, before the multiplier")
        value.observe(self._guard(lambda c: self._revalue(row, c["new"])), "value")
        return value

    @property
    def switch(self) -> Switch:
        """The setting."""
        return self.session.setup.switch(self.row)

    @property
    def positions(self) -> tuple[int, ...]:
        """The tokens of the prompt at which it acts."""
        own = tuple(sorted({f.position for f in features_of(self.row)}))
        return own if self.switch.positions is None else self.switch.positions

    def follow(self, old: SwitchRow | None) -> None:
        """Look as the controls of the same row did before: opened or not."""
        if old is not None:
            self.where.value = old.where.value

    def show(self) -> None:
        """Show the setting."""
        switch = self.switch
        self._syncing = True
        try:
            self.toggle.value, self.toggle.description = switch.on, "on" if switch.on else "off"
            self.slider.value = switch.multiplier
            self.slider.disabled = not switch.on or self.session.model is None
            self._more.layout.display = None if self.where.value else "none"
            self.where.description = "where" if self._is_own(switch) else "where ●"
            if self.where.value:
                self._show_places(switch)
        finally:
            self._syncing = False

    def _is_own(self, switch: Switch) -> bool:
        return switch.positions is None and not switch.generated and not switch.each

    def _show_places(self, switch: Switch) -> None:
        places, apart = self._open()
        chips = [self._chip(OWN, "own place", switch.positions is None)]
        acting = self.positions
        for position, token in enumerate(self.session.graph.tokens):
            if position:
                chips.append(self._chip(f"p{position}", token_text(token), position in acting))
        chips.append(self._chip(GENERATED, "generated", switch.generated))
        after = token_text(self.session.graph.tokens[self._start])
        chips.append(self._chip(ONWARD, f"all from “{shorten(after, 12)}” on", False))
        places.html = (
            f'<div class="cnb-chips" data-row="1"><span class="cnb-faint">acts at</span> '
            f"{''.join(chips)}</div>"
        )
        apart.value = bool(switch.each)
        if switch.each and set(self.each) != set(acting):
            self.each = {p: self._each_slider(p) for p in acting}
            self._sliders.children = list(self.each.values())
        elif not switch.each:
            self.each, self._sliders.children = {}, ()
        for position, slider in self.each.items():
            slider.value = switch.at(position)

    @property
    def _start(self) -> int:
        """From where on `all from … on` acts: the token chosen last, else the first it acts at."""
        return self._last or min(self.positions, default=1)

    def _chip(self, key: str, text: str, on: bool) -> str:
        return (
            f'<span class="cnb-chip{" cnb-on" if on else ""}" data-key="{key}" tabindex="0" '
            f'role="button" aria-pressed="{str(on).lower()}">{html_text(text)}</span>'
        )

    def _each_slider(self, position: int) -> ipywidgets.FloatSlider:
        slider = self._new_slider("Activation at this token as a multiple of what it is")
        token = token_text(self.session.graph.tokens[position])
        # ipywidgets 7 takes descriptions for HTML.
        slider.description = html_text(shorten(token, 12))
        slider.layout.width = "280px"
        slider.observe(self._guard(lambda c: self._set_each(position, c["new"])), "value")
        return slider

    # What the reader does

    def _apply(self, switch: Switch) -> None:
        if not self._syncing:
            try:
                self.session.set_switch(self.row, switch)
            except BaseException:
                self.show()  # back to the last good state
                raise

    def _set(self, **setting: Any) -> None:
        self._apply(dataclasses.replace(self.switch, **setting))

    def _set_each(self, position: int, value: float) -> None:
        each = {**dict(self.switch.each), position: value}
        self._set(each=tuple(sorted(each.items())))

    def _split(self, apart: bool) -> None:
        if not self._syncing:
            switch = self.switch
            each = tuple((p, switch.at(p)) for p in self.positions) if apart else ()
            self._set(each=each)

    def _place(self, key: str) -> None:
        switch, last = self.switch, len(self.session.graph.tokens) - 1
        if key == OWN:
            self._set(positions=None)
        elif key == GENERATED:
            self._set(generated=not switch.generated)
        elif key == ONWARD:
            self._set(positions=tuple(range(self._start, last + 1)), generated=True)
        else:
            self._last = int(key.removeprefix("p"))
            chosen = set(self.positions) ^ {self._last}
            if not chosen and not switch.generated:
                raise ValueError("Choose another token first, or switch it off.")
            each = tuple((p, switch.at(p)) for p in sorted(chosen)) if switch.each else ()
            self._set(positions=tuple(sorted(chosen)), each=each)

    def _revalue(self, row: Added, value: float) -> None:
        if not self._syncing and value != row.values[0]:
            self.session.revalue(row, value)
