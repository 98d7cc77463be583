"""Feature cards: what a feature fires on, what it promotes, and what people call it.

`of` joins three places: labels shipped with the embedded model, Neuronpedia, and cards computed
here from the reader's own texts with `compute`.
"""

from circuit_nb.cards.types import Example, FeatureCard, Histogram, automatic_label

__all__ = ["Example", "FeatureCard", "Histogram", "automatic_label"]
