"""The peer NNCodec 2.1.3, in a child process with its own environment and numpy < 2.

`nncodec` is its coder of integer tensors, `pipeline` all that it makes of a model.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from fedcomp.tensors import Array, Tensors
    from scripts.benchmarks.coding_cases import Case

_ROOT = Path(__file__).parents[2]
_ENVIRONMENT = _ROOT / ".venv-nncodec"

MISSING = "no peer: scripts/install-nncodec builds it"
NO_PIPELINE = "no peer: scripts/install-nncodec pipeline builds it"


class _Child:
    """Asks for one operation after the other."""

    def __init__(self, child: subprocess.Popen[str], folder: Path) -> None:
        self._child = child
        self._folder = folder

    def decode(self) -> float:
        """Decode what was encoded last; return the seconds."""
        return float(self._ask("decode"))

    def _write(self, tensors: Mapping[str, Array]) -> str:
        file = self._folder / "tensors.npz"
        np.savez(file, **tensors)  # type: ignore[arg-type]  # names, not settings
        return str(file)

    def _saved(self) -> Tensors:
        file = self._folder / "saved.npz"
        self._ask("save", str(file))
        with np.load(file) as arrays:
            return dict(arrays)

    def _ask(self, *command: Any) -> Any:
        stdin, stdout = self._child.stdin, self._child.stdout
        if stdin is None or stdout is None:
            msg = "the child has no pipes"
            raise RuntimeError(msg)
        stdin.write(json.dumps(command) + "\n")
        stdin.flush()
        answer = stdout.readline()
        if not answer:
            tail = "\n".join((self._folder / "log").read_text().splitlines()[-20:])
            msg = f"NNCodec's process ended at {command[0]!r}:\n{tail}"
            raise RuntimeError(msg)
        return json.loads(answer)


class Nncodec(_Child):
    """The coder alone."""

    def load(self, case: Case) -> None:
        """Hand over the tensors of a case."""
        self._ask("load", self._write(case.tensors), case.dependent)

    def encode(self, *, search: bool) -> float:
        """Encode all tensors; return the seconds."""
        return float(self._ask("encode", search))

    def payloads(self) -> dict[str, bytes]:
        """Return what was encoded last."""
        return {name: payload.tobytes() for name, payload in self._saved().items()}


class Pipeline(_Child):
    """Approximation and encoding of a model's update."""

    def load(self, tensors: Tensors, *, qp: int, dependent: bool) -> None:
        """Hand over an update and its settings."""
        self._ask("load", self._write(tensors), qp, dependent)

    def encode(self) -> float:
        """Encode the update; return the seconds."""
        return float(self._ask("encode"))

    def results(self) -> tuple[bytes, Tensors]:
        """Return what was encoded last, and what is decoded from it."""
        saved = self._saved()
        stream = saved.pop("stream").tobytes()
        return stream, {name.removeprefix("tensor "): value for name, value in saved.items()}


@contextmanager
def nncodec() -> Iterator[Nncodec | None]:
    """Yield the running coder, or None where its environment is missing."""
    if not any(_ENVIRONMENT.glob(".installed-*")):
        yield None
        return
    with _running("nncodec_child") as (child, folder):
        yield Nncodec(child, folder)


@contextmanager
def pipeline() -> Iterator[Pipeline | None]:
    """Yield the running pipeline, or None where it is not installed."""
    if not any((_ENVIRONMENT / f".installed-{kind}").exists() for kind in ("pipeline", "full")):
        yield None
        return
    with _running("pipeline_child") as (child, folder):
        yield Pipeline(child, folder)


@contextmanager
def _running(module: str) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    with tempfile.TemporaryDirectory() as text, (Path(text) / "log").open("w") as log:
        child = subprocess.Popen(
            [str(_ENVIRONMENT / "bin/python"), "-P", "-m", f"scripts.benchmarks.{module}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=_ROOT,
            text=True,
        )
        with child:
            try:
                yield child, Path(text)
            finally:
                child.kill()
