"""Tensors that stay in their files until rows of them are asked for."""

from __future__ import annotations

import json
import os
import zipfile
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor


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
        """The rows of the given features, (n, layers written, d_model)."""
        return self._rows[features.to(self.tensor.device)].to(self.device)


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
        """(features, layers written, d_model)."""
        shape = self.file.shape(self.name)
        if len(shape) == 2:
            return (shape[0], 1, shape[1])
        return (shape[0], min(self.n_written, shape[1]), *shape[2:])

    def rows(self, features: Tensor) -> Tensor:
        """The rows of the given features, each read once, in the order they lie in the file."""
        ordered, place = torch.unique(features.cpu(), return_inverse=True)
        rows = self.file.rows(self.name, ordered)
        rows = rows[:, None] if rows.ndim == 2 else rows[:, -self.n_written :]
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
        """The matrix."""
        if self._read is not None:
            return self._read
        stored = self.file.read(self.name)
        matrix = (stored.T if self.transposed else stored).to(self.device, self.dtype)
        if self.keep:
            self._read = matrix.contiguous()
        return matrix

    def rows(self, features: Tensor) -> Tensor:
        """The rows of the given features, (n, d_model)."""
        if self._read is not None or self.transposed or self.keep:
            return self.whole()[features.to(self.device)]
        ordered, place = torch.unique(features.cpu(), return_inverse=True)
        rows = self.file.rows(self.name, ordered)
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
                f"{path} is not a readable safetensors file ({error}); it may be truncated: "
                "download or copy it again."
            ) from error

    @cached_property
    def names(self) -> frozenset[str]:
        """Names of the tensors in it."""
        return frozenset(self._file.keys())

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape, without reading it."""
        return tuple(self._file.get_slice(name).get_shape())

    def read(self, name: str) -> Tensor:
        """A whole tensor."""
        return self._file.get_tensor(name)

    def rows(self, name: str, ordered: Tensor) -> Tensor:
        """Rows of a tensor at ascending indices."""
        data, header = self._header
        begin, end = header[name]["data_offsets"]
        size = (end - begin) // header[name]["shape"][0]
        _announce(self.path, data + begin, size, ordered.tolist())
        return self._file.get_slice(name)[ordered.tolist()]

    @cached_property
    def _header(self) -> tuple[int, dict[str, Any]]:
        """Where the tensors' data begin, and what the file says of each tensor."""
        with self.path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            return 8 + length, json.loads(file.read(length))


class NpzFile:
    """A NumPy archive. Arrays stored uncompressed, as `numpy.savez` does, are mapped, not read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with zipfile.ZipFile(path) as archive:
                self._arrays = {
                    info.filename.removesuffix(".npy"): self._open(archive, info)
                    for info in archive.infolist()
                }
        except (zipfile.BadZipFile, ValueError) as error:
            raise ValueError(
                f"{path} is not a readable .npz file ({error}); download or copy it again."
            ) from error

    def _open(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> npt.NDArray[Any]:
        with archive.open(info) as member:
            version = np.lib.format.read_magic(member)
            read_header = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            shape, fortran, dtype = read_header(member)
            if dtype.hasobject:
                raise ValueError("it holds Python objects, which are never loaded")
            if info.compress_type != zipfile.ZIP_STORED:
                data = np.frombuffer(member.read(), dtype)
                return data.reshape(shape, order="F" if fortran else "C")
            header_length = member.tell()
        with self.path.open("rb") as raw:
            # A member's data follow its local header, whose two lengths lie at bytes 26 and 28.
            raw.seek(info.header_offset + 26)
            name_length, extra_length = np.frombuffer(raw.read(4), "<u2").tolist()
        offset = info.header_offset + 30 + name_length + extra_length + header_length
        order = "F" if fortran else "C"
        return np.memmap(self.path, dtype, "r", offset=offset, shape=shape, order=order)

    @cached_property
    def names(self) -> frozenset[str]:
        """Names of the arrays in it."""
        return frozenset(self._arrays)

    def shape(self, name: str) -> tuple[int, ...]:
        """An array's shape."""
        return tuple(self._arrays[name].shape)

    def read(self, name: str) -> Tensor:
        """A whole array."""
        return torch.from_numpy(np.array(self._arrays[name]))

    def rows(self, name: str, ordered: Tensor) -> Tensor:
        """Rows of an array at ascending indices."""
        array = self._arrays[name]
        if isinstance(array, np.memmap) and array.flags.c_contiguous:
            _announce(self.path, array.offset, array.strides[0], ordered.tolist())
        return torch.from_numpy(np.array(array[ordered.numpy()]))


def _announce(path: Path, begin: int, size: int, rows: list[int]) -> None:
    """Tell the system which rows will be read, so that it fetches them from the disk together.

    Mapped memory alone fetches one after the other, each when it is touched.

    Args:
        path: The file.
        begin: Where the first row begins, in bytes.
        size: Bytes of a row.
        rows: Which rows.
    """
    if not hasattr(os, "posix_fadvise"):  # not on macOS and Windows
        return
    with path.open("rb") as file:
        for row in rows:
            os.posix_fadvise(file.fileno(), begin + row * size, size, os.POSIX_FADV_WILLNEED)


def open_file(path: Path) -> SafetensorsFile | NpzFile:
    """Open a file of tensors by its suffix, `.safetensors` or `.npz`.

    Raises:
        FileNotFoundError: If it does not exist.
        ValueError: If it is damaged or of another kind.
    """
    if not path.is_file():
        raise FileNotFoundError(f"No file at {path}; the transcoder set is incomplete.")
    readers = {".safetensors": SafetensorsFile, ".npz": NpzFile}
    if path.suffix not in readers:
        raise ValueError(f"{path} is neither {' nor '.join(readers)}; no other kind is read.")
    return readers[path.suffix](path)


def weights_in(folder: Path) -> int:
    """Number of weights in the safetensors files of a folder, told by their headers.

    Raises:
        ValueError: If one is damaged.
    """
    files = (SafetensorsFile(path) for path in folder.glob("*.safetensors"))
    return sum(prod(file.shape(name)) for file in files for name in file.names)
