"""Attention as it is looked at: which edge, which head, from where to where, and why."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from circuit_nb.figures.bars import connections
from circuit_nb.graph import Node, TargetNode

if TYPE_CHECKING:
    from circuit_nb.attribution import Heads, Looking
    from circuit_nb.graph import AttributionGraph
    from circuit_nb.model.replacement import ReplacementModel

OFFERED = 12
"""Edges of the selected node that are offered."""
NO_EDGE, NO_HEAD = 1e-9, 0.1
"""An edge, and the share of one, below which no head is named for carrying it."""

Floats = npt.NDArray[np.floating[Any]]
Edge = tuple[Node, Node]


@dataclass(frozen=True)
class Choice:
    """What the reader chose to look at; None is for what the edge suggests."""

    edge: Edge | None = None
    """(source, target)."""
    head: tuple[int, int] | None = None
    """(block, head)."""
    query: int | None = None
    """Position that looked."""
    key: int | None = None
    """Position looked at; why it was is told once the reader chose one."""
    against_mean: bool = True
    """Whether the score is told as above its mean over all that was in sight."""


class Carrier(NamedTuple):
    """The head that carried most of an edge."""

    layer: int
    head: int
    share: float
    """Of the edge."""

    @property
    def name(self) -> str:
        """Block and head, as the field writes them."""
        return f"{self.layer}.{self.head}"


class Explored(Protocol):
    """What is used of a session."""

    graph: AttributionGraph
    model: ReplacementModel | None
    selected: Node | None
    choice: Choice

    def need_model(self) -> ReplacementModel:
        """The model; an error in words where there is none."""
        ...


class Attending:
    """Answers what a session's `choice` asks of the model's attention, and remembers the answers.

    Args:
        session: The session; nothing is computed without its model.
    """

    def __init__(self, session: Explored) -> None:
        self._session = session
        self._known: dict[tuple[object, ...], Any] = {}
        self.seconds = 0.0
        """How long the last naming of heads took."""

    @property
    def size(self) -> tuple[int, int]:
        """Blocks, and heads of each."""
        blocks = self._session.need_model().blocks
        return len(blocks), len(blocks[0].W_O)

    def carriers(self, node: Node, others: Sequence[Node], *, inputs: bool) -> dict[Node, Carrier]:
        """The head that carried most of each edge between a node and others, where one did.

        Args:
            node: The node.
            others: The other ends.
            inputs: Whether they lead to the node, or it to them.
        """
        ends = (others, [node]) if inputs else ([node], others)
        sources, targets = ([n for n in end if n in self._session.graph] for end in ends)
        targets = [n for n in targets if self._reads(n)]
        if self._session.model is None or not sources or not targets:
            return {}
        start = time.perf_counter()
        found = self._heads(tuple(sources), tuple(targets))
        self.seconds = time.perf_counter() - start
        rows = found.flows[0] if inputs else found.flows[:, 0]
        edges = found.edges[0] if inputs else found.edges[:, 0]
        named = zip(sources if inputs else targets, rows, edges.tolist(), strict=True)
        carriers = {other: _most(flows, edge) for other, flows, edge in named}
        return {other: carrier for other, carrier in carriers.items() if carrier is not None}

    @property
    def offered(self) -> list[tuple[Edge, float]]:
        """The strongest edges into the selected node, or out of it where none lead to it."""
        node, graph = self._session.selected, self._session.graph
        if node is None:
            return []
        into = connections(graph, node, inputs=True)
        edges = [((other, node), w) for other, w in into]
        edges = edges or [((node, o), w) for o, w in connections(graph, node, inputs=False)]
        return [(edge, w) for edge, w in edges if self._reads(edge[1])][:OFFERED]

    @property
    def edge(self) -> Edge | None:
        """The edge looked at: the chosen one, while it is among those offered, else the first."""
        offered = [edge for edge, _ in self.offered]
        chosen = self._session.choice.edge
        return chosen if chosen in offered else next(iter(offered), None)

    @property
    def flows(self) -> tuple[Floats, Floats, float] | None:
        """Of the edge: through each head (blocks, heads), past each block (blocks,), and whole."""
        if self.edge is None:
            return None
        source, target = self.edge
        found = self._heads((source,), (target,))
        return found.flows[0, 0], found.past[0, 0], float(found.edges[0, 0])

    @property
    def head(self) -> tuple[int, int]:
        """The head looked at: the chosen one, else the one that carried most of the edge."""
        if self._session.choice.head is not None:
            return self._session.choice.head
        flows = self.flows
        if flows is None:
            return 0, 0
        layer, head = np.unravel_index(np.abs(flows[0]).argmax(), flows[0].shape)
        return int(layer), int(head)

    @property
    def pattern(self) -> Floats:
        """Where the head looked, (queries, keys)."""
        model, (layer, head) = self._session.need_model(), self.head
        record = model.record(self._session.graph.token_ids.tolist())
        return record.patterns[layer][head].float().cpu().numpy()

    @property
    def moved(self) -> Floats:
        """What the head moved of the edge, (queries, keys); zeros where there is none."""
        edge, (layer, head) = self.edge, self.head
        n = len(self._session.graph.tokens)
        if edge is None:
            return np.zeros((n, n))
        key = ("moved", edge, layer, head)
        if key not in self._known:
            from circuit_nb.attribution import between

            model, graph = self._session.need_model(), self._session.graph
            self._known[key] = between(model, graph, *edge, layer, head)
        return self._known[key]

    @property
    def places(self) -> tuple[int, int]:
        """From where to where: as chosen, else where the head moved most, else looked most."""
        choice, moved, pattern = self._session.choice, np.abs(self.moved), self.pattern
        query = choice.query
        if query is None:
            query = int(moved.sum(1).argmax()) if moved.any() else len(pattern) - 1
        row = moved[query] if moved[query].any() else pattern[query]
        key = choice.key if choice.key is not None and choice.key <= query else int(row.argmax())
        return query, key

    @property
    def looking(self) -> Looking:
        """Why the head looked there."""
        (layer, head), (query, key) = self.head, self.places
        contrast = "mean" if self._session.choice.against_mean else None
        known = ("looking", layer, head, query, key, contrast)
        if known not in self._known:
            from circuit_nb.attribution import looking

            model, graph = self._session.need_model(), self._session.graph
            self._known[known] = looking(model, graph, layer, head, query, key, contrast)
        return self._known[known]

    @property
    def without(self) -> tuple[str, float, float]:
        """The most likely token, and its probability before and with the head knocked out at the
        query."""
        from circuit_nb.intervention import HeadIntervention, intervene

        (layer, head), (query, _) = self.head, self.places
        known = ("without", layer, head, query)
        if known not in self._known:
            model, ids = self._session.need_model(), self._session.graph.token_ids.tolist()
            out = HeadIntervention.knock_out(layer, head, positions=[query])
            found = intervene(model, ids, [out], top_k=1)
            token, share = found.before.top[0]
            self._known[known] = (token, share, found.after.probability(token))
        return self._known[known]

    # What the reader chooses

    def choose_edge(self, edge: Edge) -> None:
        """Look at an edge, through the head that carried most of it."""
        self._session.choice = replace(Choice(edge), against_mean=self._choice.against_mean)

    def choose_head(self, layer: int, head: int) -> None:
        """Look at a head."""
        self._session.choice = replace(
            self._choice, edge=self.edge, head=(layer, head), query=None, key=None
        )

    def choose_query(self, query: int) -> None:
        """Look at what a position looked at."""
        self._session.choice = replace(
            self._choice, edge=self.edge, head=self.head, query=query, key=None
        )

    def choose_key(self, key: int) -> None:
        """Ask why a position was looked at."""
        self._session.choice = replace(
            self._choice, edge=self.edge, head=self.head, query=self.places[0], key=key
        )

    def contrast(self, *, against_mean: bool) -> None:
        """Tell scores as above their mean, or as they are."""
        self._session.choice = replace(self._choice, against_mean=against_mean)

    @property
    def _choice(self) -> Choice:
        return self._session.choice

    def _reads(self, node: Node) -> bool:
        """Whether what a node reads is known: a graph keeps no directions of its own."""
        return not isinstance(node, TargetNode) or self._session.graph.target_ids[node.index] >= 0

    def _heads(self, sources: tuple[Node, ...], targets: tuple[Node, ...]) -> Heads:
        key = ("heads", sources, targets)
        if key not in self._known:
            from circuit_nb.attribution import heads

            model, graph = self._session.need_model(), self._session.graph
            self._known[key] = heads(model, graph, sources, targets)
        return self._known[key]


def _most(flows: Floats, edge: float) -> Carrier | None:
    """The head that carried most of an edge, if any carried much."""
    if abs(edge) < NO_EDGE:
        return None
    layer, head = np.unravel_index(np.abs(flows).argmax(), flows.shape)
    share = float(flows[layer, head]) / edge
    return Carrier(int(layer), int(head), share) if abs(share) >= NO_HEAD else None
