"""The HTTP client that huggingface_hub brings, under whichever name it has."""

from __future__ import annotations

import importlib
from functools import lru_cache
from types import ModuleType


@lru_cache(maxsize=1)
def httpx() -> ModuleType:
    """The module of huggingface_hub's own client: httpx, or httpx2, which newer releases use.

    Both can be installed beside each other, and only one raises the errors to be caught.
    """
    from huggingface_hub import get_session

    roots = [kind.__module__.partition(".")[0] for kind in type(get_session()).__mro__]
    return importlib.import_module(next(r for r in roots if r in ("httpx", "httpx2")))
