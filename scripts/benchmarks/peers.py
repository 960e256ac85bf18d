"""Recorded updates of models: ours beside NNCodec's own pipeline, at the same squared error.

stream    the format of NNCodec with its settings
nnc       the codec, which sends neither names nor shapes, with the same quantiser
chosen    the codec with levels chosen by rate and distortion, at the step of the same error

The work is not quite the same: remarks of the rows say where one side does more than the other.
"""

from __future__ import annotations

import math
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from fedcomp.codecs.base import Context
from fedcomp.codecs.levels import FINE_STEP
from fedcomp.codecs.nnc import Nnc
from fedcomp.coding.nnc_stream import read_model, write_model
from fedcomp.coding.quantise import qp_from_step, step_from_qp
from fedcomp.runtime import limit_threads
from scripts.benchmarks.coding_duel import beside
from scripts.benchmarks.distortion import same, squared_error, step_for
from scripts.benchmarks.nncodec import NO_PIPELINE, pipeline
from scripts.benchmarks.timing import in_turns
from scripts.benchmarks.updates import updates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fedcomp.tensors import Tensors
    from scripts.benchmarks.nncodec import Pipeline
    from scripts.benchmarks.rows import Row
    from scripts.benchmarks.updates import ModelUpdate

_MODELS = ("small_cnn", "resnet20")
_QP = -38
_RATE_WEIGHTS = (0.02, 0.05, 0.1, 0.2)
_PEER_WRITES = "the peer's with a file that it writes each time"
_RANGE = 16  # times smaller or larger than the step of the dependent quantiser


def rows() -> Iterator[Row]:
    """Measure one row after the other, each program on one thread."""
    limit_threads(1)
    with pipeline() as peer:
        for update in updates(_MODELS, _QP):
            yield from beside_peer(Stream(update, dependent=False), "uniform, stream", peer)
            stream = Stream(update, dependent=True)
            yield from beside_peer(stream, "dependent, stream", peer)
            quantiser = Nnc(qp=update.qp, quantiser="dependent")
            yield from beside_peer(WithCodec(update, quantiser), "dependent, nnc", peer)
            chosen = smallest(update, stream.error())
            yield from beside_peer(chosen, "chosen, nnc", peer)


class Ours:
    """An update, and the bytes that are made of it."""

    dependent = True
    size_remark = encode_remark = ""

    def __init__(self, update: ModelUpdate) -> None:
        self.update = update
        self.data = b""
        self.remark = ""

    def encoded(self) -> bytes:
        """Return the bytes of the update."""
        raise NotImplementedError

    def decoded(self) -> Tensors:
        """Return what a receiver makes of the bytes."""
        raise NotImplementedError

    def encode(self) -> float:
        """Keep the bytes; return the seconds."""
        began = time.perf_counter()
        self.data = self.encoded()
        return time.perf_counter() - began

    def decode(self) -> float:
        """Return the seconds."""
        began = time.perf_counter()
        self.decoded()
        return time.perf_counter() - began

    def error(self) -> float:
        """Return the squared error of the update."""
        self.encode()
        return squared_error(self.update.change, self.decoded())


class Stream(Ours):
    """A stream of NNC, set up as NNCodec does it."""

    def __init__(self, update: ModelUpdate, *, dependent: bool) -> None:
        super().__init__(update)
        self.dependent = dependent
        fine = qp_from_step(FINE_STEP)
        shapes = {name: value.shape for name, value in update.change.items()}
        self._qps = {name: update.qp if len(s) > 1 else fine for name, s in shapes.items()}

    def encoded(self) -> bytes:
        """Quantise and code."""
        words: dict[str, Any] = {"row_skip": True, "search_init": True}
        return write_model(self.update.change, self._qps, dependent=self.dependent, **words)

    def decoded(self) -> Tensors:
        """Return the tensors in float32."""
        return {name: found.values() for name, found in read_model(self.data).tensors.items()}


class WithCodec(Ours):
    """The payload of a codec."""

    size_remark = "ours without names, shapes and steps, which its receiver has to know"

    def __init__(
        self, update: ModelUpdate, codec: Nnc, remark: str = "", encode_remark: str = ""
    ) -> None:
        super().__init__(update)
        self.encode_remark = encode_remark
        self._codec = codec
        self._context = Context(update.manifest, 1, 1, "uplink")
        self.remark = remark

    def encoded(self) -> bytes:
        """Quantise and code."""
        return self._codec.encode(self.update.change, self._context)

    def decoded(self) -> Tensors:
        """Return the tensors."""
        return self._codec.decode(self.data, self._context)


def smallest(update: ModelUpdate, error: float) -> WithCodec:
    """Return the smallest payload of a squared error, or of little less, among prices of a bit."""
    middle = step_from_qp(update.qp)
    found = []
    for weight in _RATE_WEIGHTS:
        made = partial(_chosen, update, weight)
        step = step_for(partial(_error, made), error, middle / _RANGE, middle * _RANGE)
        found.append(made(step))
    return min(found, key=lambda own: len(own.encoded()))


def _chosen(update: ModelUpdate, weight: float, step: float) -> WithCodec:
    codec = Nnc(qp=None, step=step, quantiser="rate_distortion", rate_weight=weight)
    remark = f"λ = {weight}, Δ = 2^{math.log2(step):.2f}"
    return WithCodec(update, codec, remark, "ours without the search for λ and Δ")


def _error(made: Callable[[float], Ours], step: float) -> float:
    return made(step).error()


def beside_peer(own: Ours, label: str, peer: Pipeline | None) -> Iterator[Row]:
    """Yield bytes and seconds of both, if both lose the same."""
    update = own.update
    error = own.error()
    if peer:
        peer.load(update.change, qp=update.qp, dependent=own.dependent)
    encode = in_turns(own.encode, peer.encode if peer else None)
    decode = in_turns(own.decode, peer.decode if peer else None)
    sizes: tuple[list[float], list[float]] = [len(own.data)], []
    said = [own.remark or f"qp {update.qp}"]
    if peer:
        stream, decoded = peer.results()
        other = squared_error(update.change, decoded)
        if not same(error, other):
            msg = f"{update.name}, {label}: squared error {error:g}, the peer's is {other:g}"
            raise RuntimeError(msg)
        sizes = sizes[0], [len(stream)]
        said.append(f"errors {error:.4g} and {other:.4g}")
        said.append("the same bytes" if stream == own.data else own.size_remark)
    name = f"{update.name} of {update.weights}, {label}"
    for what, unit, measured, remark in (
        ("size", "B", sizes, said),
        ("encode", "s", encode, [_PEER_WRITES, own.encode_remark]),
        ("decode", "s", decode, []),
    ):
        text = "; ".join(filter(None, remark))
        yield beside(f"{name}: {what}", unit, measured, 1.0, text, NO_PIPELINE)
