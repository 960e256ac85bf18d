"""Flower's simulation engine: many virtual clients on Ray, in parallel."""

from __future__ import annotations

import logging
import shutil
import signal
import threading
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from annotated_types import Ge
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from fedcomp.checkpoint.files import KEPT
from fedcomp.engines.ray_cluster import Place, check_cluster, limit_patience, refuse
from fedcomp.errors import ConfigError, EngineError, FedcompError, RunInterrupted
from fedcomp.link.file_store import FileStateStore
from fedcomp.link.space import check_space
from fedcomp.runtime import EngineSettings, Hooks, cpu_count, return_freed_memory
from fedcomp.wire import private

if TYPE_CHECKING:
    from typing import NoReturn

    from flwr.app import Context, Message

    from fedcomp.settings import Job
    from fedcomp.setup import Setup


log = logging.getLogger(__name__)

_STOP_SECONDS = 3.5
_CLIENT_SECONDS = 5.0
"""What clients get to end when the run is over."""

_TRIES = 3
_NO_ROOM = "ActorPool is empty"


class ImportedApp(ClientApp):
    """The client app as a name: Flower pickles it with every message.

    Parameters
    ----------
    place
        Where the driver is, for workers that it did not start.
    """

    def __init__(self, place: Place | None = None) -> None:
        super().__init__()
        self._place = place

    def __call__(self, message: Message, context: Context) -> Message:
        """Run the app of the worker process."""
        if self._place and (problem := self._place.enter()):
            return refuse(message, problem)
        reply: Message = import_module("clients.app").app(message, context)
        return reply


