"""MLflow, in a database file or on a server."""

from __future__ import annotations

import logging
import os
import time
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from filelock import FileLock

from fedcomp.dotted import as_text, leaves
from fedcomp.report.trackers.base import TrackedRun, Tracker, TrackerSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

_FILE = "mlflow.db"
_TAG = "fedcomp_run"
_MOST = 100
"""How many parameters a call may have."""

_LONGEST = 500


@dataclass(frozen=True)
class Mlflow(TrackerSettings):
    """Tell MLflow.

    Parameters
    ----------
    uri
        Of a tracking server or a database; by default `mlflow.db` where the command is given.
    experiment
        Under which runs are listed.
    """

    name: ClassVar[str] = "mlflow"
    package: ClassVar[str] = "mlflow"

    uri: str | None = None
    experiment: str = "fedcomp"

    def create(self) -> Tracker:
        """Return the tracker."""
        return _Run(self)


class _Run(Tracker):
    def __init__(self, settings: Mlflow) -> None:
        self._settings = settings

    def start(self, run: TrackedRun) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow import MlflowClient

        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)
        uri = self._settings.uri
        self._client = MlflowClient(tracking_uri=uri or f"sqlite:///{_FILE}")
        # Runs that begin at the same time must not make the same tables.
        with nullcontext() if uri else FileLock(f".{_FILE}.lock"):
            experiment = self._experiment()
        chosen = f"tags.{_TAG} = '{run.run_id}'"
        there = self._client.search_runs([experiment], filter_string=chosen)
        self._last = -1  # what was told before stays, nothing can be taken back
        if there:
            self._id = there[0].info.run_id
            self._last = self._known(there[0].data.metrics)
            self._client.update_run(self._id, status="RUNNING")
            return
        made = self._client.create_run(experiment, run_name=run.name, tags={_TAG: run.run_id})
        self._id = made.info.run_id
        self._tell_parameters(run.config)

    def log(self, round_number: int, values: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        if round_number <= self._last:
            return
        now = int(time.time() * 1000)
        found = [Metric(name, value, now, round_number) for name, value in values.items()]
        self._client.log_batch(self._id, metrics=found)

    def end(self, summary: Mapping[str, Any]) -> None:
        whole = summary.get("status") == "finished"
        self._client.set_terminated(self._id, "FINISHED" if whole else "KILLED")

    def _experiment(self) -> str:
        name = self._settings.experiment
        there = self._client.get_experiment_by_name(name)
        return str(there.experiment_id if there else self._client.create_experiment(name))

    def _known(self, names: Mapping[str, float]) -> int:
        """Return the last round that the run holds."""
        history = [self._client.get_metric_history(self._id, name) for name in names]
        return max((metric.step for metrics in history for metric in metrics), default=-1)

    def _tell_parameters(self, config: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        found = [Param(name, as_text(value)[:_LONGEST]) for name, value in leaves(config)]
        for at in range(0, len(found), _MOST):
            self._client.log_batch(self._id, params=found[at : at + _MOST])
