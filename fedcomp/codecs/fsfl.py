"""The update of FSFL: sparse by thresholds, quantised, coded by DeepCABAC."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from annotated_types import Ge, Le, Lt

from fedcomp.codecs.arrays import finite
from fedcomp.codecs.base import About
from fedcomp.codecs.nnc import Nnc
from fedcomp.codecs.sparsify import below_filter_gain, below_threshold, delta_for
from fedcomp.codecs.steps import Step  # noqa: TC001  the settings are read from its annotation
from fedcomp.codecs.topk import largest

if TYPE_CHECKING:
    from fedcomp.codecs.base import Context, Mode, Symbols
    from fedcomp.tensors import Array, Tensors


@dataclass(frozen=True)
class Fsfl(Nnc):
    """Becking et al., CVPR Workshops 2022, arXiv:2204.04424; the thresholds as in NNCodec 2.

    Parameters
    ----------
    sparsity
        `fixed`: the share `rate` of each tensor, its smallest weights, is left out.  `target`: the
        δ, one for all tensors, that gives `rate`.  `threshold`: what `delta` gives.
    rate
        Share of the weights that `target` and `fixed` leave out.
    delta
        δ of θ = |μ| + δσ, below which a weight is left out under `threshold`.
    gain
        γ: filters whose mean |w| is below γ times the mean of all filters are left out; 0: none.
    """

    name: ClassVar[str] = "fsfl"
    modes: ClassVar[tuple[Mode, ...]] = ("delta",)
    about: ClassVar[About] = About(
        paper="Becking et al., CVPR Workshops 2022, arXiv:2204.04424",
        formula="Δ·round(w / Δ) for the weights beyond θ, else 0",
        bias="biased",
        cost="O(n)",
    )

    qp: Annotated[int, Ge(-128), Le(127)] | None = None
    step: Step | None = 2.0**-7
    fine_step: Step = 2.0**-10
    sparsity: Literal["fixed", "target", "threshold"] = "fixed"
    rate: Annotated[float, Ge(0), Lt(1)] = 0.96
    delta: Annotated[float, Ge(0), Le(100)] = 1.0
    gain: Annotated[float, Ge(0), Le(1)] = 0.0

    def quantise(self, tensors: Tensors, context: Context) -> Symbols:
        """Leave out what is not worth its bits, then quantise."""
        return super().quantise(self._sparse(tensors, context), context)

    def quantise_weighted(self, tensors: Tensors, importance: Tensors, context: Context) -> Symbols:
        """Leave out the same, then quantise with regard to importance."""
        return super().quantise_weighted(self._sparse(tensors, context), importance, context)

    def _sparse(self, tensors: Tensors, context: Context) -> Tensors:
        context.manifest.check(tensors)
        specs = context.manifest.by_name
        hard = {n: finite(n, v) for n, v in tensors.items() if specs[n].is_weight and v.size}
        step = self.weight_step(context)
        delta = delta_for(hard, self.rate, step) if self.sparsity == "target" else self.delta

        def sparse(values: Array) -> Array:
            if self.sparsity == "fixed":
                return largest(values.reshape(-1), 1 - self.rate).reshape(values.shape)
            return below_threshold(values, delta, step)

        found = {name: sparse(value) for name, value in hard.items()}
        if self.gain:
            found = {name: below_filter_gain(v, self.gain) for name, v in found.items()}
        return {**tensors, **found}
