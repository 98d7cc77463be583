"""What features read: on the unmodified prompt, as its record has it, and in a patched pass."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from circuit_nb.graph import Feature
from circuit_nb.model.record import Record
from circuit_nb.model.replacement import ReplacementModel
from circuit_nb.model.vocabulary import Prompt

_WIDE = 2**32
"""More than any layer has features."""


@dataclass(frozen=True)
class Reading:
    """Pre-activations and activations of features, each (…, features), in float32."""

    pre_activations: Tensor
    activations: Tensor

    def row(self, row: int) -> Reading:
        """That of one row."""
        return Reading(self.pre_activations[row], self.activations[row])


@dataclass(frozen=True)
class Unmodified:
    """Features on the unmodified prompt."""

    reading: Reading
    corrections: Tensor
    """(features,): what the recorded pass said of each pre-activation beyond what
    `LayerTranscoder.of_features` says. Two orders of summing differ in the last digit, which is
    all it takes for a feature near its threshold to be on in the graph and off here. A patched
    pass adds it, so that a feature to which nothing happened reads as it was recorded."""

    def of(self, chosen: Sequence[int]) -> Unmodified:
        """That of some of the features."""
        reading = Reading(self.reading.pre_activations[chosen], self.reading.activations[chosen])
        return Unmodified(reading, self.corrections[chosen])


def check_place(model: ReplacementModel, record: Record, feature: Feature) -> None:
    """Refuse a feature that the model or the prompt does not have.

    Raises:
        ValueError: It says what there is.
    """
    fields = (feature.layer, feature.position, feature.index)
    if not all(hasattr(field, "__index__") for field in fields):
        raise ValueError(
            f"Feature{fields} is no feature: layer, position and index are whole numbers."
        )
    model.transcoders.check(feature.layer, feature.index)
    if not 0 <= feature.position < record.positions:
        raise ValueError(
            f"Position {feature.position} does not exist in this prompt of {record.positions} "
            f"tokens; positions are 0 to {record.positions - 1}."
        )


def by_layer(features: Sequence[Feature]) -> dict[int, list[int]]:
    """The places in a list of the features of each layer."""
    found: dict[int, list[int]] = {}
    for place, feature in enumerate(features):
        found.setdefault(feature.layer, []).append(place)
    return found


def recorded(record: Record, features: Sequence[Feature]) -> Tensor:
    """Activations of features as the recorded pass found them, (features,); 0 where inactive."""
    rows = record.features
    wanted = torch.tensor([(f.layer, f.position, f.index) for f in features], device=rows.device)
    if not len(rows) or not len(features):
        return torch.zeros(len(features), device=rows.device)
    known, keys = ((t[:, 0] * record.positions + t[:, 1]) * _WIDE + t[:, 2] for t in (rows, wanted))
    # The rows ascend, so each feature is where it would be put in.
    found = torch.searchsorted(known, keys).clamp(max=len(known) - 1)
    return record.activations[found].float() * (known[found] == keys)


def read(model: ReplacementModel, record: Record, features: Sequence[Feature]) -> Unmodified:
    """Features on the unmodified prompt; activations are 0 on the ignored prefix.

    Which are on is not computed again: the record says it.
    """
    acts = recorded(record, features).to(model.device)
    pre, corrections = torch.zeros_like(acts), torch.zeros_like(acts)
    for layer, here in by_layer(features).items():
        device = model.blocks[layer].device
        positions = torch.tensor([features[i].position for i in here], device=device)
        indices = torch.tensor([features[i].index for i in here], device=device)
        transcoder = model.transcoders.layers[layer]
        computed, _ = transcoder.of_features(record.reads[layer][positions], indices)
        said = acts[here].to(device)
        # What is on has its activation for a pre-activation; what is off is not above threshold.
        limit = torch.zeros(()) if transcoder.threshold is None else transcoder.threshold[indices]
        off = torch.minimum(computed, limit.to(device).float())
        expected = torch.where(said != 0, said, off)
        held = (positions >= record.ignored) & (transcoder.k is None)
        exact = torch.where(held, expected, computed)
        pre[here] = exact.to(pre.device)
        corrections[here] = (exact - computed).to(pre.device)
    return Unmodified(Reading(pre, acts), corrections)


def activations(
    model: ReplacementModel, prompt: Prompt, features: Iterable[Feature]
) -> npt.NDArray[np.float32]:
    """Activations of features on a prompt, (features,): one pass, no attribution.

    Raises:
        ValueError: If the model has no such feature, or the prompt no such position.
    """
    record = model.record(prompt)
    wanted = list(features)
    for feature in wanted:
        check_place(model, record, feature)
    return recorded(record, wanted).cpu().numpy()
