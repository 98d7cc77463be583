"""Running the atlas model with its MLPs watched, edited or replaced by transcoders.

Plain forward hooks on the Hugging Face model: enough to train and to measure with, and
independent of the library, which has its own tests against these figures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import LlamaForCausalLM

from circuit_nb.atlas.making.network import blocks
from circuit_nb.files import replacing_folder

Edit = Callable[[int, Tensor, Tensor], Tensor]
"""(layer, MLP input, MLP output) → new MLP output."""

TENSORS = {
    "W_enc": "encoder",
    "b_enc": "encoder_bias",
    "W_dec": "decoder",
    "b_dec": "decoder_bias",
    "activation_function.threshold": "threshold",
}
"""Tensor names of the stored format, and the fields they fill."""


@dataclass
class Transcoder:
    """A JumpReLU transcoder of one MLP."""

    encoder: Tensor
    """(features, d_model)."""
    encoder_bias: Tensor
    """(features,)."""
    decoder: Tensor
    """(features, d_model)."""
    decoder_bias: Tensor
    """(d_model,)."""
    threshold: Tensor
    """(features,); a pre-activation at or under it counts as 0."""

    def encode(self, inputs: Tensor) -> Tensor:
        """Return activations (…, features) for MLP inputs (…, d_model)."""
        pre = inputs @ self.encoder.T + self.encoder_bias
        return pre * (pre > self.threshold)

    def decode(self, activations: Tensor) -> Tensor:
        """Return reconstructed MLP outputs (…, d_model)."""
        return activations @ self.decoder + self.decoder_bias

    def learnable(self) -> list[Tensor]:
        """Return the tensors that finetuning changes."""
        return [self.encoder, self.encoder_bias, self.decoder, self.decoder_bias]

    @torch.no_grad()
    def normalise(self) -> None:
        """Scale every decoder row to length 1, activations and thresholds along with it."""
        length = self.decoder.norm(dim=1).clamp_min(1e-8)
        self.decoder = self.decoder / length[:, None]
        self.encoder = self.encoder * length[:, None]
        self.encoder_bias = self.encoder_bias * length
        self.threshold = self.threshold * length


def save_transcoders(transcoders: Sequence[Transcoder], folder: Path) -> None:
    """Write `config.yaml` and one safetensors file a layer."""
    files = [f"layer_{layer}.safetensors" for layer in range(len(transcoders))]
    config = {
        "model_name": "atlas",
        "model_kind": "transcoder_set",
        "feature_input_hook": "mlp.hook_in",
        "feature_output_hook": "mlp.hook_out",
        "transcoders": files,
    }
    with replacing_folder(folder) as beside:
        for transcoder, file in zip(transcoders, files, strict=True):
            tensors = {k: getattr(transcoder, v).contiguous() for k, v in TENSORS.items()}
            save_file(tensors, beside / file)
        (beside / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))


def load_transcoders(folder: Path) -> list[Transcoder]:
    """Read a folder that `save_transcoders` wrote."""
    config = yaml.safe_load((folder / "config.yaml").read_text())
    stored = [load_file(folder / file) for file in config["transcoders"]]
    return [Transcoder(**{v: tensors[k] for k, v in TENSORS.items()}) for tensors in stored]


def load_model(folder: Path) -> LlamaForCausalLM:
    """Load a saved model for reading: float32, eager attention, no gradients."""
    model = LlamaForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    )
    return model.eval().requires_grad_(False)


@dataclass(frozen=True)
class Pass:
    """One forward pass."""

    logits: Tensor
    """(rows, positions, vocab)."""
    inputs: tuple[Tensor, ...]
    """Each MLP's input (rows, positions, d_model)."""
    outputs: tuple[Tensor, ...]
    """Each MLP's own output, before any edit (rows, positions, d_model)."""


def run(
    model: LlamaForCausalLM, tokens: Tensor, edit: Edit | None = None, *, keep: int = 0
) -> Pass:
    """Run token ids (rows, positions); `edit` may change the MLPs' outputs.

    With `keep`, logits are those of the last `keep` positions only.
    """
    inputs: list[Tensor] = []
    outputs: list[Tensor] = []
    handles = []

    def hook(layer: int) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
        def watch(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
            inputs.append(args[0])
            outputs.append(output)
            return output if edit is None else edit(layer, args[0], output)

        return watch

    for layer, block in enumerate(blocks(model)):
        handles.append(block.mlp.register_forward_hook(hook(layer)))
    try:
        logits = model(tokens, use_cache=False, logits_to_keep=keep).logits
    finally:
        for handle in handles:
            handle.remove()
    return Pass(logits, tuple(inputs), tuple(outputs))


def replace_mlps(transcoders: Sequence[Transcoder]) -> Edit:
    """Return the edit that puts transcoders in the place of all MLPs, but for position 0."""

    def edit(layer: int, inputs: Tensor, output: Tensor) -> Tensor:
        transcoder = transcoders[layer]
        rebuilt = transcoder.decode(transcoder.encode(inputs[:, 1:]))
        return torch.cat([output[:, :1], rebuilt], 1)

    return edit


def change_features(
    transcoders: Sequence[Transcoder], position: int, change: Callable[[int, Tensor], Tensor]
) -> Edit:
    """Return the edit that adds what changed features write to the MLPs' own outputs.

    Args:
        transcoders: One a layer.
        position: Where features change.
        change: (layer, activations (rows, features)) → new activations.
    """

    def edit(layer: int, inputs: Tensor, output: Tensor) -> Tensor:
        before = transcoders[layer].encode(inputs[:, position])
        written = (change(layer, before) - before) @ transcoders[layer].decoder
        changed = output.clone()
        changed[:, position] += written
        return changed

    return edit
