"""The files of a run: rounds.csv, packets.csv, summary.json, model.safetensors."""

from __future__ import annotations

import platform
import time
from contextlib import ExitStack
from importlib.metadata import version
from statistics import mean
from typing import TYPE_CHECKING, Any

from fedcomp import __version__
from fedcomp.errors import DataError
from fedcomp.link.ledger import ENTRY_FIELDS
from fedcomp.model_size import sizes, zeros
from fedcomp.report.columns import (
    BYTE_COLUMNS,
    PART_COLUMNS,
    RATE_COLUMNS,
    part_bytes,
    rate_columns,
    round_bytes,
)
from fedcomp.report.observer import Observer
from fedcomp.storage import Table, save_json, save_tensors
from fedcomp.tensors import Manifest, TensorSpec, contiguous

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from fedcomp.link.ledger import Entry
    from fedcomp.report.observer import RoundResult, RunStart
    from fedcomp.settings import Job
    from fedcomp.setup import Setup
    from fedcomp.tensors import Tensors

_AFTER_METRICS = (
    *BYTE_COLUMNS,
    "clients",
    "failures",
    "encode_seconds",
    "decode_seconds",
    "train_seconds",
    "wall_seconds",
    "network_seconds",
    *RATE_COLUMNS,
    *PART_COLUMNS,
)


