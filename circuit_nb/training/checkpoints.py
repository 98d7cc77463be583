"""A training run on disk: going on after a stop gives what would have come without it."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from torch.optim import Adam

from circuit_nb.files import shown, write_tensors

NAME = "checkpoint.safetensors"


def save(folder: Path, coders: nn.Module, optimiser: Adam, step: int, run: str) -> None:
    """Write everything the next step depends on, in place of what is there.

    Args:
        folder: Of the run.
        coders: What is trained.
        optimiser: Its optimiser.
        step: Steps taken.
        run: What tells this run from others: its plan, model and texts.
    """
    arrays = {f"coders.{name}": value for name, value in coders.state_dict().items()}
    for name, parameter in coders.named_parameters():
        for key, value in optimiser.state.get(parameter, {}).items():
            arrays[f"adam.{key}.{name}"] = torch.as_tensor(value)
    plain = {name: value.detach().cpu().numpy() for name, value in arrays.items()}
    write_tensors(folder / NAME, plain, {"step": str(step), "run": run})


def check(folder: Path, run: str) -> int:
    """Whether a checkpoint, if there is one, can be gone on with.

    Returns:
        Steps taken; 0 if there is none.

    Raises:
        ValueError: If it belongs to another run, or cannot be read.
    """
    path = folder / NAME
    if not path.is_file():
        return 0
    with _read(path) as file:
        said = file.metadata() or {}
        if said.get("run") != run:
            raise ValueError(
                f"{shown(path)} was left by another run ({_difference(said.get('run'), run)}); "
                "give another folder, or remove that file to begin anew."
            )
        return int(said["step"])


def resume(folder: Path, coders: nn.Module, optimiser: Adam, run: str) -> int:
    """Read a checkpoint back, if there is one.

    Returns:
        Steps taken; 0 if there is none.

    Raises:
        ValueError: If it belongs to another run, or cannot be read.
    """
    done = check(folder, run)
    if done:
        with _read(folder / NAME) as file:
            names = list(file.keys())
            coders.load_state_dict(
                {n[7:]: file.get_tensor(n) for n in names if n.startswith("coders.")}
            )
            for name, parameter in coders.named_parameters():
                keys = [k for k in names if k.startswith("adam.") and k.endswith(f".{name}")]
                state = {key.split(".")[1]: file.get_tensor(key) for key in keys}
                if state:
                    optimiser.state[parameter] = {
                        key: value.to(parameter.device) for key, value in state.items()
                    }
    return done


@contextmanager
def _read(path: Path) -> Generator[Any]:
    """A checkpoint, open; what cannot be read of it is refused in a sentence."""
    try:
        with safe_open(path, "pt") as file:
            yield file
    except (SafetensorError, KeyError, RuntimeError) as error:
        raise ValueError(
            f"{shown(path)} cannot be read ({str(error)[:80]}); remove it to begin anew."
        ) from error


def remove(folder: Path) -> None:
    """Remove the checkpoint of a run that has ended."""
    (folder / NAME).unlink(missing_ok=True)


def _difference(before: str | None, now: str) -> str:
    """Which settings of two runs differ, in words."""
    try:
        old, new = json.loads(before or "{}"), json.loads(now)
    except json.JSONDecodeError:
        return "of unknown settings"
    differing = [key for key in new if old.get(key) != new[key]]
    return "other " + ", ".join(differing) if differing else "of unknown settings"
