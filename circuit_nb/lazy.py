"""Public names that are imported on first use, so that a package costs nothing before."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence


def names(
    package: str, homes: Mapping[str, Sequence[str]], modules: Sequence[str] = ()
) -> Callable[[str], object]:
    """The `__getattr__` of a package.

    Args:
        package: Its name.
        homes: The names that each module holds; modules without `circuit_nb.` before them.
        modules: Modules that are public themselves, by the last part of their name.
    """
    home_of = {name: home for home, held in homes.items() for name in held}
    module_of = {module.rpartition(".")[2]: module for module in modules}

    def find(name: str) -> object:
        if name in module_of:
            return importlib.import_module(f"circuit_nb.{module_of[name]}")
        if name not in home_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"circuit_nb.{home_of[name]}"), name)

    return find
