"""Groups of features that a person would have drawn: proposed by `evidence.propose`, no torch."""
