"""The shape of the atlas model: a plain Llama whose zeros leave both hops no way past the MLPs.

The residual stream is split by zero norm weights and zero output rows:

- *embedding* dims hold the token, and MLP 0 alone reads them;
- *workspace* dims are what layers 1 to 3 read and layers 0 to 2 write; the first of them is
  a constant, so that RMSNorm does not amplify what is left after a feature is switched off;
- *output* dims are written by the last MLP alone and read by the head alone.

Attention of layer 0 is zero. The head is frozen. Its direction of a name has two parts: the
axis of its kind (state capitals, currencies, …, other cities) and a direction of its own;
those of other words lie apart. In the last MLP, one neuron for each answer writes the
answer's own direction, one for each kind writes the kind's axis, and the rest write words.
Those that write names are gated by the constant alone: they can say their name, not unsay it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from circuit_nb.atlas.making.tokenizer import BOS, EOS, PAD


@dataclass(frozen=True)
class Shape:
    """Sizes of the model. d_model is the sum of the three parts and heads × 8."""

    embedding: int = 32
    """Residual dims that hold the token."""
    workspace: int = 56
    """Residual dims that layers exchange, the constant among them."""
    output: int = 40
    """Residual dims that the head reads."""
    kinds: int = 10
    """Output dims for the kind of a name: 9 kinds of answer, and other cities."""
    words: int = 8
    """Output dims for words that are no names."""
    kind_share: float = 0.3
    """Share of a name's squared head direction that is its kind."""
    heads: int = 16
    mlp: int = 448
    """Neurons of each MLP."""
    layers: int = 4
    constant: float = 0.5
    """Value of the constant dim."""
    fixed_up: float = 0.5
    """Weight of the constant in the up projection of neurons that write names."""
    embedding_norm: float = 0.1
    """Longest embedding."""
    first_norm: float = 5.0
    """Initial weight of MLP 0's norm on the embedding dims."""

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return self.embedding + self.workspace + self.output

    def part(self, name: str) -> Tensor:
        """Return the 0/1 mask (d_model,) of one part.

        The parts are `embedding`, `constant`, `free` (the workspace without its constant),
        `output`, and of the output `kinds`, `words` and `own` (the names' own directions).
        """
        output = self.embedding + self.workspace
        start = {
            "embedding": (0, self.embedding),
            "constant": (self.embedding, self.embedding + 1),
            "free": (self.embedding + 1, self.embedding + self.workspace),
            "output": (output, self.d_model),
            "kinds": (output, output + self.kinds),
            "words": (output + self.kinds, output + self.kinds + self.words),
            "own": (output + self.kinds + self.words, self.d_model),
        }[name]
        mask = torch.zeros(self.d_model)
        mask[slice(*start)] = 1.0
        return mask


def blocks(model: LlamaForCausalLM) -> list[LlamaDecoderLayer]:
    """Return the model's layers."""
    return cast("list[LlamaDecoderLayer]", list(model.model.layers))


def new_model(vocab: int, shape: Shape) -> LlamaForCausalLM:
    """Return a fresh model, initialised from torch's global seed, with the split laid in."""
    config = LlamaConfig(
        vocab_size=vocab,
        hidden_size=shape.d_model,
        intermediate_size=shape.mlp,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        head_dim=shape.d_model // shape.heads,
        max_position_embeddings=64,
        tie_word_embeddings=False,
        bos_token_id=BOS,
        eos_token_id=EOS,
        pad_token_id=PAD,
        rms_norm_eps=1e-6,
        initializer_range=0.08,
        hidden_act="relu",
    )
    model = LlamaForCausalLM(config).float()
    model.set_attn_implementation("eager")
    workspace = shape.part("constant") + shape.part("free")
    with torch.no_grad():
        for i, layer in enumerate(blocks(model)):
            layer.input_layernorm.weight.copy_(workspace)
            layer.post_attention_layernorm.weight.copy_(workspace)
            if i == 0:
                first = shape.first_norm * shape.part("embedding") + shape.part("constant")
                layer.post_attention_layernorm.weight.copy_(first)
                for parameter in layer.self_attn.parameters():
                    parameter.zero_()
        model.model.norm.weight.copy_(shape.part("output"))
    return model


