"""Attention as it is looked at: which edge, which head, from where to where, and why."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from circuit_nb.figures.bars import connections
from circuit_nb.figures.style import signed, token_text
from circuit_nb.graph import Node, TargetNode, TokenNode

if TYPE_CHECKING:
    from circuit_nb.attribution import Heads, Looking
    from circuit_nb.graph import AttributionGraph
    from circuit_nb.model.replacement import ReplacementModel

OFFERED = 12
"""Edges of the selected node that are offered."""
NO_EDGE, NO_HEAD = 1e-9, 0.1
"""An edge, and the share of one, below which no head is named for carrying it."""
NAMED, LEAST = 4, 0.005
"""Heads told of beside one edge, and the share of it below which none is."""
FEW_NODES = 1_000
"""Nodes times blocks of a graph so small that the heads of all its edges are asked for at once:
that takes as long as those of a few nodes, and no click waits for them again."""
REASONS = 6
"""Nodes listed that asked, and that answered."""

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

    @property
    def told(self) -> bool:
        """Whether it carried enough to be named for it."""
        return abs(self.share) >= NO_HEAD


def _known() -> dict[Any, Any]:
    return {}


@dataclass(frozen=True)
class Known:
    """What was asked of the attention so far, and answered."""

    heads: dict[tuple[tuple[Node, ...], tuple[Node, ...]], Heads] = field(default_factory=_known)
    """By sources and targets."""
    moved: dict[tuple[Edge, int, int], Floats] = field(default_factory=_known)
    """By edge, block and head; (queries, keys)."""
    looking: dict[tuple[int, int, int, int, str | None], Looking] = field(default_factory=_known)
    """By block, head, query, key and contrast."""
    without: dict[tuple[int, int, int], tuple[str, float, float]] = field(default_factory=_known)
    """By block, head and query: the most likely token, its probability before and without."""


class Explored(Protocol):
    """What is used of a session."""

    graph: AttributionGraph
    model: ReplacementModel | None
    selected: Node | None
    choice: Choice

    def need_model(self) -> ReplacementModel:
        """The model; an error in words where there is none."""
        ...

    def name(self, node: Node) -> str:
        """A node's name as shown."""
        ...


