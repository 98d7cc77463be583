"""Opening a folder of transcoder files: its config, and the formats files come in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml

from circuit_nb.transcoders.lazy_files import Encoder, NpzFile, OnDisk, SafetensorsFile, open_file
from circuit_nb.transcoders.transcoder import LayerTranscoder, Transcoders


@dataclass(frozen=True)
class Format:
    """How one family of transcoder files names and orients its tensors.

    `{i}` in a name stands for the layer.
    """

    name: str
    encoder: str
    decoder: str
    b_enc: str
    b_dec: str
    threshold: str
    skip: str
    suffix: str = ".safetensors"
    transposed: bool = False
    """Encoder stored as (d_model, features), skip path as x @ W rather than x @ W.T."""
    decoder_file: str = ""
    """Where decoders lie if not beside the encoder."""

    def fits(self, file: SafetensorsFile | NpzFile, layer: int) -> bool:
        """Whether a file holds this format's tensors."""
        wanted = {n.format(i=layer) for n in (self.encoder, self.b_enc, self.b_dec)}
        return file.path.suffix == self.suffix and wanted <= file.names

    def read(
        self, file: SafetensorsFile | NpzFile, layer: int, *, n_written: int
    ) -> LayerTranscoder:
        """A layer's transcoder; its matrices stay in the file until they are needed."""
        names = {
            "b_enc": self.b_enc,
            "b_dec": self.b_dec,
            "threshold": self.threshold,
            "W_skip": self.skip,
        }
        stored = {field: name.format(i=layer) for field, name in names.items()}
        tensors: dict[str, Any] = {
            f: file.read(name) for f, name in stored.items() if name in file.names
        }
        if self.transposed and "W_skip" in tensors:
            tensors["W_skip"] = tensors["W_skip"].T
        beside = file
        if self.decoder_file:
            beside = open_file(file.path.with_name(self.decoder_file.format(i=layer)))
        decoder = self.decoder.format(i=layer)
        if decoder not in beside.names:
            raise ValueError(f"{beside.path} lacks the decoder, {decoder}.")
        encoder = self.encoder.format(i=layer)
        return LayerTranscoder(
            Encoder(file, encoder, transposed=self.transposed),
            OnDisk(beside, decoder, n_written),
            **tensors,
        )


_PLAIN: dict[str, Any] = {
    "encoder": "W_enc",
    "decoder": "W_dec",
    "b_enc": "b_enc",
    "b_dec": "b_dec",
}
FORMATS = (
    Format(
        "circuit-tracer, one transcoder a layer",
        **_PLAIN,
        threshold="activation_function.threshold",
        skip="W_skip",
    ),
    Format(
        "circuit-tracer, cross-layer",
        encoder="W_enc_{i}",
        decoder="W_dec_{i}",
        b_enc="b_enc_{i}",
        b_dec="b_dec_{i}",
        threshold="threshold_{i}",
        skip="W_skip",
        decoder_file="W_dec_{i}.safetensors",
    ),
    Format(
        "Gemma Scope",
        **_PLAIN,
        threshold="threshold",
        skip="W_skip",
        suffix=".npz",
        transposed=True,
    ),
    Format(
        "Gemma Scope 2",
        encoder="w_enc",
        decoder="w_dec",
        b_enc="b_enc",
        b_dec="b_dec",
        threshold="threshold",
        skip="affine_skip_connection",
        transposed=True,
    ),
)
"""Every format that can be read, told apart by the tensors' names; add one here."""

_FILE_PATTERNS = ("layer_{i}.safetensors", "W_enc_{i}.safetensors", "layer_{i}.npz")


def open_transcoders(
    folder: str | Path,
    *,
    files: Sequence[Path] | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Transcoders:
    """Open a folder that holds `config.yaml` and transcoder files.

    Args:
        folder: The folder.
        files: One file a layer, where they do not lie beside the config.
        device: Where encoders and decoder rows are put when read.
        dtype: Type of encoders and biases in memory.

    Raises:
        FileNotFoundError: If the folder, its config or the file of a layer is missing.
        ValueError: If the config or a file is not what it should be.
    """
    folder = Path(folder)
    config = read_config(folder)
    files = files or _find_files(folder, config)
    cross_layer = config.get("model_kind") == "cross_layer_transcoder"
    k = config.get("k")
    if config.get("activation") == "topk" and not isinstance(k, int):
        raise ValueError(f"{folder / 'config.yaml'} says activation: topk; add k, e.g. k: 64.")
    layers = (
        _format(file, i).read(file, i, n_written=len(files) - i if cross_layer else 1)
        for i, file in enumerate(map(open_file, files))
    )
    return Transcoders(
        tuple(replace(layer.to(device, dtype), k=k) for layer in layers),
        input_hook=str(config["feature_input_hook"]),
        output_hook=str(config["feature_output_hook"]),
        cross_layer=cross_layer,
        model_name=str(config.get("model_name") or ""),
        scan=config.get("scan"),
        source=str(folder),
        config=config,
    )


def read_config(folder: Path) -> dict[str, Any]:
    """The set's `config.yaml`, with the keys every set must have checked.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is not YAML, or lacks a key.
    """
    path = folder / "config.yaml"
    if not path.is_file():
        raise FileNotFoundError(
            f"No transcoder set at {folder}: there is no config.yaml in it. Give a folder or a "
            "Hub repository that holds one."
        )
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not readable YAML ({error}).") from error
    needed = ("model_kind", "feature_input_hook", "feature_output_hook")
    missing = [key for key in needed if not isinstance(config, dict) or key not in config]
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}; a transcoder set must say them.")
    kinds = ("transcoder_set", "cross_layer_transcoder")
    if config["model_kind"] not in kinds:
        raise ValueError(
            f"{path} has model_kind {config['model_kind']!r}; it can be {' or '.join(kinds)}."
        )
    return config


def _find_files(folder: Path, config: Mapping[str, Any]) -> list[Path]:
    """One file a layer: those the config lists, or those lying beside it."""
    listed = config.get("transcoders")
    if listed:
        files = [folder / str(name) for name in listed]
        for path in files:
            if not path.is_file():
                raise FileNotFoundError(
                    f"{folder / 'config.yaml'} lists {path.name}, which is not there."
                )
        return files
    for pattern in _FILE_PATTERNS:
        head, tail = pattern.split("{i}")
        numbers = _layer_numbers(folder.glob(f"{head}*{tail}"), head, tail)
        if numbers:
            gap = next((i for i in range(max(numbers)) if i not in numbers), None)
            if gap is not None:
                raise FileNotFoundError(
                    f"The transcoder set at {folder} lacks layer {gap} "
                    f"({pattern.format(i=gap)}); every layer needs one."
                )
            return [folder / pattern.format(i=i) for i in sorted(numbers)]
    raise FileNotFoundError(
        f"No transcoder files in {folder}; expected {' or '.join(_FILE_PATTERNS)}, "
        "or a list under `transcoders` in config.yaml."
    )


def _layer_numbers(paths: Iterable[Path], head: str, tail: str) -> set[int]:
    pattern = re.compile(re.escape(head) + r"(\d+)" + re.escape(tail))
    matches = [pattern.fullmatch(path.name) for path in paths]
    return {int(m.group(1)) for m in matches if m}


def _format(file: SafetensorsFile | NpzFile, layer: int) -> Format:
    for form in FORMATS:
        if form.fits(file, layer):
            return form
    raise ValueError(
        f"{file.path} holds the tensors {', '.join(sorted(file.names)[:8])}, which fit none of "
        f"the known transcoder formats for layer {layer}: {'; '.join(f.name for f in FORMATS)}."
    )
