"""Whole models to NNC streams and back (ISO/IEC 15938-17), as NNCodec 2.1.3 writes and reads them.

A stream is a profile (STR), the model's settings (MPS), an empty topology (TPL), and a unit (NDU)
for every tensor with its name, its shape, its place in the tree of updates and its payload.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from fedcomp.coding import quantise
from fedcomp.coding.nnc_stream_read import Model, Tensor, read_model
from fedcomp.coding.nnc_stream_units import (
    LARGEST_RANK,
    MODEL,
    PROFILE,
    START,
    TENSOR,
    TOPOLOGY,
    ModelHeader,
    Node,
    TensorHeader,
    put_model,
    put_tensor,
    put_topology,
)
from fedcomp.coding.nnc_syntax import unit
from fedcomp.coding.nnc_write import PayloadWriter
from fedcomp.errors import CodecError

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import NDArray

    from fedcomp.coding.nnc_write import Search

__all__ = ["Model", "Node", "Tensor", "read_model", "write_model"]


def write_model(
    tensors: Mapping[str, NDArray[Any]],
    qp: int | Mapping[str, int],
    *,
    density: int = quantise.DENSITY,
    dependent: bool | Collection[str] = False,
    row_skip: bool = False,
    search_init: Search = False,
    differential: bool = False,
    bases: Mapping[str, NDArray[Any]] | None = None,
    device: int = 0,
    depth: int | Mapping[str, int] | None = None,
    parent: int = 0,
    parameters: Mapping[str, int] | None = None,
    threads: int = 1,
) -> bytes:
    """Return the stream of a model or, if `differential`, of an update of one.

    Parameters
    ----------
    tensors
        Levels as integers, or real numbers that are quantised here with their qp.
    qp
        Quantisation parameter of all tensors or of each; the receiver's step is
        `step_from_qp(qp, density)`. NNCodec takes −32 for weights and −75 for the rest.
    density
        Binary logarithm of the steps per octave.
    dependent
        Whether all tensors, or which, are of the 8-state quantiser.
    row_skip, search_init
        As in `PayloadWriter.put_levels`.
    differential
        Mark the stream as an update. Tensors that are all zero then have no unit in it;
        `read_model` restores them where it is given their shapes.
    bases
        Levels of the previous update, by name, that choose contexts; only if `differential`.
    device, depth, parameters
        Node of every tensor: who sends; how many updates of the tensor there were, this one
        included, in all or for each name (0, or 1 if `differential`); and a number for each name
        (its place in `tensors`).
    parent
        Device of the parent node, which NNCodec leaves at 0.
    threads
        Tensors coded at the same time; the bytes are the same.

    Examples
    --------
    >>> stream = write_model({"w": np.array([[0.5, 0, -0.5, 0]])}, -4)
    >>> stream.hex(" ", -12)
    '000402010008068100400080 00060e000000001416097700 d040c1206102a080fb910021 3fe0'
    """
    bases = bases or {}
    if bases and not differential:
        raise CodecError("levels of a previous update need differential=True")
    places = {name: k for k, name in enumerate(tensors)} if parameters is None else parameters
    depths = int(differential) if depth is None else depth
    _check_names(
        tensors,
        {"qp": qp, "parameters": places, "depth": depths},
        {"bases": bases, "dependent": dependent},
    )
    head = ModelHeader(differential, density)

    def body(name: str) -> bytes | None:
        trellis = dependent if isinstance(dependent, bool) else name in dependent
        own_qp = _of(qp, name)
        levels = _levels(tensors[name], own_qp, density, trellis)
        if differential and not levels.any():
            return None
        base = bases.get(name)
        header = TensorHeader(
            name=name,
            shape=levels.shape,
            node=Node(device, places[name], _of(depths, name)),
            parent=parent if differential else None,
            temporal=base is not None,
            dependent=trellis,
        )
        writer = PayloadWriter(header.flags)
        writer.put_bits(own_qp, 6 + density)
        writer.put_levels(
            *(levels,),
            row_skip=row_skip,
            dependent=trellis,
            search_init=search_init,
            base=base,
            parent=differential,
        )
        return unit(TENSOR, put_tensor(header, differential) + writer.finish())

    def named(name: str) -> bytes | None:
        try:
            return body(name)
        except CodecError as error:
            raise CodecError(f"tensor {name!r}: {error}") from error

    with ThreadPoolExecutor(max(threads, 1)) as pool:
        bodies = list((pool.map if threads > 1 else map)(named, tensors))
    start = [
        unit(START, bytes([PROFILE])),
        unit(MODEL, put_model(head)),
        unit(TOPOLOGY, put_topology()),
    ]
    return b"".join([*start, *(part for part in bodies if part is not None)])


def _levels(values: NDArray[Any], qp: int, density: int, dependent: bool) -> NDArray[Any]:
    """Return integers as they are and real numbers quantised."""
    step = quantise.step_from_qp(qp, density)
    half = 1 << (5 + density)
    if not -half <= qp < half:
        raise CodecError(
            f"qp {qp} cannot be signalled at qp density {density}; use {-half} to {half - 1}"
        )
    array = np.asarray(values)
    if array.ndim > LARGEST_RANK:
        raise CodecError(f"{array.ndim} dimensions are too many; {LARGEST_RANK} are allowed")
    if array.dtype.kind in "iu":
        return array
    return quantise.dependent(array, step) if dependent else quantise.uniform(array, step)


def _of(setting: int | Mapping[str, int], name: str) -> int:
    """Return what a setting for all tensors, or for each, is for one."""
    return setting[name] if isinstance(setting, Mapping) else setting


def _check_names(
    tensors: Mapping[str, Any], whole: Mapping[str, Any], parts: Mapping[str, Any]
) -> None:
    """Raise unless settings by name have all tensors (`whole`), or only tensors (`parts`)."""
    for setting, given in whole.items():
        named = isinstance(given, Mapping)
        missing = [name for name in tensors if named and name not in given]
        if missing:
            raise CodecError(f"{setting} has no entry for tensor {missing[0]!r}")
    for setting, given in parts.items():
        unknown = [] if isinstance(given, bool) else [name for name in given if name not in tensors]
        if unknown:
            raise CodecError(f"{setting} names {unknown[0]!r}, which is not among the tensors")
