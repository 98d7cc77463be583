"""The paths panel: the strongest chains between two nodes, kept highlighted or pinned."""

from __future__ import annotations

import ipywidgets

from circuit_nb.analysis import Path
from circuit_nb.figures.style import html_text, percent
from circuit_nb.graph import Node
from circuit_nb.panels.base import Drawing, Panel, lines, tooltip
from circuit_nb.panels.page import Clickable
from circuit_nb.panels.session import Session


class PathsPanel(Panel):
    """The strongest paths from one node to another, with the share of the input each carries.

    Args:
        session: What is shown.
    """

    def __init__(self, session: Session) -> None:
        super().__init__(session, "Paths")
        self.source, self.target = (
            ipywidgets.Combobox(
                description=text,
                continuous_update=False,
                layout={"flex": "1 1 180px", "min_width": "0"},
                style={"description_width": "32px"},
            )
            for text in ("from", "to")
        )
        tooltip(self.source, "The node where paths begin")
        tooltip(self.target, "The node where paths end")
        self.from_here = ipywidgets.Button(description="from selected")
        tooltip(self.from_here, "Let paths begin at the selected node")
        self.to_here = ipywidgets.Button(description="to selected")
        tooltip(self.to_here, "Let paths end at the selected node")
        self.pin = ipywidgets.Button(description="Pin highlighted")
        tooltip(self.pin, "Add the nodes of the highlighted paths to the subgraph")
        self.found = Clickable(self.guard(self._toggle))
        self._listed: list[Path] = []
        self._listed_for: object = None
        self._nodes: dict[str, Node] = {}
        buttons = (self.from_here, self.to_here, self.pin)
        for button in buttons:
            button.layout.width = "auto"
        self.body.children = [
            ipywidgets.HBox([self.source, self.target], layout={"flex_flow": "row wrap"}),
            ipywidgets.HBox(list(buttons), layout={"flex_flow": "row wrap"}),
            self.found,
        ]
        self._listen()

    def _listen(self) -> None:
        self.source.observe(self.guard(lambda c: self._choose(0, c["new"])), "value")
        self.target.observe(self.guard(lambda c: self._choose(1, c["new"])), "value")
        self.from_here.on_click(self.guard(lambda _: self._take(0)))
        self.to_here.on_click(self.guard(lambda _: self._take(1)))
        self.pin.on_click(self.guard(lambda _: self._pin()))
        self.watch(self._name_nodes, "setup", "kept", "errors", "learned")
        self.watch(self._redraw, "ends", "paths", "setup", "learned")

    def _choose(self, end: int, title: str) -> None:
        if not title:
            return
        if title not in self._nodes:
            raise ValueError(f"No node is called {title!r}; choose one from the list.")
        self._set(end, self._nodes[title])

    def _take(self, end: int) -> None:
        if self.session.selected is None:
            raise ValueError("Select a node first: click it in the graph, or find it in the list.")
        self._set(end, self.session.selected)

    def _set(self, end: int, node: Node) -> None:
        source, target = self.session.ends
        self.session.ends = (node, target) if end == 0 else (source, node)

    def _toggle(self, key: str) -> None:
        path = self._listed[int(key.removeprefix("path-"))]
        lit = {p.nodes for p in self.session.paths}
        self.session.highlight(path, path.nodes not in lit)

    def _pin(self) -> None:
        if not self.session.paths:
            raise ValueError("Highlight a path first: click it in the list.")
        self.session.pin(*(n for p in self.session.paths for n in p.nodes))

    def _name_nodes(self) -> None:
        nodes = [self.session.graph.nodes[i] for i in self.session.view.numbers]
        nodes += [n for n in self.session.ends if n is not None and n not in nodes]
        titles: dict[str, Node] = {self.session.title(n): n for n in nodes}
        if titles.keys() != self._nodes.keys():
            self.source.options = self.target.options = tuple(titles)
        self._nodes = titles

    def _redraw(self) -> None:
        self._name_nodes()
        for box, end in ((self.source, 0), (self.target, 1)):
            node = self.session.ends[end]
            box.value = "" if node is None else self.session.title(node)
        if self._listed_for != self.session.ends:
            self._listed_for = self.session.ends
            self._listed = self.session.find_paths()
        lit = {p.nodes for p in self.session.paths}
        top = max((p.share for p in self._listed), default=1.0)
        rows = "".join(
            f'<tr data-key="path-{i}" tabindex="0" role="option" '
            f'class="{"cnb-on" if p.nodes in lit else ""}" title="{html_text(self._chain(p))}">'
            f'<td class="cnb-number">{percent(p.share)}</td>'
            f'<td class="cnb-meter">{self._bar(p, top)}</td>'
            f'<td class="cnb-chain">{html_text(self._chain(p))}</td></tr>'
            for i, p in enumerate(self._listed)
        )
        self.found.html = (
            f'<div class="cnb-scroll"><table role="listbox">{rows}</table></div>'
            '<div class="cnb-faint">share of the end\'s input; click keeps a path highlighted</div>'
            if rows
            else '<div class="cnb-empty">Choose two nodes that paths lead between.</div>'
        )
        self.pin.disabled = not self.session.paths

    def _chain(self, path: Path) -> str:
        return " → ".join(self.session.name(n) for n in path.nodes)

    def _bar(self, path: Path, top: float) -> str:
        kind, told = ("plus", "raises") if path.sign > 0 else ("minus", "lowers")
        width = max(1, round(44 * path.share / top))
        return f'<span class="cnb-bar cnb-{kind}" style="width:{width}px" title="{told}"></span>'

    def draw(self) -> Drawing:
        """The listed paths as plain lines."""
        texts = [
            f"{'+' if p.sign > 0 else '−'} {percent(p.share)}  {self._chain(p)}"
            for p in self._listed
        ]
        return lines(texts or ["Choose two nodes that paths lead between."])
