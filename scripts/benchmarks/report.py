"""A report of 200 runs of 500 rounds, beside a plain reading of the same tables."""

from __future__ import annotations

import csv
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from fedcomp.config import as_yaml, compose_config
from fedcomp.report.columns import SENT
from fedcomp.report.runs import all_folders, read_runs
from scripts.benchmarks.rows import Row, bounded

if TYPE_CHECKING:
    from collections.abc import Iterator

_RUNS, _ROUNDS, _SEEDS = 200, 500, 5
_METHODS = ("fedavg", "fsfl", "stc", "cossgd")
_SECONDS, _MEGABYTES = 10.0, 10.0
_REPEATS = 3
_COMMAND = "from fedcomp.report.cli import main; main()"


def rows() -> Iterator[Row]:
    """Measure one row after the other."""
    name = f"{_RUNS} runs of {_ROUNDS} rounds"
    with TemporaryDirectory() as place:
        folder = Path(place) / "runs"
        for number in range(_RUNS):
            _write(folder / f"run{number:03}", number)
        ours, theirs = [], []
        for _ in range(1 + _REPEATS):
            began = time.perf_counter()
            runs, _ = read_runs(all_folders([folder]))
            ours.append(time.perf_counter() - began)
            began = time.perf_counter()
            plain = [_plain(run.folder / "rounds.csv", list(run.columns)) for run in runs]
            theirs.append(time.perf_counter() - began)
            both = zip(plain, runs, strict=True)
            if any(
                sum(filter(None, found[n])) != run.columns[n].sum()
                for found, run in both
                for n in SENT
            ):
                msg = "both readers have to find the same bytes"
                raise AssertionError(msg)
        remark = "csv.DictReader, as many columns; ours: summaries, too"
        yield Row(f"{name}: read", "s", ours[1:], theirs[1:], "peer", 1.0, remark)
        page = Path(place) / "report.html"
        for words in ([], ["--out", str(page)]):
            seconds = [_command(folder, words) for _ in range(1 + _REPEATS)]
            what = "page and pictures" if words else "table"
            yield bounded(f"{name}: {what}", "s", seconds[1:], _SECONDS, "the command as a whole")
        size = page.stat().st_size / 1e6
        yield bounded(f"{name}: page", "MB", [size], _MEGABYTES)


def _command(folder: Path, words: list[str]) -> float:
    began = time.perf_counter()
    command = [sys.executable, "-c", _COMMAND, str(folder), *words]
    subprocess.run(command, check=True, capture_output=True, env=os.environ)
    return time.perf_counter() - began


def _plain(path: Path, names: list[str]) -> dict[str, list[float | None]]:
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {name: [float(row[name]) if row[name] else None for row in rows] for name in names}


def _write(folder: Path, number: int) -> None:
    """Make up a run: one of four methods, ten densities of the uplink and five seeds."""
    rng = random.Random(number)  # noqa: S311  nothing to guess
    method, seed = _METHODS[number % 4], number // 4 % _SEEDS
    density = 0.01 * (1 + number // (4 * _SEEDS))
    config = compose_config(["method=stc", f"uplink.density={density}", f"seed={seed}"])
    config["method"]["name"] = method
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "config.yaml").write_text(as_yaml(config), encoding="utf-8")
    up, score, lines = int(1e6 * density), 0.1, [",".join(_COLUMNS)]
    totals = [0, 0, 0]
    for at in range(_ROUNDS + 1):
        score += (0.97 - score) * rng.uniform(0, 0.02)
        sent = [rng.randint(up, 2 * up), rng.randint(up, 2 * up), 0] if at else [0, 0, 0]
        totals = [total + more for total, more in zip(totals, sent, strict=True)]
        times = [rng.random() for _ in range(4)]
        rates = [rng.random() for _ in range(4)] if at else [""] * 4
        cells = [at, score, 2 - score, *sent, 0, 0, 10, 0, *times, rng.random(), *rates]
        lines.append(",".join(map(str, [*cells, 36, 360, 0, 0])))
    (folder / "rounds.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    summary = {
        "method": method,
        "dataset": "digits",
        "model": "small_cnn",
        "seed": seed,
        "rounds": _ROUNDS,
        "final_accuracy": score,
        "best_accuracy": score,
        **dict(zip(SENT, totals, strict=True)),
        "reference_bytes": 10**9,
        "compression_ratio": 10**9 / sum(totals),
        "failures": 0,
        "input_shape": [1, 8, 8],
        "bytes_to_target": {"0.9": None},
        "status": "finished",
        "wall_seconds": 60.0,
        "versions": {},
    }
    (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")


_COLUMNS = (
    *("round", "accuracy", "loss", *SENT, "keyframe_bytes", "side_bytes", "clients", "failures"),
    *("encode_seconds", "decode_seconds", "train_seconds", "wall_seconds", "network_seconds"),
    *("uplink_sparsity", "downlink_sparsity"),
    *("uplink_bits_per_weight", "downlink_bits_per_weight"),
    *("uplink_header_bytes", "downlink_header_bytes", "uplink_side_bytes"),
    "training_keyframe_bytes",
)
