"""What every engine does for one prompt: compute its graph and put the file in its place.

Results go to the folder and nothing else comes back, so that whoever is killed loses the graph in
work and no other, and a graph that is there is never computed again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

from circuit_nb.attribution.compute import attribute_together
from circuit_nb.files import check_writable, said
from circuit_nb.graphsets.asking import Ask
from circuit_nb.graphsets.folder import Folder
from circuit_nb.graphsets.naming import Settings, fingerprint
from circuit_nb.model.loading import load
from circuit_nb.model.replacement import ReplacementModel

TOKENS = 128
"""So many tokens are computed together at the most: the weights are read once for all of them, and
with more the products take as long as reading them no longer matters."""


@dataclass(frozen=True)
class Task:
    """One prompt and the name of its file."""

    name: str
    ask: Ask


@dataclass(frozen=True)
class Done:
    """What became of a task."""

    name: str
    reason: str | None = None
    """Why there is no graph."""
    pid: int = 0
    """The process that computed it; 0 where the graph was there."""


@dataclass(frozen=True)
class Source:
    """How other processes open the same model: weights in files are mapped, not copied."""

    model: str
    transcoders: str
    device: str
    dtype: str
    keep_encoders: bool
    fingerprint: str

    @classmethod
    def of(cls, model: ReplacementModel, known: str) -> Source:
        """Where a model in memory comes from; `known` is its fingerprint."""
        t = model.transcoders
        return cls(
            _pinned(model.name, model.revision),
            _pinned(t.source or model.name, t.revision),
            str(model.device),
            str(model.dtype).removeprefix("torch."),
            all(getattr(layer.W_enc, "keep", True) for layer in t.layers),
            known,
        )

    def open(self) -> ReplacementModel:
        """Open it.

        Raises:
            RuntimeError: If it is another model than the one it was made of.
        """
        import torch

        why = "it is not what is in memory"
        try:
            model = load(
                self.model,
                self.transcoders,
                device=self.device,
                dtype=getattr(torch, self.dtype),
                keep_encoders=self.keep_encoders,
            )
        except (OSError, ValueError) as error:
            model, why = None, str(error)
        if model is None or fingerprint(model) != self.fingerprint:
            raise RuntimeError(
                f"Another process cannot open the same model as {self.model!r} with "
                f"{self.transcoders!r}: {why} Use engine='here', or save both to folders and load "
                "them from there."
            )
        return model


def _pinned(name: str, revision: str | None) -> str:
    """A Hub id with the commit that was read; a folder by its whole path."""
    if revision is not None and "@" not in name:
        return f"{name}@{revision}"
    path = Path(name).expanduser()
    return str(path.resolve()) if path.is_dir() else name


@dataclass(frozen=True)
class Job:
    """What is the same for all tasks."""

    source: Source
    folder: str
    settings: Settings


def batches(model: ReplacementModel, tasks: Sequence[Task]) -> Iterator[list[Task]]:
    """Tasks cut into those to be computed together: in order, of `TOKENS` tokens at the most, each
    prompt counted as the longest. What is no prompt is left for itself."""
    batch, longest = list[Task](), 0
    for task in tasks:
        try:
            n = len(model.tokenize(task.ask.prompt))
        except Exception:  # said when it is computed
            n = TOKENS
        longest = max(longest, n)
        if batch and longest * (len(batch) + 1) > TOKENS:
            yield batch
            batch, longest = [], n
        batch.append(task)
    if batch:
        yield batch


def compute(model: ReplacementModel, job: Job, tasks: Sequence[Task]) -> Iterator[Done]:
    """Compute some graphs together, those that are not there, and write each, or why there is none.

    Raises:
        OSError: If nothing can be written: no other prompt would fare better.
        KeyboardInterrupt: If interrupted.
    """
    folder = Folder(job.folder)
    missing: list[Task] = []
    for task in tasks:
        if folder.graph(task.name).is_file():
            yield Done(task.name)
        else:
            missing.append(task)
    if not missing:
        return
    check_writable(folder.graph(missing[0].name))
    asked = [(task.ask.prompt, task.ask.targets) for task in missing]
    try:
        graphs = attribute_together(model, asked, *astuple(job.settings), progress=False)
    except Exception as error:  # whatever it is, the other prompts can do without this one
        if len(missing) > 1:
            for task in missing:
                yield from compute(model, job, [task])
            return
        yield failed(job, missing[0], said(error) if isinstance(error, OSError) else str(error))
        return
    for task, graph in zip(missing, graphs, strict=True):
        graph.save(folder.graph(task.name))
        folder.succeed(task.name)
        yield Done(task.name, pid=os.getpid())


def failed(job: Job, task: Task, reason: str) -> Done:
    """Write down why a prompt has no graph."""
    reason = " ".join(reason.split())[:500] or "an error without a message"
    prompt = task.ask.prompt
    shown = prompt if isinstance(prompt, str) else " ".join(map(str, prompt[:40]))
    Folder(job.folder).fail(task.name, shown, reason)
    return Done(task.name, reason)