@dataclass(frozen=True)
class FlowerEngine(EngineSettings):
    """Run clients in Ray's worker processes.

    Parameters
    ----------
    gpus_per_client
        Share of a GPU that a client holds while it works; 0.25 lets four share one.  By default
        the clients that run at a time share all GPUs, unless they train on the CPU.
    max_parallel
        The most clients at a time; by default as many as the cores allow.
    ray_address
        Host and port of a Ray cluster that runs already, on one of whose nodes this is.  As many
        clients run at a time as its cores allow; by default they get no GPU.
    """

    name: ClassVar[str] = "flower"

    gpus_per_client: Annotated[float, Ge(0)] | None = None
    max_parallel: Annotated[int, Ge(1)] | None = None
    ray_address: str | None = None

    def run(self, job: Job, setup: Setup, hooks: Hooks) -> None:
        """Run the job to its end, or raise."""
        settings = job.settings
        session = setup.session(job.run_id)
        copies = 1 + (KEPT if settings.checkpoint_every else 0)
        check_space(Path(job.folder), session, settings.clients, settings.rounds, copies)
        backend = self._backend(job.settings.train.device, verbose=job.settings.verbose)
        shutil.rmtree(job.states, ignore_errors=True)  # left by a kill
        logging.getLogger("flwr").removeFilter(_drop)
        states = FileStateStore(job.states / job.run_id)
        server_app = import_module("strategies.app").make_app(replace(hooks, clients=states), setup)
        place = None
        if self.ray_address is not None:
            place = Place.of(job.states)
            limit_patience()
        failure: list[Exception] = []
        ended = Event()
        server = ServerApp()
        return_freed_memory()

        @server.main()
        def main(grid: Grid, context: Context) -> None:
            try:
                server_app(grid=grid, context=context)
            except Exception as error:
                failure.append(error)
                raise
            finally:
                ended.set()

        def simulate() -> None:
            try:
                private.simulate(
                    server,
                    ImportedApp(place),
                    job.settings.clients,
                    job=job.to_json(),
                    backend=backend,
                    verbose=job.settings.verbose,
                )
            except Exception as error:
                if not failure:
                    failure.append(error)  # raised again in the main thread
            finally:
                done.set()

        done = Event()  # Thread.join takes a thread for dead that an interrupt found alive
        Thread(target=simulate, daemon=True).start()
        try:
            while not (ended.wait(0.1) or done.is_set()):
                pass
            self._end_clients(done)
        except KeyboardInterrupt:
            with suppress(ValueError):  # a second Ctrl-C must not come between
                signal.signal(signal.SIGINT, signal.SIG_IGN)
            quiet_threads()
            hooks.stop.set()
            done.wait(_STOP_SECONDS)
            _kill_children()  # Ray itself does not stop while it starts or while a client trains
            raise
        finally:
            # What a later process goes on from lies in the checkpoint.
            shutil.rmtree(job.states, ignore_errors=True)
            logging.getLogger("flwr").addFilter(_drop)  # of its threads some may still be at work
        if failure:
            hooks.stop.set()  # the server app may still be waiting for clients
            self._explain(failure[0], job)

    @staticmethod
    def _end_clients(done: Event) -> None:
        """Wait for Flower's end, which waits for clients: those that hang are not waited for."""
        if done.wait(_CLIENT_SECONDS):
            return
        log.warning("clients that nobody waits for any more are still at work; they are ended")
        for _ in range(_TRIES):  # Ray starts a client once more when its process has ended
            _kill_children(private.CLIENT_PROCESS)
            if done.wait(_CLIENT_SECONDS):
                return
        quiet_threads()
        _kill_children()

    def _explain(self, error: Exception, job: Job) -> NoReturn:
        if isinstance(error, FedcompError | RunInterrupted) or not isinstance(error, RuntimeError):
            raise error
        cause = error.__cause__
        while cause is not None and cause.__cause__ is not None:
            cause = cause.__cause__
        log.error("Flower's simulation broke down", exc_info=error)
        if _NO_ROOM in str(cause):
            msg = (
                f"no node has the {self.cpus_per_client} cores and {self.gpus_per_client or 0:g}"
                " GPUs that a client needs: lower engine.cpus_per_client or engine.gpus_per_client"
            )
            raise EngineError(msg) from error
        msg = f"Flower's simulation broke down: {cause or error}; see {job.folder}/run.log"
        raise EngineError(msg) from error

    def check(self) -> None:
        """Refuse what this machine cannot give; Ray would crash half a minute later."""
        if self.ray_address is not None:
            if self.max_parallel is not None:
                msg = (
                    f"engine.max_parallel={self.max_parallel}: on a Ray cluster as many clients run"
                    " at a time as its cores allow; leave it out, or raise engine.cpus_per_client"
                )
                raise ConfigError(msg)
            check_cluster(self.ray_address)
            return
        super().check()
        from torch.cuda import device_count

        if (self.gpus_per_client or 0) > device_count():
            msg = (
                f"engine.gpus_per_client={self.gpus_per_client:g}: this machine has"
                f" {device_count()} GPUs; lower it"
            )
            raise ConfigError(msg)

    def _backend(self, device: str, *, verbose: bool) -> dict[str, Any]:
        """Return Flower's backend settings: as many clients at a time as the cores allow."""
        from torch.cuda import device_count

        output = {
            "include_dashboard": False,
            "log_to_driver": verbose,
            "logging_level": "WARNING" if verbose else "ERROR",
        }
        if self.ray_address is not None:
            return {
                "client_resources": self._resources(self.gpus_per_client or 0.0),
                "init_args": {"address": self.ray_address, **output},
            }
        most = cpu_count() // self.cpus_per_client
        parallel = min(self.max_parallel or most, most)
        gpus = self.gpus_per_client
        if gpus is None:  # Ray hides all GPUs from workers that ask for none
            share = 0.0 if device == "cpu" else device_count() / parallel
            gpus = share if share < 1 else float(int(share))
        return {
            "client_resources": self._resources(gpus),
            "init_args": {
                "address": "local",  # never a cluster that happens to run on this machine
                "num_cpus": parallel * self.cpus_per_client,
                **output,
            },
        }

    def _resources(self, gpus: float) -> dict[str, float]:
        """Return what Ray is told of a process that runs clients.

        Flower goes on giving work to processes that have died, which fails at once.  Ray starts
        such a process again, and its client's message once more.
        """
        own = {"num_cpus": self.cpus_per_client, "num_gpus": gpus}
        return {**own, "max_restarts": -1, "max_task_retries": 1}


def _drop(_: logging.LogRecord) -> bool:
    """Keep a message from all handlers."""
    return False


def quiet_threads() -> None:
    """Let threads that break down say so in the log alone: Ray's do when its processes end."""

    def note(what: threading.ExceptHookArgs) -> None:
        log.info("a thread ended: %s", what.exc_value)

    threading.excepthook = note


def _kill_children(name: str = "") -> None:
    """End all processes that were started from this one, or those whose title starts so.

    Those of a cluster were not.
    """
    import psutil

    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if " ".join(child.cmdline()).startswith(name):
                child.kill()
