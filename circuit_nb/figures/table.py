"""What was measured as a small table: plain text for a console, HTML for a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from circuit_nb.figures.style import distinct_tokens, html_text, number, percent, shorten, visible

Row: TypeAlias = "tuple[str, tuple[float, ...]]"

MOST = 8
"""Rows of each kind that are shown; the others are counted."""
LONGEST = 300
"""Characters of a heading or a text that are shown."""
_TOKEN = 24
_TABLE = "border-collapse:collapse;margin:4px 0;color:inherit;font:inherit"
_CELL = "padding:1px 12px;text-align:right;white-space:pre"
_FIRST = "padding:1px 12px 1px 0;text-align:left;white-space:pre"
_HEAD = "font-weight:600;border-bottom:1px solid rgba(127,127,127,.5)"
_FAINT = "opacity:.7"


@dataclass(frozen=True)
class Table:
    """What is told of a prediction or an outcome. Tokens and texts are data: escaped."""

    title: str
    columns: tuple[str, ...]
    tokens: Sequence[Row]
    """Next tokens, and the probability of each in every column."""
    watched: Sequence[Row]
    """Features, and the activation of each in every column."""
    texts: Sequence[tuple[str, str]]
    """What was generated, and when."""

    def text(self, kind: str) -> str:
        """As plain text, some 20 lines at most."""
        lines: list[tuple[str, ...]] = [("next token", *self.columns)]
        lines += [
            (repr(shorten(token, _TOKEN)), *map(percent, shares))
            for token, shares in self.tokens[:MOST]
        ]
        lines += self._more(self.tokens)
        if self.watched:
            lines.append(("activation", *self._when))
            lines += [(name, *map(number, values)) for name, values in self.watched[:MOST]]
            lines += self._more(self.watched)
        first = max(len(line[0]) for line in lines)
        rest = max((len(part) for line in lines for part in line[1:]), default=0)
        heading = f"{kind}: {visible(shorten(self.title, LONGEST))}" if self.title else kind
        body = [
            "  ".join([line[0].ljust(first), *(part.rjust(rest) for part in line[1:])]).rstrip()
            for line in lines
        ]
        told = [f"{when}: {shorten(text, LONGEST)!r}" for when, text in self.texts]
        return "\n".join([heading, *body, *told])

    def html(self, kind: str) -> str:
        """As HTML, in the colours of the page it stands on."""
        heading = f"{kind}: {shorten(self.title, LONGEST)}" if self.title else kind
        rows = [_html_row("next token", self.columns, "th")]
        shown = self.tokens[:MOST]
        read = distinct_tokens([shorten(token, _TOKEN) for token, _ in shown])
        rows += [
            _html_row(token, [*map(percent, shares)])
            for token, (_, shares) in zip(read, shown, strict=True)
        ]
        rows += [_html_row(more, (), "td", _FAINT) for (more,) in self._more(self.tokens)]
        if self.watched:
            rows.append(_html_row("activation", self._when, "th"))
            rows += [
                _html_row(name, [*map(number, values)]) for name, values in self.watched[:MOST]
            ]
            rows += [_html_row(more, (), "td", _FAINT) for (more,) in self._more(self.watched)]
        told = "".join(
            f'<div><span style="{_FAINT}">{html_text(when)}</span> '
            f"{html_text(shorten(text, LONGEST))}</div>"
            for when, text in self.texts
        )
        return (
            f'<div style="max-width:640px"><div>{html_text(heading)}</div>'
            f'<table style="{_TABLE}">{"".join(rows)}</table>'
            f"{told}</div>"
        )

    @property
    def _when(self) -> tuple[str, ...]:
        return self.columns if len(self.columns) > 1 else ("",)

    def _more(self, rows: Sequence[Row]) -> list[tuple[str]]:
        return [(f"… {len(rows) - MOST} more",)] if len(rows) > MOST else []


def _html_row(first: str, others: Sequence[str], tag: str = "td", style: str = "") -> str:
    style += _HEAD if tag == "th" else ""
    cells = "".join(f'<{tag} style="{_CELL};{style}">{html_text(t)}</{tag}>' for t in others)
    return f'<tr><{tag} style="{_FIRST};{style}">{html_text(first)}</{tag}>{cells}</tr>'