class RunFolder(Observer):
    """Writes a run's files; every file is complete after every round.

    Parameters
    ----------
    job
        What is run.
    folder
        Where the files go.
    setup
        Makes the whole plain model of the tensors that travel, and knows its inputs and outputs.
    more
        Returns what else goes into the summary.
    """

    def __init__(
        self,
        job: Job,
        folder: Path,
        setup: Setup,
        more: Callable[[], Mapping[str, object]] = dict,
    ) -> None:
        self._job = job
        self._more = more
        self._setup = setup
        self._folder = folder
        self._history: list[tuple[float, int, float]] = []
        self._files: dict[str, Table] = {}
        self._lengths: dict[str, int] = {}
        self._columns: tuple[str, ...] = ()
        self._rates: dict[str, list[float]] = {name: [] for name in RATE_COLUMNS}
        self._account: dict[str, object] = {}
        self._ended = self._saved = False
        self._model: dict[str, Any] = {}
        self._round = 0
        self._began = time.perf_counter()
        self._spent = 0.0
        self._versions = versions()

    def on_start(self, start: RunStart) -> None:
        """Begin the tables, or go on with them."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._start = start
        self._began = time.perf_counter()
        if "packets.csv" not in self._lengths:
            self._write("packets.csv", ENTRY_FIELDS)

    def save(self) -> tuple[Tensors, dict[str, Any]]:
        """Return what the next rounds add to; the tables themselves stay where they are."""
        lengths = {name: file.length for name, file in self._files.items()}
        return {}, {
            "lengths": self._lengths | lengths,
            "columns": list(self._columns),
            "history": self._history,
            "rates": self._rates,
            "seconds": self._seconds(),
        }

    def load(self, arrays: Tensors, values: dict[str, Any]) -> None:  # noqa: ARG002
        """Take up a saved state; rows that were written after it will be cut off."""
        for name, length in values["lengths"].items():
            path = self._folder / name
            if not path.is_file() or path.stat().st_size < length:
                msg = f"{path} is shorter than the checkpoint says: the run cannot go on with it"
                raise DataError(msg)
        self._lengths = dict(values["lengths"])
        self._columns = tuple(values["columns"])
        self._history = [(score, sent, seconds) for score, sent, seconds in values["history"]]
        self._rates = dict(values["rates"])
        self._spent = values["seconds"]

    def on_round(self, result: RoundResult) -> None:
        """Add a round's rows and rewrite the summary."""
        if not self._columns:
            self._columns = self._metric_columns(result)
            self._write("rounds.csv", ("round", *self._columns, *_AFTER_METRICS))
        self._write("packets.csv", *map(_values, result.entries))
        rates = rate_columns(result)
        for name, value in rates.items():
            self._rates[name].append(value)
        found = {**round_bytes(result.entries), **part_bytes(result.entries)}
        row = {**result.reports, **result.metrics, **found, **rates}
        values = [row.get(name, "") for name in self._columns]
        values += [row.get(name, getattr(result, name, "")) for name in _AFTER_METRICS]
        self._write("rounds.csv", (result.round, *values))
        self._account = dict(result.account)
        self._round = result.round
        before = self._history[-1][2] if self._history else 0.0
        seconds = before + (result.network_seconds or 0.0)
        score, sent = result.metrics[self._start.metric], self._start.ledger.total_bytes
        self._history.append((score, sent, seconds))
        self._summarise()

    def on_end(self, model: Tensors) -> None:
        """Write the final public model and what an unfinished round sent; close the tables."""
        self._ended = True
        with ExitStack() as steps:  # the last one first; each is tried although others fail
            for file in self._files.values():
                steps.callback(file.close)
            if self._history:
                steps.callback(self._summarise)
            steps.callback(self._save, model)
            self._write("packets.csv", *map(_values, self._start.ledger.take()))

    def _save(self, model: Tensors) -> None:
        exported = self._setup.export(model)
        tensors = {name: contiguous(value) for name, value in exported.items()}
        save_tensors(tensors, self._folder / "model.safetensors")
        manifest = self._manifest(tensors)
        weights = [spec.name for spec in manifest.weights]
        self._model = {**zeros(tensors, weights), **sizes(tensors, manifest)}
        self._saved = True

    def _manifest(self, tensors: Tensors) -> Manifest:
        """Describe the plain model."""
        from fedcomp.models.base import manifest_of
        from fedcomp.models.selection import plain_name

        kinds = {plain_name(s.name): s.kind for s in manifest_of(self._setup.module).specs}
        specs = (TensorSpec(n, v.shape, str(v.dtype), kinds[n]) for n, v in tensors.items())
        return Manifest(tuple(specs))

    def _metric_columns(self, result: RoundResult) -> tuple[str, ...]:
        """Metrics of round 0, then what a federated evaluation and the method will add."""
        names = [self._start.metric, "loss"]
        names += [name for name in result.metrics if name not in names]
        federated = self._job.settings.strategy.options.get("fraction_evaluate", 0)
        evaluated = [f"federated_{name}" for name in names if federated]
        settings = self._job.settings
        return (*names, *evaluated, *settings.recipe.reports, *settings.server_step.reports)

    def _write(self, name: str, *rows: Iterable[Any]) -> None:
        if name not in self._files:
            self._files[name] = Table(self._folder / name, self._lengths.get(name, 0))
        self._files[name].add(*rows)

    def _summarise(self) -> None:
        settings, ledger = self._job.settings, self._start.ledger
        metric = self._start.metric
        scores = [score for score, _, _ in self._history]
        summary = {
            "method": settings.method.name,
            "dataset": settings.dataset.name,
            "model": settings.model.name,
            "parameters": self._start.parameters,
            "input_shape": list(self._setup.dataset.input_shape),
            "outputs": self._setup.dataset.classes,
            "clients": settings.clients,
            "rounds": self._round,
            "seed": settings.seed,
            f"final_{metric}": scores[-1],
            f"best_{metric}": max(scores),
            "uplink_bytes": ledger.uplink_bytes,
            "downlink_bytes": ledger.downlink_bytes,
            "total_bytes": ledger.total_bytes,
            "evaluation_bytes": ledger.evaluation_bytes,
            "reference_bytes": ledger.reference_bytes,
            "compression_ratio": ledger.compression_ratio,
            "message_bytes": ledger.message_bytes,
            **{name: mean(values) if values else None for name, values in self._rates.items()},
            **self._account,
            **self._more(),
            **self._model,
            "bytes_to_target": {str(target): self._bytes_to(target) for target in settings.targets},
            **self._on_network(),
            "failures": ledger.failures,
            "status": self._status(),
            "wall_seconds": self._seconds(),
            "versions": self._versions,
        }
        save_json(summary, self._folder / "summary.json")

    def _seconds(self) -> float:
        return self._spent + time.perf_counter() - self._began

    def _status(self) -> str:
        if not self._ended:
            return "running"
        whole = self._saved and self._round == self._job.settings.rounds
        return "finished" if whole else "stopped"

    def _bytes_to(self, target: float) -> int | None:
        """Return all bytes sent up to the end of the first round that reached the target."""
        return next((sent for score, sent, _ in self._history if score >= target), None)

    def _on_network(self) -> dict[str, object]:
        """Return the time on the simulated network, and that until each target was reached."""
        settings = self._job.settings
        if not settings.network.is_simulated:
            return {}
        reached = {
            str(target): next((when for score, _, when in self._history if score >= target), None)
            for target in settings.targets
        }
        return {
            "network": settings.network.name,
            "network_seconds": self._history[-1][2],
            "seconds_to_target": reached,
        }


def _values(entry: Entry) -> list[Any]:
    return [getattr(entry, name) for name in ENTRY_FIELDS]


def versions() -> dict[str, str]:
    """Return the versions that a result depends on."""
    names = ("flwr", "numpy", "numba", "torch")
    found = {name: version(name) for name in names}
    return {"fedcomp": __version__, "python": platform.python_version(), **found}
