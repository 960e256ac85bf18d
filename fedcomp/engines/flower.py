"""Flower's simulation engine: many virtual clients on Ray, in parallel."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from annotated_types import Ge
from flwr.clientapp import ClientApp

from fedcomp.errors import ConfigError, EngineError, FedcompError, RunInterrupted
from fedcomp.runtime import EngineSettings, Hooks, cpu_count
from fedcomp.setup import Setup
from fedcomp.wire import private

if TYPE_CHECKING:
    from flwr.app import Context, Message

    from fedcomp.settings import Job


class ImportedApp(ClientApp):
    """The client app as a name: Flower pickles it with every message."""

    def __call__(self, message: Message, context: Context) -> Message:
        """Run the app of the worker process."""
        reply: Message = import_module("clients.app").app(message, context)
        return reply


@dataclass(frozen=True)
class FlowerEngine(EngineSettings):
    """Run clients in Ray's worker processes.

    Parameters
    ----------
    gpus_per_client
        Share of a GPU that a client holds while it works; 0.25 lets four share one.
    max_parallel
        The most clients at a time; by default as many as the cores allow.
    """

    name: ClassVar[str] = "flower"

    gpus_per_client: Annotated[float, Ge(0)] = 0.0
    max_parallel: Annotated[int, Ge(1)] | None = None

    def run(self, job: Job, hooks: Hooks) -> None:
        """Run the job to its end, or raise."""
        backend = self._backend(cpu_count())
        server_app = import_module("strategies.app").make_app(hooks, Setup(job))
        try:
            private.simulate(
                server_app,
                ImportedApp(),
                job.settings.clients,
                job=job.to_json(),
                backend=backend,
                verbose=job.settings.verbose,
            )
        except (FedcompError, RunInterrupted):
            raise
        except RuntimeError as error:
            hooks.stop.set()
            cause = error.__cause__ or error
            msg = f"Flower's simulation broke down: {cause}; see run.log in {job.folder}"
            raise EngineError(msg) from error

    def _backend(self, cores: int) -> dict[str, Any]:
        """Return Flower's backend settings; refuse what the machine cannot give."""
        if self.cpus_per_client > cores:
            msg = (
                f"engine.cpus_per_client={self.cpus_per_client}: this machine has {cores} cores;"
                " lower it"
            )
            raise ConfigError(msg)
        parallel = min(self.max_parallel or cores, cores // self.cpus_per_client)
        return {
            "client_resources": {
                "num_cpus": self.cpus_per_client,
                "num_gpus": self.gpus_per_client,
            },
            "init_args": {"num_cpus": parallel * self.cpus_per_client, "include_dashboard": False},
        }
