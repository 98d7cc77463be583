"""Opening a folder of transcoder files: its config, and the formats files come in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from circuit_nb.files import shown
from circuit_nb.hub.set_config import listed_files, read_config
from circuit_nb.transcoders.lazy_files import Encoder, NpzFile, OnDisk, SafetensorsFile, open_file
from circuit_nb.transcoders.scope_file import DECODER, RANK, THRESHOLD, ScopeLayer
from circuit_nb.transcoders.stacked_file import StackedLayer
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
    rank: str = ""
    suffix: str = ".safetensors"
    transposed: bool = False
    """Encoder stored as (d_model, features), skip path as x @ W rather than x @ W.T."""
    decoder_file: str = ""
    """Where decoders lie if not beside the encoder."""
    rectified: bool = False
    """Whether TopK chooses among what ReLU leaves."""
    stacked: type[StackedLayer | ScopeLayer] | None = None
    """What shows one layer of a file that holds all of them."""

    def fits(self, file: SafetensorsFile | NpzFile, layer: int) -> bool:
        """Whether a file holds this format's tensors."""
        wanted = {n.format(i=layer) for n in (self.encoder, self.b_enc, self.b_dec)}
        wanted |= self.stacked.needed if self.stacked else set()
        return file.path.suffix == self.suffix and wanted <= file.names

    def read(
        self,
        file: SafetensorsFile | NpzFile,
        layer: int,
        *,
        n_written: int,
        config: Mapping[str, Any],
    ) -> LayerTranscoder:
        """A layer's transcoder; its matrices stay in the file until they are needed.

        Raises:
            ValueError: If a tensor is missing, of another shape or kind, or holds NaN where it is
                read now; it names file and tensor.
        """
        if self.stacked:
            file = self.stacked(file.path, layer, n_written, config)
        names = {
            "b_enc": self.b_enc,
            "b_dec": self.b_dec,
            "threshold": self.threshold,
            "W_skip": self.skip,
            "rank": self.rank,
        }
        stored = {field: name.format(i=layer) for field, name in names.items()}
        stored = {field: name for field, name in stored.items() if name in file.names}
        n, d = (_length(file, stored[field], layer) for field in ("b_enc", "b_dec"))
        shapes = {"b_enc": (n,), "b_dec": (d,), "W_skip": (d, d)}
        shapes |= {"threshold": (n,), "rank": (n,)}
        beside = file
        if self.decoder_file:
            beside = open_file(file.path.with_name(self.decoder_file.format(i=layer)))
        encoder, decoder = self.encoder.format(i=layer), self.decoder.format(i=layer)
        if decoder not in beside.names:
            raise ValueError(f"{shown(beside.path)} lacks the decoder, {decoder}.")
        _check_shape(file, encoder, "encoder", layer, (d, n) if self.transposed else (n, d))
        rows = OnDisk(beside, decoder, n_written)
        flat = (n, d) if n_written == 1 and len(beside.shape(decoder)) == 2 else (n, n_written, d)
        _check_shape(beside, decoder, "decoder", layer, flat, rows.shape if len(flat) == 3 else ())
        tensors: dict[str, Any] = {
            field: _read(file, name, layer, shapes[field], endless=field == "threshold")
            for field, name in stored.items()
        }
        if self.transposed and "W_skip" in tensors:
            tensors["W_skip"] = tensors["W_skip"].T
        matrix = Encoder(file, encoder, transposed=self.transposed)
        return LayerTranscoder(matrix, rows, **tensors, rectified=self.rectified)


