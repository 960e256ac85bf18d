"""CosSGD: even steps of the angle between an update and the axis of each weight."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from annotated_types import Ge, Gt, Le, Lt

from fedcomp.codecs.base import About
from fedcomp.codecs.clipping import SETTLING, largest_kept
from fedcomp.codecs.coders import Coder, Coding  # noqa: TC001  for the settings
from fedcomp.codecs.draws import positions
from fedcomp.codecs.midrise import MidriseCoding
from fedcomp.codecs.numbered import Numbered, NumberedCodec
from fedcomp.codecs.sine import sine
from fedcomp.codecs.steps import single
from fedcomp.codecs.topk import kept_count
from fedcomp.coding import quantise
from fedcomp.coding.kernels import late_kernel

if TYPE_CHECKING:
    from fedcomp.codecs.base import Context
    from fedcomp.tensors import Array, TensorSpec


@dataclass(frozen=True)
class CosSgd(NumberedCodec):
    """‖w‖·cos θ̂ for each tensor, θ̂ one of 2^bits angles in even steps between b and π − b.

    He, Wang, Zenk, Fritz, "CosSGD: Communication-Efficient Federated Learning with a Simple
    Cosine-Based Quantization", arXiv:2012.08241.  θ = arccos(w / ‖w‖), and b is the smallest angle
    to an axis that is left after clipping.  What is exactly 0 stays 0, since no angle stands for
    it.  Far from any contraction at 1 bit, so without feedback, as in the paper.

    Parameters
    ----------
    bits
        Width of an angle.
    clip
        Share of the non-zero weights, the largest, that are clipped; hurts from 6 bits on.
    rounding
        Of angles: `nearest` (biased), or `stochastic`, right on average in angle, not in value.
    density
        Share of the weights that travels, drawn anew by a seed that both ends have, each n/k times
        its value; positions cost nothing.
    coder
        How angles are written; the paper's is `deflate`.
    """

    name: ClassVar[str] = "cossgd"
    about: ClassVar[About] = About(
        paper="He et al., arXiv:2012.08241",
        formula="‖w‖·cos θ̂, θ = arccos(w / ‖w‖) rounded to even steps",
        bias="biased; stochastic rounding: unbiased in angle",
        cost="O(n)",
    )

    bits: Annotated[int, Ge(1), Le(16)] = 2
    clip: Annotated[float, Ge(0), Lt(1)] = 0.01
    rounding: Literal["nearest", "stochastic"] = "nearest"
    density: Annotated[float, Gt(0), Le(1)] = 1.0
    coder: Coder = "cabac"

    @property
    def contracts(self) -> bool:
        """No: the smallest weights move to the smallest level, which may be far away."""
        return False

    @property
    def settles(self) -> bool:
        """Whether the largest weights do not stretch two or three steps over all others."""
        return self.density == 1 and (self.bits >= 4 or (self.bits > 1 and self.clip >= SETTLING))

    def coding(self, context: Context) -> Coding:  # noqa: ARG002
        """Return how levels are written."""
        return MidriseCoding(self.coder)

    def weight_shape(self, spec: TensorSpec) -> tuple[int, ...]:
        """Return the tensor's shape, or how many of its weights travel."""
        return spec.shape if self.density == 1 else (kept_count(self.density, spec.size),)

    def numbers_of(self, spec: TensorSpec) -> int:  # noqa: ARG002
        """Return 2: the norm, and π/2 − b."""
        return 2

    def numbered(self, name: str, values: Array, context: Context) -> Numbered | None:
        """Return the levels −m … m of angles, m being 2^(bits − 1), and the two floats."""
        values = np.asarray(values, np.promote_types(values.dtype, np.float32))
        generator = context.generator(name)
        if self.density < 1:
            count = kept_count(self.density, values.size)
            chosen = values.reshape(-1)[positions(values.size, count, generator)]
            values = chosen * np.float64(values.size / count)
        if not values.any():
            return None
        norm = self._norm(values)
        if norm < quantise.SMALLEST_STEP:
            return None
        span = float(np.float32(math.asin(min(largest_kept(values, self.clip) / norm, 1.0))))
        if span < quantise.SMALLEST_STEP:
            return None
        draws = generator.random(values.size) if self.rounding == "stochastic" else np.array([0.5])
        levels = np.empty(values.size, np.int32)
        _round_angles(np.ravel(values), norm, span, self.bits, draws, levels)
        return Numbered(levels.reshape(values.shape), np.array([norm, span], np.float32))

    def fault(self, symbol: Numbered, spec: TensorSpec) -> str:  # noqa: ARG002
        """Say what is wrong with angles, norm or span."""
        most = 2 ** (self.bits - 1)
        norm, span = symbol.numbers.tolist()
        if not quantise.SMALLEST_STEP <= norm < quantise.STEP_BOUND:
            return f"the norm {norm} no sender would have given"
        if not quantise.SMALLEST_STEP <= span <= np.float32(math.pi / 2):
            return f"the angles span {span}, allowed is at most π/2"
        if ((symbol.levels > most) | (symbol.levels < -most)).any():
            return f"has levels beyond {most}"
        return ""

    def weights(self, name: str, symbol: Numbered, context: Context) -> Array:
        """Return ‖w‖·cos θ̂ where weights travel, 0 elsewhere."""
        half = 2 ** (self.bits - 1)
        norm, span = symbol.numbers.astype(np.float64)
        levels = np.arange(-half, half + 1)
        places = (np.abs(levels) - 0.5) / (2**self.bits - 1)
        table = norm * np.sign(levels) * sine(2 * span * places)
        found: Array = table.astype(np.float32)[symbol.levels + half]
        if self.density == 1:
            return found
        spec = context.manifest.by_name[name]
        flat = np.zeros(spec.size, np.float32)
        flat[positions(spec.size, found.size, context.generator(name))] = found
        return flat.reshape(spec.shape)

    @staticmethod
    def _norm(values: Array) -> float:
        """Return ‖w‖ as it travels."""
        single(float(np.abs(values).max()))  # refuses what has no square
        return single(float(np.sqrt(np.square(values, dtype=np.float64).sum())))


@late_kernel
def _round_angles(values: Any, norm: Any, span: Any, bits: Any, draws: Any, out: Any) -> None:
    """Write the level of each angle: up where its draw, or the only one, is below the rest."""
    half, steps = 2 ** (bits - 1), 2**bits - 1
    stride = draws.size == values.size
    for i in range(values.size):
        share = min(max(np.float64(values[i]) / norm, -1.0), 1.0)
        place = (min(max(math.asin(share) / span, -1.0), 1.0) + 1.0) * (steps / 2)
        below = math.floor(place)
        up = draws[i * stride] < place - below
        level = np.int64(below) + up - half
        out[i] = 0 if values[i] == 0 else level + (level >= 0)
