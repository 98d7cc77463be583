"""`HeadIntervention`: attention heads knocked out, or given another pattern, and where."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from circuit_nb.given import places, whole

if TYPE_CHECKING:
    from circuit_nb.model.record import Record
    from circuit_nb.model.replacement import ReplacementModel
    from circuit_nb.model.vocabulary import Prompt


@dataclass(frozen=True, eq=False)
class HeadIntervention:
    """Another attention pattern for one head. Make one with `knock_out`, `set` or `from_prompt`.

    `positions` are query positions: where the head writes. `keys` are the positions it looks at.

    Raises:
        ValueError: If layer, head or positions are not what they have to be.
    """

    layer: int
    head: int
    """Counted over the query heads, as patterns are."""
    positions: tuple[int, ...] | None = None
    from_position: int | None = None
    keys: tuple[int, ...] | None = None
    renormalize: bool = False
    pattern: npt.NDArray[np.float32] | None = None
    """(queries, keys) to look with, queries being `positions` or, without them, every position of
    the prompt; None knocks out."""

    def __post_init__(self) -> None:
        if self.positions is not None and self.from_position is not None:
            raise ValueError("Give positions or from_position, not both.")
        for name in ("layer", "head", "from_position"):
            given = getattr(self, name)
            if given is not None:
                object.__setattr__(self, name, whole(given, name))
        for name in ("positions", "keys"):
            given = getattr(self, name)
            if given is not None:
                object.__setattr__(self, name, places(given, name))
        if self.pattern is not None:
            self._check_pattern(self.pattern)

    @property
    def name(self) -> str:
        """The head as the field writes it: layer and head."""
        return f"head {self.layer}.{self.head}"

    @classmethod
    def knock_out(
        cls,
        layer: int,
        head: int,
        *,
        positions: Iterable[int] | None = None,
        from_position: int | None = None,
        keys: Iterable[int] | None = None,
        renormalize: bool = False,
    ) -> HeadIntervention:
        """Set entries of a head's pattern to 0: it no longer looks there.

        Without `keys` the head writes nothing (but what its biases write). Attention knockout as
        in Geva et al. 2023, *Dissecting Recall of Factual Associations*, is `keys=…` with
        `renormalize=True`.

        Args:
            layer: Layer of the head.
            head: Its number in the layer, counted over query heads.
            positions: Query positions at which it is knocked out; by default everywhere, generated
                tokens included.
            from_position: That one and every later one, generated tokens included.
            keys: Positions it must not look at; by default all.
            renormalize: Whether what is left of a row is scaled up to the sum the row had. A row
                of which nothing is left stays 0.
        """
        if renormalize and keys is None:
            raise ValueError(
                "renormalize needs keys: where nothing is left of a pattern, nothing can be "
                "scaled up. Give the keys that the head must not look at."
            )
        where: Any = positions
        looked_at: Any = keys
        return cls(layer, head, where, from_position, looked_at, renormalize)

    @classmethod
    def set(
        cls,
        layer: int,
        head: int,
        pattern: npt.ArrayLike,
        *,
        positions: Iterable[int] | None = None,
    ) -> HeadIntervention:
        """Give a head a pattern of your own.

        Args:
            layer: Layer of the head.
            head: Its number in the layer, counted over query heads.
            pattern: (queries, keys), one row a position of the prompt, or one for each of
                `positions`. Rows need not sum to 1; entries at later keys must be 0. Keys left out
                are 0.
            positions: The query positions of the rows; generated tokens are left alone.
        """
        where: Any = positions
        tolist = getattr(pattern, "tolist", None)
        plain = tolist() if callable(tolist) else pattern
        try:
            rows = np.array(plain, dtype=np.float32)
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"The pattern for head {layer}.{head} is no table of numbers ({error}); give "
                "(queries, keys)."
            ) from error
        return cls(layer, head, where, pattern=rows)

    @classmethod
    def from_prompt(
        cls,
        layer: int,
        head: int,
        model: ReplacementModel,
        prompt: Prompt,
        *,
        positions: Iterable[int] | None = None,
    ) -> HeadIntervention:
        """Give a head the pattern it has on another prompt.

        Args:
            layer: Layer of the head.
            head: Its number in the layer, counted over query heads.
            model: The model.
            prompt: Text, token ids, or a 1-D tensor of them: as many tokens as the prompt that is
                intervened on, unless `positions` are given, which both must have.
            positions: Query positions at which to give it; generated tokens are left alone.

        Raises:
            ValueError: If there is no such head or position.
        """
        record = model.record(prompt)
        rows = None if positions is None else places(positions, "positions")
        made = cls(layer, head, rows)
        made.check(record)
        pattern = record.patterns[made.layer][made.head].float().cpu().numpy()
        chosen = pattern.copy() if rows is None else pattern[list(rows)]
        return cls(layer, head, rows, pattern=chosen)

    def check(self, record: Record) -> None:
        """Refuse what the model or a prompt does not have.

        Raises:
            ValueError: It says what there is.
        """
        if self.layer >= len(record.patterns):
            raise ValueError(
                f"Layer {self.layer} does not exist; layers are 0 to {len(record.patterns) - 1}."
            )
        heads, positions = record.patterns[self.layer].shape[:2]
        if self.head >= heads:
            raise ValueError(
                f"Head {self.head} does not exist; the heads of layer {self.layer} are 0 to "
                f"{heads - 1}."
            )
        for place in (*(self.positions or ()), *(self.keys or ())):
            if place >= positions:
                raise ValueError(
                    f"Position {place} does not exist in this prompt of {positions} tokens; "
                    f"positions are 0 to {positions - 1}."
                )
        if self.positions and self.keys and min(self.keys) > max(self.positions):
            raise ValueError(
                f"{self.name} never looks from position {max(self.positions)} or before at "
                f"position {min(self.keys)} or after: a token sees only itself and earlier ones."
            )
        if self.pattern is not None and self.positions is None and len(self.pattern) != positions:
            raise ValueError(
                f"The pattern for {self.name} has {len(self.pattern)} rows, but this prompt has "
                f"{positions} tokens; give one row a token, or positions."
            )

    def _check_pattern(self, pattern: npt.NDArray[np.float32]) -> None:
        rows = self.positions or tuple(range(len(pattern)) if pattern.ndim else ())
        if pattern.ndim != 2 or len(pattern) != len(rows):
            raise ValueError(
                f"The pattern for {self.name} has shape {pattern.shape}; give (queries, keys), "
                "one row a token of the prompt, or one for each of positions."
            )
        if not np.isfinite(pattern).all():
            raise ValueError(f"The pattern for {self.name} holds NaN or infinity.")
        later = np.arange(pattern.shape[1]) > np.array(rows)[:, None]
        if pattern[later].any():
            raise ValueError(
                f"The pattern for {self.name} looks at later tokens; entries at keys after their "
                "query must be 0."
            )

    def __str__(self) -> str:
        at = "" if self.positions is None else f" at {', '.join(map(str, self.positions))}"
        at = at if self.from_position is None else f" from {self.from_position} on"
        if self.pattern is not None:
            return f"{self.name} with another pattern{at}"
        if self.keys is None:
            return f"{self.name} knocked out{at}"
        looked = f"{self.name} not looking at {', '.join(map(str, self.keys))}{at}"
        return f"{looked} (renormalized)" if self.renormalize else looked
