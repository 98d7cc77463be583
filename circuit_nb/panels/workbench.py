"""`Workbench`: one graph being looked at, without running a model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import cached_property, wraps
from threading import RLock
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeAlias, TypeVar

import numpy as np
import traitlets

from circuit_nb import analysis, evidence
from circuit_nb.analysis import Path, Scores
from circuit_nb.figures.names import Labels, node_title
from circuit_nb.figures.naming import told_name
from circuit_nb.figures.subgraph import Group
from circuit_nb.figures.view import GraphView, Measures
from circuit_nb.graph import AttributionGraph, Feature, Node, Supernode, TargetNode, TokenNode
from circuit_nb.panels import grouping
from circuit_nb.panels.attending import Choice
from circuit_nb.panels.cards import Cards, CardSource
from circuit_nb.panels.state import Setup

if TYPE_CHECKING:
    from circuit_nb.model.replacement import ReplacementModel

UNDO_DEPTH = 100
"""How many changes can be undone."""
FIRST_CARDS = 60
"""Features whose cards are asked for from the start where cards come over the network."""


S = TypeVar("S", bound="Workbench")
P = ParamSpec("P")
R = TypeVar("R")
Ends: TypeAlias = "tuple[Node | None, Node | None]"
Progress: TypeAlias = "tuple[str, int, int] | None"


def held(value: object) -> Any:
    """A trait that holds any immutable value, beginning with this one."""
    return traitlets.Any(value)


def alone(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """A method of a workbench that holds its lock while it runs."""

    @wraps(method)
    def held_alone(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with self.lock:
            return method(self, *args, **kwargs)

    return held_alone


class Workbench(traitlets.HasTraits):
    """A graph with a selection, pins, supernodes and labels; see `Session`, which adds the model.

    Args:
        graph: The graph.
        model: The model it was computed from, if there is one.
        cards: Where feature cards come from; by default `circuit_nb.cards`.
        labels: Labels that came with the graph, by (layer, index).
    """

    selected: Node | None = held(None)
    """The node looked at: a `Node` of the graph, or None."""
    setup: Setup = held(Setup())
    """Pins, supernodes, labels, switches: a `Setup`."""
    kept = traitlets.Float(0.9, min=0.0, max=1.0)
    """Share of the influence whose nodes are drawn; begins with `Measures.usual`."""
    errors = traitlets.Bool(True)
    """Whether error nodes are drawn."""
    everywhere = traitlets.Bool(False)
    """Whether features that fire on nearly everything are drawn."""
    tab = traitlets.Unicode("connections")
    """Which of the panels that take turns is open."""
    links = traitlets.Enum(["both", "inputs", "outputs"], "both")
    """Which edges of the selected node are drawn."""
    choice: Choice = held(Choice())
    """What is looked at of the model's attention: a `Choice`."""
    measured = traitlets.Int(0)
    """Counts up whenever something was measured of the circuit or of attention."""
    progress: Progress = held(None)
    """What an experiment is at, runs done, and all of them; None when none runs."""
    ends: Ends = held((None, None))
    """The two nodes between which paths are listed."""
    learned = traitlets.Int(0)
    """Counts up whenever more became known of features than at first."""
    paths: tuple[Path, ...] = held(())
    """The highlighted paths: a tuple of `analysis.Path`."""

    def __init__(
        self,
        graph: AttributionGraph,
        model: ReplacementModel | None = None,
        *,
        cards: CardSource | None = None,
        labels: Labels | None = None,
    ) -> None:
        super().__init__()
        self.lock = RLock()
        """Held by whoever changes what is set up, or draws it: one thread at a time."""
        self.graph = graph
        self.cards = Cards(graph, model, cards, labels)
        self.measures = Measures(graph)
        self.kept = self.measures.usual
        self._labels: tuple[Labels, Labels, Labels] | None = None
        self._fetch_cards()
        self._waiting: dict[Callable[[], None], None] | None = None
        self._undo: list[tuple[str, Setup]] = []
        self.ends = (_first_token(graph), TargetNode(0) if graph.targets else None)

    def _fetch_cards(self) -> None:
        """Get the cards of all features, or, where that takes time, of the most influential."""
        features = self.graph.features
        if not self.cards.at_hand:
            strength = self.measures.influence[self.graph.blocks.features]
            features = features[np.argsort(-strength)[:FIRST_CARDS]]
        shipped = self.cards.shipped
        self.cards.fetch(
            (int(layer), int(index))
            for layer, _, index in features
            if (layer, index) not in shipped
        )

    @contextmanager
    def together(self) -> Generator[None, None, None]:
        """Let panels redraw once, at the end, however many traits change within."""
        if self._waiting is not None:
            yield
            return
        self._waiting = {}
        try:
            yield
        finally:
            waiting, self._waiting = self._waiting, None
            for redraw in waiting:
                redraw()

    def tell(self, redraw: Callable[[], None]) -> None:
        """Call a panel's redraw, now or at the end of `together`."""
        if self._waiting is None:
            redraw()
        else:
            self._waiting[redraw] = None

    @cached_property
    def scores(self) -> Scores:
        """Replacement and completeness of the whole graph."""
        return analysis.scores(self.graph)

    @property
    def view(self) -> GraphView:
        """What the graph panel draws now."""
        pins = {*self.setup.pinned, *self.setup.grouped}
        view = GraphView(
            self.measures,
            self.kept,
            self.errors,
            frozenset(pins),
            everywhere=self.everywhere,
        )
        if self.selected is not None and not view.shown[self.graph.number(self.selected)]:
            view = dataclasses.replace(view, always=view.always | {self.selected})
        return view

    @property
    def labels(self) -> Labels:
        """Labels by (layer, index): the reader's own over those of the cards."""
        own, known = self.setup.labels, self.cards.labels
        if self._labels is None or self._labels[0] is not own or self._labels[1] is not known:
            self._labels = (own, known, {**known, **own})
        return self._labels[2]

    def name(self, node: Node) -> str:
        """A node's name as shown, not escaped."""
        return told_name(self.measures, node, self.labels)

    def title(self, node: Node) -> str:
        """A name that tells a node from every other, not escaped."""
        return node_title(self.graph, node, self.labels)

    @property
    def groups(self) -> tuple[Group, ...]:
        """The boxes of the subgraph: supernodes, then single pinned nodes."""
        return (*self.setup.supernodes, *self.setup.pinned)

    def select(self, node: Node | None) -> None:
        """Look at a node.

        Raises:
            ValueError: If the graph does not hold it.
        """
        if node is not None:
            self.graph.number(node)
        if isinstance(node, Feature):
            self.cards.fetch([(node.layer, node.index)])
        with self.together():
            if node != self.selected:
                self.choice = Choice(against_mean=self.choice.against_mean)
            self.selected = node

    def ask_again(self) -> None:
        """Ask once more for the feature cards that could not be had."""
        with self.together():
            self.cards.ask_again()
            self.learned += 1

    def find_paths(self, most: int = 6) -> list[Path]:
        """The strongest paths between the two `ends`, none if they are not both chosen."""
        source, target = self.ends
        if source is None or target is None or source == target:
            return []
        return analysis.paths(self.graph, source, target, most)

    def highlight(self, path: Path, on: bool) -> None:
        """Keep a path highlighted, or no longer."""
        rest = tuple(p for p in self.paths if p.nodes != path.nodes)
        self.paths = (*rest, path) if on else rest

    @alone
    def change(self, setup: Setup, what: str = "") -> None:
        """Replace the setup, so that `undo` can go back.

        Args:
            setup: The new one.
            what: What changes; changes of the same thing in a row are undone as one.
        """
        before = self.setup
        with self.together():
            self.setup = setup
            if before != setup and not (self._undo and what and self._undo[-1][0] == what):
                self._undo = [*self._undo, (what, before)][-UNDO_DEPTH:]

    @property
    def can_undo(self) -> bool:
        """Whether there is a change to undo."""
        return bool(self._undo)

    @alone
    def undo(self) -> None:
        """Go back to before the last change of pins, supernodes, labels or switches."""
        if self._undo:
            with self.together():
                self.setup = self._undo[-1][1]
                self._undo = self._undo[:-1]

    def forget_changes(self) -> None:
        """Make what is set up now the beginning, which `undo` does not go behind."""
        self._undo = []

    def pin(self, *nodes: Node) -> None:
        """Add nodes to the subgraph."""
        self.change(self.setup.pin(n for n in nodes if n in self.graph))

    def unpin(self, group: Group) -> None:
        """Take a node or a supernode out of the subgraph."""
        self.change(self.setup.without(group))

    def relabel(self, feature: Feature, text: str) -> None:
        """Give a feature a label of one's own; an empty one takes it back."""
        self.change(self.setup.relabel(feature, text))

    def group(self, name: str, members: Sequence[Group]) -> Supernode:
        """Make one supernode of features and supernodes.

        Raises:
            ValueError: If there is no feature among them.
        """
        self.change(self.setup.group(name, members))
        return self.setup.supernodes[-1]

    def ungroup(self, supernode: Supernode) -> None:
        """Dissolve a supernode into its features, pinned one by one."""
        self.change(self.setup.ungroup(supernode))

    def rename(self, supernode: Supernode, name: str) -> None:
        """Give a supernode another name."""
        self.change(self.setup.rename(supernode, name))

    def propose(self) -> list[Supernode]:
        """Supernodes for the drawn features: concepts that ship with the model, else by rule."""
        names = {**self.cards.given, **self.setup.labels}
        drawn = self._drawn_features()
        return self.concepts() or evidence.propose(self.graph, names, features=drawn)

    def concepts(self) -> list[Supernode]:
        """Supernodes of the concepts that ship with the model; none for most models."""
        return grouping.shipped(self.graph, self._drawn_features())

    def _drawn_features(self) -> list[Feature]:
        shown = [self.graph.nodes[i] for i in self.view.numbers]
        return [n for n in shown if isinstance(n, Feature)]

    def accept(self, proposals: Sequence[Supernode]) -> None:
        """Take proposed supernodes into the subgraph, with the tokens and outputs they join."""
        setup = self.setup.accept(proposals)
        self.change(setup.pin(grouping.joined_ends(self.graph, setup.supernodes)))


def _first_token(graph: AttributionGraph) -> TokenNode | None:
    """The prompt token with the most influence on the outputs, the special one left out."""
    tokens = [n for n in graph.nodes[graph.blocks.tokens] if isinstance(n, TokenNode)]
    if not tokens:
        return None
    strength = analysis.influence(graph)[graph.blocks.tokens]
    return max(tokens[1:] or tokens, key=lambda n: float(strength[n.position]))
