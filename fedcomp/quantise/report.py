"""What quantising has brought: figures for a file and for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from rich.table import Table

from fedcomp.model_size import float_bytes
from fedcomp.quantise.stream import tensor_bytes
from fedcomp.report.units import megabytes, times

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fedcomp.quantise.stream import Coded
    from fedcomp.tensors import Manifest, Tensors

MOST_ROWS = 30


class Row(NamedTuple):
    """A weight tensor: how many levels it uses, its zeros, and its bytes in the stream."""

    name: str
    shape: list[int]
    levels: int
    zeros: int
    bytes: int


def figures(
    model: Tensors, coded: Mapping[str, Coded], stream: bytes, manifest: Manifest
) -> dict[str, Any]:
    """Return sparsity of the weights, sizes, and a row for each weight tensor."""
    sizes = tensor_bytes(stream)
    rows = [
        Row(
            *(spec.name, list(spec.shape), len(np.unique(coded[spec.name].levels))),
            spec.size - int(np.count_nonzero(coded[spec.name].levels)),
            sizes[spec.name],
        )
        for spec in manifest.weights
    ]
    count = sum(spec.size for spec in manifest.weights)
    whole = float_bytes(model)
    return {
        "parameters": manifest.elements,
        "weights": count,
        "sparsity": sum(row.zeros for row in rows) / max(count, 1),
        "bytes": len(stream),
        "float_bytes": whole,
        "ratio": whole / len(stream),
        "bits_per_weight": 8 * sum(row.bytes for row in rows) / max(count, 1),
        "layers": [row._asdict() for row in rows],
    }


def layer_table(found: dict[str, Any]) -> Table:
    """Return a row for each weight tensor, of the first thirty."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("tensor", overflow="fold")
    for name in ("shape", "levels", "zeros", "bytes", "bits/weight"):
        table.add_column(name, justify="right")
    for row in found["layers"][:MOST_ROWS]:
        size = max(int(np.prod(row["shape"])), 1)
        table.add_row(
            row["name"],
            " × ".join(map(str, row["shape"])),
            str(row["levels"]),
            f"{row['zeros'] / size:.1%}",
            megabytes(row["bytes"]),
            f"{8 * row['bytes'] / size:.2f}",
        )
    if (more := len(found["layers"]) - MOST_ROWS) > 0:
        table.add_row(f"and {more} more, see quantise.json")
    return table


def closing(found: dict[str, Any], metric: str, folder: str) -> Table:
    """Return the table that ends a run."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    before, after = found["before"]["test"][metric], found["after"]["test"][metric]
    table.add_row(metric, f"{before:.4f} → {after:.4f} on the test samples")
    table.add_row("zeros", f"{found['sparsity']:.1%} of {found['weights']:,} weights")
    table.add_row(
        "size",
        f"{megabytes(found['float_bytes'])} → {megabytes(found['bytes'])}, {times(found['ratio'])}"
        f" smaller, {found['bits_per_weight']:.2f} bits a weight",
    )
    table.add_row("results", folder)
    return table
