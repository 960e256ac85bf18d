"""Checks and helpers that several tests share."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from fedcomp.codecs.base import Codec, Context
from fedcomp.config import compose_config
from fedcomp.errors import BitstreamError
from fedcomp.methods import Answer, Recipe, Work
from fedcomp.runtime import Hooks
from fedcomp.settings import Job
from fedcomp.setup import Setup
from fedcomp.tensors import Kind, Manifest, Tensors, TensorSpec, subtract

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fedcomp.report.observer import Observer

GOLDEN = Path(__file__).parent / "golden"
QUICK = (
    *("method=fedavg", "engine=inline", "rounds=2", "clients=4", "train.steps=3"),
    *("model=mlp", "model.hidden=[8]"),
)


def run_inline(
    folder: Path,
    *overrides: str,
    quick: Sequence[str] = QUICK,
    observers: Sequence[Observer] = (),
    resumed: bool = False,
) -> Path:
    """Run a small job in this process, from its start unless told, and return its folder."""
    if not resumed:
        shutil.rmtree(folder / "checkpoint", ignore_errors=True)
    config = compose_config([*quick, *overrides])
    job = Job(config, "test", str(folder))
    job.settings.engine.run(job, Setup(job.settings), Hooks(observers))
    return folder


def interrupt(folder: Path, *arguments: str) -> str:
    """Start the command in a folder, press Ctrl-C once it has results, and return what it printed.

    The signal goes to all of its processes, as from a terminal; they have to end at once.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "fedcomp", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.monotonic() + 60
    while not list(folder.glob("outputs/*/*/summary.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    began = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    stdout, stderr = process.communicate(timeout=30)
    assert time.monotonic() - began < 5
    assert (process.returncode, stderr) == (130, ""), f"{process.returncode}: {stderr}"
    return stdout


def spied(monkeypatch: pytest.MonkeyPatch, recipe: type[Recipe]) -> list[tuple[Work, Answer]]:
    """Note what each client of a recipe is given and answers."""
    seen: list[tuple[Work, Answer]] = []
    fit = recipe.fit

    def noted(self: Recipe, work: Work) -> Answer:
        made = fit(self, work)
        seen.append((work, made))
        return made

    monkeypatch.setattr(recipe, "fit", noted)
    return seen


def read_csv(path: Path) -> list[dict[str, str]]:
    """Return the rows of a table."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def without_ray(text: str) -> list[str]:
    r"""Return the lines of what a command printed but for those of Ray's core, in C++.

    Examples
    --------
    >>> without_ray("[2026-11-22 07:53:47,338 E 407 619] task_manager.cc:1224: Failed\nfedcomp: no")
    ['fedcomp: no']
    """
    core = re.compile(r"\[[-0-9]+ [0-9:,]+ [A-Z] \d+ \d+\] \(?\w+\.cc:\d+")
    return [line for line in text.splitlines() if not core.match(line)]


def read_summary(folder: Path) -> dict[str, Any]:
    """Return a run's summary."""
    return dict(json.loads((folder / "summary.json").read_text(encoding="utf-8")))


def manifest_for(tensors: Tensors) -> Manifest:
    """Describe tensors; kinds follow rank and type."""

    def kind(value: np.ndarray[Any, Any]) -> Kind:
        if value.dtype.kind != "f":
            return Kind.COUNTER
        return Kind.WEIGHT if value.ndim > 1 else Kind.BIAS

    return Manifest(
        tuple(TensorSpec(n, v.shape, str(v.dtype), kind(v)) for n, v in tensors.items())
    )


def awkward_tensors() -> Tensors:
    """Return one tensor of every sort that models contain."""
    rng = np.random.default_rng(7)
    wide = rng.normal(size=(6, 8)).astype(np.float32)
    return {
        "conv.weight": rng.normal(scale=0.05, size=(4, 3, 3, 3)).astype(np.float32),
        "transposed": wide.T[::2],
        "zero": np.zeros((5, 2), np.float32),
        "scalar": np.array(0.25, np.float32),
        "empty": np.zeros((0, 3), np.float32),
        "half": rng.normal(size=7).astype(np.float16),
        "double": rng.normal(size=(2, 2)),
        "counter": np.array(12, np.int64),
        "mask": np.array([0, 255, 3], np.uint8),
    }


def context_for(tensors: Tensors, round_number: int = 3) -> Context:
    """Return a context for these tensors."""
    return Context(manifest_for(tensors), 1, round_number, "uplink", "0", tensors)


def equal(left: Tensors, right: Tensors) -> bool:
    """Tell whether two models are the same to the bit."""
    return left.keys() == right.keys() and all(
        left[n].shape == right[n].shape
        and left[n].dtype == right[n].dtype
        and left[n].tobytes() == right[n].tobytes()
        for n in left
    )


def check_codec(codec: Codec) -> None:
    """Check what every codec promises, on every sort of tensor."""
    half = np.random.default_rng(8).normal(size=(6, 8)).astype(np.float16)
    few = np.random.default_rng(9).choice(np.array([-0.5, 0, 0.25], np.float32), size=(6, 8))
    model = {**awkward_tensors(), "half.weight": half, "few.weight": few}
    context = context_for(model)
    zero = {name: np.zeros_like(value) for name, value in model.items()}
    tensors = subtract(model, zero) if codec.mode == "delta" else model
    _check_round_trip(codec, tensors, context)
    some = {name: tensors[name] for name in ("transposed", "scalar", "counter")}
    _check_round_trip(codec, some, context)
    _check_round_trip(codec, {}, context)
    _check_hostile(codec, codec.encode(tensors, context), context)


def _check_round_trip(codec: Codec, tensors: Tensors, context: Context) -> None:
    before = {name: value.copy() for name, value in tensors.items()}
    symbols = codec.quantise(tensors, context)
    data = codec.pack(symbols, context)
    assert isinstance(data, bytes)
    assert codec.pack(codec.unpack(data, context), context) == data
    decoded = codec.decode(data, context)
    assert equal(decoded, codec.reconstruct(symbols, context))
    lazy = codec.lazy(data, context)
    assert list(lazy) == list(decoded)
    for name in reversed(list(lazy)):
        (one,) = codec.reconstruct({name: lazy[name]}, context).values()
        assert equal({name: one}, {name: decoded[name]})
    assert {n: v.shape for n, v in decoded.items()} == {n: v.shape for n, v in tensors.items()}
    assert equal({n: v.copy() for n, v in tensors.items()}, before), "the input was changed"


def _check_hostile(codec: Codec, data: bytes, context: Context) -> None:
    for length in range(0, len(data), max(len(data) // 50, 1)):
        with pytest.raises(BitstreamError):
            codec.unpack(data[:length], context)
    with pytest.raises(BitstreamError):
        codec.unpack(data + b"\0", context)
    rng = np.random.default_rng(3)
    for _ in range(300):
        flipped = bytearray(data)
        flipped[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
        try:
            decoded = codec.decode(bytes(flipped), context)
        except BitstreamError:
            continue
        for name, value in decoded.items():
            assert value.shape == context.manifest.by_name[name].shape


_ENCODE = """
import hashlib, pickle, sys
from tests.common import awkward_tensors, context_for
tensors = awkward_tensors()
for codec in pickle.load(sys.stdin.buffer):
    data = codec.encode(tensors, context_for(tensors))
    print(hashlib.sha256(data).hexdigest())
"""


def check_two_processes(*codecs: Codec) -> None:
    """Check that other processes write the same bytes."""
    outputs = {
        subprocess.run(
            [sys.executable, "-c", _ENCODE],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parents[1])},
            input=pickle.dumps(codecs),
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1
    assert len(set(outputs.pop().split())) > len(codecs) / 2


def digest(tensors: Tensors) -> str:
    """Return a hash of names, shapes, types and values."""
    total = hashlib.sha256()
    for name, value in tensors.items():
        total.update(f"{name}{value.shape}{value.dtype}".encode() + value.tobytes())
    return total.hexdigest()


def check_golden(codec: Codec, name: str) -> None:
    """Decode a checked-in payload; `python -m tests.golden_files` writes missing ones."""
    data = (GOLDEN / f"{name}.bin").read_bytes()
    expected = json.loads((GOLDEN / "decoded.json").read_text())[name]
    assert digest(codec.decode(data, context_for(awkward_tensors()))) == expected
