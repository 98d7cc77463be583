"""The replacement model: a language model with its transcoders, and how it is loaded and run."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from circuit_nb import hub
from circuit_nb.architecture import Block, Norm, blocks_of, family_of, norm_of
from circuit_nb.bridges import open_bridge
from circuit_nb.devices import default_device, device_of
from circuit_nb.known import WORKING_BYTES
from circuit_nb.memory import free_memory, said_when_exhausted
from circuit_nb.record import Record, check_finite
from circuit_nb.transcoder_files import open_transcoders
from circuit_nb.transcoders import Transcoders
from circuit_nb.vocabulary import Prompt, Vocabulary
from circuit_nb.weight_files import weights_in

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
        self, token_ids: Tensor, hooks: Sequence[Hook] = (), cache: Any = None
    ) -> tuple[Tensor, Any]:
        """As `run`, for the tokens that follow those in a key-value cache.

        Returns:
            The logits, and the cache with these tokens added.
        """
        with _expected_edits():
            return self.bridge.run_with_hooks(
                token_ids,
                fwd_hooks=list(hooks),
                return_type="logits_and_cache",
                use_cache=True,
                **({} if cache is None else {"past_key_values": cache}),
            )

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


def load(
    model: str | os.PathLike[str] | Any = "atlas",
    transcoders: str | os.PathLike[str] | Transcoders | None = None,
    *,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    tokenizer: Any = None,
    keep_encoders: bool | None = None,
    device_map: str | Mapping[str, int | str] | None = None,
) -> ReplacementModel:
    """Open a language model together with its transcoders.

    Args:
        model: `"atlas"` (the embedded model, offline), a local Hugging Face folder, a Hub id, or
            a Hugging Face model or `TransformerBridge` in memory.
        transcoders: A local folder, a Hub id (`owner/name/folder@revision`), or `Transcoders`.
            May be left out for `"atlas"` and for models with a known default set.
        device: Where to put it; by default CUDA, then Apple's MPS, then the CPU.
        dtype: Type of the weights. By default float32; on an accelerator whose free memory is too
            small for that, bfloat16. Attribution itself is always computed in float32.
        tokenizer: Needed beside a Hugging Face model in memory.
        keep_encoders: Whether transcoder encoders stay in memory once used. `False` reads them
            from their files at every use: slower, for sets larger than memory. By default they
            stay if they fit.
        device_map: In place of `device`, spreads the layers of a model in a folder or on the Hub
            over several GPUs: `"auto"`, `"balanced"`, or a device for each module, as in
            transformers.

    Raises:
        FileNotFoundError: If a folder or a file of it is missing.
        ValueError: If the family is unknown or model and transcoders do not fit together.
        MemoryError: If the device has too little memory; it says what needs less.
    """
    if device_map is not None and (
        device is not None or not isinstance(model, (str, os.PathLike)) or model == "atlas"
    ):
        raise ValueError(
            "device_map goes with a model's folder or Hub id, and in place of device; a model in "
            "memory stays where it is."
        )
    place = device_of(device) if device is not None else default_device()
    name = "" if not isinstance(model, (str, os.PathLike)) else os.fspath(model)
    if name == "atlas":
        from circuit_nb import atlas

        model, transcoders = atlas.model_folder(), transcoders or atlas.transcoder_folder()
    given = isinstance(transcoders, Transcoders)
    if not isinstance(transcoders, Transcoders):
        transcoders = _open_set(transcoders or hub.default_transcoders(name), name)
    revision = None
    if isinstance(model, (str, os.PathLike)):
        found = hub.model_source(os.fspath(model))
        model, revision = found.folder, found.revision
        if dtype is None:
            dtype = _dtype_that_fits(place, model, transcoders)
    dtype = dtype or torch.float32
    with said_when_exhausted("loading the model", place):
        bridge = open_bridge(model, place, dtype, tokenizer, device_map)
        opened = ReplacementModel(bridge, transcoders, name=name, revision=revision)
        opened.place_transcoders(None if given else dtype, keep_encoders=keep_encoders)
    return opened


def _open_set(transcoders: str | os.PathLike[str], model: str) -> Transcoders:
    """Transcoders of a folder or on the Hub, with where they come from."""
    found = hub.transcoder_set(transcoders)
    source = model if model == "atlas" else found.name
    opened = open_transcoders(found.folder, files=found.files)
    return replace(opened, source=source, revision=found.revision)


def _dtype_that_fits(device: torch.device, model: Path, transcoders: Transcoders) -> torch.dtype:
    """float32, unless an accelerator lacks the memory for model and encoders in it."""
    if device.type == "cpu":
        return torch.float32
    weights = weights_in(model) + transcoders.encoder_weights
    fits = 4 * weights + WORKING_BYTES <= free_memory(device)
    return torch.float32 if fits else torch.bfloat16
