"""The contract of a tracker."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar

from fedcomp.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True)
class TrackedRun:
    """What a tracker is told before the first round.

    Attributes
    ----------
    config
        The composed configuration.
    folder
        The run folder.
    run_id
        The same when the run is resumed, and no other run's.
    resumed
        The first round that comes.  Not 0: an earlier process has told of those before it, and
        perhaps of some after it.
    """

    config: Mapping[str, Any]
    folder: Path
    run_id: str
    resumed: int = 0

    @property
    def name(self) -> str:
        """What people call the run."""
        return self.folder.name


class Tracker(ABC):
    """Somebody who is told of a run's numbers; it may raise, or take its time, at any point.

    All calls come from one thread, which is not the main one.
    """

    @abstractmethod
    def start(self, run: TrackedRun) -> None:
        """Begin, or go on with what was begun under the same `run_id`."""

    @abstractmethod
    def log(self, round_number: int, values: Mapping[str, float]) -> None:
        """Take the numbers of a round: those of `rounds.csv`, total bytes so far and their ratio.

        A resumed run tells again of rounds that came after its checkpoint; they count once.
        """

    @abstractmethod
    def end(self, summary: Mapping[str, Any]) -> None:
        """Take `summary.json`, which is empty where there was no round, and let go of the run."""


@dataclass(frozen=True)
class TrackerSettings(ABC):
    """The settings of a tracker.

    Attributes
    ----------
    name
        Under which it is registered, and of the extra that installs it.
    package
        What it imports, when it is created and not before.
    """

    name: ClassVar[str]
    package: ClassVar[str] = ""

    def check(self) -> None:
        """Refuse a tracker whose package is not installed."""
        found = find_spec(self.package) if self.package else None
        if self.package and (found is None or found.origin is None):  # a mere folder has none
            msg = (
                f"tracker={self.name}: the package {self.package} is not installed; pip install"
                f" 'fedcomp[{self.name}]', or leave it at tracker=csv"
            )
            raise ConfigError(msg)

    @abstractmethod
    def create(self) -> Tracker | None:
        """Return the tracker, or none where the run folder does all of it."""
