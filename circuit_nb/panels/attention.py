"""The attention panel: which head carried an edge, where it looked, and why it looked there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import ipywidgets
import numpy as np

from circuit_nb.figures.style import (
    NEGATIVE,
    POSITIVE,
    html_text,
    percent,
    signed,
    token_text,
)
from circuit_nb.panels.attending import Attending, Edge, Floats, carriers_of
from circuit_nb.panels.base import Drawing, Panel, lines, tooltip
from circuit_nb.panels.page import Clickable
from circuit_nb.panels.plot import Plot
from circuit_nb.panels.session import Session

if TYPE_CHECKING:
    from circuit_nb.attribution import Looking

NO_MODEL = "Load a model to see where its heads look, and why: explore(model, graph)."
WIDTH = 360
"""Pixels of the map of heads until the page says how many there are."""


class AttentionPanel(Panel):
    """An edge's heads, the pattern of one of them over the prompt, and a pair of tokens explained.

    Args:
        session: What is shown.
        in_turn: Whether it takes turns with others, and computes only while `session.tab` is its.
    """

    def __init__(self, session: Session, *, in_turn: bool = False) -> None:
        super().__init__(session, "Attention")
        self._in_turn = in_turn
        self.edges = ipywidgets.Dropdown(description="edge", layout={"width": "100%"})
        self.edges.style.description_width = "40px"
        tooltip(self.edges, "The strongest edges of the selected node; select another in the graph")
        self.map = Clickable(self.guard(self._choose_head), measured=True)
        self.pattern = Clickable(self.guard(self._choose_place))
        self.why = Clickable(lambda _: None)
        self.mean = ipywidgets.ToggleButton(True, description="above the mean")
        tooltip(self.mean, "Softmax ignores what all tokens share: leave it out of the score")
        self.pairs = ipywidgets.Button(description="Pairs")
        tooltip(self.pairs, "What each pair of a node that asked and one that answered adds")
        self.out = ipywidgets.Button(description="Knock out")
        tooltip(self.out, "Run the model with this head writing nothing at this token")
        self.plot = Plot()
        self._said = ipywidgets.HTML()
        self._tools = ipywidgets.HBox([self.mean, self.pairs, self.out])
        self._offered: dict[str, Edge] = {}
        self._showing = False
        self._plotted: object = None
        self._arrange()

    def _arrange(self) -> None:
        for control in (self.mean, self.pairs, self.out):
            control.layout.width = "auto"
        self._tools.layout.flex_flow = "row wrap"
        self.map.layout.width = "100%"
        parts = [self.edges, self.map, self.pattern, self.why, self._tools, self._said, self.plot]
        self.body.children = parts
        self.edges.observe(self.guard(lambda c: self._choose_edge(c["new"])), "value")
        self.mean.observe(self.guard(lambda c: self._contrast(c["new"])), "value")
        self.pairs.on_click(self.guard(lambda _: self._show_pairs()))
        self.out.on_click(self.guard(lambda _: self._knock_out()))
        self.map.observe(self.guard(lambda _: self._redraw()), "width")
        self.watch(self._redraw, "selected", "choice", "setup", "learned", "tab")

    @property
    def _asked(self) -> Attending:
        return self.session.attending

    # What is clicked

    def _choose_edge(self, title: str | None) -> None:
        if not self._showing and title in self._offered:
            self._asked.choose_edge(self._offered[title])

    def _choose_head(self, key: str) -> None:
        layer, head = key.removeprefix("head-").split("-")
        self._asked.choose_head(int(layer), int(head))

    def _choose_place(self, key: str) -> None:
        kind, _, position = key.partition("-")
        if kind == "from":
            self._asked.choose_query(int(position))
        else:
            self._asked.choose_key(int(position))

    def _contrast(self, against_mean: bool) -> None:
        self._asked.contrast(against_mean=against_mean)

    def _show_pairs(self) -> None:
        found = self._asked.looking
        self.plot.show(
            found.figure(dict(self.session.labels), numbers=False), self._asked.sentence(found)
        )
        self._plotted = self.session.choice

    def _knock_out(self) -> None:
        (layer, head), (query, _) = self._asked.head, self._asked.places
        token, before, after = self._asked.without
        self._said.value = (
            f'<div class="cnb">Without head {layer}.{head} at {self._token(query)}: '
            f"<b>{html_text(token_text(token))}</b> {percent(before)} → {percent(after)}</div>"
        )

    # What is shown

    @property
    def _open(self) -> bool:
        return not self._in_turn or self.session.tab == "attention"

    def _redraw(self) -> None:
        ready = self.session.model is not None
        self._tools.layout.display = "none"
        if not ready:
            self.map.html = f'<div class="cnb-empty">{NO_MODEL}</div>'
            self.edges.disabled = True
        if not ready or not self._open:
            return
        self._show_edges()
        self._said.value = ""
        if self._plotted != self.session.choice:
            self.plot.clear()
        self.map.html = self._map()
        self.pattern.html = self._pattern()
        self._tools.layout.display = None
        chosen = self.session.choice.key is not None
        self.mean.disabled = self.pairs.disabled = not chosen
        self.why.html = self._reasons(self._asked.looking) if chosen else ""

    def _show_edges(self) -> None:
        """The offered edges as choices; setting them chooses nothing."""
        self._showing = True
        try:
            self._offered = {
                f"{self._asked.name(s)} → {self._asked.name(t)}  {signed(w)}": (s, t)
                for (s, t), w in self._asked.offered
            }
            self.edges.options = tuple(self._offered)
            now = [title for title, edge in self._offered.items() if edge == self._asked.edge]
            self.edges.value = now[0] if now else None
            self.mean.value = self.session.choice.against_mean
        finally:
            self._showing = False

    def _token(self, position: int) -> str:
        return f"<b>{html_text(token_text(self.session.graph.tokens[position]))}</b>"

    def _map(self) -> str:
        found, (layer, head) = self._asked.flows, self._asked.head
        blocks, heads = self._asked.size
        flows = np.zeros((blocks, heads)) if found is None else found[0]
        drawing = head_map(flows, (layer, head), width=self.map.width or WIDTH)
        if found is None:
            return f'{drawing}<div class="cnb-faint">select a node: its edges are shown here</div>'
        chips = "".join(
            _chip(
                f"head-{c.layer}-{c.head}",
                f"{c.name}  {percent(round(c.share, 2))}",
                on=(c.layer, c.head) == (layer, head),
            )
            for c in carriers_of(flows, found[2])
        )
        told = f"carried most: {chips}" if chips else "no head carried it: it stays at its token"
        return f'{drawing}<div class="cnb-chips" data-row="1">{told}</div>'

    def _pattern(self) -> str:
        (layer, head), (query, key) = self._asked.head, self._asked.places
        looked, moved = self._asked.pattern[query], np.abs(self._asked.moved)
        sent = moved.sum(1)
        share = sent / sent.max() if sent.max() > 0 else sent
        told = percent(round(float(looked[key]), 3))
        return (
            f'<div class="cnb-head">Head <b>{layer}.{head}</b> looked from {self._token(query)} '
            f"at {self._token(key)} with {told} of its attention.</div>"
            f'<div class="cnb-chips" data-row="1"><span class="cnb-faint">from</span> '
            f"{''.join(self._tokens('from', share, query))}</div>"
            f'<div class="cnb-chips" data-row="1"><span class="cnb-faint">to</span> '
            f"{''.join(self._tokens('to', looked[: query + 1], key))}</div>"
            '<div class="cnb-faint">from: how much of the edge arrives · to: attention · '
            "click a token it looked at to see why</div>"
        )

    def _tokens(self, kind: str, shares: Floats, chosen: int) -> Iterator[str]:
        tokens = self.session.graph.tokens
        for position, share in enumerate(shares.tolist()):
            tint = f"background:rgba(0,114,178,{0.6 * min(share, 1.0):.2f})"
            title = f"{percent(share)} of the attention" if kind == "to" else ""
            on = position == chosen
            text = token_text(tokens[position])
            yield _chip(f"{kind}-{position}", text, on=on, style=tint, title=title)

    def _reasons(self, found: Looking) -> str:
        cap = "" if found.soft_cap is None else f" Before the soft cap at ±{found.soft_cap:g}."
        sides = self._asked.reasons(found).items()
        tables = "".join(f"<div>{_side(what, rows)}</div>" for what, rows in sides)
        said = html_text(self._asked.sentence(found) + cap)
        return f'<div class="cnb-head">{said}</div><div class="cnb-columns">{tables}</div>'

    def close(self) -> None:
        """Stop following the session, and close the widgets."""
        self.plot.close()
        super().close()

    def draw(self) -> Drawing:
        """What was looked at, as plain lines."""
        if self.session.model is None:
            return lines([NO_MODEL])
        if self.session.choice.edge is None and self.session.choice.head is None:
            return lines(["Select a node, and see which heads carried its edges, and why."])
        (layer, head), (query, key) = self._asked.head, self._asked.places
        tokens = [token_text(self.session.graph.tokens[p]) for p in (query, key)]
        texts = [f"Head {layer}.{head} looked from {tokens[0]} at {tokens[1]}."]
        if self.session.choice.key is not None:
            texts.append(self._asked.sentence(self._asked.looking))
        return lines(texts, width=720)


def _side(what: str, rows: list[tuple[str, float]]) -> str:
    top = max(abs(value) for _, value in rows) or 1.0
    body = "".join(
        f'<tr><td title="{html_text(name)}">{html_text(name)}</td><td class="cnb-meter">'
        f'<span class="cnb-bar cnb-{"plus" if value > 0 else "minus"}" '
        f'style="width:{max(1, round(40 * abs(value) / top))}px"></span></td>'
        f'<td class="cnb-number">{signed(value)}</td></tr>'
        for name, value in rows
    )
    # The first row says how wide the columns are.
    head = f'<th>{what}</th><th style="width:44px"></th><th style="width:56px"></th>'
    return f"<table><tr>{head}</tr>{body}</table>"


def head_map(flows: Floats, chosen: tuple[int, int], *, width: int) -> str:
    """How much each head carried, blocks from left to right, as SVG whose cells can be clicked.

    Args:
        flows: (blocks, heads).
        chosen: The head that is marked.
        width: Pixels there are.
    """
    blocks, heads = flows.shape
    across = min(44.0, max(6.0, (width - 60) / blocks))
    down = min(15.0, max(7.0, 200 / heads))
    most = float(np.abs(flows).max()) or 1.0
    cells = "".join(
        _cell(flows[k, h] / most, k, h, (across, down), chosen, signed(float(flows[k, h])))
        for k in range(blocks)
        for h in range(heads)
    )
    every = max(1, round(24 / across))
    below = 14 + heads * down + 12
    ticks = "".join(
        f'<text x="{46 + (k + 0.5) * across:g}" y="{below:g}" text-anchor="middle" '
        f'font-size="11">{k}</text>'
        for k in range(0, blocks, every)
    )
    names = "".join(
        f'<text x="42" y="{18 + (h + 0.5) * down:g}" text-anchor="end" font-size="11">{h}</text>'
        for h in range(0, heads, max(1, round(14 / down)))
    )
    titles = (
        f'<text x="2" y="{14 + heads * down / 2 + 4:g}" font-size="11">head</text>'
        f'<text x="{46 + blocks * across + 6:g}" y="{below:g}" font-size="11">block</text>'
    )
    size = (46 + blocks * across + 44, below + 4)
    return (
        f'<svg role="group" aria-label="Heads" width="{size[0]:g}" height="{size[1]:g}" '
        f'fill="currentColor">{titles}{names}{ticks}{cells}</svg>'
    )


def _cell(
    strength: float, k: int, h: int, size: tuple[float, float], chosen: tuple[int, int], told: str
) -> str:
    """One head; arrow keys lead to its neighbours, and Tab to the chosen one."""
    across, down = size
    ways = (("left", k - 1, h), ("right", k + 1, h), ("up", k, h - 1), ("down", k, h + 1))
    arrows = "".join(f' data-{way}="head-{a}-{b}"' for way, a, b in ways)
    colour = POSITIVE if strength > 0 else NEGATIVE
    on = (k, h) == chosen
    edge = "currentColor" if on else "rgba(128,128,128,.35)"
    return (
        f'<rect data-key="head-{k}-{h}" tabindex="{0 if on else -1}" role="button"{arrows} '
        f'aria-label="head {k}.{h}: {told}" x="{46 + k * across + 0.5:g}" '
        f'y="{14 + h * down + 0.5:g}" width="{across - 1.5:g}" height="{down - 1.5:g}" '
        f'fill="{colour}" fill-opacity="{0.04 + 0.96 * abs(strength):.2f}" stroke="{edge}" '
        f'stroke-width="{2 if on else 0.5}"><title>head {k}.{h}: {told}</title></rect>'
    )


def _chip(key: str, text: str, *, on: bool, style: str = "", title: str = "") -> str:
    return (
        f'<span class="cnb-chip{" cnb-on" if on else ""}" data-key="{key}" tabindex="0" '
        f'role="button" aria-pressed="{str(on).lower()}" style="{style}" title="{title}">'
        f"{html_text(text)}</span>"
    )
