"""The words, colours and marks of one picture, and the small part that a click changes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from circuit_nb.analysis import Path
from circuit_nb.figures.edges import (
    Shape,
    background,
    crosses,
    edges_of,
    line,
    path_lines,
    points_along,
    rings,
    selected_edges,
    steps_of,
)
from circuit_nb.figures.names import NO_LABELS, Labels, output_text
from circuit_nb.figures.naming import picture_name
from circuit_nb.figures.style import (
    FONT,
    GREY,
    LEADING,
    POSITIVE,
    SMALL,
    TITLE,
    hue,
    plotly_text,
    text_width,
)
from circuit_nb.figures.view import GraphView
from circuit_nb.figures.words import Wish, Word, Words
from circuit_nb.graph import Feature, Node, Supernode, TokenNode

PER_WORD = 28_000.0
"""Square pixels of the picture for each of the most influential features that is named."""
INTO, OUT_OF = 6, 3
"""How many of the strongest ends of the selected node's edges are named."""
RING = 7.0
"""By how much the ring of the selected node is wider than the node, pixels."""


@dataclass(frozen=True)
class Scene:
    """A picture of a graph before anything is selected, and what a selection adds.

    `graph.traces` draws the first, once for each scene; `moving` gives the second.
    """

    view: GraphView
    labels: Labels = field(default_factory=lambda: NO_LABELS)
    supernodes: tuple[Supernode, ...] = ()
    pinned: tuple[Node, ...] = ()
    paths: tuple[Path, ...] = ()
    """Highlighted paths; their features are named."""

    def name(self, number: int) -> str:
        """What a feature is called on the picture."""
        node = self.view.graph.nodes[number]
        assert isinstance(node, Feature)
        return picture_name(self.view.measures, node, self.labels)

    @property
    def _most(self) -> int:
        placement = self.view.placement
        return int(placement.width * placement.height / PER_WORD)

    @property
    def bold(self) -> frozenset[int]:
        """Positions of the tokens that paths begin at."""
        return frozenset(
            n.position for path in self.paths for n in path.nodes if isinstance(n, TokenNode)
        )

    @cached_property
    def group_of(self) -> dict[int, int]:
        """Which supernode each grouped feature is in, by number."""
        graph = self.view.graph
        return {
            graph.number(f): i
            for i, group in enumerate(self.supernodes)
            for f in group.features
            if f in graph
        }

    @cached_property
    def colours(self) -> list[str]:
        """Colour of every node, (n_nodes,)."""
        colours = [GREY] * self.view.graph.n_nodes
        for number, group in self.group_of.items():
            colours[number] = hue(group)
        return colours

    @cached_property
    def standing(self) -> Words:
        """The words that are there whatever is selected."""
        view, placement = self.view, self.view.placement
        x, y = placement.x.tolist(), placement.y.tolist()
        sources, targets = steps_of(view, self.paths)
        on_paths = [
            points_along((x[s], y[s]), (x[t], y[t]))
            for s, t in zip(sources.tolist(), targets.tolist(), strict=True)
            if view.drawn[s] and view.drawn[t]
        ]
        words = Words(
            placement.width,
            placement.height,
            placement.x,
            placement.y,
            view.sizes,
            np.concatenate(on_paths) if on_paths else None,
        )
        words.block(
            (m.x - half, m.y - 7, m.x + half, m.y + 7)
            for m in placement.marks
            for half in [text_width(mark_text(len(m.numbers)), SMALL) / 2]
        )
        for word in self._outputs():
            words.put(word)
        for wish in self._standing_wishes():
            words.fit(wish)
        return words

    def _outputs(self) -> list[Word]:
        view = self.view
        found: list[Word] = []
        start = view.graph.blocks.targets.start
        for number in range(start, view.graph.n_nodes):
            if not view.drawn[number]:
                continue
            bold, size = number == start, TITLE if number == start else SMALL
            text = output_text(view.graph, number - start)
            x = float(view.placement.x[number])
            y = float(view.placement.y[number]) + 8 + size * LEADING / 2
            half = text_width(text, size, bold=bold) / 2
            box = (x - half, y - size * LEADING / 2, x + half, y + size * LEADING / 2)
            found.append(Word(number, (text,), x, y, "center", box, None, bold, size))
        return found

    def _standing_wishes(self) -> list[Wish]:
        """Features of the paths, groups, pins, then the most influential ones."""
        view, graph = self.view, self.view.graph
        features = graph.blocks.features.stop
        ranked = np.argsort(-view.influence[:features], kind="stable").tolist()
        wishes: dict[int, Wish] = {}
        said: set[object] = set()

        def want(number: int, *, bold: bool = False) -> None:
            if number >= features or not view.drawn[number] or number in wishes:
                return
            text = self._called(number)
            alone = bold and number not in self.group_of
            if text and (alone or self._said(number) not in said):
                said.add(self._said(number))
                wishes[number] = Wish(number, text, bold)

        for path in self.paths:
            for node in path.nodes:
                if node in graph:
                    want(graph.number(node), bold=True)
        for number in ranked:
            if number in self.group_of:
                want(number)
        for node in self.pinned:
            if node in graph:
                want(graph.number(node))
        apart = view.measures.everywhere
        for number in [n for n in ranked if view.drawn[n] and not apart[n]][: self._most]:
            want(number)
        return list(wishes.values())

    @cached_property
    def backdrop(self) -> list[Shape]:
        """What lies under the nodes whatever is selected: edges, paths, rings of pins."""
        on_paths = [n for path in self.paths for n in path.nodes if isinstance(n, Feature)]
        return [
            *background(self.view),
            *path_lines(self.view, self.paths),
            *rings(self.view, "on path", on_paths, 4.0, POSITIVE, 2.0),
            *rings(self.view, "pinned", self.pinned, 5.0, GREY, 1.0),
            *line("leaders", _leaders(self.view, self.standing.words), GREY, 0.7, 0.7),
        ]

    def moving(
        self, selected: Node | None, *, links: str = "both", switched: Collection[Node] = ()
    ) -> list[Shape]:
        """What a selection or a switch adds to the backdrop.

        Args:
            selected: The node whose edges are drawn signed, or None.
            links: Which of them: `inputs`, `outputs` or `both`.
            switched: Nodes that a switch holds at another value.
        """
        view = self.view
        shapes = crosses(view, "switched", switched)
        if selected is None or selected not in view.graph:
            return shapes
        words = self._selection_words(selected, links)
        shapes += selected_edges(view, selected, links)
        shapes += rings(view, "selected", [selected], RING, GREY, 2.0)
        shapes += line("selection's leaders", _leaders(view, words), GREY, 0.7, 0.7)
        return shapes + [_label(view, w) for w in words]

    def _selection_words(self, selected: Node, links: str) -> list[Word]:
        """The selected feature and the strongest ends of its edges, but those already named."""
        view = self.view
        features = view.graph.blocks.features.stop
        own = view.graph.number(selected)
        sources, targets, weights = edges_of(view, selected, links)
        wanted = [own]
        ranked = np.argsort(-np.abs(weights), kind="stable")
        wanted += sources[ranked][targets[ranked] == own].tolist()[:INTO]
        wanted += targets[ranked][sources[ranked] == own].tolist()[:OUT_OF]
        words = self.standing.copy()
        count = len(words.words)
        named = {w.number for w in words.words}
        said = {self._said(w.number) for w in words.words if w.number < features}
        for number in dict.fromkeys(wanted):
            fresh = number < features and number not in named
            if fresh and (number == own or self._said(number) not in said):
                said.add(self._said(number))
                words.fit(Wish(number, self._called(number), number == own))
        return words.words[count:]

    def _called(self, number: int) -> str:
        """The supernode a feature is in, else its name."""
        group = self.group_of.get(number)
        return self.name(number) if group is None else self.supernodes[group].name

    def _said(self, number: int) -> object:
        """What one word is enough for: a supernode, or all of one name at one position."""
        group = self.group_of.get(number)
        if group is not None:
            return group
        return self.name(number), int(self.view.graph.features[number, 1])


