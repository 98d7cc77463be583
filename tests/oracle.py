"""Two independent ways to the same edges: autograd, and the completeness identity.

Both use the bridge's own forward pass with its nonlinear parts replaced by what was recorded,
and nothing of `circuit_nb.frozen.descent`.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor


def _hold(tensor: Tensor, hook: Any, value: Tensor) -> Tensor:
    return value.to(tensor.dtype).expand_as(tensor)


def frozen_hooks(model: Any, record: Any, writes: dict[int, Tensor]) -> list[Any]:
    """Hooks that freeze patterns and denominators, and make each MLP write a given constant plus
    its transcoder's skip path."""
    t = model.transcoders
    held = dict(record.scales)
    held |= {b.hook("pattern"): p for b, p in zip(model.blocks, record.patterns, strict=True)}
    hooks = [(name, partial(_hold, value=value.detach())) for name, value in held.items()]
    read: dict[int, Tensor] = {}

    def keep(x: Tensor, hook: Any, layer: int) -> None:
        read[layer] = x

    def write(x: Tensor, hook: Any, layer: int) -> Tensor:
        return writes[layer] + t.layers[layer].skip(read[layer])

    for layer, block in enumerate(model.blocks):
        hooks.append((block.hook(t.input_hook), partial(keep, layer=layer)))
        hooks.append((block.hook(t.output_hook), partial(write, layer=layer)))
    return hooks


def frozen_outputs(model: Any, record: Any, embeddings: Tensor, writes: dict[int, Tensor]) -> Any:
    """Pre-activations (layers, positions, features) and demeaned logits (positions, vocab) of the
    frozen model, given what embeddings and MLPs write."""
    t = model.transcoders
    found: dict[int, Tensor] = {}
    final: list[Tensor] = []

    def encode(x: Tensor, hook: Any, layer: int) -> None:
        found[layer] = t.layers[layer].pre_activations(x[0])

    hooks = frozen_hooks(model, record, writes)
    hooks += [(b.hook(t.input_hook), partial(encode, layer=i)) for i, b in enumerate(model.blocks)]
    hooks.append(("hook_embed", partial(_hold, value=embeddings)))
    hooks.append(("unembed.hook_in", lambda x, hook: final.append(x[0])))
    model.bridge.run_with_hooks(record.token_ids[None], fwd_hooks=hooks)
    directions = model.unembedding - model.unembedding.mean(1, keepdim=True)
    return torch.stack([found[i] for i in range(len(model.blocks))]), final[0] @ directions


def decoder_rows(model: Any, record: Any) -> Tensor:
    """Activation times decoder rows of every active feature, (n, layers, d_model)."""
    t = model.transcoders
    rows = torch.zeros(len(record.features), t.n_layers, t.d_model)
    for n, ((layer, _, index), act) in enumerate(
        zip(record.features.tolist(), record.activations, strict=True)
    ):
        written = t.layers[layer].decoder.rows(torch.tensor([index]))[0]
        rows[n, list(t.writes(layer))] = act * written
    return rows


def error_vectors(model: Any, record: Any) -> Tensor:
    """MLP output minus reconstruction, (layers, positions, d_model), zero where it is ignored."""
    t, by_feature = model.transcoders, decoder_rows(model, record)
    errors = torch.stack(record.writes)
    for layer, transcoder in enumerate(t.layers):
        errors[layer] -= transcoder.b_dec + transcoder.skip(record.reads[layer])
        errors[layer].index_add_(0, record.features[:, 1], -by_feature[:, layer])
    errors[:, : record.ignored] = 0
    return errors


def source_writes(model: Any, record: Any) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
    """What sources write at each layer, and the constants: everything else but the skip path."""
    t, errors = model.transcoders, error_vectors(model, record)
    by_feature = decoder_rows(model, record)
    written = {
        layer: errors[layer].index_add(0, record.features[:, 1], by_feature[:, layer])
        for layer in range(t.n_layers)
    }
    constants = {
        layer: record.writes[layer] - t.layers[layer].skip(record.reads[layer]) - written[layer]
        for layer in range(t.n_layers)
    }
    return written, constants


def autograd_edges(model: Any, record: Any, target_ids: list[int]) -> Tensor:
    """Every edge by backpropagation, in the shape of `AttributionGraph.weights`."""
    t, error = model.transcoders, error_vectors(model, record)
    embeddings = record.embeddings.clone().requires_grad_()
    leaves = {i: w.clone().requires_grad_() for i, w in enumerate(record.writes)}
    writes = {i: leaf - t.layers[i].skip(record.reads[i]) for i, leaf in leaves.items()}
    pre, logits = frozen_outputs(model, record, embeddings, writes)
    outputs = [pre[layer, position, i] for layer, position, i in record.features.tolist()]
    outputs += [logits[-1, i] for i in target_ids]
    inputs = [embeddings, *leaves.values()]
    by_feature, positions = decoder_rows(model, record), record.features[:, 1]
    rows = []
    for output in outputs:
        grads = torch.autograd.grad(output, inputs, retain_graph=True, allow_unused=True)
        at_embedding, *at_writes = (
            torch.zeros_like(x) if g is None else g for g, x in zip(grads, inputs, strict=True)
        )
        gradient = torch.stack(at_writes)
        features = (by_feature * gradient[:, positions].transpose(0, 1)).sum((1, 2))
        errors = (gradient * error).sum(-1).flatten()
        tokens = (at_embedding * record.embeddings).sum(-1)
        rows.append(torch.cat([features, errors, tokens]))
    return torch.stack(rows)
