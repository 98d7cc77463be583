"""The attribution graph as plain NumPy data: nodes, edges, saving and loading.

Axis order everywhere: layer, position, index. `weights[target, source]` is the only orientation
in the library. Nothing here computes; see `circuit_nb.analysis` for that.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

SCHEMA_VERSION = 1
_HEADER = "circuit_nb"


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


_ARRAYS: dict[str, type[np.generic]] = {
    "token_ids": np.int64,
    "features": np.int64,
    "activations": np.float32,
    "errors": np.int64,
    "target_ids": np.int64,
    "target_probabilities": np.float32,
    "weights": np.float32,
}


@dataclass(frozen=True, eq=False)
class AttributionGraph:
    """Which features, errors and tokens caused which others, and the outputs, on one prompt.

    Raises:
        ValueError: If the shapes of the arrays do not fit together, or numbers are not finite.
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
        object.__setattr__(self, "tokens", tuple(self.tokens))
        object.__setattr__(self, "targets", tuple(self.targets))
        for name, dtype in _ARRAYS.items():
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=dtype))
        positions, n_targets = len(self.tokens), len(self.targets)
        n_features, n_errors = len(self.features), len(self.errors)
        shapes = {
            "token_ids": (positions,),
            "features": (n_features, 3),
            "activations": (n_features,),
            "errors": (n_errors, 2),
            "target_ids": (n_targets,),
            "target_probabilities": (n_targets,),
            "weights": (n_features + n_targets, n_features + n_errors + positions),
        }
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                raise ValueError(
                    f"The graph's {name} has shape {getattr(self, name).shape}, expected {shape} "
                    f"for {n_features} features, {n_errors} errors, {positions} tokens and "
                    f"{n_targets} targets."
                )
        for name in ("activations", "target_probabilities", "weights"):
            if not np.isfinite(getattr(self, name)).all():
                raise ValueError(f"The graph's {name} hold NaN or infinity; it is damaged.")

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

        Returns:
            The path written.
        """
        from safetensors.numpy import save_file

        header = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in _ARRAYS}
        text = json.dumps({"schema_version": SCHEMA_VERSION, **header})
        arrays = {name: np.ascontiguousarray(getattr(self, name)) for name in _ARRAYS}
        path = Path(path)
        save_file(arrays, path, metadata={_HEADER: text})
        return path

    @classmethod
    def load(cls, path: str | Path) -> AttributionGraph:
        """Read a graph written by `save`.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If the file is not such a graph, is damaged, or of a newer schema.
        """
        from safetensors import SafetensorError, safe_open

        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"No graph file at {path}.")
        try:
            with safe_open(path, framework="numpy") as file:
                text = (file.metadata() or {}).get(_HEADER)
                arrays = {name: file.get_tensor(name) for name in set(file.keys()) & set(_ARRAYS)}
        except SafetensorError as error:
            raise ValueError(
                f"{path} is not a readable safetensors file ({error}); "
                "give a file written by AttributionGraph.save."
            ) from error
        return cls(**_header(text, path, arrays), **arrays)


def _header(text: str | None, path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> dict[str, Any]:
    """The header's fields, checked before they meet the arrays."""
    try:
        header = json.loads(text or "")
        version = header.pop("schema_version")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is a safetensors file but no attribution graph; "
            "give a file written by AttributionGraph.save."
        ) from error
    if not isinstance(version, int) or version > SCHEMA_VERSION:
        raise ValueError(
            f"{path} has graph schema {version}; this version of circuit-nb reads up to "
            f"{SCHEMA_VERSION}. Upgrade circuit-nb to open it."
        )
    wanted = {f.name for f in fields(AttributionGraph)} - set(_ARRAYS)
    missing = sorted((wanted - set(header)) | (set(_ARRAYS) - set(arrays)))
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}; the graph file is incomplete.")
    return {name: header[name] for name in wanted}
