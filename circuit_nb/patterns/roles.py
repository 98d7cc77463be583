"""The same place in different prompts: by role in what they share, not only by number.

Prompts of one template share their fixed words. Those are found, and every position is either one
of them or stands in a gap between two, counted from the gap's end: of a name of several tokens the
last counts as the same place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

import numpy as np
import numpy.typing as npt

WAYS = ("role", "last", "absolute", "any")
"""By role in what prompts share, counted from the last token, from the first, or not at all."""


@dataclass(frozen=True)
class Roles:
    """Which place each position of each prompt is."""

    names: tuple[str, ...]
    """Of each place, in reading order."""
    of: tuple[npt.NDArray[np.int64], ...]
    """By prompt, the number of each position's place, (positions,)."""


def align(prompts: Sequence[Sequence[str]], by: str = "role") -> Roles:
    """Find the same places in different prompts.

    Args:
        prompts: The tokens of each.
        by: One of `WAYS`.

    Raises:
        ValueError: If `by` is no such way.
    """
    if by not in WAYS:
        raise ValueError(f"by is {by!r}; give {', '.join(map(repr, WAYS))}.")
    if by == "any":
        return Roles(("anywhere",), tuple(np.zeros(len(p), np.int64) for p in prompts))
    places = _shared(prompts) if by == "role" else [_plain(len(p), by) for p in prompts]
    every = sorted({place for one in places for place in one})
    number = {place: i for i, place in enumerate(every)}
    found = tuple(np.array([number[place] for place in one], dtype=np.int64) for one in places)
    names = [_name(place, prompts, places, by) for place in every]
    return Roles(tuple(names), found)


Place = tuple[int, int]
"""A shared token's number and 0; or, in the gap before it, a number below 0 from the gap's end."""


def _plain(n: int, by: str) -> list[Place]:
    return [(p - n if by == "last" else p, 0) for p in range(n)]


def _shared(prompts: Sequence[Sequence[str]]) -> list[list[Place]]:
    """Places by the tokens that all prompts share in one order."""
    different = list(dict.fromkeys(tuple(p) for p in prompts))
    shared = different[0] if different else ()
    for tokens in different[1:]:
        shared = tuple(shared[i] for i, _ in _matched(shared, tokens))
    by_prompt = {tokens: _places(shared, tokens) for tokens in different}
    return [by_prompt[tuple(p)] for p in prompts]


def _matched(a: Sequence[str], b: Sequence[str]) -> list[tuple[int, int]]:
    blocks = SequenceMatcher(None, a, b, autojunk=False).get_matching_blocks()
    return [(m.a + i, m.b + i) for m in blocks for i in range(m.size)]


def _places(shared: Sequence[str], tokens: Sequence[str]) -> list[Place]:
    at = {there: here for here, there in _matched(shared, tokens)}
    found: list[Place] = []
    following, back = len(shared), 0
    for p in reversed(range(len(tokens))):
        if p in at:
            following, back = at[p], 0
            found.append((following, 0))
        else:
            back -= 1
            found.append((following, back))
    return found[::-1]


def _name(
    place: Place, prompts: Sequence[Sequence[str]], places: Sequence[Sequence[Place]], by: str
) -> str:
    """A shared token as it is; a gap by what comes before it in the first prompt that has it."""
    if by != "role":
        return str(place[0])
    number, back = place
    for tokens, own in zip(prompts, places, strict=True):
        if place not in own:
            continue
        p = own.index(place)
        if not back:
            before = [q for q in range(p) if tokens[q] == tokens[p] and own[q][1] == 0]
            return tokens[p].strip() + (f" ({len(before) + 1})" if before else "")
        first = next((t for t, o in zip(tokens, own, strict=True) if o == (number - 1, 0)), "")
        last = "" if back == -1 else f" {back}"
        return f"[after {first.strip()}{last}]" if first else f"[{back}]"
    return "?"


def distinct_names(prompts: Sequence[Sequence[str]]) -> list[str]:
    """Short names of prompts: the words that not all share; a whole prompt where there are none."""
    found: list[str] = []
    for tokens, places in zip(prompts, _shared(prompts), strict=True):
        own = "".join(
            token for token, (_, back) in zip(tokens, places, strict=True) if back
        ).strip()
        found.append(own or "".join(tokens[1:]).strip())
    return found
