"""Prints the versions of everything the tests need, as this environment has them.

`python tests/tested_versions.py > tests/constraints.txt`, in an environment in which the whole
suite is green; see docs/upgrading.md. torch is left out: which build fits depends on the machine.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib.metadata import Distribution, PackageNotFoundError, distribution

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = "circuit-nb"
APART = {ROOT, "torch"}
PYTHONS = ("3.10", "3.11", "3.12", "3.13")


def _name(text: str) -> str:
    return re.sub(r"[-_.]+", "-", text).lower()


def needed() -> dict[str, Distribution]:
    """Every installed package that the tests need, by name, whatever asks for it."""
    found: dict[str, Distribution] = {}
    waiting = [(ROOT, frozenset({"test"}))]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        try:
            package = distribution(name)
        except PackageNotFoundError:
            continue
        found[name] = package
        for line in package.requires or ():
            asked = Requirement(line)
            wanted = asked.marker is None or any(
                asked.marker.evaluate({"extra": extra}) for extra in {"", *extras}
            )
            if wanted and _name(asked.name) != "torch":
                waiting.append((_name(asked.name), frozenset(asked.extras)))
    return found


def oldest_python(packages: Iterable[Distribution]) -> str:
    """The oldest Python that all of them run on; on older ones nothing is bound."""
    needs = [SpecifierSet(p.metadata.get("Requires-Python") or "") for p in packages]
    # The last patch of a minor version, so that `>=3.10.2` counts as 3.10.
    return next(v for v in PYTHONS if all(need.contains(f"{v}.99") for need in needs))


def marker(package: Distribution, python: str) -> str:
    """From which Python on a version is bound: a package that needs a later patch of the oldest
    minor version, as Debian's may lack it, is left to pip before that."""
    need = SpecifierSet(package.metadata.get("Requires-Python") or "")
    patch = next(patch for patch in range(100) if need.contains(f"{python}.{patch}"))
    return (
        f'python_full_version >= "{python}.{patch}"' if patch else f'python_version >= "{python}"'
    )


def main() -> None:
    """Print them, sorted."""
    packages = {name: p for name, p in sorted(needed().items()) if name not in APART}
    python = oldest_python(packages.values())
    print("# Versions the tests were run with; made by tests/tested_versions.py.")
    for name, package in packages.items():
        print(f"{name}=={package.version.partition('+')[0]} ; {marker(package, python)}")


if __name__ == "__main__":
    main()
