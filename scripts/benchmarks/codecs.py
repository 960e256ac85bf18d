"""Every codec on one core: seconds to encode and decode an update, beside a bound a weight.

With the larger net also beside what numpy takes to round its weights to a byte each and back, and
bytes beside float32's: ratios of one run.
"""

from __future__ import annotations

from dataclasses import fields, replace
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from fedcomp.codecs import CODECS
from fedcomp.codecs.base import Codec, Context
from fedcomp.codecs.clustered import Clustered
from fedcomp.codecs.kmeans import KMeans
from fedcomp.codecs.mixed import Mixed
from fedcomp.models.mlp import MLP
from fedcomp.runtime import limit_threads
from scripts.benchmarks.link_models import Subject, resnet
from scripts.benchmarks.rows import Row, bounded
from scripts.benchmarks.timing import in_turns, timed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fedcomp.tensors import Tensors

ENCODED, DECODED = 20e6, 40e6
"""Weights a second that codecs with the coder `fixed` are to reach."""

_UNBOUND = ("fedzip", "kmeans", "powersgd")
_REPEATS, _PASSES = 5, 8
_LARGE = 5e6


def rows() -> Iterator[Row]:
    """Measure one codec after the other, with its coder `fixed` where it takes one."""
    limit_threads(1)
    subjects = Subject.of("MLP", MLP(hidden=(1200, 200)).build((1, 28, 28), 10)), resnet()
    for name in CODECS.builtin:
        codec: Codec = CODECS.get(name)()  # type: ignore[call-arg]
        if isinstance(codec, Mixed):
            continue
        fixed = "coder" in {f.name for f in fields(codec)}
        if fixed:
            codec = replace(codec, coder="fixed")  # type: ignore[call-arg]
        for subject in subjects:
            yield from _codec_rows(subject, codec, bound=fixed and name not in _UNBOUND)


def _codec_rows(subject: Subject, codec: Codec, *, bound: bool) -> Iterator[Row]:
    """Yield a row for each direction, and ratios."""
    context = Context(subject.manifest, 1, 1, "uplink", "0", subject.initial)
    given = subject.update(1) if codec.mode == "delta" else subject.trained(subject.initial, 1)
    if isinstance(codec, Clustered):
        few = KMeans(mode="absolute")
        given = few.decode(few.encode(given, context), context)
    weights = subject.manifest.elements
    data = codec.encode(given, context)
    encode, decode, passes = in_turns(
        timed(lambda: codec.encode(given, context)),
        timed(lambda: codec.decode(data, context)),
        timed(lambda: _rounded(given)),
        repeats=_REPEATS,
    )
    both = [there + back for there, back in zip(encode, decode, strict=True)]
    rounding = [seconds / _PASSES for seconds in passes]
    for what, seconds, rate in (("encode", encode, ENCODED), ("decode", decode, DECODED)):
        row = f"{codec.name}, {subject.name} of {weights / 1e6:.1f} M: {what}"
        remark = f"{weights / median(seconds) / 1e6:.0f} M a second"
        remark += f", {8 * len(data) / weights:.2f} bits a weight"
        if bound:
            yield bounded(row, "s", seconds, weights / rate, remark)
        else:
            yield Row(row, "s", seconds, remark=remark)
    if weights > _LARGE:
        name = f"{codec.name}, {subject.name}"
        remark = "numpy's float32 to int8 and back"
        yield Row(
            f"{name}: there and back beside rounding", "s", both, rounding, "peer", None, remark
        )
        plain = sum(value.nbytes for value in given.values())
        yield Row(f"{name}: size beside float32", "B", [len(data)], [plain], "peer")


def _rounded(tensors: Tensors) -> None:
    """Round tensors to whole steps of a byte each, and bring them back, several times."""
    for value in (*tensors.values(),) * _PASSES:
        step = np.float32((np.abs(value).max() or 1) / 127)
        sent = np.rint(value / step).astype(np.int8).tobytes()
        np.frombuffer(sent, np.int8).astype(np.float32) * step
