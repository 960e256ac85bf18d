"""PowerSGD: a matrix as the product of two thin ones, found by one step of power iteration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from annotated_types import Ge, Le

from fedcomp.codecs.base import About
from fedcomp.codecs.coders import Coder, Coding, check_alphabet
from fedcomp.codecs.numbered import Numbered, NumberedCodec
from fedcomp.codecs.steps import single, spanned
from fedcomp.coding import quantise

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fedcomp.codecs.base import Context, Mode
    from fedcomp.tensors import Array, TensorSpec

DEPENDENT = 1e-12
"""Share of a column that may be left of it when it is a combination of those before."""


@dataclass(frozen=True)
class PowerSgd(NumberedCodec):
    """P·Qᵀ for the matrix M of a tensor (first axis × the rest), P = orth(M·Q₀), Q = Mᵀ·P.

    Vogels, Karimireddy, Jaggi, "PowerSGD: Practical Low-Rank Gradient Compression for Distributed
    Optimization", NeurIPS 2019, arXiv:1905.13727.  Made for feedback: P·Qᵀ is the projection of M
    on the columns of P, so that ‖M − P·Qᵀ‖² = ‖M‖² − ‖Q‖² but for the rounding of P and Q.

    Parameters
    ----------
    rank
        Number of columns of P and Q.  A tensor of m × n weights with rank·(m + n) ≥ m·n, such as a
        vector, travels as it is, at `bits` bits a weight.
    warm_start
        Let Q₀ be the Q of the last packet that arrived, so that packets of much the same M come as
        near to it as its singular value decomposition; else, in a first packet and on the downlink,
        it is drawn.
    bits
        Width of a value of P and of Q; their two steps span the largest ones.
    coder
        How these values are written.
    """

    name: ClassVar[str] = "powersgd"
    modes: ClassVar[tuple[Mode, ...]] = ("delta",)
    about: ClassVar[About] = About(
        paper="Vogels et al., NeurIPS 2019, arXiv:1905.13727",
        formula="P·Qᵀ, P = orth(M·Q₀), Q = Mᵀ·P, Q₀ the last Q",
        bias="biased",
        cost="O(n · rank)",
    )

    rank: Annotated[int, Ge(1), Le(64)] = 2
    warm_start: bool = True
    bits: Annotated[int, Ge(4), Le(24)] = 8
    coder: Coder = "cabac"

    def __post_init__(self) -> None:
        check_alphabet(self.coder, self.bits)

    @property
    def contracts(self) -> bool:
        """Whether P and Q are fine enough for P·Qᵀ to be next to a projection of any M."""
        return self.bits >= 8

    @property
    def settles(self) -> bool:
        """Yes: of usual matrices coarser factors are next to projections, too."""
        return True

    @property
    def uses_previous(self) -> bool:
        """Whether the sender starts from its last packet."""
        return self.warm_start

    @property
    def needs_previous(self) -> bool:
        """No: P and Q are all that the receiver needs."""
        return False

    def coding(self, context: Context) -> Coding:  # noqa: ARG002
        """Return how levels are written."""
        return Coding(self.coder)

    def weight_shape(self, spec: TensorSpec) -> tuple[int, ...]:
        """Return the shape of P with Q below it, or that of the tensor."""
        return (sum(_sides(spec)), self.rank) if self._splits(spec) else spec.shape

    def numbers_of(self, spec: TensorSpec) -> int:
        """Return the number of steps."""
        return 2 if self._splits(spec) else 1

    def numbered(self, name: str, values: Array, context: Context) -> Numbered | None:
        """Return the levels of P and Q, or of the tensor, and their steps."""
        single(float(np.abs(values).max()))  # refuses what has no square
        spec = context.manifest.by_name[name]
        if not self._splits(spec):
            return self._rounded(values)
        matrix = values.reshape(_sides(spec)).astype(np.float64)
        left = orthonormal(_product(matrix, self._start(spec, context)))
        first, second = self._rounded(left), self._rounded(_product(matrix.T, left))
        if first is None or second is None:
            return None
        levels = np.concatenate((first.levels, second.levels))
        return Numbered(levels, np.concatenate((first.numbers, second.numbers)))

    def fault(self, symbol: Numbered, spec: TensorSpec) -> str:
        """Say what is wrong with levels or steps."""
        steps = symbol.numbers
        if not ((steps >= quantise.SMALLEST_STEP) & (steps < quantise.STEP_BOUND)).all():
            return f"steps {steps.tolist()} no sender would have given"
        parts = self._parts(symbol.levels, spec)
        for part in parts:
            least, most = int(part.min()), int(part.max())
            low, high = quantise.level_range(self.bits, signed=least < 0)
            if least < low or most > high or not part.any():
                return f"has levels beyond {self.bits} bits, or zeros only"
        if len(parts) > 1 and float(np.abs(parts[0]).max()) * float(steps[0]) > 1 + 2.0**-20:
            return "a column of P is longer than 1"
        return ""

    def weights(self, name: str, symbol: Numbered, context: Context) -> Array:
        """Return P·Qᵀ, column after column, or level · step."""
        spec = context.manifest.by_name[name]
        parts = self._parts(symbol.levels, spec)
        steps = symbol.numbers.astype(np.float64)
        if len(parts) == 1:
            return np.asarray(parts[0] * steps[0])
        total = np.zeros(_sides(spec))
        for left, right in zip((parts[0] * steps[0]).T, (parts[1] * steps[1]).T, strict=True):
            total += np.multiply.outer(left, right)
        return total.reshape(spec.shape)

    def _splits(self, spec: TensorSpec) -> bool:
        """Tell whether P and Q are fewer values than M; then the rank is below that M can have."""
        return sum(_sides(spec)) * self.rank < spec.size

    def _parts(self, levels: NDArray[np.int32], spec: TensorSpec) -> list[NDArray[np.int32]]:
        """Return the levels that share a step."""
        return np.split(levels, _sides(spec)[:1]) if self._splits(spec) else [levels]

    def _rounded(self, values: Array) -> Numbered | None:
        """Return levels of `bits` bits and their step; None if the values are next to nothing."""
        clipped, step = spanned(values, self.bits, 1.0)
        if not step:
            return None
        return Numbered(quantise.uniform(clipped, step), np.array([step], np.float32))

    def _start(self, spec: TensorSpec, context: Context) -> Array:
        """Return Q₀; a column that was lost is drawn, for it would stay zero for ever."""
        sides = _sides(spec)
        start = context.generator(spec.name).standard_normal((sides[1], self.rank))
        last = (context.previous or {}).get(spec.name) if self.warm_start else None
        if isinstance(last, Numbered) and len(last.levels) == sum(sides):
            right = last.levels[sides[0] :, : self.rank]  # the rank may be on a schedule
            filled = start[:, : right.shape[1]]
            filled[...] = np.where(right.any(axis=0), right, filled)
        return start


def orthonormal(columns: Array) -> Array:
    """Return columns made orthonormal in their order (Gram–Schmidt, twice over each).

    A column that depends on those before becomes zero.

    Examples
    --------
    >>> orthonormal(np.array([[3.0, 6.0, 4.0], [4.0, 8.0, -3.0]]))
    array([[ 0.6,  0. ,  0.8],
           [ 0.8,  0. , -0.6]])
    """
    out = np.zeros_like(columns)
    for k, column in enumerate(columns.T):
        rest = column.copy()
        for _ in range(2):
            for before in out.T[:k]:
                rest -= _dot(before, rest) * before
        size = np.sqrt(_dot(rest, rest))
        if size > DEPENDENT * np.sqrt(_dot(column, column)):
            out[:, k] = rest / size
    return out


def _dot(left: Array, right: Array) -> float:
    return float(np.einsum("i,i->", left, right))


def _product(matrix: Array, columns: Array) -> Array:
    """Return the product without BLAS, whose last bits depend on its number of threads."""
    each = [np.einsum("ij,j->i", matrix, column) for column in np.ascontiguousarray(columns.T)]
    return np.stack(each, axis=1)


def _sides(spec: TensorSpec) -> tuple[int, int]:
    """Return rows and columns of a tensor's matrix."""
    rows = spec.shape[0] if spec.shape else 1
    return rows, spec.size // rows
