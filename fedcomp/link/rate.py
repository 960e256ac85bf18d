"""How dense packets are: bits by element of the model, and the share of weights left as it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fedcomp.tensors import Array, Manifest, TensorSpec


@dataclass(frozen=True)
class Rate:
    """What one packet, or several of one kind on average, say of the model.

    Attributes
    ----------
    bits_per_weight
        Payload bits by elements of the model.
    sparsity
        Share of the weights that the packet leaves as they are.

    Examples
    --------
    >>> from fedcomp.tensors import Kind, Manifest, TensorSpec
    >>> manifest = Manifest((TensorSpec("w", (10, 10), "float32", Kind.WEIGHT),))
    >>> Rate.of(manifest, [(50, 4), (100, 6)])
    Rate(bits_per_weight=6.0, sparsity=0.95)
    """

    bits_per_weight: float
    sparsity: float

    @classmethod
    def of(cls, manifest: Manifest, packets: list[tuple[int, int]]) -> Rate | None:
        """Return the mean rate of packets, given as payload bytes and weights moved; None of none.

        A model without weights counts as left alone.
        """
        if not packets:
            return None
        size, changed = (sum(column) / len(packets) for column in zip(*packets, strict=True))
        weights = sum(spec.size for spec in manifest.weights)
        return cls(8 * size / manifest.elements, 1 - changed / max(weights, 1))


def moved(spec: TensorSpec, old: Array, new: Array) -> int:
    """Return how many elements of a weight tensor differ; of other tensors none counts."""
    return int(np.count_nonzero(old != new)) if spec.is_weight else 0


def all_moved(manifest: Manifest, old: Mapping[str, Array], new: Mapping[str, Array]) -> int:
    """Return how many weights of a model differ."""
    return sum(moved(spec, old[spec.name], new[spec.name]) for spec in manifest.specs)
