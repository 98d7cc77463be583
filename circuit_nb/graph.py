"""The attribution graph as plain NumPy data: nodes, edges, saving and loading.

Axis order everywhere: layer, position, index. `weights[target, source]` is the only orientation
in the library. What is computed from a graph is in `circuit_nb.analysis`.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from circuit_nb.files import quoted, said, shown, write_tensors
from circuit_nb.finding import Labels, Wanted
from circuit_nb.given import whole
from circuit_nb.graph_check import ARRAYS, checked
from circuit_nb.influence import walk

SCHEMA_VERSION = 1
MAX_HEADER = 2**24
"""Most characters that the texts of a graph file may take, as JSON."""
_HEADER = "circuit_nb"
_TEXTS = frozenset({"prompt", "tokens", "targets", "n_layers", "n_active", "provenance"})
_STORED = frozenset(
    {"F16", "F32", "F64", *(f"{kind}{n}" for kind in "IU" for n in (8, 16, 32, 64))}
)
"""Types of numbers that a graph file may hold."""


@dataclass(frozen=True, order=True, slots=True)
class Feature:
    """One transcoder feature at one position of the prompt.

    Args:
        layer: Layer whose transcoder reads the feature, from 0.
        position: Position in the prompt, 0 being the special token it begins with.
        index: Index within the layer's transcoder.
    """

    layer: int
    position: int
    index: int

    def __str__(self) -> str:
        return f"L{self.layer} #{self.index} @{self.position}"


@dataclass(frozen=True, order=True, slots=True)
class ErrorNode:
    """What the transcoder of one layer failed to reconstruct at one position."""

    layer: int
    position: int

    def __str__(self) -> str:
        return f"error L{self.layer} @{self.position}"


@dataclass(frozen=True, order=True, slots=True)
class TokenNode:
    """The embedding of the prompt's token at one position."""

    position: int

    def __str__(self) -> str:
        return f"token @{self.position}"


@dataclass(frozen=True, order=True, slots=True)
class TargetNode:
    """An output the graph explains; `index` counts within `AttributionGraph.targets`."""

    index: int

    def __str__(self) -> str:
        return f"target {self.index}"


_KINDS = {Feature: "feature", ErrorNode: "error", TokenNode: "token", TargetNode: "target"}

Node: TypeAlias = Feature | ErrorNode | TokenNode | TargetNode
"""A node is identified by its type and its fields, so nodes of two kinds can never collide."""


@dataclass(frozen=True)
class Supernode:
    """Features that a reader treats as one, under a name of the reader's choice.

    Args:
        name: What the features stand for, e.g. `"Texas"`.
        features: The features; any iterable, kept as a tuple.

    Raises:
        ValueError: If there is no feature in it.
    """

    name: str
    features: tuple[Feature, ...]

    def __init__(self, name: str, features: Iterable[Feature | tuple[int, int, int]]) -> None:
        object.__setattr__(self, "name", str(name))
        members = tuple(f if isinstance(f, Feature) else Feature(*map(int, f)) for f in features)
        if not members:
            raise ValueError(f"Supernode {name!r} has no features; give it at least one.")
        object.__setattr__(self, "features", members)


class Blocks(NamedTuple):
    """Where each kind of node lies in the order features, errors, tokens, targets."""

    features: slice
    errors: slice
    tokens: slice
    targets: slice


