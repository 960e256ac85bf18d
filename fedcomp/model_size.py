"""What a model takes in a file, as it is or packed without loss, and how sparse it is."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from fedcomp.codecs.base import Codec, Context
from fedcomp.codecs.clustered import Clustered
from fedcomp.codecs.lossless import Lossless
from fedcomp.codecs.masked import MaskedCodec
from fedcomp.codecs.none import NoCompression

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fedcomp.tensors import Array, Manifest, Tensors

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


def share_of_zeros(arrays: Iterable[Array]) -> float:
    """Return the share of exact zeros among all values; 0 where there are none.

    Examples
    --------
    >>> share_of_zeros([np.array([0.0, 1.0]), np.zeros((1, 2))])
    0.75
    """
    counts = [(value.size - int(np.count_nonzero(value)), value.size) for value in arrays]
    return sum(zeros for zeros, _ in counts) / max(sum(size for _, size in counts), 1)


def zeros(tensors: Tensors, weights: Iterable[str]) -> dict[str, Any]:
    """Return the share of exact zeros among a model's weights, and in each that has any.

    Examples
    --------
    >>> model = {"a": np.array([[0.0, 1.0]]), "b": np.ones((3, 2)), "bias": np.zeros(2)}
    >>> zeros(model, ["a", "b"])
    {'model_sparsity': 0.125, 'layer_sparsity': {'a': 0.5}}
    """
    found = {name: tensors[name] for name in weights}
    shares = {name: share_of_zeros([value]) for name, value in found.items()}
    return {
        "model_sparsity": share_of_zeros(found.values()),
        "layer_sparsity": {name: share for name, share in shares.items() if share},
    }


def sizes(tensors: Tensors, manifest: Manifest) -> dict[str, int]:
    """Return what a model takes in a file, by several ways to write it."""
    return {
        "model_bytes": float_bytes(tensors),
        "model_deflated_bytes": deflated_bytes(tensors),
        "model_packed_bytes": packed_bytes(tensors, manifest),
    }
