"""A quantised model as an NNC stream that stands alone, and what each tensor takes in it.

Weights are levels of their step; biases, norms and statistics have the step of NNCodec's qp −75,
2.4e-6, or a larger one where a level would leave int32; counters are written as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fedcomp.codecs.arrays import finite
from fedcomp.codecs.grid import STEP_DENSITY
from fedcomp.codecs.levels import FINE_STEP
from fedcomp.coding import quantise
from fedcomp.coding.nnc_checks import checked_levels
from fedcomp.coding.nnc_stream import read_model, write_model
from fedcomp.coding.nnc_stream_units import TENSOR, get_tensor
from fedcomp.coding.nnc_syntax import unit, units

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from fedcomp.tensors import Array, Manifest, Tensors

EXACT_QP = 0


class Coded(NamedTuple):
    """Levels of a tensor, and the quantisation parameter of their step."""

    levels: NDArray[np.int32]
    qp: int


def on_grid(values: Array, step: float) -> Coded:
    """Return the levels of values that are multiples of a step of the standard's.

    Examples
    --------
    >>> on_grid(np.array([0.5, -0.25], np.float32), 0.25)
    Coded(levels=array([ 2, -1], dtype=int32), qp=-256)
    """
    return Coded(quantise.uniform(values, step), quantise.qp_from_step(step, STEP_DENSITY))


def complete(weights: Mapping[str, Coded], model: Tensors, manifest: Manifest) -> dict[str, Coded]:
    """Return a model's tensors in its order: the weights as they are given, the rest finely."""
    found: dict[str, Coded] = {}
    for spec in manifest.specs:
        if spec.name in weights:
            found[spec.name] = weights[spec.name]
        elif spec.is_float:
            found[spec.name] = _fine(finite(spec.name, model[spec.name]))
        else:
            levels = checked_levels(model[spec.name].astype(np.int64), f"tensor {spec.name!r}")
            found[spec.name] = Coded(levels.reshape(spec.shape), EXACT_QP)
    return found


def write(coded: Mapping[str, Coded]) -> bytes:
    """Return the stream of a model."""
    return write_model(
        {name: tensor.levels for name, tensor in coded.items()},
        {name: tensor.qp for name, tensor in coded.items()},
        density=STEP_DENSITY,
        row_skip=True,
        search_init="best",
    )


def read(stream: bytes, manifest: Manifest) -> Tensors:
    """Return the model of a stream, in the types that it has."""
    model = read_model(stream, shapes={spec.name: spec.shape for spec in manifest.specs})
    return {
        spec.name: np.asarray(
            model.tensors[spec.name].values() if spec.is_float else model.tensors[spec.name].levels
        ).astype(spec.dtype)
        for spec in manifest.specs
    }


def tensor_bytes(stream: bytes) -> dict[str, int]:
    """Return how many bytes each tensor takes in a stream, its name and shape included."""
    return {
        get_tensor(body, False)[0].name: len(unit(kind, bytes(body)))
        for kind, body in units(memoryview(stream))
        if kind == TENSOR
    }


def _fine(values: Array) -> Coded:
    """Return levels of a fine step."""
    largest = float(np.abs(values).max(initial=0))
    qp = quantise.nearest_qp(max(FINE_STEP, largest / 2**30), STEP_DENSITY)
    return Coded(quantise.uniform(values, quantise.step_from_qp(qp, STEP_DENSITY)), qp)
