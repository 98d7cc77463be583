"""What many graphs have in common, and what tells some from others: pure functions, no torch."""
