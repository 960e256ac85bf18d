"""The coder against a slow twin: the rules in Python, with integers of any length."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from fedcomp.coding.nnc import PayloadWriter
from fedcomp.coding.nnc_tables import INIT_SETS, LPS_RANGES, STATE_STEPS, TRELLIS

if TYPE_CHECKING:
    from collections.abc import Iterator


class Context:
    """Two windows over the bins of one context."""

    def __init__(self, which: int = 0) -> None:
        self.fast_rate, self.slow_rate, s, self.a = INIT_SETS[which]
        self.b = s - 16 * self.a
        self.cost = 0.0

    def adapt(self, bin_: int) -> None:
        sign = 1 if bin_ else -1
        self.a += sign * (STATE_STEPS[16 + ((sign * self.a) >> 3)] >> (self.fast_rate + 4))
        self.b += sign * (STATE_STEPS[16 + ((sign * self.b) >> 7)] >> self.slow_rate)

    def spend(self, bin_: int) -> None:
        s = 16 * self.a + self.b
        less = 32968 + 400.8 * min(abs(s >> 3), 511)
        more = -(2**15) * np.log2(1 - 2 ** (-less / 2**15))
        self.cost += round(more if (s >= 0) == bool(bin_) else less)
        self.adapt(bin_)


class Encoder:
    """Range coder whose L keeps all its bits."""

    def __init__(self) -> None:
        self.low, self.range, self.doublings = 0, 510, 0

    def code(self, bin_: int, context: Context) -> None:
        s = 16 * context.a + context.b
        less = LPS_RANGES[32 * ((self.range >> 5) & 7) + abs(s >> 7)]
        self.range -= less
        if bin_ != (s >= 0):
            self.low += self.range
            self.range = less
        while self.range < 256:
            self.range, self.low, self.doublings = 2 * self.range, 2 * self.low, self.doublings + 1
        context.adapt(bin_)

    def bypass(self, value: int, bits: int) -> None:
        for k in reversed(range(bits)):
            self.low = 2 * self.low + self.range * (value >> k & 1)
            self.doublings += 1

    def finish(self) -> bytes:
        low = (self.low + self.range - 2) << 7 >> 8
        bits = self.doublings + 7 + 1 + 1
        pad = -bits % 8
        return ((low << 1 | 1) << pad).to_bytes((bits + pad) // 8, "big")


def binarise(
    levels: list[int],
    base: list[int] | None,
    dependent: bool,
    flags: int,
    skip: list[int],
    width: int,
) -> Iterator[tuple[int, int] | tuple[None, int, int]]:
    """Yield (context, bin), or (None, value, bits) at even odds."""
    near = state = 0
    for i, level in enumerate(levels):
        value = level
        if dependent:
            value = (abs(level) + (state & 1)) // 2 * (1 if level > 0 else -1) if level else 0
        now, state = state, TRELLIS[state][value & 1] if dependent else 0
        if skip[i // width]:
            continue
        past = base[i] if base is not None else 0
        side = 0 if near == 0 else 1 if near < 0 else 2
        near = value
        yield (24 + 2 * now + (abs(past) > 1)) if past else 3 * now + side, int(value != 0)
        if value == 0:
            continue
        yield (51 + (past > 0)) if past else 48 + side, int(value < 0)
        for k in range(flags):
            c = 53 + 2 * k + (value < 0)
            if past:
                c = 53 + 2 * flags + 2 * k + (abs(past) < k)
            yield c, int(abs(value) > k + 1)
            if abs(value) <= k + 1:
                break
        else:
            rest, group = abs(value) - flags - 1, 0
            while rest >= 1 << group:
                yield 53 + 4 * flags + group, 1
                rest -= 1 << group
                group += 1
            yield 53 + 4 * flags + group, 0
            yield None, rest, group


def twin(
    array: np.ndarray,
    base: np.ndarray | None,
    dependent: bool,
    row_skip: bool,
    search: bool,
    flags: int,
    prefix: int,
) -> bytes:
    levels = array.ravel().tolist()
    past = None if base is None else base.ravel().tolist()
    coder = Encoder()
    coder.bypass(prefix & 255, 8)
    side: dict[int, Context] = {k: Context() for k in (34, 36)}
    width = int(np.prod(array.shape[1:]))
    skip, row = [0], max(len(levels), 1)
    if width > 1 and len(levels) > width:
        if base is not None:
            coder.bypass(0, 1)
        coder.bypass(int(row_skip), 1)
        if row_skip:
            row = width
            skip = [int(not any(levels[i : i + row])) for i in range(0, len(levels), row)]
            for bin_ in skip:
                coder.code(bin_, side[36])
    used = [*range(24 if dependent else 3)]
    if base is not None:
        used += range(24, 40 if dependent else 26)
    used += range(48, 51 if base is None else 53)
    used += range(53, 53 + (2 if base is None else 4) * flags)
    used += range(53 + 4 * flags, 53 + 4 * flags + 31)
    bins = list(binarise(levels, past, dependent, flags, skip, row))
    contexts = {}
    trials = {c: [Context(which) for which in range(9)] for c in used}
    for item in bins if search else []:
        if item[0] is not None:
            for trial in trials[item[0]]:
                trial.spend(item[1])
    for c in used:
        costs = [trial.cost + (3 * 2**15 if which else 0) for which, trial in enumerate(trials[c])]
        chosen = costs.index(min(costs))
        coder.code(int(chosen > 0), side[34])
        if chosen:
            coder.bypass(chosen - 1, 3)
        contexts[c] = Context(chosen)
    for item in bins:
        if item[0] is None:
            coder.bypass(item[1], item[2])
        else:
            coder.code(item[1], contexts[item[0]])
    return coder.finish()


@pytest.mark.parametrize("dependent", [False, True])
@pytest.mark.parametrize("with_base", [False, True])
@pytest.mark.parametrize("search", [False, True])
def test_twin(dependent: bool, with_base: bool, search: bool) -> None:
    rng = np.random.default_rng(7)
    shapes = [(), (0,), (1,), (30,), (6, 1), (1, 6), (5, 7), (4, 2, 3), (3, 200), (0, 3)]
    for trial in range(40):
        shape = shapes[trial % len(shapes)]
        flags = int(rng.choice([1, 2, 11, 20]))
        scale = float(rng.choice([0.3, 2, 40, 1e6]))
        levels = np.rint(rng.laplace(0, scale, shape)) * (rng.random(shape) < rng.random())
        if shape and trial % 2:
            levels[rng.random(shape[0]) < 0.5] = 0
        levels = levels.astype(np.int64)
        if dependent:
            state = 0
            flat = levels.reshape(-1)
            for i, k in enumerate(flat.tolist()):
                flat[i] = 2 * k - np.sign(k) * (state & 1)
                state = TRELLIS[state][k & 1]
        base = None
        if with_base:
            base = rng.integers(-14, 15, shape) * (rng.random(shape) < 0.6)
        row_skip = bool(rng.integers(2))
        prefix = int(rng.integers(-128, 128))
        writer = PayloadWriter(flags)
        writer.put_bits(prefix, 8)
        writer.put_levels(
            levels, row_skip=row_skip, dependent=dependent, search_init=search and "best", base=base
        )
        expected = twin(levels, base, dependent, row_skip, search, flags, prefix)
        assert writer.finish() == expected


def test_twin_on_runs_of_zeros() -> None:
    """Rest states, carries and refills in tens of thousands of bins."""
    rng = np.random.default_rng(8)
    for density, size in ((0.002, 30_000), (0.05, 20_000), (0.8, 8_000)):
        levels = np.rint(rng.laplace(0, 3, size)) * (rng.random(size) < density)
        levels = levels.astype(np.int64)
        for search in (False, True):
            writer = PayloadWriter()
            writer.put_bits(0, 8)
            writer.put_levels(levels, search_init=search)
            assert writer.finish() == twin(levels, None, False, False, search, 11, 0)
