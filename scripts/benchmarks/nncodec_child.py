"""A child process under `.venv-nncodec`: NNCodec's coder, one timed operation at a time.

It imports neither this project nor NNCodec's package, which needs PyTorch and more, but only the
package's extension. Each line of JSON on its standard input is a command with its arguments; each
gets a line of JSON back. Timed are the calls of the extension for all tensors, and the arrays that
the decoder fills.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from contextlib import redirect_stdout
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

import numpy as np

_GREATER_FLAGS = 11
_PROFILE = 1
_NO_SCAN_ORDER = _NO_PARENT = 0
_ROW_SKIP = 1


def load_extension() -> Any:
    """Return the module `nncodec.extensions.deepCABAC` without its packages."""
    package = importlib.util.find_spec("nncodec")
    for place in (package.submodule_search_locations or ()) if package else ():
        for suffix in EXTENSION_SUFFIXES:
            file = Path(place) / "extensions" / f"deepCABAC{suffix}"
            spec = importlib.util.spec_from_file_location("deepCABAC", file)
            if file.exists() and spec and spec.loader:
                module = importlib.util.module_from_spec(spec)
                spec.loader.exec_module(module)
                return module
    msg = f"{sys.executable} has no nncodec with its extension"
    raise RuntimeError(msg)


class Coder:
    """The tensors of one case and the payloads that NNCodec makes of them."""

    def __init__(self) -> None:
        self._extension = load_extension()
        self._no_history = (self._extension.HdspMode.AlwaysOff, np.zeros(2, np.int8))
        self._tensors: dict[str, Any] = {}
        self._skipped: dict[str, Any] = {}
        self._payloads: dict[str, Any] = {}
        self._dependent = 0

    def load(self, file: str, dependent: bool) -> None:
        """Read the tensors, and note which of their rows are zeros."""
        with np.load(file) as arrays:
            self._tensors = dict(arrays)
        self._skipped = {
            name: (~levels.reshape(len(levels), -1).any(axis=1)).astype(np.int32)
            for name, levels in self._tensors.items()
        }
        self._payloads = {}
        self._dependent = int(dependent)

    def encode(self, search: bool) -> float:
        """Encode all tensors; return the seconds."""
        settings = (self._dependent, _NO_SCAN_ORDER, _PROFILE, _NO_PARENT, _ROW_SKIP)
        began = time.perf_counter()
        for name, levels in self._tensors.items():
            encoder = self._extension.Encoder()
            encoder.initCtxModels(_GREATER_FLAGS, int(search))
            encoder.encodeLayer(levels, *settings, self._skipped[name], *self._no_history, 0, 0)
            self._payloads[name] = encoder.finish()
        return time.perf_counter() - began

    def decode(self) -> float:
        """Decode all payloads; return the seconds."""
        settings = (self._dependent, _NO_SCAN_ORDER, _PROFILE, _NO_PARENT)
        decoded = {}
        began = time.perf_counter()
        for name, levels in self._tensors.items():
            decoder = self._extension.Decoder()
            decoder.setStream(self._payloads[name])
            decoder.initCtxModels(_GREATER_FLAGS)
            decoded[name] = np.zeros(levels.shape, np.int32)
            decoder.decodeLayer(decoded[name], *settings, *self._no_history, 0, 0)
            decoder.finish()
        spent = time.perf_counter() - began
        for name, levels in self._tensors.items():
            np.testing.assert_array_equal(decoded[name], levels)
        return spent

    def save(self, file: str) -> None:
        """Write the payloads."""
        np.savez(file, **self._payloads)


def serve(coder: Any) -> None:
    """Answer commands until there are no more."""
    commands = {name: getattr(coder, name) for name in ("load", "encode", "decode", "save")}
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        with redirect_stdout(sys.stderr):  # answers alone go to the standard output
            answer = commands[name](*arguments)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    serve(Coder())
