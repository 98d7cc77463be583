"""The HTTP client that huggingface_hub brings, under whichever name it has."""

from __future__ import annotations

from functools import lru_cache
from types import ModuleType


@lru_cache(maxsize=1)
def httpx() -> ModuleType:
    """httpx, as huggingface_hub 1 depends on it, or httpx2, its successor, as version 2 does."""
    try:
        import httpx2

        return httpx2
    except ImportError:
        import httpx

        return httpx
