"""Transcoders, per-layer and cross-layer: what they compute, and the files they come in."""

from circuit_nb.transcoders.formats import FORMATS, Format, open_transcoders, read_config
from circuit_nb.transcoders.lazy_files import Encoder, InMemory, NpzFile, OnDisk, SafetensorsFile
from circuit_nb.transcoders.transcoder import LayerTranscoder, Transcoders

__all__ = [
    "FORMATS",
    "Encoder",
    "Format",
    "InMemory",
    "LayerTranscoder",
    "NpzFile",
    "OnDisk",
    "SafetensorsFile",
    "Transcoders",
    "open_transcoders",
    "read_config",
]
