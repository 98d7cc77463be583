"""Experiments on one prompt: what is measured, and many of them in few passes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
from tqdm.auto import tqdm

from circuit_nb.graph import AttributionGraph, Feature, Supernode
from circuit_nb.intervention import Freeze, Intervention, Outcome, intervene_many
from circuit_nb.model.memory import free_memory, is_out_of_memory
from circuit_nb.model.replacement import ReplacementModel
from circuit_nb.model.vocabulary import Prompt

Floats: TypeAlias = npt.NDArray[np.float64]
Part: TypeAlias = Feature | Supernode
"""What is switched as one."""
Metric: TypeAlias = "str | int | tuple[str | int, str | int] | None"
"""What is explained: the demeaned logit of a token, by default the graph's first target, or the
difference between the logits of two tokens."""
Progress: TypeAlias = "bool | Callable[[int, int], None]"
"""A bar or none, or what is called with how many runs are done, and how many there are."""
T = TypeVar("T")

MOST_ROWS, MOST_ROWS_ELSEWHERE = 64, 256
"""Rows of a pass beyond which nothing is gained, on a CPU and on other devices."""
BATCH_BYTES = 2**30
SHARE_OF_MEMORY = 0.2
"""The most that the logits of a pass may take, and how much of the free memory."""


@dataclass(frozen=True)
class Measure:
    """What is explained, as a function of logits."""

    label: str
    more: int
    """A token's id."""
    less: int | None
    """The token subtracted; the mean over the vocabulary if there is none."""
    soft_cap: float | None
    """Where the model squashes logits to ± this (Gemma-2), it is undone, as in the graph."""

    def __call__(self, logits: npt.NDArray[np.float32]) -> float:
        """The measure, in logits, of next-token logits (vocab,)."""
        values = uncapped(logits, self.soft_cap)
        rest = values.mean() if self.less is None else values[self.less]
        return float(values[self.more] - rest)

    def after(self, outcome: Outcome) -> float:
        """The measure, in logits, after an intervention."""
        return self(outcome.after.logits[-1])


def uncapped(logits: npt.NDArray[np.float32], soft_cap: float | None) -> Floats:
    """Logits as they were before a soft cap."""
    values = logits.astype(np.float64)
    return values if soft_cap is None else soft_cap * np.arctanh(values / soft_cap)


def soft_cap(model: ReplacementModel) -> float | None:
    """The model's soft cap of logits, if it has one."""
    cap: Any = getattr(model.bridge.cfg, "output_logits_soft_cap", None)
    return float(cap) if cap and cap > 0 else None


def measure_of(model: ReplacementModel, graph: AttributionGraph, metric: Metric) -> Measure:
    """What `Metric` stands for on a graph.

    Raises:
        ValueError: If it names no token, or by default the graph's first target is none.
    """
    cap = soft_cap(model)
    if isinstance(metric, tuple):
        more, less = map(model.token_id, metric)
        return Measure(f"{model.token(more)} − {model.token(less)}", more, less, cap)
    if metric is None:
        metric = int(graph.target_ids[0])
        if metric < 0:
            raise ValueError(
                f"The graph's first target, {graph.targets[0]!r}, is no token; say what to measure:"
                " metric=token, or metric=(more, less) for a difference."
            )
    token = model.token_id(metric)
    return Measure(model.token(token), token, None, cap)


def run(
    model: ReplacementModel,
    prompt: Prompt | AttributionGraph,
    experiments: Sequence[Sequence[Intervention]],
    read: Callable[[Outcome], T],
    *,
    freeze: Freeze = "attention",
    watch: Iterable[Part] = (),
    batch_size: int | None = None,
    progress: Progress = True,
    doing: str = "Experiments",
) -> list[T]:
    """Run experiments, as rows of as few passes as memory allows, and read each of them.

    Args:
        model: The model.
        prompt: The prompt, or a graph of it.
        experiments: Interventions of each.
        read: What to keep of an outcome.
        freeze: As for `intervene`.
        watch: As for `intervene`.
        batch_size: Rows of a pass; by default chosen from free memory. Halved when memory runs out.
        progress: Whether to show a progress bar, or what to tell instead.
        doing: Its name.

    Raises:
        KeyboardInterrupt: If interrupted; it says how many were done. The model is as before.
    """
    text = prompt.token_ids.tolist() if isinstance(prompt, AttributionGraph) else prompt
    watched, found = list(watch), list[T]()
    size = batch_size or _rows(model, len(model.tokenize(text)))
    bar = tqdm(total=len(experiments), desc=doing, unit="run", disable=progress is not True)
    with bar:
        while len(found) < len(experiments):
            rows = experiments[len(found) : len(found) + size]
            try:
                outcomes = intervene_many(model, text, rows, freeze=freeze, watch=watched, top_k=1)
            except KeyboardInterrupt:
                raise KeyboardInterrupt(
                    f"{doing} interrupted after {len(found)} of {len(experiments)} runs; nothing "
                    "is left on the model."
                ) from None
            except RuntimeError as error:
                if len(rows) == 1 or not is_out_of_memory(error):
                    raise
                size = len(rows) // 2
                continue
            found += map(read, outcomes)
            bar.update(len(outcomes))
            if callable(progress):
                progress(len(found), len(experiments))
    return found


def pace(model: ReplacementModel, graph: AttributionGraph, rows: int = 4) -> float:
    """About how many seconds an experiment takes, from one pass of a few of them."""
    run(model, graph, [[]], lambda _: None, progress=False)  # what is made once does not count
    rows_off = graph.features.tolist()
    change = [Intervention.ablate(Supernode("all", rows_off))] if rows_off else []
    start = time.perf_counter()
    run(model, graph, [change] * rows, lambda _: None, batch_size=rows, progress=False)
    return (time.perf_counter() - start) / rows


def _rows(model: ReplacementModel, positions: int) -> int:
    """How many rows a pass should have."""
    logits = 3 * 4 * positions * model.unembedding.shape[1]  # computed, converted, copied
    budget = min(BATCH_BYTES, int(SHARE_OF_MEMORY * free_memory(model.device)))
    most = MOST_ROWS if model.device.type == "cpu" else MOST_ROWS_ELSEWHERE
    return max(1, min(most, budget // logits))


def features_in(part: Part) -> tuple[Feature, ...]:
    """The features of a part."""
    return part.features if isinstance(part, Supernode) else (part,)


def name_of(part: Part) -> str:
    """What a part is called."""
    return part.name if isinstance(part, Supernode) else str(part)
