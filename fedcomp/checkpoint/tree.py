"""Nested plain values as arrays and JSON, and back: the same values of the same types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fedcomp.errors import ConfigError

if TYPE_CHECKING:
    from fedcomp.tensors import Tensors

_KINDS = "biuf"
"""Kinds of numpy types that the file of arrays can hold."""


def flatten(value: Any, where: str = "value") -> tuple[Tensors, Any]:
    """Return the arrays within a value, and the rest of it for JSON.

    Lists, strings, booleans, numbers and None stand for themselves; everything else is an object
    with one key, which names its type.  `ConfigError` names what is of another type.

    Examples
    --------
    >>> arrays, rest = flatten({"m": np.zeros(2), "t": (1, 2.5)})
    >>> rest
    {'dict': [['m', {'array': '0'}], ['t', {'tuple': [1, 2.5]}]]}
    >>> rebuild(arrays, rest)
    {'m': array([0., 0.]), 't': (1, 2.5)}
    """
    arrays: Tensors = {}

    def array(value: Any, kind: str, path: str) -> dict[str, str]:
        if value.dtype.kind not in _KINDS:
            raise _unknown(f"an array of type {value.dtype}", path)
        name = str(len(arrays))
        arrays[name] = np.asarray(value)
        return {kind: name}

    def walk(value: Any, path: str) -> Any:
        kind = type(value)
        if value is None or kind in (bool, int, float, str):
            return value
        if kind is bytes:
            return {"bytes": value.hex()}
        if kind in (list, tuple):
            items = [walk(item, f"{path}[{at}]") for at, item in enumerate(value)]
            return items if kind is list else {"tuple": items}
        if kind is dict:
            pairs = [(walk(k, f"{path} key"), walk(v, f"{path}[{k!r}]")) for k, v in value.items()]
            return {"dict": [list(pair) for pair in pairs]}
        if kind is np.ndarray:
            return array(value, "array", path)
        if isinstance(value, np.generic):
            return array(value, "scalar", path)
        raise _unknown(f"of type {kind.__module__}.{kind.__qualname__}", path)

    return arrays, walk(value, where)


def rebuild(arrays: Tensors, rest: Any) -> Any:
    """Return the value that `flatten` took apart."""
    if isinstance(rest, list):
        return [rebuild(arrays, item) for item in rest]
    if not isinstance(rest, dict):
        return rest
    ((kind, inner),) = rest.items()
    if kind == "bytes":
        return bytes.fromhex(inner)
    if kind == "tuple":
        return tuple(rebuild(arrays, item) for item in inner)
    if kind == "dict":
        return {rebuild(arrays, key): rebuild(arrays, value) for key, value in inner}
    found = arrays[inner]
    return found if kind == "array" else found[()]


def _unknown(what: str, where: str) -> ConfigError:
    msg = (
        f"{where} is {what}, which a checkpoint cannot hold; allowed are numbers, texts, bytes,"
        " arrays, and lists, tuples and dicts of them: checkpoint_every=0 does without checkpoints"
    )
    return ConfigError(msg)