_PLAIN: dict[str, Any] = {
    "encoder": "W_enc",
    "decoder": "W_dec",
    "b_enc": "b_enc",
    "b_dec": "b_dec",
}
FORMATS = (
    Format(
        "CLT-Forge",
        **_PLAIN,
        threshold="log_threshold",
        skip="",
        transposed=True,
        stacked=StackedLayer,
    ),
    Format(
        "llamascopium",
        encoder="W_E",
        decoder=DECODER,
        b_enc="b_E",
        b_dec="b_D.{i}",
        threshold=THRESHOLD,
        skip="",
        rank=RANK,
        transposed=True,
        rectified=True,
        stacked=ScopeLayer,
    ),
    Format(
        "circuit-tracer per layer",
        **_PLAIN,
        threshold="activation_function.threshold",
        skip="W_skip",
    ),
    Format(
        "circuit-tracer cross-layer",
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
    Format(
        "sparsify",
        encoder="encoder.weight",
        decoder="W_dec",
        b_enc="encoder.bias",
        b_dec="b_dec",
        threshold="",
        skip="W_skip",
        rectified=True,
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
    """Open a folder of `config.yaml` and transcoder files, or what another trainer wrote.

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
    layers = (
        _format(file, i).read(
            file, i, n_written=len(files) - i if cross_layer else 1, config=config
        )
        for i, file in enumerate(map(open_file, files))
    )
    placed = tuple(replace(layer.to(device, dtype), k=config.get("k")) for layer in layers)
    try:
        return Transcoders(
            placed,
            input_hook=config["feature_input_hook"],
            output_hook=config["feature_output_hook"],
            cross_layer=cross_layer,
            model_name=config.get("model_name") or "",
            scan=config.get("scan"),
            source=str(folder),
            config=config,
            joint_k=config.get("joint_k"),
        )
    except ValueError as error:
        raise ValueError(f"{shown(folder)}: {error}") from error


def _find_files(folder: Path, config: Mapping[str, Any]) -> list[Path]:
    """One file a layer: those the config lists, or those lying beside it."""
    listed = listed_files(config, folder / "config.yaml")
    if listed:
        files = [folder / name for name in listed]
        for path in files:
            if not path.is_file():
                raise FileNotFoundError(
                    f"{shown(folder / 'config.yaml')} lists {path.name[:80]!r}, which is not there."
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
        f"{shown(file.path)} holds {', '.join(sorted(file.names))[:40]!r}, which fit none of the "
        f"known formats for layer {layer}: {', '.join(f.name for f in FORMATS)}."
    )


def _length(file: SafetensorsFile | NpzFile, name: str, layer: int) -> int:
    """How many numbers a vector of a file holds, told by its header."""
    shape = file.shape(name)
    if len(shape) != 1 or not shape[0]:
        raise ValueError(
            f"{shown(file.path)}: {name} of layer {layer} has shape {str(shape)[:60]}; it "
            "needs a vector of at least one number, and a transcoder at least one feature."
        )
    return shape[0]


def _check_shape(
    file: SafetensorsFile | NpzFile,
    name: str,
    what: str,
    layer: int,
    expected: tuple[int, ...],
    used: tuple[int, ...] = (),
) -> None:
    """Refuse a tensor of another shape or kind, told by the file's header.

    Args:
        file: The file.
        name: The tensor's name in it.
        what: What it is.
        layer: Of which layer.
        expected: Its shape.
        used: Shape of the part that is used, where that is not all.
    """
    shape = used or file.shape(name)
    if shape != expected:
        raise ValueError(
            f"{shown(file.path)}: the {what} {name} of layer {layer} has shape {str(shape)[:60]}, "
            f"expected {expected}; the files do not belong to one set."
        )
    if not file.holds_numbers(name):
        raise ValueError(
            f"{shown(file.path)}: the {what} {name} of layer {layer} is of type "
            f"{file.type_of(name)}; floating-point numbers of 16, 32 or 64 bits are read."
        )


def _read(
    file: SafetensorsFile | NpzFile,
    name: str,
    layer: int,
    shape: tuple[int, ...],
    *,
    endless: bool,
) -> Tensor:
    """A small tensor, checked; `endless` where infinity stands for a feature that never fires."""
    _check_shape(file, name, "tensor", layer, shape)
    tensor = file.read(name)
    values = tensor.float()
    good = values > -torch.inf if endless else values.isfinite()
    if not good.all():
        where = (~good).nonzero()[0].tolist()
        raise ValueError(
            f"{shown(file.path)}: {name} of layer {layer} holds NaN or infinity at {where}; the "
            "file is damaged: download or copy it again."
        )
    return tensor
