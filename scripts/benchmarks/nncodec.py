"""The peer NNCodec 2.1.3, in a child process with its own environment and numpy < 2."""

from __future__ import annotations

import json
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scripts.benchmarks.coding_cases import Case

_ROOT = Path(__file__).parents[2]
_PYTHON = _ROOT / ".venv-nncodec" / "bin" / "python"

MISSING = "no peer: scripts/install-nncodec builds it"


class Nncodec:
    """Hands tensors to the child and asks for one operation after the other."""

    def __init__(self, child: subprocess.Popen[str], folder: Path) -> None:
        self._child = child
        self._folder = folder

    def load(self, case: Case) -> None:
        """Hand over the tensors of a case."""
        file = self._folder / "tensors.npz"
        np.savez(file, **case.tensors)  # type: ignore[arg-type]  # names, not settings
        self._ask("load", str(file), case.dependent)

    def encode(self, *, search: bool) -> float:
        """Encode all tensors; return the seconds."""
        return float(self._ask("encode", search))

    def decode(self) -> float:
        """Decode what was encoded last; return the seconds."""
        return float(self._ask("decode"))

    def payloads(self) -> dict[str, bytes]:
        """Return what was encoded last."""
        file = self._folder / "payloads.npz"
        self._ask("save", str(file))
        with np.load(file) as arrays:
            return {name: payload.tobytes() for name, payload in arrays.items()}

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


@contextmanager
def nncodec() -> Iterator[Nncodec | None]:
    """Yield the running peer, or None where its environment is missing."""
    if not _PYTHON.exists():
        yield None
        return
    with tempfile.TemporaryDirectory() as text, (Path(text) / "log").open("w") as log:
        child = subprocess.Popen(
            [str(_PYTHON), "-P", "-m", "scripts.benchmarks.nncodec_child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=_ROOT,
            text=True,
        )
        with child:
            try:
                yield Nncodec(child, Path(text))
            finally:
                child.kill()
