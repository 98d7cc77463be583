"""`GraphSet`: the graphs of many prompts, read from their folder when they are asked for."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, overload

from tqdm.auto import tqdm

from circuit_nb.files import shown
from circuit_nb.graph import AttributionGraph
from circuit_nb.graphsets import profiles_file
from circuit_nb.graphsets.folder import Entry, Folder
from circuit_nb.patterns.comparing import Common, Comparison, common, compare
from circuit_nb.patterns.motifs import Motifs, motifs
from circuit_nb.patterns.profile import Profile, profile
from circuit_nb.patterns.prompts_map import PromptsMap, prompts_map
from circuit_nb.patterns.roles import distinct_names
from circuit_nb.patterns.supernodes import Supernodes, supernodes

if TYPE_CHECKING:
    import pandas as pd

Labels: TypeAlias = Mapping[tuple[int, int], str]
"""Names of features by (layer, index)."""
_BAR_FROM = 500
"""From so many profiles on, making them shows a bar."""


@dataclass(frozen=True)
class Place:
    """Where one graph of a set is."""

    name: str
    path: Path | None
    metadata: Mapping[str, Any]
    graph: AttributionGraph | None = None
    """The graph itself, of a set that is in memory."""

    def load(self) -> AttributionGraph:
        """Read the graph."""
        return self.opened()[0]

    def opened(self) -> tuple[AttributionGraph, Labels]:
        """The graph, and what its file calls features."""
        if self.graph is not None:
            return self.graph, {}
        assert self.path is not None
        if self.path.suffix == ".json":
            from circuit_nb.neuronpedia import read

            file = read(self.path)
            return file.graph, file.annotations.feature_labels
        return AttributionGraph.load(self.path), {}

    @property
    def stamp(self) -> tuple[int, int]:
        """Size and time of its file."""
        if self.path is None:
            return 0, 0
        found = self.path.stat()
        return found.st_size, found.st_mtime_ns


@dataclass(frozen=True)
class GraphSet:
    """Graphs of many prompts. None is in memory until it is asked for, and none is kept."""

    places: tuple[Place, ...]
    """Where each is, in order."""
    folder: Folder | None = None
    labels: Labels = field(default_factory=dict[tuple[int, int], str])
    """What features are called, before what files call them; see `known_labels`."""

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> GraphSet:
        """The set in a folder that `attribute_many` wrote, or of any graph files.

        Raises:
            FileNotFoundError: If there is no such folder.
            ValueError: If its list of prompts is damaged.
        """
        place = Folder(folder)
        return cls.of_entries(place, place.entries())

    @classmethod
    def of_entries(cls, folder: Folder, entries: Iterable[Entry]) -> GraphSet:
        """Those of some prompts of a folder that are there."""
        there = folder.done()
        found = (
            Place(e.name, folder.graph(e.name), e.metadata) for e in entries if e.name in there
        )
        return cls(tuple(found), folder)

    @classmethod
    def read(cls, folder: str | os.PathLike[str]) -> GraphSet:
        """The graphs of a folder of Neuronpedia's .json files, in the order of their names.

        Raises:
            FileNotFoundError: If there is no such folder, or no such file in it.
        """
        files = sorted(Path(folder).glob("*.json")) if Path(folder).is_dir() else []
        if not files:
            raise FileNotFoundError(f"There is no folder {shown(folder)} with .json files in it.")
        return cls(tuple(Place(file.stem, file, {"file": file.stem}) for file in files))

    @classmethod
    def of(
        cls, graphs: Iterable[AttributionGraph], metadata: Iterable[Mapping[str, Any]] | None = None
    ) -> GraphSet:
        """A set of graphs in memory."""
        every = list(graphs)
        known = [{}] * len(every) if metadata is None else list(metadata)
        pairs = enumerate(zip(every, known, strict=True))
        return cls(tuple(Place(str(i), None, data, graph) for i, (graph, data) in pairs))

    def labelled(self, labels: Labels) -> GraphSet:
        """The same set with labels by (layer, index)."""
        return self._kept(labels=labels)

    def __repr__(self) -> str:
        failed = f", {len(self.failures)} failed" if self.failures else ""
        return f"GraphSet({len(self)} graphs{failed})"

    def __len__(self) -> int:
        return len(self.places)

    def __iter__(self) -> Iterator[AttributionGraph]:
        return (place.load() for place in self.places)

    @overload
    def __getitem__(self, which: int) -> AttributionGraph: ...
    @overload
    def __getitem__(self, which: slice) -> GraphSet: ...
    def __getitem__(self, which: int | slice) -> AttributionGraph | GraphSet:
        if isinstance(which, slice):
            return self.pick(self.places[which])
        return self.places[which].load()

    def pick(self, places: Iterable[Place]) -> GraphSet:
        """A set of some of its graphs; what is known of them goes with them."""
        return self._kept(places=tuple(places))

    def _kept(self, **changes: Any) -> GraphSet:
        found = replace(self, **changes)
        found.__dict__["_known"], found.__dict__["_read"] = self._known, self._read
        return found

    @property
    def metadata(self) -> list[Mapping[str, Any]]:
        """What is known of each prompt."""
        return [place.metadata for place in self.places]

    @cached_property
    def failures(self) -> dict[str, str]:
        """Why prompts of the folder have no graph, by prompt."""
        return {} if self.folder is None else dict(self.folder.failures().values())

    def where(
        self, condition: Callable[[Mapping[str, Any]], bool] | None = None, **equal: Any
    ) -> GraphSet:
        """The graphs of some prompts.

        Args:
            condition: Says of a prompt's metadata whether it is wanted.
            equal: What its metadata are to be, such as `kind="state"`; of a list, one of them.

        Raises:
            ValueError: If no prompt has such metadata.
        """
        names = {name for data in self.metadata for name in data}
        unknown = sorted(set(equal) - names)
        if unknown:
            known = ", ".join(sorted(names)[:8]) or "none"
            raise ValueError(f"No prompt of this set has {unknown[0]!r}; there are {known}.")

        def wanted(data: Mapping[str, Any]) -> bool:
            if condition is not None and not condition(data):
                return False
            pairs = ((data.get(k), v) for k, v in equal.items())
            return all(
                a in v if isinstance(v, (list, tuple, set, frozenset)) else a == v for a, v in pairs
            )

        return self.pick(place for place in self.places if wanted(place.metadata))

    @cached_property
    def _known(self) -> dict[str, tuple[profiles_file.Stamp, Profile]]:
        """Profiles made so far, by name."""
        return {} if self.folder is None else profiles_file.read(self._file)

    @cached_property
    def _read(self) -> dict[tuple[int, int], str]:
        """Labels in the files read so far."""
        return {}

    @property
    def known_labels(self) -> Labels:
        """`labels`, and for others what the first file that has one calls them."""
        read = self._read if self.profiles else {}  # what no profile was made of is read for it
        return {**read, **self.labels}

    @property
    def _file(self) -> Path:
        assert self.folder is not None
        return self.folder.path / profiles_file.FILE

    @cached_property
    def profiles(self) -> list[Profile]:
        """What patterns need of each graph, made once and kept in a file of the folder."""
        known, stamps = self._known, {p.name: p.stamp for p in self.places}
        missing = {
            p.name: p for p in self.places if known.get(p.name, ((-1, -1),))[0] != stamps[p.name]
        }
        bar = tqdm(
            missing.values(), desc="Profiles", unit="graph", disable=len(missing) < _BAR_FROM
        )
        for place in bar:
            graph, labels = place.opened()
            known[place.name] = stamps[place.name], profile(graph)
            self._read.update({**labels, **self._read})
        if missing and self.folder is not None:
            profiles_file.write(self._file, known)
        return [known[place.name][1] for place in self.places]

    def rows(self) -> list[dict[str, Any]]:
        """One row a graph: prompt, answer, probability, scores, features, errors, metadata."""
        names = ("prompt", "answer", "probability", "replacement", "completeness")
        counts = ("n_features", "n_active", "n_errors", "error_share")
        return [
            {**{n: getattr(p, n) for n in (*names, *counts)}, **place.metadata}
            for place, p in zip(self.places, self.profiles, strict=True)
        ]

    def table(self) -> pd.DataFrame:
        """`rows` as a data frame.

        Raises:
            ModuleNotFoundError: If pandas is not installed; `rows` needs nothing.
        """
        try:
            import pandas as pd
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "table() needs pandas, which is not installed: pip install pandas, or use rows()."
            ) from error
        return pd.DataFrame(self.rows())

    def common(self, share: float = 0.8, *, by: str = "role") -> Common:
        """Features and edges that a share of the prompts use; see `patterns.common`."""
        return common(self.profiles, share, by=by, labels=self.known_labels)

    def compare(self, other: GraphSet, *, by: str = "role", seed: int = 0) -> Comparison:
        """What tells this set from another; see `patterns.compare`."""
        labels = {**other.known_labels, **self.known_labels}
        return compare(self.profiles, other.profiles, by=by, labels=labels, seed=seed)

    def supernodes(self, *, by: str = "role", seed: int = 0) -> Supernodes:
        """Features that its prompts use alike; see `supernodes.supernodes`."""
        return supernodes(self.profiles, by=by, labels=self.known_labels, seed=seed)

    def motifs(self, *, by: str = "role", seed: int = 0) -> Motifs:
        """How often copy, two-hop and "say X" are found; see `motifs.motifs`."""
        return motifs(self.profiles, by=by, labels=self.known_labels, seed=seed)

    def map(self, *, by: str = "role") -> PromptsMap:
        """Prompts by circuit, and whose is another; see `prompts_map.prompts_map`."""
        names = distinct_names([p.tokens for p in self.profiles])
        named = [
            f"{name} → {p.answer.strip()}" for name, p in zip(names, self.profiles, strict=True)
        ]
        return prompts_map(self.profiles, named, by=by, labels=self.known_labels)
