"""`ReplacementModel`: a language model in memory together with its transcoders.

It has a TransformerLens bridge and does not subclass it. The bridge is left as it came: no weight
processing, which would fold norms into weights that published transcoders were trained without.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from threading import RLock
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from circuit_nb.bridge.cache import CachedPasses, KeyValues
from circuit_nb.bridge.lock import exclusive, lock_of
from circuit_nb.bridge.opening import check_raw
from circuit_nb.bridge.passes import Action, Feed, Hook, expected_edits, sweep, visit
from circuit_nb.bridge.protocol import Bridge, HookPoint, Parts, Tokenizer, parts_of
from circuit_nb.given import whole
from circuit_nb.graph import Feature, Supernode
from circuit_nb.hub.known import WORKING_BYTES
from circuit_nb.model.architecture import Block, Norm, blocks_of, family_of, norm_of
from circuit_nb.model.changes import State, Watch
from circuit_nb.model.memory import free_memory
from circuit_nb.model.record import Record
from circuit_nb.model.recording import Recording
from circuit_nb.model.room import check_context, check_patterns
from circuit_nb.model.vocabulary import Prompt, Vocabulary
from circuit_nb.transcoders.transcoder import Transcoders

_PIECE = 2**14
"""Columns of the unembedding that are widened to float32 at once."""


class ReplacementModel:
    """A language model whose MLPs can be read through transcoders.

    It has a TransformerLens bridge and a set of transcoders; both stay usable on their own.

    Args:
        bridge: A `TransformerBridge`, without weight processing.
        transcoders: Transcoders for every layer.
        name: Name for provenance; the bridge's own if empty.
        revision: Commit of the Hub repository it comes from, for provenance.

    Raises:
        ValueError: If the family is not known, or the transcoders do not fit the model.
    """

    def __init__(
        self,
        bridge: Bridge,
        transcoders: Transcoders,
        *,
        name: str = "",
        revision: str | None = None,
    ) -> None:
        check_raw(bridge)
        self.bridge = bridge
        self.family = family_of(bridge)
        self.name = name or str(bridge.cfg.model_name)
        self.revision = revision
        self._last: Record | None = None
        self.cached = CachedPasses(bridge, self.name)
        self._settled = False
        self._state: State
        self._told: set[str] = set()
        self._read_weights()
        self.transcoders = transcoders
        self._state = self._watch.state(transcoders)

    def _read_weights(self) -> None:
        """Find everything in the bridge that is used of it."""
        self._watch = Watch(self.bridge)
        self._points: dict[str, HookPoint] = dict(self.bridge.hook_dict)
        self._parts: Parts = parts_of(self.bridge)
        self.blocks: tuple[Block, ...] = blocks_of(self._parts)
        self.final_norm: Norm = norm_of(self._parts.final_norm, "ln_final")
        self._mean: tuple[object, Tensor] | None = None
        self._n_tokens = self.unembedding.shape[1]

    def __repr__(self) -> str:
        t = self.transcoders
        kind = "cross-layer" if t.cross_layer else "per-layer"
        return (
            f"ReplacementModel({self.name}: {t.n_layers} layers, d_model {t.d_model}, "
            f"{kind} transcoders, {self.dtype} on {self.device})"
        )

    @property
    def lock(self) -> RLock:
        """Held while the model runs, by one thread at a time, which may take it again.

        All functions that run a model hold it; take it (`with model.lock:`) around passes of your
        own through the bridge, where other threads use the model.
        """
        return lock_of(self.bridge.original_model)

    @property
    def transcoders(self) -> Transcoders:
        """What its MLPs are read through. Others can be set, if they fit."""
        return self._transcoders

    @transcoders.setter
    def transcoders(self, transcoders: Transcoders) -> None:
        self._check_fit(transcoders)
        with self.lock:
            self._transcoders, self._last = transcoders, None

    def _check_fit(self, t: Transcoders) -> None:
        n_layers, d_model = len(self.blocks), int(self.bridge.cfg.d_model)
        if (t.n_layers, t.d_model) != (n_layers, d_model):
            made_for = f" (made for {t.model_name})" if t.model_name else ""
            raise ValueError(
                f"These transcoders{made_for} are for {t.n_layers} layers of width {t.d_model}, "
                f"but {self.name} has {n_layers} layers of width {d_model}; give the set that "
                "was trained on this model."
            )
        for block in self.blocks:
            for name in (t.input_hook, t.output_hook):
                block.hook(name)

    def place_transcoders(
        self, dtype: torch.dtype | None = None, *, keep_encoders: bool | None = None
    ) -> None:
        """Put each layer's transcoder where the layer is.

        Args:
            dtype: Type of encoders and biases; as they are if `None`.
            keep_encoders: Whether encoders in files stay in memory once used; by default, if they
                fit beside what is there and one attribution.
        """
        devices = [block.device for block in self.blocks]
        if keep_encoders is None:
            free = sum(free_memory(device) - WORKING_BYTES for device in set(devices))
            size = (dtype or self.dtype).itemsize
            keep_encoders = size * self.transcoders.encoder_weights <= free
        self.transcoders = self.transcoders.to(devices, dtype, keep_encoders=keep_encoders)

    @property
    def tokenizer(self) -> Tokenizer:
        """The Hugging Face tokenizer."""
        return self.bridge.tokenizer

    @property
    def device(self) -> torch.device:
        """Where the model lives; the unembedding, if its layers are on several devices."""
        return self.unembedding.device

    @property
    def dtype(self) -> torch.dtype:
        """The type of the model's weights."""
        return self.unembedding.dtype

    @property
    def unembedding(self) -> Tensor:
        """(d_model, vocab)."""
        return self.bridge.W_U.detach()

    @property
    def mean_unembedding(self) -> Tensor:
        """Mean column of the unembedding, (d_model,), in float32."""
        weight = self.unembedding
        version = None if weight.is_inference() else weight._version
        if self._mean is None or self._mean[0] != (version, weight.device):
            # In pieces: all of it in float32 would be as large as half of a small model.
            pieces = [part.float().sum(1) for part in weight.split(_PIECE, dim=1)]
            mean = torch.stack(pieces).sum(0) / weight.shape[1]
            self._mean = ((version, weight.device), mean)
        return self._mean[1]

    @property
    def vocabulary(self) -> Vocabulary:
        """Text to token ids and back."""
        return Vocabulary(self.tokenizer, self._n_tokens, self.name)

    def token(self, token_id: int) -> str:
        """One token as text."""
        return self.vocabulary.token(token_id)

    def token_id(self, token: str | int) -> int:
        """Vocabulary id of a token given as text or id.

        Raises:
            ValueError: If the text is not one token, or the id is not in the vocabulary.
        """
        return self.vocabulary.token_id(token)

    def tokenize(self, prompt: Prompt) -> Tensor:
        """Token ids of a prompt, (positions,), beginning with a special token.

        Where the prompt does not begin with one, BOS is put before it, or PAD, or EOS, whichever
        the tokenizer has first.

        Raises:
            ValueError: If the prompt is empty or holds what the vocabulary does not.
        """
        return torch.tensor(self.vocabulary.ids(prompt), device=self.device)

    def check_length(self, positions: int, generated: int = 0) -> None:
        """Raise `ValueError` if a prompt, with what follows it, is longer than the context."""
        check_context(self.name, self.bridge.cfg.n_ctx, positions, generated)

    def ignored_positions(self, token_ids: Tensor) -> int:
        """How many positions at the start are ignored: 1, or a chat template's fixed header."""
        prefix = self.family.ignored_prefix
        if prefix and tuple(self.token(int(i)) for i in token_ids[: len(prefix)]) == prefix:
            return len(prefix)
        return 1

    @exclusive
    def run(
        self, token_ids: Tensor, hooks: Sequence[Hook] = (), *, last_only: bool = False
    ) -> Tensor:
        """Logits (batch, positions, vocab) of token ids (batch, positions), under hooks.

        The hooks are gone afterwards, also after an error or an interrupt. Hooks of others act.

        Args:
            token_ids: The tokens.
            hooks: Names of hook points and what to call there.
            last_only: Whether the logits of the last position are enough, (batch, 1, vocab).

        Raises:
            ValueError: If there are more tokens than the model's context has.
        """
        self.check_length(token_ids.shape[1])
        # An index, on the CPU: after a slice PyTorch copies the unembedding for every row.
        last: Any = {"logits_to_keep": torch.tensor([token_ids.shape[1] - 1])} if last_only else {}
        return self._forward(token_ids, hooks, **last)

    def _forward(
        self,
        token_ids: Tensor,
        hooks: Sequence[Hook],
        feeds: Sequence[Feed] = (),
        **options: Any,
    ) -> Tensor:
        """One pass under hooks, and what is handed to modules, with such options of the bridge."""
        points = [(self._point(name, action), action) for name, action in hooks]
        sweep(self._points.values())
        with expected_edits():
            return visit(
                lambda: self.bridge.forward(token_ids, **options),
                points,
                feeds=feeds,
                training=self._watch.training(),
            )

    def _point(self, name: str, action: Action) -> HookPoint:
        """A hook point.

        Raises:
            KeyError: If there is none of this name.
            ValueError: If it is switched off in the bridge's settings.
        """
        point = self._points.get(name)
        if point is None:
            raise KeyError(f"There is no hook point {name!r} in {self.name}.")
        self.bridge.check_hooks_to_add(point, name, action)
        return point

    @exclusive
    @torch.no_grad()
    def unembed(self, final: Tensor) -> Tensor:
        """Logits (…, vocab) of the residual stream after the final norm, (…, d_model)."""
        return self.bridge.adapter.apply_output_logits_transform(self._parts.unembed(final))

    @exclusive
    def run_cached(
        self, token_ids: Tensor, hooks: Sequence[Hook] = (), cache: KeyValues | None = None
    ) -> tuple[Tensor, KeyValues]:
        """As `run`, for the tokens that follow those in a key-value cache.

        Returns:
            The logits, and the cache with these tokens added.

        Raises:
            CacheLost: If these releases of transformers and TransformerLens do not keep it.
        """

        def run(feeds: Sequence[Feed], **arguments: Any) -> Tensor:
            return self._forward(token_ids, hooks, feeds, **arguments)

        return self.cached.run(run, token_ids.shape[1], cache)

    @exclusive
    def record(self, prompt: Prompt) -> Record:
        """Run the model once and keep what attribution and interventions need.

        The last record is kept, so asking again for the same prompt costs nothing, until weights,
        device, transcoders or hooks of yours on the model change.

        Raises:
            ValueError: If the prompt is bad or too long, or the pass produced NaN or infinity.
            MemoryError: If its attention patterns alone exceed what is free.
        """
        self._notice_changes()
        ids, text = self._read(prompt)
        if self._last is None or not torch.equal(self._last.token_ids, ids):
            self._last = None
            (self._last,) = self._records([(ids, text)])
        # The same tokens can be written in several ways, with the special token and without.
        return self._last if self._last.prompt == text else replace(self._last, prompt=text)

    @exclusive
    def records(self, prompts: Sequence[Prompt]) -> list[Record]:
        """What `record` gives of each prompt, up to the last digits, by one pass; none is kept.

        Raises:
            ValueError: As `record`, if this is so of any prompt.
            MemoryError: As `record`.
        """
        self._notice_changes()
        return self._records([self._read(prompt) for prompt in prompts])

    def _read(self, prompt: Prompt) -> tuple[Tensor, str]:
        """A prompt as tokens and as text."""
        ids = self.tokenize(prompt)
        text = prompt if isinstance(prompt, str) else str(self.tokenizer.decode(ids.tolist()))
        return ids, text

    def _records(self, prompts: Sequence[tuple[Tensor, str]]) -> list[Record]:
        """The records of tokens and texts."""
        ids = [own for own, _ in prompts]
        self.check_length(longest := max(map(len, ids)))
        check_patterns(self.blocks, self.dtype.itemsize, longest, len(ids))
        ignored = [self.ignored_positions(own) for own in ids]
        recording = Recording(self.blocks, self.final_norm, self.transcoders, ids, ignored)
        logits = self.run(recording.padded, recording.hooks, last_only=True)
        records = recording.records([text for _, text in prompts], logits[:, -1], self.unembed)
        if not self._settled:
            # Hugging Face models hang hooks of their own at the first pass.
            self._state, self._settled = self._watch.state(self.transcoders), True
        return records

    def _notice_changes(self) -> None:
        """Forget what was computed from a model that has changed since, and say what acts in it.

        Raises:
            ValueError: If its weights have been processed.
        """
        state = self._watch.state(self.transcoders)
        if state == self._state:
            return
        self._last = None
        if state.weights != self._state.weights:
            check_raw(self.bridge)
            self._read_weights()
            devices = [block.device for block in self.blocks]
            if devices != [layer.b_enc.device for layer in self.transcoders.layers]:
                self.transcoders = self.transcoders.to(devices)
        self._state = self._watch.state(self.transcoders)
        self._tell_of_hooks()

    def _tell_of_hooks(self) -> None:
        """Say once which hooks of the reader's own act in every pass."""
        own = {point.name or "" for point in self._points.values() if point.fwd_hooks}
        if own - self._told:
            self._told |= own
            some = ", ".join(sorted(own)[:3]) + (", …" if len(own) > 3 else "")
            warnings.warn(
                f"Hooks of your own on the model ({some}) act in every pass; what they change has "
                "no edges in an attribution graph. bridge.reset_hooks() takes them away.",
                stacklevel=4,
            )

    def activations(
        self, prompt: Prompt, features: Feature | Supernode | Iterable[Feature | Sequence[int]]
    ) -> npt.NDArray[np.float32]:
        """Activations of features on a prompt, by one pass and without an attribution.

        Args:
            prompt: Text, token ids, or a 1-D tensor of them.
            features: Features, or rows (layer, position, index), whether or not they are in any
                graph.

        Returns:
            (features,); 0 where a feature is off, as it is everywhere on the ignored prefix.

        Raises:
            ValueError: If the prompt is bad, or a layer, position or index does not exist.
        """
        given = (features,) if isinstance(features, Feature) else features
        given = given.features if isinstance(given, Supernode) else given
        rows = [(f.layer, f.position, f.index) if isinstance(f, Feature) else f for f in given]
        names = ("layer", "position", "index")
        wanted = [Feature(*map(whole, row, names)) for row in rows]
        record = self.record(prompt)
        for feature in wanted:
            self.transcoders.check(feature.layer, feature.index)
            record.check_position(feature.position)
        # Every active feature is in the record, with the value it has in a graph.
        return record.activations_of(wanted).cpu().numpy()
