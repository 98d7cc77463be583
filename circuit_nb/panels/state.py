"""What the reader has set up, as immutable values that can be saved, and undone.

A switch belongs to what it switches, the features of a group, and not to a name: names change with
labels, and two things may be called the same.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from circuit_nb.graph import AttributionGraph, Feature, Node, Supernode, TargetNode
from circuit_nb.graph_check import MAX_INDEX
from circuit_nb.panels.keys import node_fields, node_from_key, node_key
from circuit_nb.strict_json import Reader, finite

FORMAT = 2
"""Version of the saved form: 2 keeps switches by what they switch, 1 kept them by name."""
LOWEST, HIGHEST = -5.0, 5.0
"""Range of multipliers."""


@dataclass(frozen=True)
class Switch:
    """The setting of one row of the switches."""

    on: bool = True
    multiplier: float = 1.0
    """Activation as a multiple of what it is."""
    positions: tuple[int, ...] | None = None
    """The tokens at which it acts, in place of where the features are; None: where they are."""
    generated: bool = False
    """Whether it acts at generated tokens too."""
    each: tuple[tuple[int, float], ...] = ()
    """(position, multiplier) of the tokens that have a multiplier of their own."""

    @property
    def badge(self) -> str:
        """The setting in a few characters; empty where nothing is changed."""
        if not self.on:
            return "off"
        factors = sorted({self.multiplier, *(m for _, m in self.each)})
        if factors == [1.0]:
            return ""
        return "×" + "…".join(_short(m) for m in factors[:: max(1, len(factors) - 1)])

    def at(self, position: int) -> float:
        """The multiplier at one token."""
        return dict(self.each).get(position, self.multiplier)


def _short(value: float) -> str:
    return f"{value:.3g}".replace("-", "−")


@dataclass(frozen=True)
class Added:
    """Features that are not of this prompt's graph, or not at this token, with activations."""

    supernode: Supernode
    """The features, at the positions where they are put in this prompt."""
    values: tuple[float, ...]
    """Activation they get, one a feature: what it is on the other prompt, or their usual one."""
    prompt: str = ""
    """The other prompt they were taken from; empty where they were found by their name."""


Row: TypeAlias = Supernode | Feature | Added
"""What has a switch: a supernode, a single pinned feature, or added features."""


@dataclass(frozen=True)
class Identity:
    """What a switch belongs to: the same as long as the features are, whatever they are called."""

    features: tuple[Feature, ...]
    """In ascending order."""
    prompt: str | None = None
    """The other prompt that they were taken from; None for features of this graph."""

    @classmethod
    def of(cls, row: Row) -> Identity:
        """The identity of what has a switch."""
        if isinstance(row, Feature):
            return cls((row,))
        if isinstance(row, Added):
            return cls(tuple(sorted(row.supernode.features)), row.prompt)
        return cls(tuple(sorted(row.features)))


