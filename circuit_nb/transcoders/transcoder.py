"""Transcoders: what the features of a model are, how they read and where they write.

A per-layer transcoder (PLT) is a cross-layer transcoder (CLT) that writes to one layer only, so
one type serves both. Encoders are kept in memory; decoder rows are read from their files when a
feature is active, so that opening a set costs no decoder memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch import Tensor

from circuit_nb.transcoders.lazy_files import Encoder, InMemory, OnDisk, Rows

INPUT_HOOKS = ("hook_resid_mid", "ln2.hook_normalized", "mlp.hook_in")
"""Places features can read from: the residual stream before the MLP, that over its norm's
denominator, and that times the norm's weight (what the MLP itself reads)."""

OUTPUT_HOOKS = ("mlp.hook_out", "hook_mlp_out")
"""Places decoders can reconstruct: the MLP's own output, or what is added to the residual stream
(the two differ where a norm follows the MLP)."""


@dataclass(frozen=True)
class LayerTranscoder:
    """The features that read at one layer.

    The activation function is TopK if `k` is given, JumpReLU if `threshold` is, else ReLU. TopK
    keeps the k largest pre-activations, negative ones too (circuit-tracer), unless `rectified`.
    Where a set chooses among all layers at once (`Transcoders.joint_k`), what a token's features
    must reach, its cut, is given with what they read.
    """

    W_enc: Tensor | Encoder
    """(features, d_model), in memory or in a file."""
    decoder: Rows
    """(features, layers written, d_model); the first written layer is the feature's own."""
    b_enc: Tensor
    """(features,)."""
    b_dec: Tensor
    """(d_model,), added to the reconstruction of this layer."""
    threshold: Tensor | None = None
    """(features,)."""
    W_skip: Tensor | None = None
    """(d_model, d_model): the linear path `x @ W_skip.T` beside the features."""
    k: int | None = None
    rectified: bool = False
    """Whether TopK chooses among what ReLU leaves (sparsify)."""
    rank: Tensor | None = None
    """(features,), in float32: TopK compares pre-activations times this; 1 if None."""

    def to(
        self,
        device: torch.device | str,
        dtype: torch.dtype | None = None,
        *,
        keep_encoder: bool | None = None,
    ) -> LayerTranscoder:
        """The same with its tensors on a device in a type; decoder rows keep their own type.

        Args:
            device: Where tensors are put, and decoder rows when they are read.
            dtype: Type of the tensors; as it is if `None`.
            keep_encoder: Whether an encoder in a file stays in memory once read; as it is if
                `None`.
        """
        moved: dict[str, Any] = {
            name: tensor.to(device, dtype or tensor.dtype).contiguous()
            for name in ("W_enc", "b_enc", "b_dec", "threshold", "W_skip")
            if isinstance(tensor := getattr(self, name), Tensor)
        }
        if self.rank is not None:
            moved["rank"] = self.rank.to(device)
        if isinstance(self.W_enc, Encoder):
            moved["W_enc"] = self.W_enc.to(device, dtype, keep=keep_encoder)
        if isinstance(self.decoder, (InMemory, OnDisk)):
            moved["decoder"] = replace(self.decoder, device=device)
        return replace(self, **moved)

    def pre_activations(self, x: Tensor) -> Tensor:
        """Encoder output before the activation function: (…, d_model) to (…, features)."""
        weight = self.W_enc if isinstance(self.W_enc, Tensor) else self.W_enc.whole()
        return torch.nn.functional.linear(x.to(weight.dtype), weight, self.b_enc)

    def encoder_rows(self, features: Tensor) -> Tensor:
        """Encoder rows of the given features, (n, d_model)."""
        if isinstance(self.W_enc, Tensor):
            return self.W_enc[features.to(self.W_enc.device)]
        return self.W_enc.rows(features)

    def compared(self, pre: Tensor, indices: Tensor | None = None) -> Tensor:
        """What TopK compares pre-activations by; of all features, or (…, n) of those at `indices`.

        Without a `rank` these are the pre-activations themselves.
        """
        if self.rank is None:
            return pre
        return pre.float() * (self.rank if indices is None else self.rank[indices])

    def activate(self, pre: Tensor, cut: Tensor | None = None) -> Tensor:
        """The activation function, (…, features) to the same shape.

        Args:
            pre: Pre-activations.
            cut: (…,), of the same tokens, where the set chooses among all layers at once
                (`Transcoders.cut`).
        """
        if cut is not None:
            return _reaching(pre, self.compared(pre), cut[..., None])
        if self.k is not None:
            kept, values = self._largest(pre, self.k)
            return torch.zeros_like(pre).scatter(-1, kept, values)
        if self.threshold is not None:
            return pre * (pre > self.threshold)
        return pre.relu()

    def active(self, pre: Tensor, cut: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """What `activate` leaves above or below zero, in the order of tokens.

        Args:
            pre: Pre-activations, (tokens, features).
            cut: As for `activate`, (tokens,).

        Returns:
            Token, feature and activation of each, three vectors.
        """
        if self.k is not None and cut is None:
            kept, values = self._largest(pre, self.k)
            token, slot = values.nonzero().unbind(1)
            return token, kept[token, slot], values[token, slot]
        values = self.activate(pre, cut)
        token, feature = values.nonzero().unbind(1)
        return token, feature, values[token, feature]

    def _largest(self, pre: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """What TopK keeps of each token: features and their activations, (…, k)."""
        some = pre.relu() if self.rectified else pre
        kept = self.compared(some).topk(min(k, pre.shape[-1]), dim=-1, sorted=False).indices
        return kept, some.gather(-1, kept)

    def of_features(
        self,
        x: Tensor,
        indices: Tensor,
        correction: Tensor | float = 0.0,
        cut: Tensor | None = None,
        at: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Pre-activation and activation of one feature for each row, in float32.

        Args:
            x: What the features read, (…, n, d_model), or (…, tokens, d_model) with `at`.
            indices: Feature index of each of the n rows, (n,).
            correction: Added to the pre-activations before the activation function, (n,): what
                `pre_activations` said of the same x beyond what this says. TopK needs none.
            cut: As for `activate`, of each row, (…, n).
            at: Which token each row reads, (n,): TopK computes every feature of a token once,
                however many of its features are asked for.

        Returns:
            Two tensors of shape (…, n).
        """
        if self.k is not None:  # Which features are on depends on all the others.
            at = torch.arange(len(indices), device=x.device) if at is None else at
            tokens, at = at.unique(return_inverse=True)
            every = self.pre_activations(x[..., tokens, :])
            pre, acts = (of[..., at, indices].float() for of in (every, self.activate(every)))
            return pre, acts
        x = x if at is None else x[..., at, :]
        # Rounded where `pre_activations` rounds: once, after a sum in float32, bias included.
        # The two still differ in the last digit now and then, as their orders of summing do.
        rows = self.encoder_rows(indices)
        wide = (x.to(rows.dtype).float() * rows.float()).sum(-1) + self.b_enc[indices].float()
        pre = wide.to(rows.dtype).float() + correction
        if cut is not None:
            return pre, _reaching(pre, self.compared(pre, indices), cut)
        if self.threshold is not None:
            return pre, torch.where(pre > self.threshold[indices].float(), pre, 0.0)
        return pre, pre.relu()

    def skip(self, x: Tensor) -> Tensor:
        """The linear skip path, (…, d_model) to the same shape; zeros where there is none."""
        if self.W_skip is None:
            return torch.zeros_like(x)
        return x.to(self.W_skip.dtype) @ self.W_skip.T


def _reaching(pre: Tensor, compared: Tensor, cut: Tensor) -> Tensor:
    """Pre-activations that are above zero and reach their token's cut, else 0."""
    return pre * ((pre > 0) & (compared >= cut.to(pre.device)))


@dataclass(frozen=True)
class Transcoders:
    """A transcoder for every layer of a model.

    Raises:
        ValueError: If a hook name is unknown or the layers' shapes disagree.
    """

    layers: tuple[LayerTranscoder, ...]
    input_hook: str
    """One of `INPUT_HOOKS`."""
    output_hook: str
    """One of `OUTPUT_HOOKS`."""
    cross_layer: bool = False
    """Whether features write to their own layer and every later one."""
    model_name: str = ""
    """Hub id of the model the set was trained on, if it says."""
    scan: str | Sequence[str] | None = None
    """Name of the set on Neuronpedia."""
    source: str = ""
    """Where the set was read from, for provenance."""
    revision: str | None = None
    """Commit of the Hub repository it comes from."""
    config: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)
    joint_k: int | None = None
    """How many features TopK keeps at a token among those of all layers that are above zero; None
    where every layer chooses for itself."""

    def __post_init__(self) -> None:
        for name, value, valid in (
            ("feature_input_hook", self.input_hook, INPUT_HOOKS),
            ("feature_output_hook", self.output_hook, OUTPUT_HOOKS),
        ):
            if value not in valid:
                raise ValueError(f"{name} is {value[:60]!r}; it can be one of {', '.join(valid)}.")
        if not self.layers:
            raise ValueError("The transcoder set has no layers; give one transcoder a layer.")
        for i, layer in enumerate(self.layers):
            self._check_shapes(i, layer)
        of_layers = any(layer.k is not None or layer.threshold is not None for layer in self.layers)
        if self.joint_k is not None and (self.joint_k < 1 or of_layers):
            raise ValueError(
                f"joint_k is {self.joint_k}; give 1 or more, and neither k nor thresholds beside "
                "it: features are chosen among all layers, or by each layer."
            )

    def _check_shapes(self, i: int, layer: LayerTranscoder) -> None:
        for name, vector in (("b_enc", layer.b_enc), ("b_dec", layer.b_dec)):
            if vector.ndim != 1 or not len(vector):
                raise ValueError(
                    f"The {name} of the transcoder for layer {i} has shape {tuple(vector.shape)}; "
                    "it needs a vector of at least one number."
                )
        k = cast("object", layer.k)
        if k is not None and (not isinstance(k, int) or isinstance(k, bool) or k < 1):
            raise ValueError(f"The transcoder for layer {i} has k {k!r}; give 1 or more.")
        features, d_model = len(layer.b_enc), len(layer.b_dec)
        wanted: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
            "encoder": (tuple(layer.W_enc.shape), (features, self.d_model)),
            "decoder": (layer.decoder.shape, (features, len(self.writes(i)), self.d_model)),
            "b_dec": ((d_model,), (self.d_model,)),
        }
        if layer.rank is not None:
            wanted["rank"] = (tuple(layer.rank.shape), (features,))
        if layer.threshold is not None:
            wanted["threshold"] = (tuple(layer.threshold.shape), (features,))
        if layer.W_skip is not None:
            wanted["skip"] = (tuple(layer.W_skip.shape), (self.d_model, self.d_model))
        for name, (shape, expected) in wanted.items():
            if tuple(shape) != expected:
                raise ValueError(
                    f"The {name} of the transcoder for layer {i} has shape {tuple(shape)}, "
                    f"expected {expected}; the files do not belong to one set."
                )
        for name in ("b_enc", "b_dec", "threshold", "rank"):
            vector = getattr(layer, name)
            if vector is not None and vector.isnan().any():
                raise ValueError(f"The {name} of the transcoder for layer {i} holds NaN.")

    def to(
        self,
        devices: Sequence[torch.device],
        dtype: torch.dtype | None = None,
        *,
        keep_encoders: bool | None = None,
    ) -> Transcoders:
        """The same with each layer on a device of its own; see `LayerTranscoder.to`."""
        layers = (
            layer.to(device, dtype, keep_encoder=keep_encoders)
            for layer, device in zip(self.layers, devices, strict=True)
        )
        return replace(self, layers=tuple(layers))

    def cut(self, reads: Sequence[Tensor]) -> Tensor | None:
        """What features must reach at each token where they are chosen among all layers.

        It lies halfway between the last that is kept and the first that is not, so that sums made
        in another order choose the same.

        Args:
            reads: What the features of each layer read, by layer, each (…, d_model).

        Returns:
            (…,), in float32; None where every layer chooses for itself.
        """
        if self.joint_k is None:
            return None
        first_out = min(self.joint_k, sum(len(layer.b_enc) for layer in self.layers)) + 1
        best = torch.zeros(*reads[0].shape[:-1], first_out, device=reads[0].device)
        for layer, x in zip(self.layers, reads, strict=True):
            found = layer.compared(layer.pre_activations(x)).float()
            own = found.topk(min(first_out, found.shape[-1]), dim=-1).values
            best = torch.cat([best, own.to(best.device)], -1).topk(first_out, dim=-1).values
        return best[..., -2:].mean(-1)

    @property
    def encoder_weights(self) -> int:
        """Number of weights of all encoders."""
        return sum(len(layer.b_enc) for layer in self.layers) * self.d_model

    @property
    def n_layers(self) -> int:
        """Number of layers."""
        return len(self.layers)

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return len(self.layers[0].b_dec)

    @property
    def has_skip(self) -> bool:
        """Whether any layer has a linear skip path."""
        return any(layer.W_skip is not None for layer in self.layers)

    def writes(self, layer: int) -> range:
        """Layers that the features reading at `layer` write to."""
        return range(layer, self.n_layers if self.cross_layer else layer + 1)

    def readers(self, layer: int) -> range:
        """Layers whose features write to `layer`."""
        return range(0 if self.cross_layer else layer, layer + 1)

    def check(self, layer: int, index: int) -> None:
        """Raise `ValueError` unless there is such a feature."""
        if not 0 <= layer < self.n_layers:
            raise ValueError(f"Layer {layer} does not exist; layers are 0 to {self.n_layers - 1}.")
        features = len(self.layers[layer].b_enc)
        if not 0 <= index < features:
            raise ValueError(
                f"Feature index {index} does not exist at layer {layer}; "
                f"indices are 0 to {features - 1}."
            )
