"""The hooks that put new feature values into a forward pass, and generation under them.

One batched pass runs several experiments on the same prompt, one a row. Tensors have the axes
(row, position, d_model).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from circuit_nb.graph import Feature
from circuit_nb.model.passes import Hook
from circuit_nb.model.record import Record
from circuit_nb.model.replacement import ReplacementModel


@dataclass(frozen=True)
class Edit:
    """One new value for one feature in one row."""

    row: int
    feature: Feature
    value: float
    relative: bool
    """Whether `value` is a multiple of the activation rather than the activation."""
    generated: bool = False
    """Whether it holds at tokens generated from `feature.position` on, not in the prompt."""


@dataclass(frozen=True)
class Reading:
    """Pre-activations and activations of features, each (…, features)."""

    pre_activations: Tensor
    activations: Tensor

    def row(self, row: int) -> Reading:
        """That of one row."""
        return Reading(self.pre_activations[row], self.activations[row])


class _LayerEdits:
    """The edits that read at one layer, as tensors, with the decoder rows they write."""

    def __init__(self, model: ReplacementModel, layer: int, edits: Sequence[Edit]) -> None:
        device = model.blocks[layer].device
        self.rows = torch.tensor([e.row for e in edits], device=device)
        self.positions = torch.tensor([e.feature.position for e in edits], device=device)
        self.indices = torch.tensor([e.feature.index for e in edits], device=device)
        self.values = torch.tensor([e.value for e in edits], device=device)
        self.relative = torch.tensor([e.relative for e in edits], device=device)
        self.decoder = model.transcoders.layers[layer].decoder.rows(self.indices).float()

    def new_values(self, base: Tensor) -> Tensor:
        """Activations to set, (n,), where the unmodified ones are `base`."""
        return torch.where(self.relative, self.values * base, self.values)


def read(model: ReplacementModel, record: Record, features: Sequence[Feature]) -> Reading:
    """Features on the unmodified prompt, (features,); activations 0 on the ignored prefix."""
    pre = torch.zeros(len(features), device=model.device)
    acts = torch.zeros_like(pre)
    for layer in {f.layer for f in features}:
        here = [i for i, f in enumerate(features) if f.layer == layer]
        device = model.blocks[layer].device
        positions = torch.tensor([features[i].position for i in here], device=device)
        indices = torch.tensor([features[i].index for i in here], device=device)
        x = record.reads[layer][positions]
        found = model.transcoders.layers[layer].of_features(x, indices)
        pre[here] = found[0].float().to(pre.device)
        acts[here] = (found[1].float() * (positions >= record.ignored)).to(pre.device)
    return Reading(pre, acts)


class Patch:
    """Hooks for one batched pass.

    Args:
        model: The model.
        record: The unmodified pass of the prompt.
        edits: New values.
        freeze: `"attention"`, `"all"` or `"none"`, as for `intervene`.
        watched: Features to read during the pass.
    """

    def __init__(
        self,
        model: ReplacementModel,
        record: Record,
        edits: Sequence[Edit],
        *,
        freeze: str,
        watched: Sequence[Feature],
    ) -> None:
        self.model, self.record, self.freeze, self.watched = model, record, freeze, watched
        self.base = read(model, record, watched)
        self._prompt_edits = self._by_layer([e for e in edits if not e.generated])
        self._generated_edits = self._by_layer([e for e in edits if e.generated])
        self._base_of_edits = {
            layer: read(
                model,
                record,
                [e.feature for e in edits if not e.generated and e.feature.layer == layer],
            ).activations.to(model.blocks[layer].device)
            for layer in self._prompt_edits
        }
        self._pending: dict[int, Tensor] = {}
        self._skipped: dict[int, Tensor] = {}
        self._seen: dict[int, tuple[Tensor, Tensor]] = {}

    def _by_layer(self, edits: Sequence[Edit]) -> dict[int, _LayerEdits]:
        layers = sorted({e.feature.layer for e in edits})
        return {
            layer: _LayerEdits(self.model, layer, [e for e in edits if e.feature.layer == layer])
            for layer in layers
        }

    def run(self, n_rows: int, *, keep_cache: bool = False) -> tuple[Tensor, Any]:
        """Run the prompt with the edits.

        Returns:
            Logits (rows, positions, vocab), and the key-value cache if it is to be kept.
        """
        ids = self.record.token_ids.expand(n_rows, -1)
        self._pending.clear()
        hooks = self._prompt_hooks(n_rows)
        if keep_cache:
            return self.model.run_cached(ids, hooks)
        return self.model.run(ids, hooks), None

    def step(self, tokens: Tensor, position: int, cache: Any) -> tuple[Tensor, Any]:
        """Run one generated token a row, (rows,), at a position; nothing is frozen.

        Returns:
            Logits (rows, vocab) and the cache.
        """
        self._pending.clear()
        hooks: list[Hook] = []
        for layer in self._generated_edits:
            edit = partial(self._edit_generated, layer=layer, position=position)
            hooks.append((self._place(layer, reads=True), edit))
        hooks += self._write_hooks(self._generated_edits, frozen=False)
        logits, cache = self.model.run_cached(tokens[:, None], hooks, cache)
        return logits[:, -1], cache

    def reading(self) -> Reading:
        """The watched features during `run`, (rows, features), in the order of `watched`.

        With everything frozen their on/off choices are, too: what is on shows its pre-activation,
        what is off stays 0.
        """
        pre, acts = (
            torch.stack([self._seen[f.layer][part][:, self._rank(f)] for f in self.watched], dim=1)
            for part in (0, 1)
        )
        if self.freeze == "all":
            acts = pre * (self.base.activations != 0)
        inside = torch.tensor([f.position >= self.record.ignored for f in self.watched])
        return Reading(pre, acts * inside.to(acts.device))

    def _rank(self, feature: Feature) -> int:
        return [f for f in self.watched if f.layer == feature.layer].index(feature)

    def _place(self, layer: int, *, reads: bool) -> str:
        t = self.model.transcoders
        return self.model.blocks[layer].hook(t.input_hook if reads else t.output_hook)

    def _prompt_hooks(self, n_rows: int) -> list[Hook]:
        hooks = self._freeze_hooks(n_rows)
        frozen = self.freeze == "all"
        watched = {f.layer for f in self.watched}
        for layer in range(len(self.model.blocks)):
            place = self._place(layer, reads=True)
            if frozen and self.model.transcoders.layers[layer].W_skip is not None:
                hooks.append((place, partial(self._keep_skip, layer=layer)))
            if layer in self._prompt_edits:
                hooks.append((place, partial(self._edit_prompt, layer=layer)))
            if layer in watched:
                hooks.append((place, partial(self._watch, layer=layer)))
        return hooks + self._write_hooks(self._prompt_edits, frozen=frozen)

    def _freeze_hooks(self, n_rows: int) -> list[Hook]:
        """Hooks that return what was recorded: patterns, and denominators with `"all"`."""
        if self.freeze == "none":
            return []
        held = {
            block.hook("pattern"): pattern
            for block, pattern in zip(self.model.blocks, self.record.patterns, strict=True)
        }
        if self.freeze == "all":
            held |= self.record.scales

        def hold(tensor: Tensor, hook: Any, value: Tensor) -> Tensor:
            return value.to(tensor.dtype).expand_as(tensor)

        return [(name, partial(hold, value=value)) for name, value in held.items()]

    def _write_hooks(self, edits: dict[int, _LayerEdits], *, frozen: bool) -> list[Hook]:
        written = {j for layer in edits for j in self.model.transcoders.writes(layer)}
        layers = range(len(self.model.blocks)) if frozen else sorted(written)
        return [
            (self._place(layer, reads=False), partial(self._write, layer=layer, frozen=frozen))
            for layer in layers
        ]

    def _keep_skip(self, x: Tensor, hook: Any, layer: int) -> None:
        """The skip path is linear, so it is no part of what is frozen: keep its change."""
        transcoder = self.model.transcoders.layers[layer]
        self._skipped[layer] = transcoder.skip(x) - transcoder.skip(self.record.reads[layer])

    def _edit_prompt(self, x: Tensor, hook: Any, layer: int) -> None:
        edits, base = self._prompt_edits[layer], self._base_of_edits[layer]
        current = base
        if self.freeze != "all":
            at = x[edits.rows, edits.positions]
            current = self.model.transcoders.layers[layer].of_features(at, edits.indices)[1]
        change = edits.new_values(base) - current.float()
        self._add(x, layer, edits, edits.positions, change)

    def _edit_generated(self, x: Tensor, hook: Any, layer: int, position: int) -> None:
        edits = self._generated_edits[layer]
        current = (
            self.model.transcoders.layers[layer]
            .of_features(x[edits.rows, 0], edits.indices)[1]
            .float()
        )
        change = (edits.new_values(current) - current) * (position >= edits.positions)
        self._add(x, layer, edits, torch.zeros_like(edits.positions), change)

    def _add(
        self, x: Tensor, layer: int, edits: _LayerEdits, positions: Tensor, change: Tensor
    ) -> None:
        """Remember what changed features will write, at every layer they write to."""
        for offset, written in enumerate(self.model.transcoders.writes(layer)):
            rows = change[:, None] * edits.decoder[:, offset]
            device = self.model.blocks[written].device
            if written not in self._pending:
                self._pending[written] = torch.zeros(*x.shape[:2], rows.shape[1], device=device)
            where = (edits.rows.to(device), positions.to(device))
            self._pending[written].index_put_(where, rows.to(device), accumulate=True)

    def _write(self, written: Tensor, hook: Any, layer: int, frozen: bool) -> Tensor:
        if frozen:
            base = self.record.writes[layer].expand_as(written)
            written = base + self._skipped[layer] if layer in self._skipped else base
        pending = self._pending.get(layer)
        return written if pending is None else written + pending.to(written.dtype)

    def _watch(self, x: Tensor, hook: Any, layer: int) -> None:
        here = [f for f in self.watched if f.layer == layer]
        positions = torch.tensor([f.position for f in here], device=x.device)
        indices = torch.tensor([f.index for f in here], device=x.device)
        transcoder = self.model.transcoders.layers[layer]
        pre, acts = transcoder.of_features(x[:, positions], indices)
        device = self.model.device
        self._seen[layer] = pre.float().to(device), acts.float().to(device)
