"""What every MLP of the atlas model reads and writes over the corpus, each prefix once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from circuit_nb.atlas.making.corpus import Corpus
from circuit_nb.atlas.making.network import blocks
from circuit_nb.atlas.making.probe import run
from circuit_nb.atlas.making.tokenizer import PAD

NAME_BOOST = 8.0
"""How much more often transcoders see positions at or before a name."""


@dataclass(frozen=True)
class Samples:
    """What the MLPs read and wrote at every distinct prefix."""

    tokens: Tensor
    """Last token of each prefix (prefixes,)."""
    weights: Tensor
    """How often each is drawn (prefixes,)."""
    inputs: tuple[Tensor, ...]
    """Per layer (prefixes, d_model)."""
    outputs: tuple[Tensor, ...]
    """Per layer (prefixes, d_model)."""
    predicted: Tensor
    """The model's most likely next token (prefixes,)."""
    rows: Tensor
    """Sentence of each prefix (prefixes,)."""


@torch.no_grad()
def collect(model: LlamaForCausalLM, corpus: Corpus, chunk: int = 512) -> Samples:
    """Run the corpus and keep each distinct prefix once; `<bos>` alone is left out."""
    tokens = corpus.tokens
    keep = _distinct_prefixes(tokens)
    inputs: list[list[Tensor]] = [[] for _ in blocks(model)]
    outputs: list[list[Tensor]] = [[] for _ in blocks(model)]
    predicted: list[Tensor] = []
    for start in range(0, len(tokens), chunk):
        kept = keep[start : start + chunk]
        done = run(model, tokens[start : start + chunk])
        predicted.append(done.logits.argmax(-1)[kept])
        for layer in range(len(inputs)):
            inputs[layer].append(done.inputs[layer][kept])
            outputs[layer].append(done.outputs[layer][kept])
    upcoming = torch.cat([tokens[:, 1:], torch.full((len(tokens), 1), PAD)], 1)
    named = corpus.is_name[tokens] | corpus.is_name[upcoming]
    return Samples(
        tokens=tokens[keep],
        weights=(1 + (NAME_BOOST - 1) * named.float())[keep],
        inputs=tuple(torch.cat(part) for part in inputs),
        outputs=tuple(torch.cat(part) for part in outputs),
        predicted=torch.cat(predicted),
        rows=keep.nonzero()[:, 0],
    )


def _distinct_prefixes(tokens: Tensor) -> Tensor:
    """Return where (sentences, positions) a prefix occurs for the first time."""
    seen: set[tuple[int, ...]] = set()
    keep = torch.zeros_like(tokens, dtype=torch.bool)
    for row, ids in enumerate(tokens.tolist()):
        for position in range(1, len(ids)):
            prefix = tuple(ids[: position + 1])
            if ids[position] != PAD and prefix not in seen:
                seen.add(prefix)
                keep[row, position] = True
    return keep
