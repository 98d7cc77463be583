"""`swap` and `swaps`: does another prompt's answer come when its part is put in?

Lindsey et al. 2025, *On the Biology of a Large Language Model*, "Multi-step reasoning".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from tqdm.auto import tqdm

from circuit_nb.evidence.experiments import Floats, Part, features_in, name_of, run
from circuit_nb.graph import AttributionGraph, Feature, Supernode
from circuit_nb.intervention import Freeze, Intervention, Outcome
from circuit_nb.model.replacement import ReplacementModel
from circuit_nb.model.vocabulary import Prompt

if TYPE_CHECKING:
    import plotly.graph_objects as go


@dataclass(frozen=True)
class Swaps:
    """Answers of prompts with their own part taken out and another prompt's put in.

    `a` counts the prompts that are run, `b` those whose part is put in.
    """

    parts: tuple[str, ...]
    """Name of each prompt's part, (b,)."""
    expected: tuple[str, ...]
    """Most likely next token of each prompt as it is, (b,)."""
    answers: npt.NDArray[np.str_]
    """Most likely next token after each swap, (a, b); on the diagonal parts are put back."""
    probabilities: Floats
    """Of b's answer after the swap, (a, b)."""

    @property
    def success(self) -> npt.NDArray[np.bool_]:
        """Where b's answer came, (a, b)."""
        return self.answers == np.array(self.expected)

    @property
    def counted(self) -> npt.NDArray[np.bool_]:
        """Swaps that can show something, (a, b): between prompts with different answers."""
        expected = np.array(self.expected)
        return expected[:, None] != expected

    @property
    def rate(self) -> float:
        """Share of `counted` swaps that succeeded."""
        return float(self.success[self.counted].mean()) if self.counted.any() else float("nan")

    def figure(self) -> go.Figure:
        """The matrix of swaps."""
        from circuit_nb.figures.evidence import swaps_figure

        return swaps_figure(self.parts, self.answers, self.expected, self.probabilities)

    def __str__(self) -> str:
        n = int(self.counted.sum())
        return (
            f"In {int(self.success[self.counted].sum()):,} of {n:,} swaps ({self.rate:.0%}) the "
            "answer became that of the part put in."
        )


@dataclass(frozen=True)
class Swap:
    """One prompt's part taken out, another's put in."""

    parts: tuple[str, str]
    """What was taken out, and what was put in."""
    before: str
    """Most likely next token of the prompt as it is."""
    expected: str
    """Most likely next token of the prompt whose part was put in."""
    after: str
    """Most likely next token after the swap."""
    probabilities: Floats
    """(2, 2): of the tokens `before` and `expected` (columns), before and after the swap (rows)."""

    @property
    def success(self) -> bool:
        """Whether the other's answer came."""
        return self.after == self.expected

    def figure(self) -> go.Figure:
        """Both answers' probabilities, before and after."""
        from circuit_nb.figures.bars import probability_figure

        before, after = (
            dict(zip((self.before, self.expected), row, strict=True))
            for row in self.probabilities.tolist()
        )
        return probability_figure(before, after)

    def __str__(self) -> str:
        return (
            f"With {self.parts[1]} in place of {self.parts[0]} the answer goes from "
            f"{self.before.strip()} to {self.after.strip()}; {self.expected.strip()} from "
            f"{self.probabilities[0, 1]:.1%} to {self.probabilities[1, 1]:.1%}."
        )


def swap(
    model: ReplacementModel,
    graph_a: AttributionGraph,
    graph_b: AttributionGraph,
    part_a: Part,
    part_b: Part,
    *,
    freeze: Freeze = "attention",
) -> Swap:
    """Take a part out of one prompt and put another prompt's part in, with the values it has there.

    Args:
        model: The model the graphs were made with.
        graph_a: The graph whose prompt is run.
        graph_b: The graph whose part is put in.
        part_a: What is switched off.
        part_b: What is put in: where `part_a` is if each lies at one position, else where it is.
        freeze: As for `intervene`.

    Raises:
        ValueError: If `part_b` is put where the prompt has no position.
    """
    a, b = (
        _Given(model, graph.token_ids.tolist(), part)
        for graph, part in ((graph_a, part_a), (graph_b, part_b))
    )
    both = np.array([a.answer, b.answer])
    ((after, shares),) = _swapped(model, a, [b], both, freeze)
    return Swap(
        parts=(name_of(part_a), name_of(part_b)),
        before=model.token(a.answer),
        expected=model.token(b.answer),
        after=after,
        probabilities=np.stack([a.probabilities[both].astype(np.float64), shares]),
    )


