"""The contract of an engine, and the share of the machine that a client may use."""

from __future__ import annotations

import ctypes
import os
import sys
from abc import ABC, abstractmethod
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from threading import Event
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Ge, Gt

from fedcomp.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from fedcomp.link.stores import StateStore
    from fedcomp.report.observer import Observer
    from fedcomp.settings import Job
    from fedcomp.setup import Setup

CORES = "FEDCOMP_CORES"
"""The variable by which a sweep gives each of several runs its share of the cores."""

_MMAP_THRESHOLD = -3
"""What `mallopt` calls the size from which memory is taken from the system by itself."""

_LARGE_BYTES = 1 << 20


@dataclass(frozen=True)
class Hooks:
    """What an engine hands to the server app beside the job.

    Attributes
    ----------
    observers
        Told of every round, in this order.
    stop
        Set by whoever wants the run to end at the next possible moment.
    clients
        The clients' states, if they lie where the server can reach them.
    account
        Returns what the engine adds to the summary.
    """

    observers: Sequence[Observer] = ()
    stop: Event = field(default_factory=Event)
    clients: StateStore | None = None
    account: Callable[[], Mapping[str, object]] = dict


@dataclass(frozen=True)
class EngineSettings(ABC):
    """Settings that all engines share.

    Parameters
    ----------
    min_results
        A round with fewer valid replies ends the run.
    start_timeout
        Seconds within which all clients have to be there.
    round_timeout
        Seconds after which a round goes on without the clients that have not answered.
    cpus_per_client
        Threads that one client computes with.

    Attributes
    ----------
    remote
        Whether the apps run elsewhere: data and run folder are theirs.
    """

    name: ClassVar[str]
    remote: ClassVar[bool] = False

    min_results: Annotated[int, Ge(1)] = 1
    start_timeout: Annotated[float, Gt(0)] = 300.0
    round_timeout: Annotated[float, Gt(0)] = 3600.0
    cpus_per_client: Annotated[int, Ge(1)] = 1

    def check(self) -> None:
        """Refuse what this machine cannot give."""
        if self.cpus_per_client > (cores := cpu_count()):
            msg = (
                f"engine.cpus_per_client={self.cpus_per_client}: this machine has {cores} cores;"
                " lower it"
            )
            raise ConfigError(msg)

    @abstractmethod
    def run(self, job: Job, setup: Setup, hooks: Hooks) -> None:
        """Run the job to its end, or raise."""


def cpu_count() -> int:
    """Return the number of cores that this process may use, `$FEDCOMP_CORES` of them at most."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    most = os.environ.get(CORES, "")
    return max(min(here or 1, int(most) if most.isdecimal() else sys.maxsize), 1)


def limit_threads(count: int) -> None:
    """Let torch and numba compute with `count` threads in this process.

    Numba comes first: when it starts its threads it sets the number of OpenMP's too, which torch
    shares, to that of all cores.
    """
    import numba
    import torch

    most: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
    if numba.get_num_threads() != count:
        numba.set_num_threads(min(count, most))
    if torch.get_num_threads() != count:
        torch.set_num_threads(count)


@contextmanager
def limited_threads(count: int) -> Iterator[None]:
    """Let torch and numba compute with `count` threads in this process for a while."""
    import numba
    import torch

    before = numba.get_num_threads(), torch.get_num_threads()
    limit_threads(count)
    try:
        yield
    finally:
        numba.set_num_threads(before[0])
        torch.set_num_threads(before[1])


def return_freed_memory() -> None:
    """Let the process of a server give large arrays back to the system once they are freed.

    The C library would keep room for some two models.  A process that trains had better not do
    this: it frees and takes its activations with every batch.
    """
    with suppress(AttributeError):  # only glibc has it
        ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, _LARGE_BYTES)