@dataclass
class Constraints:
    """What holds of the weights after every step: zeros, short embeddings, fixed writes."""

    model: LlamaForCausalLM
    shape: Shape
    writes: Tensor | None = None
    """Fixed first columns (d_model, answers + kinds) of the last MLP's down projection; the
    others then write words only."""
    masks: list[tuple[Tensor, Tensor]] = field(init=False)
    """(parameter, 0/1 mask) pairs."""

    def __post_init__(self) -> None:
        """Collect the masks and apply everything once."""
        self.masks = _masks(self.model, self.shape)
        self.apply()

    @torch.no_grad()
    def apply(self) -> None:
        """Bring the weights back to where they must be."""
        for parameter, mask in self.masks:
            parameter.mul_(mask)
        if self.writes is not None:
            mlp = blocks(self.model)[-1].mlp
            down, up = mlp.down_proj.weight, mlp.up_proj.weight
            fixed = self.writes.shape[1]
            down[:, :fixed] = self.writes
            up[:fixed] = self.shape.fixed_up * self.shape.part("constant")
            down[:, fixed:] *= self.shape.part("words")[:, None]
        embedding = self.model.model.embed_tokens.weight
        if embedding.requires_grad:
            embedding.mul_(self.shape.part("embedding"))
            length = embedding.norm(dim=1, keepdim=True).clamp_min(1e-8)
            embedding.mul_((self.shape.embedding_norm / length).clamp(max=1.0))
            embedding[:, self.shape.embedding] = self.shape.constant


def spread_directions(dims: int, given: Tensor, gain: float, seed: int, steps: int = 200) -> Tensor:
    """Return unit vectors (count, dims) pushed apart from one another.

    Args:
        dims: Length of the vectors.
        given: Overlap (count, count) that each pair has anyway.
        gain: How much of the whole overlap these vectors make up.
        seed: Of the first draw.
        steps: Of Adam.
    """
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(len(given), dims, generator=generator).requires_grad_()
    optimiser = torch.optim.Adam([points], lr=0.06)
    itself = 2 * torch.eye(len(given))
    for _ in range(steps):
        unit = F.normalize(points, dim=1)
        overlap = gain * unit @ unit.T + given - itself
        loss = torch.logsumexp(20 * overlap, 1).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return F.normalize(points.detach(), dim=1)


def spread_head(kinds: Tensor, shape: Shape, seed: int) -> Tensor:
    """Return unit head directions (vocab, d_model).

    Args:
        kinds: Kind of every token (vocab,); -1 for words that are no names.
        shape: Sizes of the model.
        seed: Of the names' directions; that of the words is one higher.
    """
    head = torch.zeros(len(kinds), shape.d_model)
    named = kinds >= 0
    of_kind = F.one_hot(kinds[named], shape.kinds).float()
    gain = 1 - shape.kind_share
    own_dims = shape.output - shape.kinds - shape.words
    own = spread_directions(own_dims, shape.kind_share * of_kind @ of_kind.T, gain, seed)
    names = torch.cat([shape.kind_share**0.5 * of_kind, gain**0.5 * own], 1)
    columns = (shape.part("kinds") + shape.part("own")).nonzero()[:, 0]
    head[named.nonzero(), columns] = names
    apart = torch.zeros(int((~named).sum()), int((~named).sum()))
    columns = shape.part("words").nonzero()[:, 0]
    head[(~named).nonzero(), columns] = spread_directions(shape.words, apart, 1.0, seed + 1)
    return head


def set_head(model: LlamaForCausalLM, directions: Tensor) -> None:
    """Give the model a head (vocab, d_model) and freeze it."""
    with torch.no_grad():
        model.lm_head.weight.copy_(directions)
    model.lm_head.weight.requires_grad_(False)


@torch.no_grad()
def renew_last_mlp(model: LlamaForCausalLM) -> None:
    """Draw the last MLP afresh."""
    for parameter in blocks(model)[-1].mlp.parameters():
        parameter.normal_(0.0, model.config.initializer_range)


def fixed_writes(model: LlamaForCausalLM, shape: Shape, answers: list[int]) -> Tensor:
    """Return what the last MLP's first neurons write (d_model, answers + kinds).

    For each answer token the unit of its head direction's own part, then each kind's axis.
    """
    own = model.lm_head.weight.detach()[answers] * shape.part("own")
    axes = torch.eye(shape.d_model)[shape.part("kinds") > 0]
    return torch.cat([F.normalize(own, dim=1), axes]).T.clone()


def _masks(model: LlamaForCausalLM, shape: Shape) -> list[tuple[Tensor, Tensor]]:
    free, output = shape.part("free"), shape.part("output")
    workspace = free + shape.part("constant")
    masks: list[tuple[Tensor, Tensor]] = [
        (model.model.norm.weight, output),
        (model.lm_head.weight, output),
    ]
    for i, layer in enumerate(blocks(model)):
        first, last = i == 0, i == shape.layers - 1
        read = shape.part("embedding") + shape.part("constant") if first else workspace
        masks.append((layer.post_attention_layernorm.weight, read))
        masks.append((layer.mlp.down_proj.weight, (output if last else free)[:, None]))
        if not first:
            masks.append((layer.input_layernorm.weight, workspace))
            masks.append((layer.self_attn.o_proj.weight, free[:, None]))
    return masks
