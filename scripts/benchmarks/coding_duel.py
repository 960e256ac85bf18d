"""Integer tensors: ours beside NNCodec, in turns, and beside coders without contexts."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from fedcomp.coding import deflate, huffman, zstd
from fedcomp.coding.nnc import decode_levels, encode_levels
from scripts.benchmarks.nncodec import MISSING
from scripts.benchmarks.rows import Row, bounded
from scripts.benchmarks.timing import in_turns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from fedcomp.coding.nnc_write import Search
    from scripts.benchmarks.coding_cases import Case
    from scripts.benchmarks.nncodec import Nncodec

_FASTER, _FASTER_SEARCH = 1 / 1.3, 1 / 3


class Ours:
    """The tensors of a case and the payloads that are made of them on one thread."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self.payloads: dict[str, bytes] = {}

    @property
    def size_bytes(self) -> int:
        """Size of what was encoded last."""
        return sum(map(len, self.payloads.values()))

    def encode(self, search: Search) -> float:
        """Encode all tensors; return the seconds."""
        settings: dict[str, Any] = {"row_skip": True, "dependent": self._case.dependent}
        began = time.perf_counter()
        self.payloads = {
            name: encode_levels(levels, search_init=search, **settings)
            for name, levels in self._case.tensors.items()
        }
        return time.perf_counter() - began

    def decode(self) -> float:
        """Decode what was encoded last; return the seconds."""
        tensors, dependent = self._case.tensors, self._case.dependent
        began = time.perf_counter()
        decoded = {
            name: decode_levels(payload, tensors[name].shape, dependent=dependent)
            for name, payload in self.payloads.items()
        }
        spent = time.perf_counter() - began
        for name, levels in tensors.items():
            np.testing.assert_array_equal(decoded[name], levels)
        return spent


def duel(case: Case, peer: Nncodec | None) -> Iterator[Row]:
    """Time both with and without the search for initialisation sets; compare the bytes."""
    if peer:
        peer.load(case)
    ours = Ours(case)
    for search in (False, True):
        suffix = ", search" if search else ""
        spent = in_turns(
            partial(ours.encode, search), partial(peer.encode, search=search) if peer else None
        )
        target = _FASTER_SEARCH if search else _FASTER
        yield beside(f"{case.name}: encode{suffix}", "s", spent, target)
        yield from _rate(f"{case.name}: encode a weight{suffix}", case, spent[0])
        sizes: tuple[list[float], list[float]] = [ours.size_bytes], []
        same = ""
        if peer:
            payloads = peer.payloads()
            same = "the same bytes" if ours.payloads == payloads else "other bytes"
            sizes[1].append(sum(map(len, payloads.values())))
        yield beside(f"{case.name}: size{suffix}", "B", sizes, 1.0, same)
    spent = in_turns(ours.decode, peer.decode if peer else None)
    yield beside(f"{case.name}: decode", "s", spent, _FASTER)
    yield from _rate(f"{case.name}: decode a weight", case, spent[0])
    ours.encode(search="best")
    yield beside_others(case, ours.size_bytes)


def beside_others(case: Case, size: int) -> Row:
    """Size, of the best search, beside the smallest of zlib's, zstd's and Huffman's.

    All code each tensor by itself; the first two get integers as narrow as it allows.
    """
    sizes = dict.fromkeys(("zlib", "zstd -19", "Huffman"), 0)
    bits = 0.0
    for levels in case.tensors.values():
        sizes["zlib"] += len(deflate.encode(levels, level=9))
        sizes["zstd -19"] += len(zstd.encode(levels, level=19))
        sizes["Huffman"] += len(huffman.encode(levels))
        bits += _entropy_bits(levels)
    remark = ", ".join(f"{name} {value} B" for name, value in sizes.items())
    remark += f"; zero-order entropy {bits / 8:.0f} B; ours with search_init=best"
    name = f"{case.name}: size beside the best of others"
    return Row(name, "B", [size], [min(sizes.values())], "peer", remark=remark)


def beside(
    name: str,
    unit: str,
    measured: tuple[list[float], ...],
    target: float,
    remark: str = "",
    missing: str = MISSING,
) -> Row:
    """Return a row for what was measured of ours and of a peer, if it is there."""
    ours, theirs = measured
    if not theirs:
        return Row(name, unit, ours, kind="peer", remark=missing)
    return Row(name, unit, ours, theirs, "peer", target, remark)


def _rate(name: str, case: Case, seconds: list[float]) -> Iterator[Row]:
    """Time for a weight, which must not be longer than the rate asks."""
    if case.rate:
        spent = [1e9 * value / case.weights for value in seconds]
        remark = f"at least {case.rate / 1e6:.0f} M weights a second"
        yield bounded(name, "ns", spent, 1e9 / case.rate, remark)


def _entropy_bits(levels: NDArray[np.int32]) -> float:
    """Return n·H0 of a tensor; a code also has to say the alphabet."""
    counts = np.unique(levels, return_counts=True)[1]
    return float(-(counts * np.log2(counts / levels.size)).sum())
