"""NumPy archives, whose arrays stay in the file until they are asked for."""

from __future__ import annotations

import lzma
import struct
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from circuit_nb.files import said, shown
from circuit_nb.transcoders.read_ahead import announce

_MAX_ARRAYS = 1000
_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    tokenize.TokenError,
    ArithmeticError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What reading a damaged archive raises: its parts are read by five libraries."""


class _Header(NamedTuple):
    """What a NumPy archive says of one array."""

    info: zipfile.ZipInfo
    length: int
    """Bytes before the numbers."""
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    order: Literal["C", "F"]


class NpzFile:
    """A NumPy archive. Arrays stored uncompressed, as `numpy.savez` does, are mapped, not read.

    Others are unpacked when they are first asked for.

    Raises:
        ValueError: If it is damaged, or holds Python objects.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._said_when_damaged(), zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if len(members) > _MAX_ARRAYS:
                raise ValueError(f"it holds {len(members)} arrays")
            self._headers = {
                info.filename.removesuffix(".npy"): self._header(archive, info) for info in members
            }
        self._opened: dict[str, npt.NDArray[Any]] = {}

    @contextmanager
    def _said_when_damaged(self) -> Generator[None, None, None]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # NumPy's, about headers of Python 2
                yield
        except _DAMAGED as error:
            raise ValueError(
                f"{shown(self.path)} is not a readable .npz file ({said(error)}); download or "
                "copy it again."
            ) from error

    def _header(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Header:
        with archive.open(info) as member:
            version = np.lib.format.read_magic(member)
            read_header = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            shape, fortran, dtype = read_header(member)
            length = member.tell()
        if dtype.hasobject:
            raise ValueError("it holds Python objects, which are never loaded")
        size = prod(shape) * dtype.itemsize
        if min(shape, default=0) < 0 or length + size != info.file_size:
            raise ValueError(f"an array of shape {shape} does not fill its {info.file_size} bytes")
        return _Header(info, length, tuple(map(int, shape)), dtype, "F" if fortran else "C")

    def _array(self, name: str) -> npt.NDArray[Any]:
        if name not in self._opened:
            with self._said_when_damaged():
                self._opened[name] = self._open(self._headers[name])
        return self._opened[name]

    def _open(self, header: _Header) -> npt.NDArray[Any]:
        if header.info.compress_type != zipfile.ZIP_STORED:
            with zipfile.ZipFile(self.path) as archive:
                data = np.frombuffer(archive.read(header.info)[header.length :], header.dtype)
            return data.reshape(header.shape, order=header.order)
        with self.path.open("rb") as raw:
            # A member's data follow its local header, whose two lengths lie at bytes 26 and 28.
            raw.seek(header.info.header_offset + 26)
            name_length, extra_length = np.frombuffer(raw.read(4), "<u2").tolist()
        offset = header.info.header_offset + 30 + name_length + extra_length + header.length
        return np.memmap(
            self.path, header.dtype, "r", offset=offset, shape=header.shape, order=header.order
        )

    @cached_property
    def names(self) -> frozenset[str]:
        """Names of the arrays in it."""
        return frozenset(self._headers)

    def shape(self, name: str) -> tuple[int, ...]:
        """An array's shape."""
        return self._headers[name].shape

    def type_of(self, name: str) -> str:
        """What kind of numbers an array holds, as NumPy calls it."""
        return str(self._headers[name].dtype)[:40]

    def holds_numbers(self, name: str) -> bool:
        """Whether an array holds floating-point numbers that can be computed with."""
        dtype = self._headers[name].dtype
        return dtype.kind == "f" and dtype.itemsize in (2, 4, 8)

    def read(self, name: str) -> Tensor:
        """A whole array."""
        return _tensor(self._array(name))

    def rows(self, name: str, ordered: Tensor) -> Tensor:
        """Rows of an array at ascending indices."""
        array = self._array(name)
        if isinstance(array, np.memmap) and array.flags.c_contiguous:
            announce(self.path, array.offset, array.strides[0], ordered.tolist())
        return _tensor(array[ordered.numpy()])


def _tensor(array: npt.NDArray[Any]) -> Tensor:
    """A copy in this machine's order of bytes."""
    return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("=")))
