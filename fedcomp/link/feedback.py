"""Feedback: what a lossy uplink left out, kept by the client and added next time.

    target   = trained − received + decay · residual
    residual ← target − decoded

Only parameters have it.  Buffers are states, not sums of changes: what is lost of one shows in its
next difference anyway, and adding it twice would overshoot.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fedcomp.tensors import LARGEST_HALF

if TYPE_CHECKING:
    from fedcomp.link.settings import LinkSettings
    from fedcomp.tensors import Manifest, Tensors


def parameters(tensors: Tensors, manifest: Manifest) -> Tensors:
    """Return those tensors that training changes by adding to them."""
    return {n: v for n, v in tensors.items() if manifest.by_name[n].is_parameter}


def added(change: Tensors, residual: Tensors, decay: float) -> Tensors:
    """Return change + decay · residual for the tensors of `change`."""
    return {
        name: np.asarray(value + residual[name] * value.dtype.type(decay))
        if name in residual
        else value
        for name, value in change.items()
    }


def left_over(target: Tensors, decoded: Tensors) -> Tensors:
    """Return target − decoded; a tensor that was not sent is left over whole."""
    return {
        name: np.asarray(value - decoded[name]) if name in decoded else value
        for name, value in target.items()
    }


def total(residual: Tensors, lost: Tensors) -> Tensors:
    """Return residual + lost: an update that the server never used is to be sent again."""
    both = {name: np.asarray(residual[name] + lost[name]) for name in residual if name in lost}
    return residual | lost | both


def stored(residual: Tensors, settings: LinkSettings) -> Tensors:
    """Return a residual as it is kept: within the largest norm, in the chosen type."""
    scale = 1.0
    if settings.feedback_max_norm is not None:
        norm = np.sqrt(sum(np.square(v, dtype=np.float64).sum() for v in residual.values()))
        scale = min(1.0, settings.feedback_max_norm / norm) if norm else 1.0
    out: Tensors = {}
    for name, value in residual.items():
        kept = value if scale == 1.0 else np.asarray(value * scale, value.dtype)
        if settings.feedback_dtype == "float16":
            kept = np.clip(kept, -LARGEST_HALF, LARGEST_HALF).astype(np.float16)
        out[name] = kept
    return out


def loaded(residual: Tensors) -> Tensors:
    """Return a kept residual in at least float32."""
    return {n: v.astype(np.float32) if v.dtype == np.float16 else v for n, v in residual.items()}