@dataclass(frozen=True)
class Setup:
    """Pins, supernodes, labels and switches: all that undo goes back to and a file keeps.

    A switch goes when what it switches goes.
    """

    pinned: tuple[Node, ...] = ()
    supernodes: tuple[Supernode, ...] = ()
    labels: Mapping[tuple[int, int], str] = field(default_factory=dict[tuple[int, int], str])
    added: tuple[Added, ...] = ()
    switches: Mapping[Identity, Switch] = field(default_factory=dict[Identity, Switch])

    def __post_init__(self) -> None:
        there = {Identity.of(row) for row in self.rows}
        kept = {k: v for k, v in self.switches.items() if k in there}
        if len(kept) != len(self.switches):
            object.__setattr__(self, "switches", kept)

    @property
    def rows(self) -> tuple[Row, ...]:
        """All that has a switch: supernodes, pinned features, added features."""
        pinned = (n for n in self.pinned if isinstance(n, Feature))
        return (*self.supernodes, *pinned, *self.added)

    def switch(self, row: Row) -> Switch:
        """The setting of a row."""
        return self.switches.get(Identity.of(row), Switch())

    def set_switch(self, row: Row, switch: Switch) -> Setup:
        """Give a row another setting."""
        return replace(self, switches={**self.switches, Identity.of(row): switch})

    def add(self, added: Added) -> Setup:
        """Add features of another prompt.

        Raises:
            ValueError: If they are there already.
        """
        if Identity.of(added) in map(Identity.of, self.added):
            raise ValueError(
                f"{added.supernode.name!r} was added at this place already; "
                "set its multiplier instead."
            )
        return replace(self, added=(*self.added, added))

    @property
    def grouped(self) -> set[Feature]:
        """Every feature that is in a supernode."""
        return {f for s in self.supernodes for f in s.features}

    def pin(self, nodes: Iterable[Node]) -> Setup:
        """Add single nodes, those already there left out."""
        taken = {*self.pinned, *self.grouped}
        fresh = [n for n in dict.fromkeys(nodes) if n not in taken]
        return replace(self, pinned=(*self.pinned, *fresh))

    def without(self, group: Supernode | Node | Added) -> Setup:
        """Take out a node, a supernode or added features."""
        return replace(
            self,
            pinned=tuple(n for n in self.pinned if n != group),
            supernodes=tuple(s for s in self.supernodes if s != group),
            added=tuple(a for a in self.added if a != group),
        )

    def relabel(self, feature: Feature, text: str) -> Setup:
        """Label a feature; an empty text takes the label back."""
        key = (feature.layer, feature.index)
        labels = {k: v for k, v in self.labels.items() if k != key}
        return replace(self, labels={**labels, key: text.strip()} if text.strip() else labels)

    def group(self, name: str, members: Sequence[Supernode | Node]) -> Setup:
        """Make one supernode, the last, of features and supernodes; they leave where they were.

        Raises:
            ValueError: If there is no feature among them.
        """
        features: set[Feature] = set()
        for member in members:
            if isinstance(member, Supernode):
                features.update(member.features)
            elif isinstance(member, Feature):
                features.add(member)
        if not features:
            raise ValueError("Choose at least one feature to group; tokens and outputs stay alone.")
        kept = self._losing(features)
        made = Supernode(kept.free_name(name.strip() or "group"), sorted(features))
        return replace(
            kept,
            supernodes=(*kept.supernodes, made),
            pinned=tuple(n for n in self.pinned if n not in features),
        )

    def _losing(self, features: Collection[Feature]) -> Setup:
        """The supernodes without these features; what is left of one keeps its switch."""
        supernodes: list[Supernode] = []
        switches = dict(self.switches)
        for supernode in self.supernodes:
            left = [f for f in supernode.features if f not in features]
            if left:
                supernodes.append(Supernode(supernode.name, left))
                if (old := Identity.of(supernode)) in switches:
                    switches[Identity.of(supernodes[-1])] = switches[old]
        return replace(self, supernodes=tuple(supernodes), switches=switches)

    def ungroup(self, supernode: Supernode) -> Setup:
        """Dissolve a supernode into its features."""
        return self.without(supernode).pin(supernode.features)

    def rename(self, supernode: Supernode, name: str) -> Setup:
        """Give a supernode another name."""
        free = self.without(supernode).free_name(name.strip() or supernode.name)
        made = Supernode(free, supernode.features)
        return replace(
            self, supernodes=tuple(made if s == supernode else s for s in self.supernodes)
        )

    def accept(self, proposals: Iterable[Supernode]) -> Setup:
        """Add proposed supernodes; features that are in one already stay there."""
        result = self
        for proposal in proposals:
            features = [f for f in proposal.features if f not in result.grouped]
            if features:
                result = result.group(proposal.name, features)
        return result

    def free_name(self, name: str) -> str:
        """The name, with a number where it is taken."""
        taken = {s.name for s in self.supernodes} | {a.supernode.name for a in self.added}
        free, count = name, 2
        while free in taken:
            free, count = f"{name} {count}", count + 1
        return free

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "format": FORMAT,
            "pinned": [node_key(n) for n in self.pinned],
            "supernodes": [_supernode_to_json(s) for s in self.supernodes],
            "labels": [[layer, index, text] for (layer, index), text in self.labels.items()],
            "added": [
                {**_supernode_to_json(a.supernode), "values": list(a.values), "prompt": a.prompt}
                for a in self.added
            ],
            "switches": [
                {
                    "features": [node_fields(f) for f in k.features],
                    "prompt": k.prompt,
                    **dataclasses.asdict(s),
                }
                for k, s in self.switches.items()
            ],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Setup:
        """Read what `to_json` wrote.

        Raises:
            ValueError: If it was written by a newer version, or is not such data.
        """
        try:
            saved = Reader(data, "It")
            version = saved.integer("format", least=1)
        except ValueError as error:
            raise ValueError(f"The saved session is damaged: {error}") from None
        if version > FORMAT:
            raise ValueError(
                f"The saved session has format {version}; this version of circuit-nb reads up to "
                f"{FORMAT}. Upgrade circuit-nb to open it."
            )
        try:
            setup = cls(
                pinned=tuple(map(node_from_key, saved.texts("pinned"))),
                supernodes=tuple(map(_supernode_from_json, saved.items("supernodes"))),
                labels=dict(map(_label_from_json, saved.items("labels"))),
                added=tuple(map(_added_from_json, saved.items("added"))),
            )
            return replace(setup, switches=dict(_switches(saved, setup, version)))
        except ValueError as error:
            raise ValueError(f"The saved session is damaged: {error}") from None

    def check_fits(self, graph: AttributionGraph) -> None:
        """Make sure that every node is at a place that the graph's prompt and model have.

        Features need not be active there.

        Raises:
            ValueError: If one is not.
        """
        features = [
            f for s in (*self.supernodes, *(a.supernode for a in self.added)) for f in s.features
        ]
        for node in (*self.pinned, *features):
            inside = (
                node.index < len(graph.targets)
                if isinstance(node, TargetNode)
                else node.position < len(graph.tokens)
            )
            if not inside or getattr(node, "layer", 0) >= graph.n_layers:
                raise ValueError(
                    f"The saved session is damaged: it holds {node}, and the prompt has "
                    f"{len(graph.tokens)} tokens, the model {graph.n_layers} layers."
                )


