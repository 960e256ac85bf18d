"""What a strategy aggregates, and what goes round it: buffers and counters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fedcomp.errors import RoundError

if TYPE_CHECKING:
    from fedcomp.tensors import Manifest, Tensors, TensorSpec
    from strategies.exchange import Exchange


def strategy_specs(manifest: Manifest) -> list[TensorSpec]:
    """Return the tensors that the strategy aggregates; buffers and counters go round it."""
    return [spec for spec in manifest.specs if spec.is_parameter]


def check_aggregate(aggregate: Tensors, manifest: Manifest, who: str) -> None:
    """Raise unless an aggregate has the tensors that the strategy was given, in their shapes."""
    expected = {spec.name: spec.shape for spec in strategy_specs(manifest)}
    for name in [*expected, *aggregate]:
        shapes = [expected.get(name), aggregate[name].shape if name in aggregate else None]
        if shapes[0] != shapes[1]:
            wanted, given = ("nothing" if shape is None else f"shape {shape}" for shape in shapes)
            msg = (
                f"{who} returned {given} for tensor {name!r}, expected is {wanted}: it is to return"
                " the tensors of the model that it was given"
            )
            raise RoundError(msg)


def join(
    aggregate: Tensors, exchange: Exchange, examples: dict[str, float], old: Tensors
) -> Tensors:
    """Put buffers back beside an aggregate, in the order and the dtypes of the old model.

    Buffers are averaged by the number of examples; of counters the largest one counts.
    """
    around = {name: value for name, value in old.items() if name not in aggregate}
    means = {n: np.zeros(v.shape) for n, v in around.items() if v.dtype.kind == "f"}
    largest: Tensors = {}
    total = sum(examples.values())
    for site, received in exchange.received.items():
        for name in around:
            value = received.tensor(name)
            if name in means:
                means[name] += value.astype(np.float64) * (examples[site] / total)
            else:
                largest[name] = np.maximum(largest.get(name, value), value)
    found = {**aggregate, **means, **largest}
    return {name: np.asarray(found[name]).astype(v.dtype, copy=False) for name, v in old.items()}
