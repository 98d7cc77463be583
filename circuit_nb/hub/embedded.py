"""The models that lie inside this package, by the name that `load` takes."""

from __future__ import annotations

from pathlib import Path

DEFAULT = "atlas"
"""The model that everything takes where none is named."""

EMBEDDED = {"atlas": Path(__file__).parents[1] / "atlas" / "weights"}
"""Folder of each: `model` and `transcoders`, and what else ships with it."""
