"""The quantisers of DeepCABAC and NNC, coded by its context-adaptive arithmetic coder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from annotated_types import Ge, Gt, Le

from fedcomp.codecs.arrays import finite
from fedcomp.codecs.base import About
from fedcomp.codecs.coders import Coding
from fedcomp.codecs.levels import LevelCodec, Levels
from fedcomp.codecs.steps import Step, named, single, spanned
from fedcomp.coding import quantise, quantise_rate
from fedcomp.errors import CodecError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fedcomp.codecs.base import Context, Symbols
    from fedcomp.tensors import Array, Tensors

SHARE = 0.9995
IMPORTANCE = (1 / 64, 64.0)


@dataclass(frozen=True)
class Nnc(LevelCodec):
    """Levels chosen for the coder that writes them (DeepCABAC, arXiv:1907.11900; ISO 15938-17).

    Parameters
    ----------
    qp
        Quantisation parameter of weights: Δ = (4 + (qp mod 4)) · 2^(⌊qp / 4⌋ − 2).
    step
        Δ itself; exclusive with `qp` and `bits`.
    bits
        Δ of each tensor such that so many bits span all of its non-zero weights but the largest
        0.05 %, which are clipped.
    quantiser
        `uniform`: the nearest level.  `rate_distortion`: argmin (|w| / Δ − q)² + λ·R(q).
        `weighted`: argmin ((w − qΔ) / (I / 2))² + λ·R(q), DeepCABAC's.  `dependent`: the 8-state
        trellis, at half of Δ for the same rate.
    rate_weight
        λ, the price of a bit, for `rate_distortion` in Δ² and for `weighted` in (I / 2)², which
        is 9 Δ² at the default interval.
    interval
        I in steps for `weighted`: the width within which a weight may move.
    temporal
        Let the levels of the last packet that arrived choose the contexts of this one's.
    """

    name: ClassVar[str] = "nnc"
    about: ClassVar[About] = About(
        paper="Haase et al., ICIP 2020; ISO/IEC 15938-17",
        formula="Δ·q, q = argmin (w / Δ − q)² + λ·R(q) or by an 8-state trellis",
        bias="biased",
        cost="O(n)",
    )

    qp: Annotated[int, Ge(-128), Le(127)] | None = -38
    step: Step | None = None
    bits: Annotated[int, Ge(2), Le(24)] | None = None
    quantiser: Literal["uniform", "rate_distortion", "weighted", "dependent"] = "uniform"
    rate_weight: Annotated[float, Ge(0), Le(1e6)] = 0.05
    interval: Annotated[float, Gt(0), Le(64)] = 6.0
    temporal: bool = False

    def __post_init__(self) -> None:
        given = [value for value in (self.qp, self.step, self.bits) if value is not None]
        if len(given) != 1:
            msg = f"give one of qp, step and bits, and null for the others; {len(given)} are given"
            raise ValueError(msg)

    @property
    def uses_previous(self) -> bool:
        """Whether contexts depend on the last packet."""
        return self.temporal

    @property
    def uses_importance(self) -> bool:
        """Whether the quantiser looks at it."""
        return self.quantiser == "weighted"

    def weight_step(self, context: Context) -> float:  # noqa: ARG002
        """Return the step unless it follows from each tensor."""
        return self.step or 0.0 if self.qp is None else quantise.step_from_qp(self.qp)

    def coding(self, context: Context) -> Coding:
        """Return the coder and what it knows of the last packet."""
        previous = (context.previous or {}) if self.temporal else {}

        def base(name: str) -> NDArray[np.int32] | None:
            old = previous.get(name)
            return old.levels if isinstance(old, Levels) else None

        return Coding("cabac", dependent=self.quantiser == "dependent", base=base)

    def levels(self, name: str, values: Array, context: Context) -> Levels:  # noqa: ARG002
        """Return the levels of the chosen quantiser."""
        return self._levels(values, context)

    def quantise_weighted(self, tensors: Tensors, importance: Tensors, context: Context) -> Symbols:
        """Quantise with I / √η for each weight in the place of I, η being its importance.

        η is taken to lie between 1/64 and 64.
        """
        if not self.uses_importance:
            msg = f"quantiser {self.quantiser} does not look at importance; set quantiser=weighted"
            raise CodecError(msg)
        context.manifest.check({**tensors, **importance})

        def quantised(name: str, values: Array) -> Array | Levels:
            hard = context.manifest.by_name[name].is_weight
            if hard and name in importance and finite(name, values).any():
                with named(name):
                    return self._levels(values, context, importance[name])
            return self.quantised(name, values, context)

        return {name: quantised(name, values) for name, values in tensors.items()}

    def _levels(self, values: Array, context: Context, importance: Array | None = None) -> Levels:
        step = single(self.weight_step(context))
        if self.bits is not None:
            values, step = spanned(values, self.bits, SHARE)
            if not step:
                return Levels.zeros(values.shape)
        return Levels.of(self._choose(values, step, importance), step)

    def _choose(self, values: Array, step: float, importance: Array | None) -> Array:
        if self.quantiser == "uniform":
            return quantise.uniform(values, step)
        if self.quantiser == "dependent":
            return quantise.dependent(values, step)
        if self.quantiser == "rate_distortion":
            return quantise_rate.rate_distortion(values, step, self.rate_weight)
        widths = self.interval * step
        if importance is not None:
            widths = widths / np.sqrt(np.clip(_checked(importance), *IMPORTANCE))
        return quantise_rate.weighted_rate_distortion(values, step, widths, self.rate_weight)


def _checked(importance: Array) -> Array:
    if not (np.isfinite(importance).all() and importance.min(initial=0) >= 0):
        msg = "importance is to be finite and not negative"
        raise CodecError(msg)
    return importance


@dataclass(frozen=True)
class DeepCabac(Nnc):
    """The settings of DeepCABAC itself: weighted rate–distortion quantisation at a given step."""

    name: ClassVar[str] = "deepcabac"
    about: ClassVar[About] = About(
        paper="Wiedemann et al., IEEE JSTSP 2020, arXiv:1907.11900",
        formula="Δ·q, q = argmin η·(w − qΔ)² / (I / 2)² + λ·R(q)",
        bias="biased",
        cost="O(n)",
    )

    qp: Annotated[int, Ge(-128), Le(127)] | None = None
    step: Step | None = 2.0**-12
    quantiser: Literal["uniform", "rate_distortion", "weighted", "dependent"] = "weighted"
    rate_weight: Annotated[float, Ge(0), Le(1e6)] = 0.01
