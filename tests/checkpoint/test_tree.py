from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import load, save

from fedcomp.checkpoint.tree import flatten, rebuild
from fedcomp.errors import ConfigError
from fedcomp.tensors import contiguous

ARRAYS = hnp.arrays(
    st.sampled_from(["float32", "float64", "float16", "int64", "uint8", "bool", "int16"]),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
)
SCALARS = st.sampled_from(["float32", "float64", "int64", "bool"]).flatmap(
    lambda kind: st.integers(0, 1).map(np.dtype(kind).type)
)
PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
TREES = st.recursive(
    PLAIN | ARRAYS | SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text() | st.integers() | st.tuples(st.integers()), inner, max_size=3)
    ),
    max_leaves=12,
)


def same(left: Any, right: Any) -> bool:
    """Tell whether two values are equal and of the same types all the way down."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        pairs = zip(left.items(), right.items(), strict=True)
        return len(left) == len(right) and all(same(one, other) for one, other in pairs)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, np.ndarray | np.generic):
        alike = (left.dtype, left.shape) == (right.dtype, right.shape)
        return alike and left.tobytes() == right.tobytes()
    return left == right or left != left  # or a number that is none


@given(TREES)
@settings(deadline=None)
def test_a_value_comes_back_through_files_with_its_types(value: Any) -> None:
    arrays, rest = flatten(value)
    stored = load(save({name: contiguous(array) for name, array in arrays.items()}))
    assert same(rebuild(stored, json.loads(json.dumps(rest))), value)


@pytest.mark.parametrize(
    ("value", "where", "what"),
    [
        ({"a": [1, {2}]}, r"value\['a'\]\[1\]", "builtins.set"),
        ((object(),), r"value\[0\]", "builtins.object"),
        ({"z": np.zeros(2, complex)}, r"value\['z'\]", "complex128"),
        (np.array(["text"]), "value", "<U4"),
        ([np.array([None])], r"value\[0\]", "object"),
        ({1: lambda: 0}, r"value\[1\]", "builtins.function"),
        ({frozenset(): 0}, "value key", "builtins.frozenset"),
    ],
)
def test_what_cannot_be_saved_is_named(value: Any, where: str, what: str) -> None:
    with pytest.raises(ConfigError, match=f"{where} is .*{what}.*checkpoint_every=0"):
        flatten(value)