@dataclass(frozen=True, eq=False)
class AttributionGraph:
    """Which features, errors and tokens caused which others, and the outputs, on one prompt.

    Whatever makes one, it is checked whole (`circuit_nb.graph_check`): types, shapes, ranges, the
    order of its nodes, and that edges lead to higher layers only.

    Raises:
        ValueError: If it cannot be a graph; one sentence says what is wrong.
    """

    prompt: str
    """The text that was explained."""
    tokens: tuple[str, ...]
    """The prompt's tokens as text, one a position, the special token first."""
    token_ids: npt.NDArray[np.int64]
    """Vocabulary ids, (positions,)."""
    features: npt.NDArray[np.int64]
    """(n_features, 3), rows (layer, position, index) in ascending order."""
    activations: npt.NDArray[np.float32]
    """Activation of each feature on the prompt, (n_features,)."""
    errors: npt.NDArray[np.int64]
    """(n_errors, 2), rows (layer, position) in ascending order."""
    targets: tuple[str, ...]
    """The outputs explained, as text."""
    target_ids: npt.NDArray[np.int64]
    """(n_targets,) vocabulary ids; -1 for a direction that is no token."""
    target_probabilities: npt.NDArray[np.float32]
    """(n_targets,) the weight of each target: its probability unless the caller chose another."""
    weights: npt.NDArray[np.float32]
    """Direct effects, (n_features + n_targets, n_features + n_errors + positions):
    `weights[target, source]`, rows features then targets, columns features, errors, tokens. In
    units of the target's pre-activation (features) or logit (targets)."""
    n_layers: int
    """Layers of the model."""
    n_active: int
    """How many features were active before `max_features` chose among them."""
    provenance: dict[str, Any] = field(default_factory=dict[str, Any])
    """Where the graph comes from: model, transcoders, revisions, settings. JSON values only."""

    def __post_init__(self) -> None:
        for name, value in checked(self).items():
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        return (
            f"AttributionGraph({self.prompt!r}: {len(self.features)} of {self.n_active} features, "
            f"{len(self.errors)} errors, {len(self.tokens)} tokens, {len(self.targets)} targets)"
        )

    @property
    def n_nodes(self) -> int:
        """Number of nodes of all four kinds."""
        return self.blocks.targets.stop

    @cached_property
    def blocks(self) -> Blocks:
        """Slices of the four kinds in node order.

        The first three also slice the columns of `weights`; see `rows` for its rows.
        """
        ends = np.cumsum(
            [0, len(self.features), len(self.errors), len(self.tokens), len(self.targets)]
        ).tolist()
        return Blocks(*(slice(a, b) for a, b in itertools.pairwise(ends)))

    @property
    def rows(self) -> npt.NDArray[np.int64]:
        """Node number of each row of `weights`, (n_features + n_targets,)."""
        order = np.arange(self.n_nodes)
        return np.concatenate([order[self.blocks.features], order[self.blocks.targets]])

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """Every node in node order: features, errors, tokens, targets."""
        return (
            *(Feature(*row) for row in self.features.tolist()),
            *(ErrorNode(*row) for row in self.errors.tolist()),
            *(TokenNode(p) for p in range(len(self.tokens))),
            *(TargetNode(i) for i in range(len(self.targets))),
        )

    @cached_property
    def _numbers(self) -> Mapping[Node, int]:
        return {node: number for number, node in enumerate(self.nodes)}

    def __contains__(self, node: object) -> bool:
        return node in self._numbers

    def number(self, node: Node) -> int:
        """Place of a node in node order.

        Raises:
            ValueError: If the graph does not hold the node.
        """
        try:
            return self._numbers[node]
        except KeyError:
            raise ValueError(
                f"{node} is not in this graph of {len(self.features)} features; it was inactive "
                "on this prompt, left out by max_features, or pruned."
            ) from None

    def inputs(self, node: Node) -> npt.NDArray[np.float32]:
        """Weights of every source into `node`, (n_features + n_errors + positions,).

        Errors and tokens have no inputs: zeros.
        """
        number = self.number(node)
        if number < self.blocks.features.stop:
            return self.weights[number]
        if number >= self.blocks.targets.start:
            return self.weights[number - self.blocks.targets.start + len(self.features)]
        return np.zeros(self.weights.shape[1], dtype=np.float32)

    def outputs(self, node: Node) -> npt.NDArray[np.float32]:
        """Weights of `node` into every feature, then every target, (n_features + n_targets,)."""
        number = self.number(node)
        if number >= self.blocks.targets.start:
            return np.zeros(self.weights.shape[0], dtype=np.float32)
        return self.weights[:, number]

    def weight(self, source: Node, target: Node) -> float:
        """The direct effect of one node on another; 0 where there is no edge."""
        number = self.number(source)
        if number >= self.blocks.targets.start:
            return 0.0
        return float(self.inputs(target)[number])

    def save(self, path: str | Path) -> Path:
        """Write the graph as one safetensors file whose header holds the texts as JSON.

        A file that is there is replaced at once, when the new one is whole.

        Returns:
            The path written.

        Raises:
            OSError: If it cannot be written; one sentence says why.
            ValueError: If the texts are too long to be read again.
        """
        # In one order: a graph computed twice is the same file.
        header = {name: getattr(self, name) for name in sorted(_TEXTS)}
        text = json.dumps({"schema_version": SCHEMA_VERSION, **header})
        if len(text) > MAX_HEADER:
            raise ValueError(
                f"The graph's texts take {len(text)} characters as JSON; a file holds {MAX_HEADER}."
            )
        arrays = {name: np.ascontiguousarray(getattr(self, name)) for name in ARRAYS}
        return write_tensors(path, arrays, {_HEADER: text})

    @classmethod
    def load(cls, path: str | Path) -> AttributionGraph:
        """Read a graph written by `save`.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If the file is not such a graph, is damaged, or of a newer schema.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"No graph file at {path}.")
        stored = _read(path)
        try:
            return cls(**stored)
        except ValueError as error:
            raise ValueError(f"{shown(path)}: {error}") from error

    def to_dict(self) -> dict[str, Any]:
        """The graph as JSON values with stable keys, for programs; docs/sharing.md lists them.

        `edges` are [source, target, weight], the ends by their places in `nodes`; zeros are left
        out. Numbers have the fewest digits that give the same float32.
        """
        nodes: list[dict[str, Any]] = []
        for node in self.nodes:
            own = {name: getattr(node, name) for name in node.__dataclass_fields__}
            kind = _KINDS[type(node)]
            nodes.append({"id": "-".join([kind, *map(str, own.values())]), "kind": kind, **own})
        for node, value in zip(nodes, map(str, self.activations), strict=False):
            node["activation"] = float(value)
        for node, token in zip(nodes[self.blocks.tokens], self.tokens, strict=True):
            node["token"] = token
        outputs = zip(self.targets, self.target_ids, self.target_probabilities, strict=True)
        for node, (token, number, share) in zip(nodes[self.blocks.targets], outputs, strict=True):
            node.update(token=token, token_id=int(number), probability=float(str(share)))
        rows, columns = np.nonzero(self.weights)
        ends = zip(columns.tolist(), self.rows[rows].tolist(), strict=True)
        values = (float(str(value)) for value in self.weights[rows, columns])
        return {
            **{"format": "circuit-nb graph", "version": SCHEMA_VERSION},
            **{name: getattr(self, name) for name in ("prompt", "n_layers", "n_active")},
            **{"tokens": list(self.tokens), "token_ids": self.token_ids.tolist(), "nodes": nodes},
            "edges": [[*pair, value] for pair, value in zip(ends, values, strict=True)],
            "provenance": self.provenance,
        }

    def top(self, count: int = 10) -> list[Feature]:
        """The features with the most influence on the targets, the strongest first."""
        return self.find()[: whole(count, "count")]

    def find(
        self,
        text: str | None = None,
        *,
        labels: Labels | None = None,
        token: str | None = None,
        layer: int | None = None,
        index: int | None = None,
    ) -> list[Feature]:
        """The features that fit all that is given, the most influential first.

        Args:
            text: A part of the label, whatever the case, such as `"Texas"`.
            labels: Labels, or cards, by (layer, index) or by feature; by default those that ship
                with the graph's model.
            token: The token at which a feature is active, with or without its space.
            layer: Layer of the feature.
            index: Its index within the layer.

        Raises:
            ValueError: If there are no labels, or the prompt has no such token.
        """
        features = [n for n in self.nodes[self.blocks.features] if isinstance(n, Feature)]
        wanted = Wanted(text, labels, token, layer, index)
        found = wanted.among(features, self.tokens, self.provenance)
        reach = walk(self.weights, self.features[:, 0], self.target_probabilities).columns
        return [features[i] for i in sorted(found, key=lambda i: -reach[i])]


def _read(path: Path) -> dict[str, Any]:
    """The fields of a graph as a file has them."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            header = _header((file.metadata() or {}).get(_HEADER, ""), path)
            missing = sorted((_TEXTS - set(header)) | (set(ARRAYS) - set(file.keys())))
            if missing:
                raise ValueError(
                    f"{shown(path)} lacks {', '.join(missing)}; the graph file is incomplete."
                )
            for name in ARRAYS:
                stored = file.get_slice(name).get_dtype()
                if stored not in _STORED:
                    raise ValueError(
                        f"{shown(path)} holds {name} of type {stored}, which no graph has."
                    )
            arrays = {name: file.get_tensor(name) for name in ARRAYS}
    except SafetensorError as error:
        raise ValueError(
            f"{shown(path)} is not a readable safetensors file ({said(error)}); "
            "give a file written by AttributionGraph.save."
        ) from error
    return {**arrays, **{name: header[name] for name in _TEXTS}}


def _header(text: str, path: Path) -> dict[str, Any]:
    """What the header of a graph file says, its schema version checked."""
    if len(text) > MAX_HEADER:
        raise ValueError(
            f"{shown(path)} has a header of {len(text)} characters; no graph has over {MAX_HEADER}."
        )
    try:
        header = json.loads(text)
        version = header.pop("schema_version")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"{shown(path)} is a safetensors file but no attribution graph; "
            "give a file written by AttributionGraph.save."
        ) from error
    if type(version) is not int or not 1 <= version <= SCHEMA_VERSION:
        raise ValueError(
            f"{shown(path)} has graph schema {quoted(version)}; this version of circuit-nb reads "
            f"up to {SCHEMA_VERSION}. Upgrade circuit-nb to open it."
        )
    return header
