"""The one palette, the one type scale, and how numbers and foreign text are written.

Text from models and files is data. `plotly_text` escapes it for Plotly, which reads a pseudo-HTML
of its own, and `html_text` for HTML and SVG; nothing else may pass such text on.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Sequence

POSITIVE = "#0072B2"
"""What raises: blue of the Okabe-Ito palette."""
NEGATIVE = "#D55E00"
"""What lowers: vermillion of the Okabe-Ito palette."""
GREY = "#767676"
"""Text, axes and all that carries no colour: reads on white and on near-black."""
SUPERNODE_HUES = ("#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Hues of supernodes, used in turn: the rest of Okabe-Ito that reads on both backgrounds."""

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
SMALL, BODY, TITLE = 11, 12, 14
"""The type scale, in pixels."""
LEADING = 1.25
"""Distance of two lines of a text, as a share of its size."""
_WIDTHS = {
    **dict.fromkeys("ijl.,:;'|!·I ", 0.33),
    **dict.fromkeys('frtJ()-[]/\\"', 0.42),
    **dict.fromkeys("csz?_*`", 0.56),
    **dict.fromkeys("ABCDEFGHKLNOPQRSTUVXYZ&", 0.75),
    **dict.fromkeys("w<>=+~^#−×␣⏎", 0.84),
    **dict.fromkeys("mMW%@…→", 1.0),
}
"""Widths as shares of the font size: the larger of Arial's and DejaVu Sans', so that a text is
hardly ever wider than what is kept free for it."""
_LETTER, _WIDE, _BOLD = 0.645, 1.05, 1.13

LEGEND = (
    "● feature  ◇ error  ■ token, output · edges of the selected node: blue raises, orange lowers"
)
"""What the marks of the graph mean, as plain text."""
TICKS = {"ticks": "outside", "ticklen": 5, "tickcolor": "rgba(0,0,0,0)"}
"""Axis properties that hold tick labels a little away from the axis."""

_MARKS = {"\n": "⏎", "\r": "␍", "\t": "⇥"}


def hue(number: int) -> str:
    """The colour of the `number`-th supernode."""
    return SUPERNODE_HUES[number % len(SUPERNODE_HUES)]


def visible(text: str) -> str:
    """The text with control, bidirectional and other invisible characters made visible."""
    if text.isprintable():
        return text
    return "".join(
        _MARKS.get(c, c) if c in _MARKS or not _is_hidden(c) else f"\\u{ord(c):04x}" for c in text
    )


def _is_hidden(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")


def token_text(token: str) -> str:
    """A token as read: the one space most words begin with is left out, other blanks are shown."""
    word = token[1:] if token[:1] == " " and token[1:].strip() else token
    inner = word.strip(" ")
    start = len(word) - len(word.lstrip(" "))
    if not inner:
        return "␣" * len(word)
    return visible("␣" * start + inner + "␣" * (len(word) - start - len(inner)))


def exact_token(token: str) -> str:
    """A token with every leading and trailing space shown, e.g. `␣Dallas`."""
    return token_text(f" {token}") if token.startswith(" ") and token.strip() else token_text(token)


def distinct_tokens(tokens: Sequence[str]) -> list[str]:
    """Tokens as read, but exact wherever two would read the same."""
    read = [token_text(t) for t in tokens]
    return [exact_token(t) if read.count(r) > 1 else r for t, r in zip(tokens, read, strict=True)]


def plotly_text(text: str) -> str:
    """The text so that Plotly shows it as it is: no tags, links, entities or formulas."""
    return html.escape(visible(text), quote=False).replace("$", "&#36;")


def html_text(text: str) -> str:
    """The text so that HTML and SVG show it as it is, in content and in attributes."""
    return html.escape(visible(text), quote=True)


def shorten(text: str, length: int) -> str:
    """The text, cut to `length` characters with an ellipsis."""
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def text_width(text: str, size: int = BODY, *, bold: bool = False) -> float:
    """How wide the text is drawn at most, in pixels."""
    return sum(map(_width, text)) * size * (_BOLD if bold else 1.0)


def _width(character: str) -> float:
    if character in _WIDTHS or character < "\x7f":
        return _WIDTHS.get(character, _LETTER)
    return _WIDE if unicodedata.east_asian_width(character) in "WF" else 0.9


def two_lines(text: str, length: int) -> str:
    """The text on one line, or on two, of at most `length` characters each.

    It is broken after a word, a slash or a comma. What does not fit is left out, with an ellipsis.
    """
    if len(text) <= length:
        return text
    pieces = re.findall(r"[^ /,]+[ /,]*|[ /,]+", text)
    # Broken where the longer of the two lines is shortest.
    breaks = [
        ("".join(pieces[:i]).rstrip(), "".join(pieces[i:]).lstrip()) for i in range(1, len(pieces))
    ]
    fitting = [pair for pair in breaks if len(pair[0]) <= length]
    whole = [pair for pair in fitting if len(pair[1]) <= length]
    if whole:
        return "\n".join(min(whole, key=lambda pair: max(map(len, pair))))
    if fitting:
        return f"{fitting[-1][0]}\n{shorten(fitting[-1][1], length)}"
    return shorten(text, length)


def percent(share: float) -> str:
    """A share as a percentage with at most one decimal, e.g. `98.2 %`."""
    if share != share:
        return "–"
    if 0 < abs(share) < 0.0005:
        return "< 0.1 %" if share > 0 else "> −0.1 %"
    return f"{100 * share:.1f}".removesuffix(".0").replace("-", "−") + " %"


def number(value: float) -> str:
    """A number with three significant digits, e.g. `−0.0123`."""
    return f"{value:.3g}".replace("-", "−")


def signed(value: float) -> str:
    """A number with three significant digits and its sign, e.g. `+1.2`."""
    return ("+" if value > 0 else "") + number(value)
