"""The table of all codecs in this folder's README: `python -m fedcomp.codecs.table` writes it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fedcomp.codecs import CODECS
from fedcomp.codecs.base import Codec, Context
from fedcomp.codecs.clustered import Clustered
from fedcomp.codecs.masked import MaskedCodec
from fedcomp.codecs.mixed import Mixed
from fedcomp.tensors import Kind, Manifest, TensorSpec

README = Path(__file__).parent / "README.md"
START, END = "<!-- table: python -m fedcomp.codecs.table -->\n", "<!-- end of the table -->\n"
SIDE = 512


def table() -> str:
    """Return a line of Markdown for each codec that comes with the project."""
    codecs = [CODECS.get(name)() for name in CODECS.builtin]  # type: ignore[call-arg]
    lines = [
        "| codec | formula | paper | mean of many packets | bits a weight | feedback | encoder |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| `{codec.name}` | {_cell(codec.about.formula)} | {codec.about.paper}"
        f" | {codec.about.bias} | {_bits(codec)} | {_feedback(codec)} | {codec.about.cost} |"
        for codec in codecs
    ]
    return "\n".join(lines) + "\n"


def written(text: str) -> str:
    """Return the README with the table as it is now."""
    head, rest = text.split(START)
    return head + START + "\n" + table() + "\n" + END + rest.split(END)[1]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _bits(codec: Codec) -> str:
    """Return the payload's bits for each of many weights with Laplace's distribution."""
    if isinstance(codec, Mixed | MaskedCodec):
        return "those of its codecs"
    if isinstance(codec, Clustered):
        return "those of its indices, or 16"
    values = np.random.default_rng(1).laplace(scale=0.01, size=(SIDE, SIDE)).astype(np.float32)
    spec = TensorSpec("w", values.shape, "float32", Kind.WEIGHT)
    context = Context(Manifest((spec,)), 1, 1, "uplink", "0")
    return f"{8 * len(codec.encode({'w': values}, context)) / values.size:.2f}"


def _feedback(codec: Codec) -> str:
    if codec.about.bias == "exact":
        return "nothing is lost"
    if "delta" not in codec.modes:
        return "no"
    return "yes" if codec.contracts else "no"


if __name__ == "__main__":
    README.write_text(written(README.read_text(encoding="utf-8")), encoding="utf-8")
