"""The evidence panel: what the boxes of the circuit keep of the answer, and which are needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ipywidgets

from circuit_nb.figures.style import html_text, percent
from circuit_nb.graph import Feature, Supernode
from circuit_nb.panels.base import Drawing, Panel, lines, tooltip
from circuit_nb.panels.page import Clickable
from circuit_nb.panels.plot import Plot
from circuit_nb.panels.session import Session
from circuit_nb.panels.trials import MOST_COMBINED, NO_BOXES, effect_text

if TYPE_CHECKING:
    from circuit_nb.evidence import Faithfulness

NO_MODEL = "Load a model to measure how true this circuit is: explore(model, graph)."
LONG = 3.0
"""Seconds from which an experiment is announced before it is begun."""
HOW = (
    "All other active features are set to 0, with attention where it was. What transcoders miss "
    "(error nodes) stays. Shares are of the answer's logit, above what is left with every feature "
    "off"
)
ALONE = "What the answer's logit gains when this box alone is switched off, all else as it is"
TITLES = {
    "curve": "The most influential features, and as many random ones",
    "predicted": "Each box switched off: every later feature, and the answer",
    "worth": "What each box adds (Shapley), and pairs that do not add up",
}


class EvidencePanel(Panel):
    """Experiments on the boxes: in words, with the figure of every number a click away.

    Args:
        session: What is shown.
    """

    def __init__(self, session: Session) -> None:
        super().__init__(session, "Evidence")
        self.measure = ipywidgets.Button(layout={"width": "auto"})
        self.combine = ipywidgets.Button(layout={"width": "auto"})
        self.told = Clickable(self.guard(self._click))
        self.plot = Plot()
        self._busy = ipywidgets.HTML()
        self._shown: tuple[object, ...] = ()
        tools = ipywidgets.HBox([self.measure, self.combine], layout={"flex_flow": "row wrap"})
        self.body.children = [self.told, tools, self._busy, self.plot]
        self.measure.on_click(self.guard(lambda _: self._begin("measure")))
        self.combine.on_click(self.guard(lambda _: self._begin("combine")))
        self.watch(self._redraw, "setup", "measured", "learned", "tab")
        self.watch(self._show_progress, "progress", at_once=True)

    # What is clicked

    def _begin(self, what: str) -> None:
        """Run an experiment; one that will take long only when it was said so before."""
        trials = self.session.trials
        announced = trials.pace is not None
        self.session.need_model()
        trials.time_a_pass()
        self._show_buttons()
        if not announced and (trials.seconds(what) or 0.0) > LONG:
            return
        if what == "measure":
            trials.measure()
        else:
            trials.combine()
            self._show_figure("worth")

    def _click(self, key: str) -> None:
        self._show_figure(key)

    def _show_figure(self, key: str) -> None:
        trials = self.session.trials
        if key.startswith("part"):
            part = trials.parts[int(key.removeprefix("part"))]
            sweep = trials.sweep(part)
            figure, title = sweep.figure(), str(sweep)
        else:
            found = trials.found
            known = {"curve": found.faithfulness, "predicted": found.verified}
            measured = {**known, "worth": found.combinations}[key]
            if measured is None:
                raise ValueError("Measure first; then there is something to draw.")
            figure, title = measured.figure(), f"{TITLES[key]}. {measured}"
        self.plot.show(figure, title)
        self._shown = (trials.parts, trials.names)

    # What is shown

    def _redraw(self) -> None:
        trials = self.session.trials
        if self.session.tab == "evidence" and trials.parts:
            trials.time_a_pass()
        if self._shown != (trials.parts, trials.names):
            self.plot.clear()
        self._show_buttons()
        self.told.html = self._html()

    def _show_buttons(self) -> None:
        trials, ready = self.session.trials, self.session.model is not None
        k, found = len(trials.parts), trials.found
        self.measure.description = self._label("Measure", "measure", found.faithfulness is not None)
        self.measure.disabled = not (ready and k) or found.faithfulness is not None
        # How many runs is asked of what needs torch, which a model has brought.
        tooltip(self.measure, f"{HOW}. {trials.runs('measure')} runs" if ready else f"{HOW}.")
        self.combine.description = self._label(
            "Combinations", "combine", found.combinations is not None
        )
        self.combine.disabled = not (ready and 1 <= k <= MOST_COMBINED)
        tooltip(self.combine, f"All {2**k} ways of switching {k} boxes on and off; ten at most")

    def _label(self, name: str, what: str, done: bool) -> str:
        seconds = self.session.trials.seconds(what)
        return name if seconds is None or done else f"{name} (about {duration(seconds)})"

    def _show_progress(self) -> None:
        self._busy.value = ""
        if self.session.progress is not None:
            words, done, total = self.session.progress
            share = 100 * done / max(total, 1)
            self._busy.value = (
                f'<div class="cnb" role="status">{html_text(words)}: {done} of {total} '
                f'<progress value="{share:.0f}" max="100"></progress> '
                '<span class="cnb-faint">interrupt the kernel to stop</span></div>'
            )

    def _html(self) -> str:
        trials = self.session.trials
        if self.session.model is None:
            return _empty(NO_MODEL)
        if not trials.parts:
            return _empty(NO_BOXES)
        kept = trials.found.faithfulness
        if kept is None:
            k = len(trials.parts)
            return _empty(
                f"How much of the answer {'this box' if k == 1 else f'these {k} boxes'} keep"
                f"{'s' if k == 1 else ''}, beside as many random features, and which of them are "
                "needed: press Measure."
            )
        return f"{self._sentences(kept)}{self._table(kept)}"

    def _sentences(self, kept: Faithfulness) -> str:
        answer, (low, high) = html_text(kept.label.strip()), kept.control.interval
        k = len(kept.parts)
        boxes = "This box keeps" if k == 1 else f"These {k} boxes keep"
        return (
            f'<div title="{html_text(HOW)}">{boxes} <b>{_whole(kept.faithfulness)}</b> of the '
            f"answer <b>{answer}</b>, with {kept.n_features} of {kept.n_active} active features; "
            f"random features of the same number keep {_whole(float(kept.control.mean))} "
            f"({_whole(float(low))} to {_whole(float(high))}). "
            f"Without the boxes {_whole(kept.completeness)} is left. "
            f"{_chip('curve', 'curve')}{_chip('predicted', 'prediction')}"
            f"{_chip('worth', 'combinations') if self.session.trials.found.combinations else ''}"
            "</div>"
        )

    def _table(self, kept: Faithfulness) -> str:
        parts, effects = self.session.trials.parts, self.session.trials.effects()
        rows = "".join(
            self._row(i, name, float(left), bool(needed), effects.get(part))
            for i, (name, part, left, needed) in enumerate(
                zip(kept.parts, parts, kept.without, kept.needed, strict=True)
            )
        )
        runs = self.session.trials.runs("sweep")
        seconds = self.session.trials.seconds("sweep")
        cost = "" if seconds is None else f", about {duration(seconds)}"
        return (
            '<div class="cnb-scroll"><table role="listbox"><tr><th>without</th>'
            '<th style="width:96px">the others keep</th>'
            f'<th style="width:118px" title="{html_text(ALONE)}">off alone</th></tr>{rows}</table>'
            f'</div><div class="cnb-faint">a click turns a box up and down ({runs} runs{cost})'
            "</div>"
        )

    def _row(
        self,
        i: int,
        name: str,
        left: float,
        needed: bool,
        effect: tuple[float, float | None] | None,
    ) -> str:
        bar = f'<span class="cnb-bar cnb-plus" style="width:{_pixels(left)}px"></span> '
        told = f"{bar}{_whole(left)}" if needed else f"{_whole(left)}, not needed"
        alone = "" if effect is None else effect_text(*effect)
        return (
            f'<tr data-key="part{i}" tabindex="0" role="option" title="{html_text(name)}">'
            f"<td>{html_text(name)}</td><td>{told}</td>"
            f'<td title="{html_text(ALONE)}">{html_text(alone)}</td></tr>'
        )

    def close(self) -> None:
        """Stop following the session, and close the widgets."""
        self.plot.close()
        super().close()

    def draw(self) -> Drawing:
        """What was measured, as plain lines."""
        trials, found = self.session.trials, self.session.trials.found
        kept = found.faithfulness
        if kept is None:
            return lines([NO_MODEL if self.session.model is None else NO_BOXES])
        texts = [str(kept)]
        for name, left, needed in zip(kept.parts, kept.without, kept.needed, strict=True):
            end = "" if needed else ": not needed"
            texts.append(f"without {name} the others keep {_whole(float(left))}{end}")
        texts += [str(r) for r in (found.verified, found.combinations) if r is not None]
        texts += [str(trials.sweep(p)) for p in self._swept()]
        return lines(texts, width=860)

    def _swept(self) -> list[Supernode | Feature]:
        from circuit_nb.panels.state import Identity

        known = self.session.trials.found.sweeps
        return [p for p in self.session.trials.parts if Identity.of(p) in known]


def duration(seconds: float) -> str:
    """How long something takes, as one says it."""
    if seconds < 1:
        return f"{max(seconds, 0.1):.1f} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min"


def _whole(share: float) -> str:
    """A share in whole per cent."""
    return percent(share) if share != share else percent(round(share, 2))


def _pixels(share: float) -> int:
    return max(1, round(40 * min(max(share, 0.0), 1.0))) if share == share else 1


def _chip(key: str, text: str) -> str:
    return (
        f'<span class="cnb-chip" data-key="{key}" tabindex="0" role="button">'
        f"{html_text(text)}</span>"
    )


def _empty(text: str) -> str:
    return f'<div class="cnb-empty">{html_text(text)}</div>'
