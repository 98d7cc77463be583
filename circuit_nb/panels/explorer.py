"""`explore`: every panel on one page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast, overload

import ipywidgets

from circuit_nb.figures.style import shorten
from circuit_nb.graph import AttributionGraph
from circuit_nb.graphsets.graphset import GraphSet
from circuit_nb.neuronpedia import GraphFile
from circuit_nb.panels import store
from circuit_nb.panels.answer import AnswerPanel
from circuit_nb.panels.attention import AttentionPanel
from circuit_nb.panels.base import Drawing, Panel, stack
from circuit_nb.panels.cards import CardSource
from circuit_nb.panels.connections import ConnectionsPanel
from circuit_nb.panels.evidence import EvidencePanel
from circuit_nb.panels.exporting import export
from circuit_nb.panels.feature import FeaturePanel
from circuit_nb.panels.find import FindPanel
from circuit_nb.panels.graph import GraphPanel
from circuit_nb.panels.opening import Source, is_source, labelled, opened
from circuit_nb.panels.paths import PathsPanel
from circuit_nb.panels.prompt import PromptPanel
from circuit_nb.panels.session import Session
from circuit_nb.panels.sets import SetPanel
from circuit_nb.panels.subgraph import SubgraphPanel
from circuit_nb.panels.switches import SwitchesPanel
from circuit_nb.panels.turns import Turns

if TYPE_CHECKING:
    from circuit_nb.model.replacement import ReplacementModel
    from circuit_nb.model.vocabulary import Prompt


class Explorer(Panel):
    """All panels of one session. Make one with `explore`.

    Args:
        session: What is shown.
    """

    fills = False

    def __init__(self, session: Session) -> None:
        super().__init__(session, "")
        self.prompt = PromptPanel(session)
        self.find = FindPanel(session)
        self.subgraph = SubgraphPanel(session)
        self.answer = AnswerPanel(session)
        self.graph = GraphPanel(session)
        self.connections = ConnectionsPanel(session)
        self.paths = PathsPanel(session)
        self.feature = FeaturePanel(session)
        self.switches = SwitchesPanel(session)
        self.attention = AttentionPanel(session, in_turn=True)
        self.evidence = EvidencePanel(session)
        self.turns = Turns(
            session,
            {
                "connections": ("Connections", self.connections),
                "paths": ("Paths", self.paths),
                "feature": ("Feature", self.feature),
                "switches": ("Switches", self.switches),
                "attention": ("Attention", self.attention),
                "evidence": ("Evidence", self.evidence),
            },
        )
        self._arrange()

    def _arrange(self) -> None:
        """Two columns: what flows at the left, what is said at the right.

        Rows would leave a gap under the circuit, as high as the answer is longer; with the answer
        under the circuit the graph begins below the screen; with both beside the graph the circuit
        has half the width it needs. Where there is room for one column only, the style sheet lets
        the answer follow the circuit.
        """
        self.top.layout.display = "none"
        top = _row((self.prompt, "1 1 420px"), (self.find, "0 1 260px"))
        left = _column("cnb-left", self.subgraph, self.graph)
        right = _column("cnb-right", self.answer, self.turns)
        both = _row((left, "5 1 480px"), (right, "3 1 270px"))
        both.add_class("cnb-both")
        self.body.children = [top, both]

    @property
    def panels(self) -> tuple[Panel, ...]:
        """The panels, in reading order."""
        return (
            self.prompt,
            self.find,
            self.subgraph,
            self.answer,
            self.graph,
            self.connections,
            self.paths,
            self.feature,
            self.switches,
            self.attention,
            self.evidence,
        )

    def save(self, path: str | Path) -> Path:
        """Keep graph, pins, supernodes, labels and switches in one file; `explore.load` reads it.

        Args:
            path: Where to write; `.safetensors` is added if it has no suffix.
        """
        return store.save(self.session, path)

    def export(
        self, path: str | Path, *, new_tokens: int | None = None, progress: bool = True
    ) -> Path:
        """Write one page to share, with no need of a kernel or a network; its switches work.

        The model is run beforehand on every on/off combination of up to 8 switches and on each
        switch's multipliers; what was not computed the page shows as such. What the page holds is
        printed before it is written.

        Args:
            path: Where to write; `.html` is added if it has no suffix.
            new_tokens: How many tokens each continuation has; by default as many as are shown
                here, else 8.
            progress: Whether a bar is shown while the model runs.

        Raises:
            OSError: If it cannot be written; one sentence says why.
        """
        return export(self.session, path, new_tokens=new_tokens, progress=progress)

    def prepare(self) -> None:
        """Make every panel ready for being displayed."""
        for panel in self.panels:
            panel.prepare()

    def close(self) -> None:
        """Close every panel."""
        for panel in self.panels:
            panel.close()
        super().close()

    def draw(self) -> Drawing:
        """Every panel, one under the other."""
        title = shorten(self.session.graph.prompt, 90)
        named = [
            (title if panel is self.prompt else type(panel).__name__.removesuffix("Panel"), panel)
            for panel in self.panels
            if panel is not self.find
        ]
        return stack((name, panel.draw()) for name, panel in named)


def _row(*widgets: tuple[ipywidgets.DOMWidget, str]) -> ipywidgets.HBox:
    """Widgets side by side, each with its flex."""
    for widget, flex in widgets:
        widget.layout.flex, widget.layout.min_width = flex, "0"
    wrap = {"flex_flow": "row wrap", "align_items": "flex-start"}
    return ipywidgets.HBox([widget for widget, _ in widgets], layout=wrap)


def _column(name: str, *widgets: ipywidgets.DOMWidget) -> ipywidgets.VBox:
    """Widgets one under the other."""
    for widget in widgets:
        widget.layout.flex, widget.layout.min_width = "0 0 auto", "0"
    column = ipywidgets.VBox(list(widgets))
    column.add_class(name)
    return column


def _shown(
    source: Source | GraphSet,
    model: ReplacementModel | None,
    cards: CardSource | None,
    propose: bool | None,
) -> Explorer | SetPanel:
    if not isinstance(source, GraphSet):
        return Explorer(opened(source, model, cards, propose))
    graphs = labelled(source, model, cards)
    return SetPanel(graphs, lambda graph: Explorer(opened(graph, model, cards, propose)))


class _Explore:
    """See `explore`."""

    @overload
    def __call__(
        self,
        model: ReplacementModel,
        prompt: GraphSet,
        *,
        cards: CardSource | None = None,
        propose: bool | None = None,
    ) -> SetPanel: ...
    @overload
    def __call__(
        self,
        model: GraphSet,
        prompt: None = None,
        *,
        cards: CardSource | None = None,
        propose: bool | None = None,
    ) -> SetPanel: ...
    @overload
    def __call__(
        self,
        model: ReplacementModel | Source,
        prompt: Prompt | Source | None = None,
        *,
        cards: CardSource | None = None,
        propose: bool | None = None,
    ) -> Explorer: ...
    def __call__(
        self,
        model: ReplacementModel | Source | GraphSet,
        prompt: Prompt | Source | GraphSet | None = None,
        *,
        cards: CardSource | None = None,
        propose: bool | None = None,
    ) -> Explorer | SetPanel:
        """Open the explorer: `explore(model, prompt)`, `explore(model, graph)`, `explore(graph)`.

        Wherever a graph can stand, a published file can: what `neuronpedia.read` gives, or the
        path of a `.json` or `.safetensors` file, with its labels, pins, groups and selection. So
        can a `GraphSet`: its panel shows all prompts, and opens the explorer of each.

        Args:
            model: The model, or a graph, file or set to explore without one.
            prompt: What to explain, or a graph, file or set of the model's.
            cards: Where feature cards come from; by default `circuit_nb.cards`.
            propose: Whether to begin with the proposed supernodes; by default with those of the
                file, else with the concepts that ship with the model, else with the steps of the
                path that leads to the answer.

        Raises:
            TypeError: If the two do not fit together.
            FileNotFoundError: If there is no such file.
            ValueError: If it is no graph file, or a set of fewer than three graphs.
        """
        if isinstance(model, AttributionGraph | GraphFile | GraphSet | str | Path):
            if prompt is not None:
                raise TypeError("Give the model first: explore(model, graph), or explore(graph).")
            return _shown(model, None, cards, propose)
        if prompt is None:
            raise TypeError("Give a prompt too: explore(model, prompt), or explore(graph).")
        if isinstance(prompt, GraphSet) or is_source(prompt):
            return _shown(cast("Source | GraphSet", prompt), model, cards, propose)
        from circuit_nb.attribution.compute import attribute

        graph = attribute(model, cast("Prompt", prompt))
        return _shown(graph, model, cards, propose)

    def load(
        self,
        path: str | Path,
        model: ReplacementModel | None = None,
        *,
        cards: CardSource | None = None,
    ) -> Explorer:
        """Open what `Explorer.save` wrote, or any graph file.

        Args:
            path: The file; `.safetensors` is added if it has no suffix.
            model: The model, to use the switches.
            cards: Where feature cards come from.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is no graph file.
        """
        return Explorer(store.load(path, model, cards=cards))


explore = _Explore()
"""Opens the explorer: `explore(model, prompt)`; `explore.load(path)` reads what it saved."""
