"""What features read: on the unmodified prompt, as its record has it, and in a patched pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from circuit_nb.graph import Feature
from circuit_nb.model.record import Record
from circuit_nb.model.replacement import ReplacementModel


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
    record.check_position(feature.position)


def by_layer(features: Sequence[Feature]) -> dict[int, list[int]]:
    """The places in a list of the features of each layer."""
    found: dict[int, list[int]] = {}
    for place, feature in enumerate(features):
        found.setdefault(feature.layer, []).append(place)
    return found


def read(model: ReplacementModel, record: Record, features: Sequence[Feature]) -> Unmodified:
    """Features on the unmodified prompt; activations are 0 on the ignored prefix.

    Which are on is not computed again: the record says it.
    """
    acts = record.activations_of(features).to(model.device)
    pre, corrections = torch.zeros_like(acts), torch.zeros_like(acts)
    for layer, here in by_layer(features).items():
        device = model.blocks[layer].device
        positions = torch.tensor([features[i].position for i in here], device=device)
        indices = torch.tensor([features[i].index for i in here], device=device)
        transcoder = model.transcoders.layers[layer]
        computed, _ = transcoder.of_features(record.reads[layer], indices, at=positions)
        said = acts[here].to(device)
        # What is on has its activation for a pre-activation; what is off is not above threshold.
        limit = torch.zeros(()) if transcoder.threshold is None else transcoder.threshold[indices]
        off = torch.minimum(computed, limit.to(device).float())
        expected = torch.where(said != 0, said, off)
        held = (positions >= record.ignored) & (transcoder.k is None and record.cut is None)
        exact = torch.where(held, expected, computed)
        pre[here] = exact.to(pre.device)
        corrections[here] = (exact - computed).to(pre.device)
    return Unmodified(Reading(pre, acts), corrections)
