"""The answer panel: what the model says next, before and under the switches."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import ipywidgets

from circuit_nb.figures.bars import probability_spec
from circuit_nb.figures.style import exact_token, html_text, percent, token_text
from circuit_nb.figures.svg import draw, to_svg
from circuit_nb.panels.base import Drawing, Panel, lines, stack, tooltip
from circuit_nb.panels.page import Clickable, busy_html
from circuit_nb.panels.session import ASKED, Session

if TYPE_CHECKING:
    from circuit_nb.intervention.outcome import Prediction

TOKENS = 6
"""Next tokens shown at most."""
WIDTH = 320
"""Pixels of the bars until the page says how many there are."""
NO_MODEL = "Load a model to use the switches: explore(model, graph)."
HELD = (("attention", "attention"), ("everything else", "all"), ("nothing", "none"))
"""What can be held as it was, as the reader reads it and as `intervene` takes it."""


class AnswerPanel(Panel):
    """Next-token probabilities before and after, and the text the model goes on with.

    Args:
        session: What is shown.
    """

    def __init__(self, session: Session) -> None:
        super().__init__(session, "Answer")
        self.new_tokens = ipywidgets.BoundedIntText(
            session.new_tokens, min=0, max=200, description="continue by", continuous_update=False
        )
        tooltip(self.new_tokens, "How many tokens the model continues the text by")
        self.freeze = ipywidgets.Dropdown(
            options=list(HELD), value=session.freeze, description="held"
        )
        tooltip(
            self.freeze,
            "What stays as it is on the unmodified prompt while features are switched: where heads "
            "look, everything but the direct effects, or nothing",
        )
        self.temperature = ipywidgets.BoundedFloatText(
            session.temperature, min=0, max=10, step=0.1, description="temperature"
        )
        tooltip(self.temperature, "0 continues with the most likely tokens; above 0 draws them")
        self.seed = ipywidgets.BoundedIntText(
            session.seed, min=0, max=2**31 - 1, description="seed", continuous_update=False
        )
        tooltip(self.seed, "Another number draws other tokens")
        self.bars = Clickable(lambda _: None, measured=True)
        self._texts = ipywidgets.HTML()
        self._busy = ipywidgets.HTML()
        self._arrange()
        for name in ASKED:
            control = getattr(self, name)
            control.observe(self.guard(self._setter(name, control)), "value")
        self.bars.observe(self.guard(lambda _: self._redraw()), "width")
        self.watch(self._redraw, "outcome", "setup", *ASKED)
        self.watch(self._show_busy, "busy", at_once=True)

    def _arrange(self) -> None:
        for control, width in (
            (self.new_tokens, "122px"),
            (self.freeze, "146px"),
            (self.temperature, "136px"),
            (self.seed, "92px"),
        ):
            control.layout.width = width
            control.style.description_width = "initial"
        self.bars.add_class("cnb-outcome")
        self.bars.layout.width = "100%"
        wrap = {"flex_flow": "row wrap"}
        controls = [self.new_tokens, self.freeze, self.temperature, self.seed, self._busy]
        tools = ipywidgets.HBox(controls, layout=wrap)
        tools.add_class("cnb-tools")
        told = ipywidgets.HTML(f'<div class="cnb cnb-empty">{html_text(NO_MODEL)}</div>')
        shown = told if self.session.model is None else tools
        self.body.children = [self.bars, self._texts, shown]

    def _setter(self, name: str, control: Any) -> Callable[[Any], None]:
        def changed(change: Any) -> None:
            try:
                setattr(self.session, name, change["new"])
            finally:
                control.value = getattr(self.session, name)

        return changed

    def _redraw(self) -> None:
        session = self.session
        for name in ASKED:
            getattr(self, name).value = getattr(session, name)
        sampling = None if session.new_tokens else "none"
        self.temperature.layout.display = self.seed.layout.display = sampling
        self.heading.value = f'<div class="cnb cnb-title cnb-whole">{says(session)}</div>'
        figure = probability_spec(session.before, session.after, most=TOKENS)
        legend = "grey before, blue after" if session.after is not None else ""
        told = f'<div class="cnb-faint">{legend}</div>' if legend else ""
        self.bars.html = to_svg(figure, width=self.bars.width or WIDTH) + told
        self._texts.value = "".join(
            f'<div class="cnb cnb-text"><span class="cnb-faint">{when}</span> '
            f"{html_text(session.graph.prompt)}<b>{continued}</b></div>"
            for when, continued in self._continuations()
        )

    def _continuations(self) -> list[tuple[str, str]]:
        """The texts before and after as HTML; each token tells its probability."""
        outcome = self.session.outcome
        if outcome is None:
            return []
        sides = {"before": outcome.before, "after": outcome.after}
        return [
            (when, self._tokens(sides[when], None if when == "before" else outcome.before))
            for when, _ in self.session.continuations()
        ]

    def _tokens(self, said: Prediction, before: Prediction | None) -> str:
        """The generated text; each token tells its probability, and what it was before.

        What it was before is known as long as both texts are the same so far: of a token that both
        go on with, and of the first one in any case.
        """
        model = self.session.model
        assert model is not None
        same, parts = True, list[str]()
        shares = said.generated_probabilities.tolist()
        for i, (token, share) in enumerate(zip(said.generated, shares, strict=True)):
            text = model.token(token)
            told = f"{exact_token(text)}: {percent(share)}"
            if before is not None and same:
                there = before.generated[i : i + 1] == (token,)
                if there or i == 0:
                    old = before.generated_probabilities[i] if there else before.probability(token)
                    told += f" after, {percent(float(old))} before"
                same = there
            parts.append(f'<span title="{html_text(told)}">{html_text(text)}</span>')
        return "".join(parts)

    def _show_busy(self) -> None:
        busy = self.session.busy
        self._busy.value = busy_html(busy) if busy else ""

    def draw(self) -> Drawing:
        """The probabilities before and after, and the texts."""
        session = self.session
        figure = probability_spec(session.before, session.after, most=8)
        texts = [f"{when}: …{text}" for when, text in session.continuations()]
        parts: list[tuple[str, Drawing]] = [("", draw(figure, width=520))]
        return stack([*parts, *([("", lines(texts))] if texts else [])], gap=2)


def says(session: Session) -> str:
    """The most likely next token, and what it becomes under the switches, as HTML."""
    tops = [session.before, session.after or {}]
    told = [max(shares.items(), key=lambda pair: pair[1]) for shares in tops if shares]
    return "says " + " → ".join(
        f'<b class="cnb-says">{html_text(token_text(t))}</b> '
        f'<span class="cnb-share">{percent(p)}</span>'
        for t, p in told
    )
