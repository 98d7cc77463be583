"""The feature panel: what a feature fires on, what it promotes, and what it is called."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ipywidgets
import numpy as np

from circuit_nb.figures.bars import density_spec, effects_spec
from circuit_nb.figures.names import node_place
from circuit_nb.figures.style import (
    html_text,
    number,
    percent,
    token_text,
    visible,
)
from circuit_nb.figures.svg import draw, to_svg
from circuit_nb.graph import Feature, Node
from circuit_nb.panels.base import Drawing, Panel, lines, stack, tooltip
from circuit_nb.panels.session import Session

if TYPE_CHECKING:
    from circuit_nb.cards import Example, FeatureCard

EXAMPLES = 8
"""Texts shown at most."""
AROUND = 24
"""Tokens shown on either side of the strongest one."""
NOTHING = (
    "Nothing is known of this feature. Cards are computed from your own texts by "
    "circuit_nb.cards.compute, or come from Neuronpedia where it has the transcoders."
)
NO_TEXTS = "circuit_nb.cards.compute finds more of them in texts of yours."
NO_EFFECTS = "No logit effects: they need the model or a card that has them."


class FeaturePanel(Panel):
    """The card of the selected feature.

    Args:
        session: What is shown.
    """

    def __init__(self, session: Session) -> None:
        super().__init__(session, "Feature")
        self.label = ipywidgets.Text(
            placeholder="label", continuous_update=False, layout={"width": "98%"}
        )
        tooltip(self.label, "What you call this feature; kept when you save. Empty: as before")
        self.again = ipywidgets.Button(description="Ask again", layout={"width": "auto"})
        tooltip(self.again, "Ask once more for the labels and texts that could not be had")
        self.again.on_click(self.guard(lambda _: session.ask_again()))
        self.problem = ipywidgets.HTML()
        self.card = ipywidgets.HTML()
        self.body.children = [self.label, self.problem, self.again, self.card]
        self.label.observe(self.guard(lambda c: self._relabel(c["new"])), "value")
        self.watch(self._redraw, "selected", "setup", "learned")

    def _relabel(self, text: str) -> None:
        node = self.session.selected
        if isinstance(node, Feature) and text != self._label(node):
            self.session.relabel(node, text)

    def _label(self, node: Feature) -> str:
        return self.session.labels.get((node.layer, node.index), "")

    def _card(self, node: Feature) -> FeatureCard | None:
        return self.session.cards.card((node.layer, node.index))

    def _redraw(self) -> None:
        node = self.session.selected
        card = self._card(node) if isinstance(node, Feature) else None
        self.label.disabled = not isinstance(node, Feature)
        self.label.value = self._label(node) if isinstance(node, Feature) else ""
        if not isinstance(node, Feature):
            body = f'<div class="cnb-empty">{html_text(self._other(node))}</div>'
        else:
            body = self._facts(node, card) + self._details(node, card)
        self.card.value = f'<div class="cnb">{body}</div>'
        self._show_problem(self.session.cards.problem)

    def _show_problem(self, problem: str) -> None:
        self.problem.value = (
            f'<div class="cnb cnb-failure" role="status">{html_text(problem)}</div>'
            if problem
            else ""
        )
        self.again.layout.display = None if problem else "none"

    def _other(self, node: Node | None) -> str:
        if node is None:
            return "Select a feature to see what it fires on and what it promotes."
        return f"{self.session.title(node)}: only features have a card."

    def _facts(self, node: Feature, card: FeatureCard | None) -> str:
        graph = self.session.graph
        at = graph.number(node)
        facts = [
            f"feature {node.index}",
            node_place(graph, node),
            f"activation {number(float(graph.activations[at]))}",
            f"influence {percent(float(self.session.measures.influence[at]))}",
        ]
        if card is not None and card.density is not None:
            facts.append(f"active on {percent(card.density)} of tokens")
        if card is not None and card.source:
            facts.append(f"card: {card.source}")
        link = ""
        if card is not None and card.url and card.url.startswith(("https://", "http://")):
            link = (
                f' · <a href="{html_text(card.url)}" target="_blank" rel="noopener noreferrer">'
                "page</a>"
            )
        return f'<div class="cnb-faint">{html_text(" · ".join(facts))}{link}</div>'

    def _details(self, node: Feature, card: FeatureCard | None) -> str:
        here, found = self._here(node), self.session.cards.examples((node.layer, node.index))
        rows = "".join(example_html(e) for e in found[:EXAMPLES])
        if not rows:
            rows = f'<div class="cnb-empty">{html_text(NO_TEXTS if card else NOTHING)}</div>'
        texts = (
            f"{_head('fires on, in this prompt')}{example_html(here)}"
            f'{_head("in other texts")}<div class="cnb-scroll">{rows}</div>'
        )
        return f'<div class="cnb-columns"><div>{texts}</div><div>{self._numbers(card)}</div></div>'

    def _numbers(self, card: FeatureCard | None) -> str:
        if card is None or not (card.promotes or card.suppresses):
            effects = f'<div class="cnb-empty">{NO_EFFECTS}</div>'
        else:
            effects = to_svg(effects_spec(card.promotes, card.suppresses), width=380)
        histogram = ""
        if card is not None and card.histogram is not None and len(card.histogram[0]):
            histogram = _head("activations") + to_svg(density_spec(*card.histogram), width=380)
        return f"{_head('promotes and suppresses')}{effects}{histogram}"

    def _here(self, node: Feature) -> Example:
        """The prompt itself as an example: where in it the feature is active, in the graph."""
        from circuit_nb.cards import Example

        graph = self.session.graph
        rows = graph.features
        activations = [0.0] * len(graph.tokens)
        for at in np.flatnonzero((rows[:, 0] == node.layer) & (rows[:, 2] == node.index)).tolist():
            activations[int(rows[at, 1])] = float(graph.activations[at])
        return Example(graph.tokens, tuple(activations))

    def draw(self) -> Drawing:
        """The card as it is now."""
        node = self.session.selected
        if not isinstance(node, Feature):
            return lines([self._other(node)])
        parts: list[tuple[str, Drawing]] = [("", lines([self.session.title(node)]))]
        card = self._card(node)
        found = self.session.cards.examples((node.layer, node.index))
        parts.append(("", lines([example_text(e) for e in (self._here(node), *found[:3])])))
        if card is not None and (card.promotes or card.suppresses):
            parts.append(("", draw(effects_spec(card.promotes, card.suppresses), width=460)))
        return stack(parts, gap=4)


def _head(text: str) -> str:
    return f'<div class="cnb-faint cnb-head">{html_text(text)}</div>'


def _window(example: Example) -> range:
    """The positions shown: around the strongest token."""
    peak = max(range(len(example.tokens)), key=lambda i: example.activations[i], default=0)
    return range(max(0, peak - AROUND), min(len(example.tokens), peak + AROUND + 1))


def example_html(example: Example) -> str:
    """A text whose tokens are shaded by activation; each token tells its activation."""
    top = max(example.activations, default=0.0) or 1.0
    spans: list[str] = []
    for i in _window(example):
        share = max(0.0, example.activations[i] / top)
        shade = f"background:rgba(0,114,178,{0.55 * share:.2f})" if share > 0.02 else ""
        told = html_text(f"{token_text(example.tokens[i])}: {number(example.activations[i])}")
        spans.append(f'<span style="{shade}" title="{told}">{html_text(example.tokens[i])}</span>')
    return f'<div class="cnb-text">{"".join(spans)}</div>'


def example_text(example: Example, length: int = 70) -> str:
    """A text with its active tokens in brackets, as one line."""
    top = max(example.activations, default=0.0) or 1.0
    marked = "".join(
        f"[{visible(example.tokens[i]).strip()}]"
        if example.activations[i] > 0.3 * top
        else visible(example.tokens[i])
        for i in _window(example)
    )
    return marked if len(marked) <= length else marked[: length - 1] + "…"