def swaps(
    model: ReplacementModel,
    prompts: Sequence[Prompt],
    parts: Sequence[Part],
    *,
    freeze: Freeze = "attention",
    batch_size: int | None = None,
    progress: bool = True,
) -> Swaps:
    """Take each prompt's part out and put every other's in, over all ordered pairs.

    Args:
        model: The model.
        prompts: n of them.
        parts: Each prompt's part, n supernodes or features active on it.
        freeze: As for `intervene`.
        batch_size: Rows of a pass; by default chosen from free memory.
        progress: Whether to show a progress bar.

    Raises:
        ValueError: If there are not as many parts as prompts, or a part is not active.
        KeyboardInterrupt: If interrupted; it says how many prompts were done.
    """
    if len(prompts) != len(parts) or not prompts:
        raise ValueError(
            f"There are {len(prompts)} prompts and {len(parts)} parts; give one part a prompt."
        )
    given = [_Given(model, *pair) for pair in zip(prompts, parts, strict=True)]
    expected = np.array([one.answer for one in given])
    rows: list[list[tuple[str, Floats]]] = []
    try:
        for one in tqdm(given, desc="Swaps", unit="prompt", disable=not progress):
            rows.append(_swapped(model, one, given, expected, freeze, batch_size))
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"Swaps interrupted after {len(rows)} of {len(given)} prompts; nothing is left on the "
            "model."
        ) from None
    return Swaps(
        parts=tuple(map(name_of, parts)),
        expected=tuple(map(model.token, expected.tolist())),
        answers=np.array([[answer for answer, _ in row] for row in rows]),
        probabilities=np.array([[shares[b] for b, (_, shares) in enumerate(row)] for row in rows]),
    )


class _Given:
    """A prompt as it is: its answer, and its part with the values it has there."""

    def __init__(self, model: ReplacementModel, prompt: Prompt, part: Part) -> None:
        record = model.record(prompt)
        self.ids: list[int] = record.token_ids.tolist()
        self.probabilities = record.next_logits.float().softmax(-1).cpu().numpy()
        self.answer = int(self.probabilities.argmax())
        self.part = part
        self.features = features_in(part)
        for feature in self.features:
            record.check_position(feature.position)
        self.values: list[float] = record.activations_of(self.features).tolist()
        for feature, value in zip(self.features, self.values, strict=True):
            if not value:
                raise ValueError(
                    f"{feature} of {name_of(part)!r} is not active on the prompt "
                    f"{record.prompt!r}; give each prompt a part that is active there."
                )

    @property
    def positions(self) -> set[int]:
        """Where the part lies."""
        return {f.position for f in self.features}


def _swapped(
    model: ReplacementModel,
    a: _Given,
    others: Sequence[_Given],
    tokens: npt.NDArray[np.int64],
    freeze: Freeze,
    batch_size: int | None = None,
) -> list[tuple[str, Floats]]:
    """With a's part out and each other's in: the answer, and probabilities of tokens."""

    def read(outcome: Outcome) -> tuple[str, Floats]:
        return outcome.after.top[0][0], outcome.after.probabilities[tokens].astype(np.float64)

    experiments = [_exchanged(a, b) for b in others]
    return run(
        model,
        a.ids,
        experiments,
        read,
        freeze=freeze,
        batch_size=batch_size,
        progress=False,
        doing="Swap",
    )


def _exchanged(a: _Given, b: _Given) -> list[Intervention]:
    """A's part off and b's on: where a's was, if each lies at one position."""
    features = b.features
    if len(a.positions) == len(b.positions) == 1:
        (position,) = a.positions
        features = tuple(Feature(f.layer, position, f.index) for f in features)
    put_in = Supernode(name_of(b.part), features)
    return [Intervention.ablate(a.part), Intervention.set(put_in, b.values)]
