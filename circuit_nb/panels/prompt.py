"""The prompt panel: the prompt as tokens, and what the model says next."""

from __future__ import annotations

from circuit_nb.figures.bars import probability_spec
from circuit_nb.figures.style import exact_token, html_text, percent, token_text
from circuit_nb.figures.svg import draw
from circuit_nb.graph import TargetNode, TokenNode
from circuit_nb.panels.base import Drawing, Panel, lines, stack
from circuit_nb.panels.keys import node_from_key, node_key
from circuit_nb.panels.page import Clickable
from circuit_nb.panels.session import Session

SAID = 3
"""Next tokens shown."""


class PromptPanel(Panel):
    """The prompt's tokens, each of which selects its node, and the most likely next tokens.

    Args:
        session: What is shown.
    """

    fills = False

    def __init__(self, session: Session) -> None:
        super().__init__(session, "Prompt")
        self.tokens = Clickable(self.guard(lambda key: session.select(node_from_key(key))))
        self.body.children = [self.tokens]
        self.watch(self._redraw, "selected", "outcome")

    def _redraw(self) -> None:
        session = self.session
        chips: list[str] = []
        for position, token in enumerate(session.graph.tokens):
            node = TokenNode(position)
            on = " cnb-on" if session.selected == node else ""
            told = html_text(f"token {position}, exactly: {exact_token(token)}")
            chips.append(
                f'<span class="cnb-chip{on}" data-key="{node_key(node)}" tabindex="0" '
                f'role="button" title="{told}">{html_text(token_text(token))}</span>'
            )
        said = sorted(session.before.items(), key=lambda pair: -pair[1])[:SAID]
        after = sorted((session.after or {}).items(), key=lambda pair: -pair[1])[:SAID]
        chips.append('<span class="cnb-faint cnb-then">says</span>')
        # What is said under the switches stands where the less likely tokens stood.
        chips += [self._answer(token, share) for token, share in (said[:1] if after else said)]
        if after:
            chips.append('<span class="cnb-then" aria-label="becomes">→</span>')
            chips += [
                self._answer(token, share, now=not i) for i, (token, share) in enumerate(after)
            ]
        self.tokens.html = f'<div class="cnb-chips" data-row="1">{"".join(chips)}</div>'

    def _answer(self, token: str, share: float, *, now: bool = False) -> str:
        """A next token over a bar of its probability; those in the graph can be selected."""
        graph, told = self.session.graph, html_text(f"{exact_token(token)}: {percent(share)}")
        key = ""
        if token in graph.targets:
            node = TargetNode(graph.targets.index(token))
            on = " cnb-on" if self.session.selected == node else ""
            key = f' data-key="{node_key(node)}" tabindex="0" role="button"'
        else:
            on = ""
        return (
            f'<span class="cnb-chip cnb-answer{on}{" cnb-now" if now else ""}"{key} title="{told}" '
            f'style="--share:{100 * share:.1f}%">{html_text(token_text(token))} '
            f"<small>{percent(share)}</small></span>"
        )

    def draw(self) -> Drawing:
        """The prompt and its most likely next tokens."""
        before = sorted(self.session.before.items(), key=lambda pair: -pair[1])[:4]
        said = ", ".join(f"{exact_token(t)} {percent(p)}" for t, p in before)
        return stack(
            [
                ("", lines([self.session.graph.prompt, f"next token: {said}"])),
                ("", draw(probability_spec(self.session.before, most=4), width=460)),
            ],
            gap=2,
        )
