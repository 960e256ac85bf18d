"""How many bytes a model takes in a file: as it is, and made smaller without losing anything."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np

from fedcomp.codecs.base import Codec, Context
from fedcomp.codecs.clustered import Clustered
from fedcomp.codecs.lossless import Lossless
from fedcomp.codecs.masked import MaskedCodec
from fedcomp.codecs.none import NoCompression

if TYPE_CHECKING:
    from fedcomp.tensors import Manifest, Tensors

PACKERS: tuple[Codec, ...] = (
    Lossless(xor=False),
    Clustered(others="fp32", predict=False),
    MaskedCodec("absolute", NoCompression()),
)
"""For any model, for one of few different weights, for a sparse one."""


def float_bytes(tensors: Tensors) -> int:
    """Return the length of all values as float32."""
    return 4 * sum(value.size for value in tensors.values())


def deflated_bytes(tensors: Tensors) -> int:
    """Return the length of all values as float32 after Deflate, as FedCompress counts.

    Examples
    --------
    >>> deflated_bytes({"w": np.zeros(0)}), 8 < deflated_bytes({"w": np.zeros(1000)}) < 50
    (8, True)
    """
    packer = zlib.compressobj()
    size = sum(len(packer.compress(v.astype(np.float32).tobytes())) for v in tensors.values())
    return size + len(packer.flush())


def packed_bytes(tensors: Tensors, manifest: Manifest) -> int:
    """Return the length of the smallest packet that holds a model exactly, and refers to nothing.

    What is not finite is not packed.
    """
    if not all(np.isfinite(value).all() for value in tensors.values()):
        return float_bytes(tensors)
    context = Context(manifest, 0, 0, "downlink")
    return min(len(codec.encode(tensors, context)) for codec in PACKERS)