def mark_text(count: int) -> str:
    """What a mark for several nodes says."""
    return f"+{count}"


def written(word: Word) -> str:
    """A word's text for Plotly."""
    text = "<br>".join(plotly_text(line) for line in word.lines)
    return f"<b>{text}</b>" if word.bold else text


def _leaders(view: GraphView, words: Sequence[Word]) -> str:
    """Lines from words that stand away from their nodes, to these."""
    path = ""
    for word in words:
        if word.leader is not None:
            (x0, y0), x1, y1 = (
                word.leader,
                float(view.placement.x[word.number]),
                float(view.placement.y[word.number]),
            )
            long = float(np.hypot(x1 - x0, y1 - y0))
            rest = 1 - (float(view.sizes[word.number]) / 2 + 1) / max(long, 1e-9)
            end = view.across(x0 + rest * (x1 - x0)), view.up(y0 + rest * (y1 - y0))
            path += f"M{view.across(x0):g} {view.up(y0):g}L{end[0]:g} {end[1]:g}"
    return path


def _label(view: GraphView, word: Word) -> Shape:
    """A word as a shape without a line: Plotly draws it many times faster than an annotation."""
    x, y = view.across(word.x), view.up(word.y)
    return {
        "type": "path",
        "name": "word",
        "path": f"M{x:g} {y:g}L{x:g} {y:g}",
        "line": {"color": GREY, "width": 0},
        "layer": "above",
        "xref": "x",
        "yref": "y",
        "label": {
            "text": written(word),
            "textposition": "middle center",
            "xanchor": {"right": "left", "left": "right", "center": "center"}[word.side],
            "yanchor": "middle",
            "padding": 0,
            "font": {"size": word.size, "color": GREY, "family": FONT},
        },
    }
