"""Trainers whose sets are read as they wrote them, told apart by a file that none else writes.

A set of theirs has no `config.yaml`: each trainer's module says the same from files of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from circuit_nb.hub import clt_forge_config, llamascopium_config, sparsify_config


class Trainer(Protocol):
    """The module of a trainer."""

    @property
    def DESCRIBED(self) -> str:
        """A file, or a pattern of files, by which a set of its is known."""
        ...

    @staticmethod
    def files(folder: Path) -> tuple[str, ...]:
        """Patterns of all the files of its set in a folder; none where there is no such set."""
        ...

    @staticmethod
    def config(folder: Path) -> tuple[Path, dict[str, Any]]:
        """The file that describes the set in a folder, and what a `config.yaml` would say."""
        ...


TRAINERS: tuple[Trainer, ...] = (sparsify_config, clt_forge_config, llamascopium_config)


def trainer_of(folder: Path) -> Trainer | None:
    """Who wrote the set in a folder; None where there is none, or one with a `config.yaml`."""
    if (folder / "config.yaml").is_file():
        return None
    return next((trainer for trainer in TRAINERS if trainer.files(folder)), None)
