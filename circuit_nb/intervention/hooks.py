"""The hooks that put new feature values into a forward pass, and generation under them.

One batched pass runs several experiments on the same prompt, one a row. Tensors have the axes
(row, position, d_model).
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from functools import partial
from typing import Any

import torch
from torch import Tensor

from circuit_nb.bridge.cache import CacheLost, KeyValues
from circuit_nb.bridge.passes import Hook
from circuit_nb.graph import Feature
from circuit_nb.intervention.edits import Edit
from circuit_nb.intervention.parts import within
from circuit_nb.intervention.patterns import HeadEdit, edited
from circuit_nb.intervention.readings import Reading, Unmodified, by_layer, read
from circuit_nb.model.record import Record
from circuit_nb.model.replacement import ReplacementModel


class _LayerEdits:
    """The edits that read at one layer, as tensors, with the decoder rows they write."""

    def __init__(
        self,
        model: ReplacementModel,
        layer: int,
        edits: Sequence[Edit],
        unmodified: Unmodified | None,
    ) -> None:
        device = model.blocks[layer].device
        self.rows = torch.tensor([e.row for e in edits], device=device)
        self.positions = torch.tensor([e.feature.position for e in edits], device=device)
        self.until = torch.tensor([e.until for e in edits], device=device)
        self.indices = torch.tensor([e.feature.index for e in edits], device=device)
        self.values = torch.tensor([e.value for e in edits], device=device)
        self.relative = torch.tensor([e.relative for e in edits], device=device)
        self.decoder = model.transcoders.layers[layer].decoder.rows(self.indices).float()
        if unmodified is not None:
            self.base = unmodified.reading.activations.to(device)
            self.corrections = unmodified.corrections.to(device)

    def new_values(self, base: Tensor) -> Tensor:
        """Activations to set, (n,), where the unmodified ones are `base`."""
        return torch.where(self.relative, self.values * base, self.values)


class Patch:
    """Hooks for one batched pass.

    Args:
        model: The model.
        record: The unmodified pass of the prompt.
        edits: New values.
        freeze: `"attention"`, `"all"` or `"none"`, as for `intervene`.
        watched: Features to read during the pass.
        heads: New attention patterns.
    """

    def __init__(
        self,
        model: ReplacementModel,
        record: Record,
        edits: Sequence[Edit],
        *,
        freeze: str,
        watched: Sequence[Feature],
        heads: Sequence[HeadEdit] = (),
    ) -> None:
        self.model, self.record, self.freeze, self.watched = model, record, freeze, watched
        self.base = read(model, record, watched)
        self._watched_at = by_layer(watched)
        in_prompt = [e for e in edits if not e.generated]
        found = read(model, record, [e.feature for e in in_prompt])
        self._prompt_edits = self._by_layer(in_prompt, found)
        self._generated_edits = self._by_layer([e for e in edits if e.generated])
        layers = sorted({e.change.layer for e in heads})
        self._heads = {layer: [e for e in heads if e.change.layer == layer] for layer in layers}
        self._pending: dict[int, Tensor] = {}
        self._skipped: dict[int, Tensor] = {}
        self._seen: dict[int, tuple[Tensor, Tensor]] = {}
        self.denominators = torch.zeros(0)
        """Of the last pass's final norm, (rows, positions, 1): infinite where values were so large
        that their squares are. Such a norm says 0, and what the model then says looks sound."""

    def _by_layer(
        self, edits: Sequence[Edit], unmodified: Unmodified | None = None
    ) -> dict[int, _LayerEdits]:
        found: dict[int, _LayerEdits] = {}
        for layer, here in sorted(by_layer([e.feature for e in edits]).items()):
            known = None if unmodified is None else unmodified.of(here)
            found[layer] = _LayerEdits(self.model, layer, [edits[i] for i in here], known)
        return found

    def run(
        self, n_rows: int, *, keep_cache: bool = False, last_only: bool = False
    ) -> tuple[Tensor, KeyValues | None]:
        """Run the prompt with the edits.

        Args:
            n_rows: How many rows there are.
            keep_cache: Whether the key-value cache is kept.
            last_only: Whether the logits of the last position are enough.

        Returns:
            Logits (rows, positions, vocab), or (rows, 1, vocab) of the last position, and the
            key-value cache if it is to be kept and can be.
        """
        ids = self.record.token_ids.expand(n_rows, -1)
        self._pending.clear()
        hooks = [*self._prompt_hooks(), self._norm_hook()]
        if not (keep_cache and self.model.cached.trusted):
            return self.model.run(ids, hooks, last_only=last_only), None
        try:
            logits, cache = self.model.run_cached(ids, hooks)
            return logits[:, -1:] if last_only else logits, cache
        except CacheLost as lost:
            self._pending.clear()
            logits = self.model.run(ids, hooks, last_only=last_only)
            self.model.cached.give_up(lost)
            return logits, None

    def step(self, tokens: Tensor, position: int, cache: KeyValues) -> tuple[Tensor, KeyValues]:
        """Run one generated token a row, (rows,), at a position; nothing is frozen.

        Returns:
            Logits (rows, vocab) and the cache.

        Raises:
            CacheLost: If the cache does not hold the tokens before it.
        """
        self._pending.clear()
        hooks = [*self._step_hooks(position), self._norm_hook()]
        logits, cache = self.model.run_cached(tokens[:, None], hooks, cache)
        return logits[:, -1], cache

    def anew(self, tokens: Tensor) -> Tensor:
        """Run prompt and generated tokens, (rows, generated), in one pass, without a cache.

        Returns:
            Logits (rows, vocab) after the last.
        """
        n_rows, generated = tokens.shape
        prompt = self.record.positions
        hooks = within(self._apart()._prompt_hooks(), 0, prompt)
        for position in range(prompt, prompt + generated):
            hooks += within(self._apart()._step_hooks(position), position, position + 1)
        hooks.append(self._norm_hook())
        ids = torch.cat([self.record.token_ids.expand(n_rows, -1), tokens], dim=1)
        return self.model.run(ids, hooks, last_only=True)[:, -1]

    def _apart(self) -> Patch:
        """The same patch, with changes of its own to remember."""
        part = copy(self)
        part._pending = {}
        return part

    def _step_hooks(self, position: int) -> list[Hook]:
        hooks = self._pattern_hooks(position, frozen=False)
        for layer in self._generated_edits:
            edit = partial(self._edit_generated, layer=layer, position=position)
            hooks.append((self._place(layer, reads=True), edit))
        return hooks + self._write_hooks(self._generated_edits, frozen=False)

    def reading(self) -> Reading:
        """The watched features during `run`, (rows, features), in the order of `watched`.

        With everything frozen their on/off choices are, too: what is on shows its pre-activation,
        what is off stays 0.
        """
        rows = len(next(iter(self._seen.values()))[0])
        pre = torch.zeros(rows, len(self.watched), device=self.model.device)
        acts = torch.zeros_like(pre)
        for layer, here in self._watched_at.items():
            pre[:, here], acts[:, here] = self._seen[layer]
        if self.freeze == "all":
            acts = pre.where(self.base.reading.activations != 0, 0.0)
        inside = torch.tensor([f.position >= self.record.ignored for f in self.watched])
        return Reading(pre, acts.where(inside.to(acts.device), 0.0))

    def _place(self, layer: int, *, reads: bool) -> str:
        t = self.model.transcoders
        return self.model.blocks[layer].hook(t.input_hook if reads else t.output_hook)

    def _prompt_hooks(self) -> list[Hook]:
        hooks = self._pattern_hooks(self.record.positions - 1, frozen=self.freeze != "none")
        frozen = self.freeze == "all"
        hooks += self._scale_hooks() if frozen else []
        for layer in range(len(self.model.blocks)):
            place = self._place(layer, reads=True)
            if frozen and self.model.transcoders.layers[layer].W_skip is not None:
                hooks.append((place, partial(self._keep_skip, layer=layer)))
            if layer in self._prompt_edits:
                hooks.append((place, partial(self._edit_prompt, layer=layer)))
            if layer in self._watched_at:
                hooks.append((place, partial(self._watch, layer=layer)))
        return hooks + self._write_hooks(self._prompt_edits, frozen=frozen)

    def _pattern_hooks(self, last: int, *, frozen: bool) -> list[Hook]:
        """Hooks that hold recorded patterns and put in those of changed heads.

        Args:
            last: Position of the last token of the pass.
            frozen: Whether recorded patterns are held.
        """
        return [
            (block.hook("pattern"), partial(self._pattern, layer=layer, last=last, frozen=frozen))
            for layer, block in enumerate(self.model.blocks)
            if frozen or layer in self._heads
        ]

    def _pattern(self, pattern: Tensor, hook: Any, layer: int, last: int, frozen: bool) -> Tensor:
        if frozen:
            pattern = self.record.patterns[layer].to(pattern.dtype).expand_as(pattern)
        if layer in self._heads:
            pattern = edited(pattern, self._heads[layer], last)
        return pattern

    def _norm_hook(self) -> Hook:
        def keep(tensor: Tensor, hook: Any) -> None:
            self.denominators = tensor

        return self.model.final_norm.hook, keep

    def _scale_hooks(self) -> list[Hook]:
        """Hooks that hold the recorded denominators of norms."""

        def hold(tensor: Tensor, hook: Any, value: Tensor) -> Tensor:
            return value.to(tensor.dtype).expand_as(tensor)

        return [(name, partial(hold, value=value)) for name, value in self.record.scales.items()]

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
        edits = self._prompt_edits[layer]
        current = edits.base
        if self.freeze != "all":
            transcoder = self.model.transcoders.layers[layer]
            cut = self.record.cut_at(edits.positions)
            read, at = x.flatten(0, 1), edits.rows * x.shape[1] + edits.positions
            _, current = transcoder.of_features(read, edits.indices, edits.corrections, cut, at)
        change = edits.new_values(edits.base) - current
        self._add(x, layer, edits, edits.positions, change)

    def _edit_generated(self, x: Tensor, hook: Any, layer: int, position: int) -> None:
        edits = self._generated_edits[layer]
        transcoder = self.model.transcoders.layers[layer]
        cut = self.record.cut_at(torch.full_like(edits.positions, position))
        _, current = transcoder.of_features(x[:, 0], edits.indices, cut=cut, at=edits.rows)
        holds = (position >= edits.positions) & (position < edits.until)
        change = (edits.new_values(current) - current) * holds
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
        here = self._watched_at[layer]
        positions = torch.tensor([self.watched[i].position for i in here], device=x.device)
        indices = torch.tensor([self.watched[i].index for i in here], device=x.device)
        transcoder = self.model.transcoders.layers[layer]
        corrections = self.base.corrections[here].to(x.device)
        cut = self.record.cut_at(positions)
        pre, acts = transcoder.of_features(x, indices, corrections, cut, positions)
        device = self.model.device
        self._seen[layer] = pre.to(device), acts.to(device)
