"""How large what is read may be; without NumPy, for what only looks at names."""

from __future__ import annotations

MAX_LAYERS = 4096
"""More layers than any model has."""
