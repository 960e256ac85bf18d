"""The colour and the dashes of each method, the same in every picture.

All stand out from white and from nearly black paper, and of methods whose colours look alike to a
colour-blind eye, or in grey print, the dashes differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias
from zlib import crc32

if TYPE_CHECKING:
    from collections.abc import Iterable

Dashes: TypeAlias = "Literal['-'] | tuple[int, tuple[float, ...]]"

SOLID: Dashes = "-"
DASHED: Dashes = (0, (5.0, 2.0))
DOTTED: Dashes = (0, (1.0, 1.5))
DASH_DOT: Dashes = (0, (6.0, 2.0, 1.0, 2.0))
LONG: Dashes = (0, (10.0, 3.0))
DASH_DOTS: Dashes = (0, (6.0, 2.0, 1.0, 2.0, 1.0, 2.0))

MARKERS = ("", "o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "*", "h")
"""What tells groups of one method apart, in this order."""


@dataclass(frozen=True)
class Look:
    """How a line is drawn."""

    colour: str
    dashes: Dashes = SOLID
    marker: str = ""


METHODS = {
    "fedavg": Look("#7a7a7a", DASHED),
    "half": Look("#7a7a7a", DOTTED),
    "fedcomp": Look("#d6225f", SOLID),
    "fsfl": Look("#0072b2", SOLID),
    "fsfl_unscaled": Look("#0072b2", DASHED),
    "stc": Look("#d55e00", DASH_DOT),
    "signsgd": Look("#d55e00", LONG),
    "deepcabac": Look("#009e73", DASH_DOTS),
    "cossgd": Look("#a67c00", DOTTED),
    "fedzip": Look("#a67c00", DASHED),
    "fedcompress": Look("#c0559a", LONG),
    "feddip": Look("#8a5bd6", LONG),
    "magnitude": Look("#8a5bd6", DOTTED),
    "snip": Look("#8a5bd6", DASH_DOTS),
    "ecq": Look("#2f8fa3", DOTTED),
    "ecqx": Look("#2f8fa3", DASH_DOT),
}

_OTHERS = [
    Look(colour, dashes)
    for dashes in (DASH_DOT, DOTTED, LONG, DASHED, DASH_DOTS)
    for colour in dict.fromkeys(METHODS[name].colour for name in METHODS if name != "fedcomp")
]

PART_LOOKS = {
    "updates": ("#4f8fc9", ""),
    "keyframes": ("#c7702b", "////"),
    "side": ("#b06fb5", "xxx"),
    "evaluation": ("#6fa03c", "..."),
    "header": ("#8a8a8a", "----"),
}
"""What bytes are for: a colour and a hatch."""


def look_of(method: str) -> Look:
    """Return how a method is drawn; others than ours get a look that hangs on their name alone.

    Examples
    --------
    >>> look_of("stc").colour, look_of("mine") == look_of("mine")
    ('#d55e00', True)
    """
    return METHODS.get(method) or _OTHERS[crc32(method.encode()) % len(_OTHERS)]


def looks(methods: Iterable[str]) -> list[Look]:
    """Return how lines are drawn that are shown together; of the same looks all but one get marks.

    Examples
    --------
    >>> [look.marker for look in looks(["stc", "fsfl", "stc", "stc"])]
    ['', '', 'o', 's']
    """
    seen: dict[Look, int] = {}
    found = []
    for look in map(look_of, methods):
        seen[look] = seen.get(look, -1) + 1
        found.append(Look(look.colour, look.dashes, MARKERS[seen[look] % len(MARKERS)]))
    return found
