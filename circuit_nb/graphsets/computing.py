"""`attribute_many`: the graphs of many prompts, in a folder, begun again where it was left."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm

from circuit_nb.graphsets.asking import Prompts, asks
from circuit_nb.graphsets.engines import Engine, Here, Processes
from circuit_nb.graphsets.folder import Entry, Folder
from circuit_nb.graphsets.graphset import GraphSet
from circuit_nb.graphsets.naming import Settings, fingerprint, name_of
from circuit_nb.graphsets.ray_engine import Ray
from circuit_nb.graphsets.work import Job, Source, Task

if TYPE_CHECKING:
    from circuit_nb.model.replacement import ReplacementModel

_ENGINES = {"here": Here, "processes": Processes, "ray": Ray}


def attribute_many(
    model: ReplacementModel,
    prompts: Prompts,
    folder: str | os.PathLike[str],
    *,
    engine: str | Engine = "here",
    column: str = "prompt",
    max_logits: int = 10,
    logit_mass: float = 0.95,
    max_features: int | None = 5000,
    batch_size: int | None = None,
    progress: bool = True,
) -> GraphSet:
    """Compute the attribution graphs of many prompts.

    Each graph is one file, named by a hash of prompt, targets, settings, model and transcoders,
    and put in its place when it is whole. Called again, this goes on where it was: what is there
    is not computed again, what failed is tried again.

    Args:
        model: The model with its transcoders.
        prompts: Texts, token ids, mappings such as rows of a Hugging Face dataset, what
            `graphsets.template` makes, or a .txt, .jsonl or .csv file. A mapping's `targets` are
            explained instead of the most likely next tokens; all else in it is kept as metadata.
        folder: Where the graphs go. It may hold others.
        engine: `"here"` (this process), `"processes"` (on this machine) or `"ray"`; or one of
            `graphsets.Processes(workers=…)` and `graphsets.Ray(address=…, actors=…)`.
        column: The key or column with the prompt.
        max_logits: As for `attribute`.
        logit_mass: As for `attribute`.
        max_features: As for `attribute`.
        batch_size: As for `attribute`.
        progress: Whether to show a progress bar, with rate and time left.

    Returns:
        The set of these prompts' graphs. Prompts that failed are not in it: `failures` says why.

    Raises:
        ValueError: If something is no prompt, or a setting is out of range.
        OSError: If the folder cannot be written to. What was written stays.
        KeyboardInterrupt: If interrupted; it says how many graphs are there.
    """
    chosen = _engine(engine)
    settings = Settings(max_logits, logit_mass, max_features, batch_size)
    settings.check()
    place, known = Folder(folder), fingerprint(model)
    tasks = [Task(name_of(ask, settings, known), ask) for ask in asks(prompts, column)]
    entries = [Entry(t.name, _text(t), t.ask.metadata) for t in tasks]
    place.add(entries)
    there = place.done()
    open_tasks = list({t.name: t for t in tasks if t.name not in there}.values())
    job = Job(Source.of(model, known), str(Path(folder).resolve()), settings)
    if open_tasks:
        n = len({t.name for t in tasks})
        with tqdm(
            total=n, initial=n - len(open_tasks), desc="Graphs", unit="prompt", disable=not progress
        ) as bar:
            _run(chosen, model, job, open_tasks, bar)
    return GraphSet.of_entries(place, entries)


def _run(
    engine: Engine, model: ReplacementModel, job: Job, tasks: list[Task], bar: tqdm[Any]
) -> None:
    """Compute what is missing."""
    done = n_failed = 0
    try:
        for found in engine.run(model, job, tasks):
            done += 1
            n_failed += found.reason is not None
            if n_failed:
                bar.set_postfix(failed=n_failed, refresh=False)
            bar.update()
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"Interrupted after {done} of {len(tasks)} prompts; their graphs are in {job.folder}, "
            "and the same call goes on from there."
        ) from None


def _engine(engine: str | Engine) -> Engine:
    if not isinstance(engine, str):
        return engine
    if engine not in _ENGINES:
        raise ValueError(f"engine is {engine!r}; give {', '.join(map(repr, _ENGINES))}.")
    return _ENGINES[engine]()


def _text(task: Task) -> str:
    prompt = task.ask.prompt
    return prompt if isinstance(prompt, str) else ""
