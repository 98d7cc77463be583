"""Feature cards: what a feature fires on, what it promotes, and what people call it.

`of` joins the places they come from: labels shipped with the embedded model, Neuronpedia, and
cards computed here from the reader's own texts with `compute`.
"""

from circuit_nb.cards.computing import compute
from circuit_nb.cards.effects import Effects, logit_effects
from circuit_nb.cards.sources import card_of_reply, of
from circuit_nb.cards.storage import CardSet, load
from circuit_nb.cards.texts import Texts
from circuit_nb.cards.types import Example, FeatureCard, Histogram, automatic_label

__all__ = [
    "CardSet",
    "Effects",
    "Example",
    "FeatureCard",
    "Histogram",
    "Texts",
    "automatic_label",
    "card_of_reply",
    "compute",
    "load",
    "logit_effects",
    "of",
]
