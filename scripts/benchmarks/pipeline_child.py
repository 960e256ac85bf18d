"""A child process under `.venv-nncodec`: NNCodec's own pipeline, one timed operation at a time.

Timed are its two public calls: `encode` approximates the tensors, encodes them and writes a file,
as it always does; `decode` returns them in float32.
"""

from __future__ import annotations

import tempfile
import time
from typing import Any

import numpy as np
import torch

from scripts.benchmarks.nncodec_child import serve


class Model:
    """One update, its settings and its stream."""

    def __init__(self, results: str) -> None:
        from nncodec import nn  # type: ignore[import-not-found,unused-ignore]

        self._nn = nn
        self._settings: dict[str, Any] = {"results": results, "verbose": False}
        self._tensors: dict[str, Any] = {}
        self._stream = bytearray()

    def load(self, file: str, qp: int, dependent: bool) -> None:
        """Read the tensors; all other settings are NNCodec's defaults."""
        with np.load(file) as arrays:
            self._tensors = dict(arrays)
        self._settings |= {"qp": qp, "use_dq": dependent}

    def encode(self) -> float:
        """Encode the update; return the seconds."""
        began = time.perf_counter()
        self._stream = self._nn.encode(self._tensors, self._settings)
        return time.perf_counter() - began

    def decode(self) -> float:
        """Decode the update; return the seconds."""
        began = time.perf_counter()
        self._nn.decode(self._stream)
        return time.perf_counter() - began

    def save(self, file: str) -> None:
        """Write the stream, and the tensors that are decoded from it."""
        decoded = {f"tensor {name}": value for name, value in self._nn.decode(self._stream).items()}
        np.savez(file, stream=np.frombuffer(self._stream, np.uint8), **decoded)


if __name__ == "__main__":
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        serve(Model(folder))
