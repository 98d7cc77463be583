"""Tensors that stay in their files until rows of them are asked for."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from circuit_nb.files import said, shown
from circuit_nb.transcoders.npz_file import NpzFile
from circuit_nb.transcoders.read_ahead import announce


class Rows(Protocol):
    """Decoder rows, (features, layers written, d_model), in memory or in a file."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape, known without reading it."""
        ...

    def rows(self, features: Tensor) -> Tensor:
        """The rows of the given features, (n, layers written, d_model), in that order."""
        ...


@dataclass(frozen=True)
class InMemory:
    """Decoder rows that are in memory already: a tensor with or without the middle axis."""

    tensor: Tensor
    device: torch.device | str = "cpu"
    """Where rows are put when asked for; the tensor stays where it is."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(features, layers written, d_model)."""
        return tuple(self._rows.shape)

    @property
    def _rows(self) -> Tensor:
        return self.tensor[:, None] if self.tensor.ndim == 2 else self.tensor

    def rows(self, features: Tensor) -> Tensor:
        """The rows of the given features, (n, layers written, d_model).

        Raises:
            ValueError: If they hold NaN or infinity.
        """
        rows = self._rows[features.to(self.tensor.device)]
        _check_finite(rows, features, "The decoder in memory")
        return rows.to(self.device)


@dataclass(frozen=True)
class OnDisk:
    """Decoder rows in a file. Only those asked for are read, in the file's own type."""

    file: SafetensorsFile | NpzFile
    name: str
    n_written: int
    """How many layers are written. Files may hold rows for layers below the feature's own; they
    come first and are not used."""
    device: torch.device | str = "cpu"

    @property
    def shape(self) -> tuple[int, ...]:
        """(features, layers written, d_model); as it is where it is no matrix."""
        shape = self.file.shape(self.name)
        if len(shape) == 2:
            return (shape[0], 1, shape[1])
        if len(shape) != 3:
            return shape
        return (shape[0], min(self.n_written, shape[1]), shape[2])

    def rows(self, features: Tensor) -> Tensor:
        """The rows of the given features, each read once, in the order they lie in the file.

        Raises:
            ValueError: If they hold NaN or infinity; it names file and tensor.
        """
        ordered, place = torch.unique(features.cpu(), return_inverse=True)
        rows = self.file.rows(self.name, ordered)
        rows = rows[:, None] if rows.ndim == 2 else rows[:, -self.n_written :]
        _check_finite(rows, ordered, f"{shown(self.file.path)}: {self.name}")
        return rows.to(self.device)[place.to(self.device)]