def _supernode_to_json(supernode: Supernode) -> dict[str, Any]:
    return {"name": supernode.name, "features": [node_fields(f) for f in supernode.features]}


def _supernode_from_json(data: Any) -> Supernode:
    saved = Reader(data, "A supernode")
    return Supernode(saved.text("name"), map(_feature_from_json, saved.items("features")))


def _feature_from_json(data: Any) -> Feature:
    return Feature(*(_index(number) for number in _row(data, 3, "A feature")))


def _added_from_json(data: Any) -> Added:
    saved, supernode = Reader(data, "An added supernode"), _supernode_from_json(data)
    values = tuple(finite(value, "A value") for value in saved.items("values"))
    if len(values) != len(supernode.features):
        saved.fail(f"has {len(values)} values for {len(supernode.features)} features")
    return Added(supernode, values, saved.text("prompt"))


def _label_from_json(data: Any) -> tuple[tuple[int, int], str]:
    layer, index, text = _row(data, 3, "A label")
    return (_index(layer), _index(index)), Reader({"label": text}, "A label").text("label")


def _switches(saved: Reader, setup: Setup, version: int) -> Iterator[tuple[Identity, Switch]]:
    if version == 1:
        for name, values in saved.entries("switches"):
            switch = _switch(*_row(values, 2, "A switch"))
            yield from ((Identity.of(r), switch) for r in setup.rows if _was_called(r, name))
        return
    for item in saved.items("switches"):
        entry = Reader(item, "A switch")
        features = tuple(map(_feature_from_json, entry.items("features")))
        prompt = None if entry.get("prompt") is None else entry.text("prompt")
        switch = _switch(entry.get("on"), entry.get("multiplier"))
        places = None if entry.get("positions") is None else entry.items("positions")
        each = entry.items("each") if entry.get("each") is not None else ()
        yield (
            Identity(features, prompt),
            replace(
                switch,
                positions=None if places is None else tuple(map(_index, places)),
                generated=entry.get("generated") is True,
                each=tuple(
                    (_index(p), _multiplier(m)) for p, m in (_row(e, 2, "It") for e in each)
                ),
            ),
        )


def _switch(on: Any, multiplier: Any) -> Switch:
    if not isinstance(on, bool):
        raise ValueError("A switch is on or off.")
    return Switch(on, _multiplier(multiplier))


def _multiplier(value: Any) -> float:
    number = finite(value, "A multiplier")
    if not LOWEST <= number <= HIGHEST:
        raise ValueError(
            f"A multiplier is {number:g}, where {LOWEST:g} to {HIGHEST:g} is possible."
        )
    return number


def _was_called(row: Row, name: str) -> bool:
    """Whether version 1 kept the switch of a row under this name."""
    if isinstance(row, Feature):
        place = rf"(^| · )L{row.layer} #{row.index} at .* \({row.position}\)$"
        return re.search(place, name, re.DOTALL) is not None
    return name == (row.supernode if isinstance(row, Added) else row).name


def _row(data: Any, length: int, name: str) -> list[Any]:
    row = Reader({"row": data}, name).items("row")
    if len(row) != length:
        raise ValueError(f"{name} has {len(row)} entries, where {length} are needed.")
    return row


def _index(value: Any) -> int:
    return Reader({"number": value}, "A node").integer("number", below=MAX_INDEX)
