"""Reader of NNC streams that nobody vouches for (ISO/IEC 15938-17)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fedcomp.coding.nnc_checks import checked_shape
from fedcomp.coding.nnc_read import PayloadReader
from fedcomp.coding.nnc_stream_units import (
    MODEL,
    PROFILE,
    START,
    TENSOR,
    TOPOLOGY,
    UNIT_NAMES,
    ModelHeader,
    Node,
    TensorHeader,
    get_model,
    get_tensor,
    get_topology,
    room,
)
from fedcomp.coding.nnc_syntax import units
from fedcomp.coding.quantise import DENSITY, dequantise, step_from_qp
from fedcomp.errors import BitstreamError, CodecError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

MAX_ELEMENTS = 1 << 27
"""Elements of all tensors of a stream whose shapes nobody knows beforehand (512 MiB)."""


@dataclass(frozen=True, eq=False)
class Tensor:
    """Levels of a tensor and how they were coded; `qp` and `node` are None if it was left out."""

    levels: NDArray[np.int32]
    qp: int | None
    density: int = DENSITY
    dependent: bool = False
    temporal: bool = False
    node: Node | None = None

    def values(self) -> NDArray[np.float32]:
        """Return what the levels stand for."""
        if self.qp is None:
            return np.zeros(self.levels.shape, np.float32)
        return dequantise(self.levels, step_from_qp(self.qp, self.density))


@dataclass(frozen=True, eq=False)
class Model:
    """What a stream holds: tensors by name, and whether they are an update."""

    tensors: dict[str, Tensor]
    differential: bool


def read_model(
    data: bytes | bytearray | memoryview,
    *,
    shapes: Mapping[str, Sequence[int]] | None = None,
    bases: Mapping[str, NDArray[Any]] | None = None,
    max_elements: int | None = None,
    threads: int = 1,
) -> Model:
    """Return the model of a stream.

    Streams have no checksum: damage ends in BitstreamError or in other levels, never in more
    memory than 4 bytes for each of `max_elements` and one for each row.

    Parameters
    ----------
    data
        The stream.
    shapes
        What the tensors must be. An update may leave some out, which are zeros then.
    bases
        Levels of the previous update for tensors with temporal contexts.
    max_elements
        Limit for all tensors together; what `shapes` holds, or 2^27 without them.
    threads
        Tensors decoded at the same time.

    Examples
    --------
    >>> from fedcomp.coding.nnc_stream import write_model
    >>> update = write_model({"w": np.array([[1, -1], [0, 2]])}, -4, differential=True)
    >>> model = read_model(update, shapes={"w": (2, 2), "b": (2,)})
    >>> {name: tensor.values().tolist() for name, tensor in model.tensors.items()}
    {'w': [[0.5, -0.5], [0.0, 1.0]], 'b': [0.0, 0.0]}
    """
    wanted = None if shapes is None else {name: checked_shape(s) for name, s in shapes.items()}
    if max_elements is None:
        max_elements = MAX_ELEMENTS if wanted is None else sum(map(room, wanted.values()))
    model, parts = _headers(memoryview(data).cast("B"))
    left = max_elements
    for header, _ in parts:
        _check(header, wanted, bases or {})
        left -= room(header.shape)
        if left < 0:
            raise BitstreamError(
                f"the tensors up to {header.name!r} of shape {header.shape} have more than the "
                f"{max_elements} elements that are allowed"
            )

    def tensor(part: tuple[TensorHeader, memoryview]) -> Tensor:
        try:
            return _tensor(model, *part, (bases or {}).get(part[0].name))
        except BitstreamError as error:
            raise BitstreamError(f"tensor {part[0].name!r}: {error}") from None

    with ThreadPoolExecutor(max(threads, 1)) as pool:
        decoded = list((pool.map if threads > 1 else map)(tensor, parts))
    tensors = dict(zip((header.name for header, _ in parts), decoded, strict=True))
    if wanted is not None:
        tensors = {name: _present(tensors, name, model, wanted[name]) for name in wanted}
    return Model(tensors, model.differential)


def _headers(data: memoryview) -> tuple[ModelHeader, list[tuple[TensorHeader, memoryview]]]:
    """Return the settings of the model, and header and payload of every tensor."""
    model = None
    parts: dict[str, tuple[TensorHeader, memoryview]] = {}
    expected: tuple[int, ...] = (START, MODEL, TOPOLOGY)
    for kind, body in units(data):
        name = UNIT_NAMES[kind] if kind < len(UNIT_NAMES) else f"of type {kind}"
        if kind != (expected[0] if expected else TENSOR):
            wanted = UNIT_NAMES[expected[0] if expected else TENSOR]
            raise BitstreamError(f"a unit {name} where {wanted} must be; it is not supported there")
        expected = expected[1:]
        if kind == START:
            if bytes(body) != bytes([PROFILE]):
                raise BitstreamError(f"profile {bytes(body[:4]).hex()} is not supported, only 01")
        elif kind == MODEL:
            model = get_model(body)
        elif kind == TOPOLOGY:
            get_topology(body)
        elif model is not None:
            header, payload = get_tensor(body, model.differential)
            if header.name in parts:
                raise BitstreamError(f"tensor {header.name!r} is in the stream twice")
            parts[header.name] = header, payload
    if model is None or expected:
        raise BitstreamError(f"the stream ends before its unit {UNIT_NAMES[expected[0]]}")
    return model, list(parts.values())


def _check(
    header: TensorHeader,
    wanted: Mapping[str, tuple[int, ...]] | None,
    bases: Mapping[str, NDArray[Any]],
) -> None:
    """Raise unless a tensor is what the receiver expects and can decode."""
    name, shape = header.name, header.shape
    if wanted is not None and name not in wanted:
        raise BitstreamError(f"tensor {name!r} is not one of those expected")
    if wanted is not None and wanted[name] != shape:
        raise BitstreamError(f"tensor {name!r} has shape {shape}; {wanted[name]} is expected")
    if header.temporal and name not in bases:
        raise BitstreamError(f"tensor {name!r} needs the levels of its previous update (bases)")
    if header.temporal and np.shape(bases[name]) != shape:
        base = np.shape(bases[name])
        raise BitstreamError(f"tensor {name!r} has shape {shape}, its previous update {base}")


def _tensor(
    model: ModelHeader, header: TensorHeader, payload: memoryview, base: NDArray[Any] | None
) -> Tensor:
    """Decode a payload."""
    reader = PayloadReader(payload, header.flags)
    qp = model.qp + reader.get_bits(6 + model.density, signed=True)
    try:
        step_from_qp(qp, model.density)
    except CodecError as error:
        raise BitstreamError(str(error)) from None
    levels = reader.get_levels(
        header.shape,
        dependent=header.dependent,
        base=base if header.temporal else None,
        parent=header.parent is not None,
    )
    reader.finish()
    return Tensor(levels, qp, model.density, header.dependent, header.temporal, header.node)


def _present(
    tensors: Mapping[str, Tensor], name: str, model: ModelHeader, shape: tuple[int, ...]
) -> Tensor:
    """Return a tensor of the stream, or zeros for one that an update left out."""
    if name in tensors:
        return tensors[name]
    if not model.differential:
        raise BitstreamError(f"the stream has no tensor {name!r}")
    return Tensor(np.zeros(shape, np.int32), None, model.density)