class Encoder:
    """An encoder in a file, (features, d_model), read at first use.

    Args:
        file: The file.
        name: The tensor's name in it.
        transposed: Whether it is stored as (d_model, features).
        keep: Whether it stays in memory once read; otherwise it is read at every use.
        device: Where it is put.
        dtype: Its type in memory.
    """

    def __init__(
        self,
        file: SafetensorsFile | NpzFile,
        name: str,
        *,
        transposed: bool,
        keep: bool = True,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.file, self.name, self.transposed, self.keep = file, name, transposed, keep
        self.device, self.dtype = device, dtype
        self._read: Tensor | None = None
        self._checked = False

    def to(
        self, device: torch.device | str, dtype: torch.dtype | None, *, keep: bool | None = None
    ) -> Encoder:
        """The same encoder for another place; type and `keep` stay where `None` is given."""
        return Encoder(
            self.file,
            self.name,
            transposed=self.transposed,
            keep=self.keep if keep is None else keep,
            device=device,
            dtype=dtype or self.dtype,
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """(features, d_model), known without reading it."""
        shape = self.file.shape(self.name)
        return shape[::-1] if self.transposed else shape

    def whole(self) -> Tensor:
        """The matrix.

        Raises:
            ValueError: If it holds NaN or infinity; it names file and tensor.
        """
        if self._read is not None:
            return self._read
        stored = self.file.read(self.name)
        matrix = (stored.T if self.transposed else stored).to(self.device, self.dtype)
        if not self._checked:
            every = torch.arange(len(matrix), device=matrix.device)
            _check_finite(matrix, every, f"{shown(self.file.path)}: {self.name}")
            self._checked = True
        if self.keep:
            self._read = matrix.contiguous()
        return matrix

    def rows(self, features: Tensor) -> Tensor:
        """The rows of the given features, (n, d_model)."""
        if self._read is not None or self.transposed or self.keep:
            return self.whole()[features.to(self.device)]
        ordered, place = torch.unique(features.cpu(), return_inverse=True)
        rows = self.file.rows(self.name, ordered)
        _check_finite(rows, ordered, f"{shown(self.file.path)}: {self.name}")
        return rows.to(self.device, self.dtype)[place.to(self.device)]


class SafetensorsFile:
    """A safetensors file, mapped into memory rather than read.

    Raises:
        FileNotFoundError: If it does not exist.
        ValueError: If it is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file: Any = safe_open(path, framework="pt")
        except SafetensorError as error:
            raise ValueError(
                f"{shown(path)} is not a readable safetensors file ({said(error)}); it may be cut: "
                "download or copy it again."
            ) from error

    @cached_property
    def names(self) -> frozenset[str]:
        """Names of the tensors in it."""
        return frozenset(self._file.keys())

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape, without reading it."""
        return tuple(self._file.get_slice(name).get_shape())

    def type_of(self, name: str) -> str:
        """What kind of numbers a tensor holds, as the file calls it."""
        return str(self._file.get_slice(name).get_dtype())

    def holds_numbers(self, name: str) -> bool:
        """Whether a tensor holds floating-point numbers that can be computed with."""
        return self.type_of(name) in ("F64", "F32", "F16", "BF16")

    def read(self, name: str) -> Tensor:
        """A whole tensor."""
        return self._file.get_tensor(name)

    def rows(self, name: str, ordered: Tensor) -> Tensor:
        """Rows of a tensor at ascending indices."""
        data, header = self._header
        begin, end = header[name]["data_offsets"]
        size = (end - begin) // header[name]["shape"][0]
        announce(self.path, data + begin, size, ordered.tolist())
        return self._file.get_slice(name)[ordered.tolist()]

    @cached_property
    def _header(self) -> tuple[int, dict[str, Any]]:
        """Where the tensors' data begin, and what the file says of each tensor."""
        with self.path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            return 8 + length, json.loads(file.read(length))


def _check_finite(rows: Tensor, features: Tensor, where: str) -> None:
    """Refuse rows of weights that hold NaN or infinity.

    Args:
        rows: (n, …).
        features: Which feature each is of, (n,).
        where: What errors call the place they come from.
    """
    if not rows.numel():
        return
    # Least and greatest are NaN where anything is; unlike `isfinite`, this makes no copies.
    least, most = rows.aminmax()
    if math.isfinite(least.item()) and math.isfinite(most.item()):
        return
    wrong = ~rows.float().isfinite().flatten(1).all(1)
    raise ValueError(
        f"{where} holds NaN or infinity for feature {int(features[wrong.to(features.device)][0])}; "
        "the file is damaged: download or copy it again."
    )


def open_file(path: Path) -> SafetensorsFile | NpzFile:
    """Open a file of tensors by its suffix, `.safetensors` or `.npz`.

    Raises:
        FileNotFoundError: If it does not exist.
        ValueError: If it is damaged or of another kind.
    """
    if not path.is_file():
        raise FileNotFoundError(f"No file at {shown(path)}; the transcoder set is incomplete.")
    readers = {".safetensors": SafetensorsFile, ".npz": NpzFile}
    if path.suffix not in readers:
        raise ValueError(
            f"{shown(path)} is neither {' nor '.join(readers)}; no other kind is read."
        )
    return readers[path.suffix](path)


def weights_in(folder: Path) -> int:
    """Number of weights in the safetensors files of a folder, told by their headers.

    Raises:
        ValueError: If one is damaged.
    """
    files = (SafetensorsFile(path) for path in folder.glob("*.safetensors"))
    return sum(math.prod(file.shape(name)) for file in files for name in file.names)
