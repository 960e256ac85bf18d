"""Nested settings by dotted names, and their values, as the command line has them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def leaves(config: Mapping[str, object], above: str = "") -> Iterator[tuple[str, object]]:
    """Yield all values by their whole names; what is empty is a value.

    Examples
    --------
    >>> dict(leaves({"a": {"b": 1, "c": [True]}, "d": {}}))
    {'a.b': 1, 'a.c': [True], 'd': {}}
    """
    for name, value in config.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def is_within(name: str, place: str) -> bool:
    """Tell whether a name is that of a place, or of something in it.

    Examples
    --------
    >>> is_within("model.width", "model"), is_within("models", "model")
    (True, False)
    """
    return name == place or name.startswith(f"{place}.")


def as_text(value: object) -> str:
    """Return a value as it would be written.

    Examples
    --------
    >>> as_text("cpu"), as_text([True]), as_text(None)
    ('cpu', '[true]', 'null')
    """
    return value if isinstance(value, str) else json.dumps(value)