class Attending:
    """Answers what a session's `choice` asks of the model's attention, and remembers the answers.

    Args:
        session: The session; nothing is computed without its model.
    """

    def __init__(self, session: Explored) -> None:
        self._session = session
        self.known = Known()
        """What was computed before."""
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
        _ = self._everything  # asked for once, and no part of what a naming takes
        start = time.perf_counter()
        found = self._heads(tuple(sources), tuple(targets))
        self.seconds = time.perf_counter() - start
        rows = found.flows[0] if inputs else found.flows[:, 0]
        edges = found.edges[0] if inputs else found.edges[:, 0]
        named = zip(sources if inputs else targets, rows, edges.tolist(), strict=True)
        told = {other: carriers_of(flows, edge)[:1] for other, flows, edge in named}
        return {o: first for o, best in told.items() for first in best if first.told}

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
        return self.pattern_of(*self.head)

    def pattern_of(self, layer: int, head: int) -> Floats:
        """Where a head looked, (queries, keys)."""
        record = self._session.need_model().record(self._session.graph.token_ids.tolist())
        return record.patterns[layer][head].float().cpu().numpy()

    @property
    def moved(self) -> Floats:
        """What the head moved of the edge, (queries, keys); zeros where there is none."""
        edge, (layer, head) = self.edge, self.head
        n = len(self._session.graph.tokens)
        if edge is None:
            return np.zeros((n, n))
        known, key = self.known.moved, (edge, layer, head)
        if key not in known:
            from circuit_nb.attribution import between

            model, graph = self._session.need_model(), self._session.graph
            known[key] = between(model, graph, *edge, layer, head)
        return known[key]

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
        known, asked = self.known.looking, (layer, head, query, key, contrast)
        if asked not in known:
            from circuit_nb.attribution import looking

            model, graph = self._session.need_model(), self._session.graph
            known[asked] = looking(model, graph, layer, head, query, key, contrast)
        return known[asked]

    @property
    def without(self) -> tuple[str, float, float]:
        """The most likely token, and its probability before and with the head knocked out at the
        query."""
        from circuit_nb.intervention import HeadIntervention, intervene

        (layer, head), (query, _) = self.head, self.places
        known, asked = self.known.without, (layer, head, query)
        if asked not in known:
            model, ids = self._session.need_model(), self._session.graph.token_ids.tolist()
            out = HeadIntervention.knock_out(layer, head, positions=[query])
            found = intervene(model, ids, [out], top_k=1)
            token, share = found.before.top[0]
            known[asked] = (token, share, found.after.probability(token))
        return known[asked]

    # What is said of it

    def name(self, node: Node) -> str:
        """A node's name, and the token it is at."""
        position, name = getattr(node, "position", None), self._session.name(node)
        if position is None or isinstance(node, TokenNode):
            return name
        return f"{name} ({token_text(self._session.graph.tokens[position])})"

    def sentence(self, found: Looking) -> str:
        """Why a head looked there, in one sentence."""
        tokens = [token_text(self._session.graph.tokens[p]) for p in (found.query, found.key)]
        asked, answered = (
            self.name(nodes[0]) if nodes else "biases alone"
            for nodes in (found.asked, found.answered)
        )
        above = " above the mean of what was in sight" if found.contrast == "mean" else ""
        return (
            f"Score {signed(found.score)}{above}: at {tokens[0]}, {asked} asked most; at "
            f"{tokens[1]}, {answered} answered most."
        )

    def reasons(self, found: Looking) -> dict[str, list[tuple[str, float]]]:
        """Who `asked` and who `answered`, as (name, part of the score); either adds up to it."""
        number, sides = self._session.graph.number, dict[str, list[tuple[str, float]]]()
        for side, nodes, shares, left_out, bias in (
            ("asked", found.asked, found.query_shares, found.query_left_out, found.query_bias),
            ("answered", found.answered, found.key_shares, found.key_left_out, found.key_bias),
        ):
            rows = [(self.name(n), float(shares[number(n)])) for n in nodes[:REASONS]]
            others = float(shares.sum()) + left_out - sum(value for _, value in rows)
            sides[side] = [*rows, ("all others", others), ("biases", bias)]
        return sides

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
        known, key = self.known.heads, (sources, targets)
        if key not in known:
            known[key] = self._of_all(sources, targets) or self._ask(sources, targets)
        return known[key]

    def _ask(self, sources: tuple[Node, ...], targets: tuple[Node, ...]) -> Heads:
        from circuit_nb.attribution import heads

        return heads(self._session.need_model(), self._session.graph, sources, targets)

    @cached_property
    def _everything(self) -> Heads | None:
        """The heads of all edges, where the graph is small."""
        model, graph = self._session.model, self._session.graph
        if model is None or graph.n_nodes * len(model.blocks) > FEW_NODES:
            return None
        targets = [graph.nodes[n] for n in graph.rows.tolist()]
        sources = [n for n in graph.nodes if not isinstance(n, TargetNode)]
        return self._ask(tuple(sources), tuple(n for n in targets if self._reads(n)))

    def _of_all(self, sources: tuple[Node, ...], targets: tuple[Node, ...]) -> Heads | None:
        """Those of some edges, taken from those of all; None where these are not at hand."""
        whole = self._everything
        if whole is None or not ({*sources} <= {*whole.sources} and {*targets} <= {*whole.targets}):
            return None
        rows = [whole.targets.index(n) for n in targets]
        columns = [whole.sources.index(n) for n in sources]
        edges, flows, past = (x[rows][:, columns] for x in (whole.edges, whole.flows, whole.past))
        return replace(whole, targets=targets, sources=sources, edges=edges, flows=flows, past=past)


def carriers_of(flows: Floats, edge: float) -> list[Carrier]:
    """The heads that carried most of an edge, the strongest first.

    Args:
        flows: What passed through each, (blocks, heads).
        edge: The whole edge.
    """
    if abs(edge) < NO_EDGE:
        return []
    found: list[Carrier] = []
    for n in np.argsort(-np.abs(flows), axis=None, kind="stable")[:NAMED].tolist():
        layer, head = divmod(n, flows.shape[1])
        found.append(Carrier(layer, head, float(flows[layer, head]) / edge))
    return [carrier for carrier in found if abs(carrier.share) >= LEAST]
