"""What a codec sees of a model whose weights are masked: a vector for each weight tensor."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from fedcomp.tensors import Manifest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fedcomp.codecs.base import Context
    from fedcomp.codecs.masks import Mask
    from fedcomp.tensors import Tensors, TensorSpec


def is_masked(spec: TensorSpec) -> bool:
    """Tell whether a tensor is one of weights that may be zero."""
    return spec.is_float and spec.is_weight


def kept_values(tensors: Tensors, masks: Mapping[str, Mask]) -> Tensors:
    """Return what masks keep of tensors, as vectors; tensors without a mask whole."""
    return {n: v[masks[n]] if n in masks else v for n, v in tensors.items()}


def vector_context(context: Context, masks: Mapping[str, Mask]) -> Context:
    """Return the context of what masks keep; earlier packets had other masks."""
    specs = context.manifest.by_name
    reference = context.reference
    if reference is not None:
        seen = {n: v for n, v in reference.items() if n in masks or not is_masked(specs[n])}
        reference = kept_values(seen, masks)
    counts = {name: int(np.count_nonzero(mask)) for name, mask in masks.items()}
    return replace(
        context,
        manifest=Manifest(
            tuple(
                replace(spec, shape=(counts[name],)) if name in counts else spec
                for name, spec in specs.items()
            )
        ),
        reference=reference,
        previous=None,
    )


def vector_manifest(manifest: Manifest) -> Manifest:
    """Return a manifest whose weights are vectors, as long as they can be."""
    return Manifest(
        tuple(replace(s, shape=(s.size,)) if is_masked(s) else s for s in manifest.specs)
    )
