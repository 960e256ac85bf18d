"""Headers of the units of NNC streams (ISO/IEC 15938-17, profile 1), as NNCodec 2.1.3 has them.

Each header is written and read side by side here. What the standard allows and nothing here
writes is refused by its name.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from fedcomp.coding.nnc_contexts import GREATER_FLAGS
from fedcomp.coding.nnc_syntax import BitReader, BitWriter
from fedcomp.errors import BitstreamError

START, MODEL, LAYERS, TOPOLOGY, QUANTISATION, TENSOR, AGGREGATE = range(7)
UNIT_NAMES = ("STR", "MPS", "LPS", "TPL", "QNT", "NDU", "AGG")
PROFILE = 1
FLOAT = 1
PAYLOAD_TYPES = {0: "integer (NNR_PT_INT)", 2: "raw float (NNR_PT_RAW_FLOAT)", 3: "NNR_PT_BLOCK"}
LARGEST_RANK = 32


@dataclass(frozen=True)
class Node:
    """A place in the parameter update tree: who made the update, of which tensor, how deep."""

    device: int
    parameter: int
    depth: int


@dataclass(frozen=True)
class ModelHeader:
    """What the parameter set (MPS) of a model says."""

    differential: bool = False
    density: int = 2
    qp: int = 0


@dataclass(frozen=True)
class TensorHeader:
    """What the header of a tensor's unit (NDU) says; `parent` is the device of the parent node."""

    name: str
    shape: tuple[int, ...]
    node: Node | None
    parent: int | None = None
    temporal: bool = False
    dependent: bool = False
    flags: int = GREATER_FLAGS


def put_model(header: ModelHeader) -> bytes:
    """Return the body of an MPS."""
    writer = BitWriter()
    writer.uint(0b10000, 5)  # a topology follows; no maps of how the model was compressed
    writer.uint(1, 3)  # uniform quantisation
    writer.uint(0, 4)  # no topology index, base model, validation performance, metric type
    writer.uint(int(header.differential), 1)
    writer.uint(0, 3)  # no predictive residual; reserved
    writer.uint(header.density, 3)
    writer.uint(header.qp, 13)
    writer.align()
    return bytes(writer.data)


def get_model(body: memoryview) -> ModelHeader:
    """Read an MPS."""
    reader = BitReader(body)
    if not reader.uint(1):
        raise BitstreamError("a model without topology unit is not supported")
    for name in ("sparsification", "pruning", "unification", "decomposition"):
        _refuse(reader.uint(1), f"a {name} performance map")
    method = reader.uint(3)
    _refuse(method != 1, f"quantisation method {method} of the model (codebook or unknown)")
    for name in (
        *("topology-indexed reference", "base model id", "validation performance"),
        "performance metric type",
    ):
        _refuse(reader.uint(1), f"a {name}")
    differential = bool(reader.uint(1))
    _refuse(reader.uint(1), "predictive residual encoding (nnr_pre_flag)")
    if reader.uint(2):
        raise BitstreamError("reserved bits of the model parameter set are not 0")
    header = ModelHeader(differential, reader.uint(3), reader.sint(13))
    reader.align()
    _end(reader, "model parameter set")
    return header


def put_topology() -> bytes:
    """Return the body of a TPL: unknown format, not compressed, empty."""
    return bytes(3)


def get_topology(body: memoryview) -> None:
    """Check that a TPL carries nothing."""
    if len(body) < 3:
        raise BitstreamError(f"a topology unit of {len(body)} bytes is too short")
    _refuse(body[1] != 0, f"topology compression {body[1]}")
    _refuse(bytes(body[2:]) != b"\0", f"a topology in the stream (format {body[0]})")


def put_tensor(header: TensorHeader, differential: bool) -> bytearray:
    """Return the header of an NDU."""
    writer = BitWriter()
    writer.uint(FLOAT, 5)
    writer.uint(0b001, 3)  # one element, no original format; the input parameters are here
    writer.text(header.name)
    writer.uint(int(header.node is not None), 1)
    if header.node is not None:
        writer.golomb(header.node.device, 1)
        writer.golomb(header.node.parameter, 5)
        writer.golomb(header.node.depth, 4)
    if differential:
        writer.uint(int(header.parent is not None), 1)
        if header.parent is not None:
            writer.uint(0, 2)  # the parent is named by its node id
            writer.uint(int(header.temporal), 1)
            writer.golomb(header.parent, 1)
    writer.uint(0, 1)  # no codebook
    writer.uint(int(header.dependent), 1)
    writer.uint(0b110000, 6)  # the dimensions and G are here; no compressed parameters
    writer.golomb(len(header.shape), 1)
    for side in header.shape:
        writer.golomb(side, 7)
    writer.uint(header.flags - 1, 8)
    if len(header.shape) > 1:
        writer.golomb(0, 1)  # the first axis are the rows
        writer.uint(0, 4)  # scan order
    writer.align()
    return writer.data


def get_tensor(body: memoryview, differential: bool) -> tuple[TensorHeader, memoryview]:
    """Read the header of an NDU; return it and the payload."""
    reader = BitReader(body)
    kind = reader.uint(5)
    if kind != FLOAT:
        _refuse(1, f"payload type {PAYLOAD_TYPES.get(kind, kind)}")
    _refuse(reader.uint(1), "a unit of several elements (NNR_PT_BLOCK)")
    _refuse(reader.uint(1), "a decompressed data format")
    _refuse(not reader.uint(1), "a unit without input parameters")
    name = reader.text()
    where = f"of tensor {name!r}"
    node = None
    if reader.uint(1):
        node = Node(reader.golomb(1), reader.golomb(5), reader.golomb(4))
    parent, temporal = None, False
    if differential and reader.uint(1):
        _refuse(reader.uint(2), f"a parent {where} named by a hash")
        temporal = bool(reader.uint(1))
        parent = reader.golomb(1)
        _refuse(node is None, f"a parent {where} without a node id of its own")
    _refuse(reader.uint(1), f"a codebook {where}")
    dependent = bool(reader.uint(1))
    _refuse(not reader.uint(1), f"dimensions {where} from a topology")
    own_flags = reader.uint(1)
    _refuse(reader.uint(4), f"compressed parameters {where} (DC, LS, BN, BI)")
    rank = reader.golomb(1)
    if rank > LARGEST_RANK:
        raise BitstreamError(f"{rank} dimensions {where} are too many; {LARGEST_RANK} are allowed")
    shape = tuple(reader.golomb(7) for _ in range(rank))
    flags = reader.uint(8) + 1 if own_flags else GREATER_FLAGS
    if rank > 1:
        _refuse(reader.golomb(1), f"a shifted first dimension {where}")
        _refuse(reader.uint(4), f"a scan order above 0 {where}")
    reader.align()
    header = TensorHeader(name, shape, node, parent, temporal, dependent, flags)
    return header, reader.rest()


def room(shape: tuple[int, ...]) -> int:
    """Return the elements of a shape, sides of 0 counted as 1: what its strides must not exceed."""
    return math.prod(max(side, 1) for side in shape)


def _refuse(condition: int | bool, what: str) -> None:
    """Raise if the stream uses a tool that is not implemented."""
    if condition:
        raise BitstreamError(f"{what} is not supported")


def _end(reader: BitReader, what: str) -> None:
    """Raise if bytes are left."""
    if reader.left:
        raise BitstreamError(f"{reader.left} bytes follow the {what}")
