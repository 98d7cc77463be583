"""The replacement model: a language model whose MLPs can be read through transcoders."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from typing import Any, TypeAlias

import torch
from torch import Tensor

from circuit_nb.hub.known import WORKING_BYTES
from circuit_nb.model.architecture import Block, Norm, blocks_of, family_of, norm_of
from circuit_nb.model.cache import CachedPasses, KeyValues
from circuit_nb.model.memory import free_memory
from circuit_nb.model.record import Record, check_finite
from circuit_nb.model.vocabulary import Prompt, Vocabulary
from circuit_nb.transcoders.transcoder import Transcoders

_PIECE = 2**14
"""Columns of the unembedding that are widened to float32 at once."""


Hook: TypeAlias = "tuple[str, Callable[[Tensor, Any], Tensor | None]]"


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
        bridge: Any,
        transcoders: Transcoders,
        *,
        name: str = "",
        revision: str | None = None,
    ) -> None:
        self.bridge = bridge
        self.transcoders = transcoders
        self.family = family_of(bridge)
        self.name = name or str(bridge.cfg.model_name)
        self.revision = revision
        bridge.requires_grad_(False)
        bridge.eval()
        self.blocks: tuple[Block, ...] = blocks_of(bridge)
        self.final_norm: Norm = norm_of(bridge.ln_final, "ln_final")
        self._check_fit()
        self._last: Record | None = None
        self.cached = CachedPasses(bridge, self.name)

    def __repr__(self) -> str:
        t = self.transcoders
        kind = "cross-layer" if t.cross_layer else "per-layer"
        return (
            f"ReplacementModel({self.name}: {t.n_layers} layers, d_model {t.d_model}, "
            f"{kind} transcoders, {self.dtype} on {self.device})"
        )

    def _check_fit(self) -> None:
        n_layers, d_model = len(self.blocks), int(self.bridge.cfg.d_model)
        t = self.transcoders
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
    def tokenizer(self) -> Any:
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
        return self.bridge.W_U

    @cached_property
    def mean_unembedding(self) -> Tensor:
        """Mean column of the unembedding, (d_model,), in float32."""
        # In pieces: the whole matrix in float32 would be as large as half of a small model.
        pieces = [part.float().sum(1) for part in self.unembedding.split(_PIECE, dim=1)]
        return torch.stack(pieces).sum(0) / self.unembedding.shape[1]

    @property
    def vocabulary(self) -> Vocabulary:
        """Text to token ids and back."""
        return Vocabulary(self.tokenizer, self.unembedding.shape[1], self.name)

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

    def ignored_positions(self, token_ids: Tensor) -> int:
        """How many positions at the start are ignored: 1, or a chat template's fixed header."""
        prefix = self.family.ignored_prefix
        if prefix and tuple(self.token(int(i)) for i in token_ids[: len(prefix)]) == prefix:
            return len(prefix)
        return 1

    @torch.no_grad()
    def run(
        self, token_ids: Tensor, hooks: Sequence[Hook] = (), *, last_only: bool = False
    ) -> Tensor:
        """Logits (batch, positions, vocab) of token ids (batch, positions), under hooks.

        The hooks are gone afterwards, also after an error.

        Args:
            token_ids: The tokens.
            hooks: Names of hook points and what to call there.
            last_only: Whether the logits of the last position are enough, (batch, 1, vocab).
        """
        kept = {"logits_to_keep": 1} if last_only else {}
        with _expected_edits():
            return self.bridge.run_with_hooks(token_ids, fwd_hooks=list(hooks), **kept)

    @torch.no_grad()
    def unembed(self, final: Tensor) -> Tensor:
        """Logits (…, vocab) of the residual stream after the final norm, (…, d_model)."""
        return self.bridge.adapter.apply_output_logits_transform(self.bridge.unembed(final))

    @torch.no_grad()
    def run_cached(
        self, token_ids: Tensor, hooks: Sequence[Hook] = (), cache: KeyValues | None = None
    ) -> tuple[Tensor, KeyValues]:
        """As `run`, for the tokens that follow those in a key-value cache.

        Returns:
            The logits, and the cache with these tokens added.

        Raises:
            CacheLost: If these releases of transformers and TransformerLens do not keep it.
        """

        def run(**arguments: Any) -> Tensor:
            with _expected_edits():
                return self.bridge.run_with_hooks(token_ids, fwd_hooks=list(hooks), **arguments)

        return self.cached.run(run, token_ids.shape[1], cache)

    def record(self, prompt: Prompt) -> Record:
        """Run the model once and keep what attribution and interventions need.

        The last record is kept, so asking again for the same prompt costs nothing.

        Raises:
            ValueError: If the prompt is bad, or the pass produced NaN or infinity.
        """
        ids = self.tokenize(prompt)
        if self._last is None or not torch.equal(self._last.token_ids, ids):
            self._last = None
            text = prompt if isinstance(prompt, str) else str(self.tokenizer.decode(ids.tolist()))
            self._last = self._record(ids, text)
        return self._last

    def _record(self, ids: Tensor, text: str) -> Record:
        n_layers, t = len(self.blocks), self.transcoders
        seen: dict[str, Tensor] = {}
        active: list[Tensor] = [torch.empty(0)] * n_layers
        values: list[Tensor] = [torch.empty(0)] * n_layers
        ignored = self.ignored_positions(ids)

        # Hooks are told their canonical name, which can differ from the alias asked for.
        def keep(tensor: Tensor, hook: Any, name: str) -> None:
            seen[name] = tensor[0].detach()

        def encode(tensor: Tensor, hook: Any, layer: int) -> None:
            acts = t.layers[layer].activate(t.layers[layer].pre_activations(tensor[0]))
            acts[:ignored] = 0
            where = acts.nonzero()
            found = torch.cat([torch.full_like(where[:, :1], layer), where], dim=1)
            active[layer] = found.to(ids.device)
            values[layer] = acts[where[:, 0], where[:, 1]].to(ids.device)

        reads = [block.hook(t.input_hook) for block in self.blocks]
        writes = [block.hook(t.output_hook) for block in self.blocks]
        patterns = [block.hook("pattern") for block in self.blocks]
        scales = [n.hook for block in self.blocks for n in block.norms] + [self.final_norm.hook]
        names = {"hook_embed", "ln_final.hook_out", *reads, *writes, *patterns, *scales}
        hooks: list[Hook] = [(name, partial(keep, name=name)) for name in names]
        hooks += [(name, partial(encode, layer=layer)) for layer, name in enumerate(reads)]
        logits = self.run(ids[None], hooks, last_only=True)
        record = Record(
            prompt=text,
            token_ids=ids,
            ignored=ignored,
            patterns=tuple(seen[name] for name in patterns),
            scales={name: seen[name].float() for name in scales},
            embeddings=seen["hook_embed"],
            reads=tuple(seen[name] for name in reads),
            writes=tuple(seen[name] for name in writes),
            features=torch.cat(active),
            activations=torch.cat(values),
            next_logits=logits[0, -1],
            final=seen["ln_final.hook_out"],
            unembed=self.unembed,
        )
        check_finite(record)
        return record


@contextmanager
def _expected_edits() -> Generator[None]:
    """Silence the bridge's warning that a norm's denominator was edited: freezing it is the aim."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="A forward hook edited hook_scale")
        yield
