"""What is refused before a pass, and what after it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from circuit_nb.intervention.change import Intervention
from circuit_nb.intervention.heads import HeadIntervention
from circuit_nb.intervention.outcome import FREEZES, LOGITS


def check_settings(
    freeze: str, keep_logits: str, top_k: int, max_new_tokens: int, temperature: float
) -> None:
    """Refuse unknown settings.

    Raises:
        ValueError: It says which are known.
    """
    for name, word, valid in (
        ("freeze", freeze, FREEZES),
        ("keep_logits", keep_logits, LOGITS),
    ):
        if word not in valid:
            raise ValueError(f"{name} is {word!r}; it can be {', '.join(map(repr, valid))}.")
    for name, value, least in (
        ("top_k", top_k, 1),
        ("max_new_tokens", max_new_tokens, 0),
        ("temperature", temperature, 0),
    ):
        if not value >= least:
            raise ValueError(f"{name} is {value}; give {least} or more.")


def check_experiments(experiments: Iterable[object]) -> None:
    """Refuse what is not a list of interventions for each experiment.

    Raises:
        ValueError: It says what to give.
    """
    for interventions in experiments:
        single = isinstance(interventions, Intervention | HeadIntervention)
        if single or not isinstance(interventions, Iterable):
            raise ValueError(
                f"{interventions!s} stands where a list of interventions is needed; give "
                "[intervention, …], and to intervene_many one such list an experiment."
            )
        wrong = [i for i in interventions if not isinstance(i, Intervention | HeadIntervention)]
        if wrong:
            raise ValueError(
                f"{wrong[0]!r} is no intervention; make one with Intervention.ablate, scale, set, "
                "from_graph or from_prompt, or with HeadIntervention."
            )


def check_finite(rows: Sequence[Sequence[object]], *found: Tensor) -> None:
    """Refuse a patched pass that left the numbers its type can hold.

    Args:
        rows: The interventions of each row.
        found: What the pass gave, one row an experiment, each (rows, …).

    Raises:
        ValueError: If one holds NaN or infinity; it says under which interventions.
    """
    for tensor in found:
        # Least and greatest are NaN where anything is; unlike `isfinite`, this makes no copies.
        bounds = torch.stack(tensor.flatten(1).aminmax(dim=1))
        good = bounds.isfinite().all(dim=0).tolist()
        if not all(good):
            changes = ", ".join(map(str, rows[good.index(False)]))
            raise ValueError(
                f"The pass under {changes[:120] or 'no intervention'} produced NaN or infinity: "
                f"its values are too large for {tensor.dtype} and this model; give smaller ones."
            )
