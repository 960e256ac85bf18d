"""The ClientApp that every engine runs."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from flwr.app import ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from clients.mod import CompressionMod, Finished, OpenArrays
from fedcomp.link.client import ClientLink
from fedcomp.link.file_store import FileStateStore
from fedcomp.methods import Work
from fedcomp.models.base import load_tensors
from fedcomp.runtime import limit_threads
from fedcomp.settings import Job
from fedcomp.setup import Setup
from fedcomp.training.loop import evaluate as evaluate_module
from fedcomp.wire import keys

if TYPE_CHECKING:
    from collections.abc import Callable

    from flwr.clientapp.typing import ClientAppCallable

    from fedcomp.link.session import Session
    from fedcomp.link.stores import StateStore


@lru_cache(maxsize=1)
def read_job(text: str) -> tuple[Job, Setup]:
    """Read a job once a process, and build its parts there."""
    job = Job.from_json(text)
    return job, Setup(job.settings, needs_weights=False)


@lru_cache(maxsize=1)
def open_session(setup: Setup, run_id: str) -> Session:
    """Agree on a session once a process."""
    return setup.session(run_id)


def make_app(store: StateStore | None = None, setup: Setup | None = None) -> ClientApp:
    """Return the ClientApp.

    Parameters
    ----------
    store
        Where clients keep their state; by default files in the run folder.
    setup
        The run's parts where the process has built them already.
    """

    def parts(context: Context) -> tuple[Job, Setup]:
        job, own = read_job(str(context.run_config[keys.RUN_CONFIG]))
        return job, setup or own

    def link(context: Context) -> ClientLink:
        job, here = parts(context)
        states = store or FileStateStore(Path(job.folder) / "state" / job.run_id)
        session = open_session(here, job.run_id)
        return ClientLink(session, site_of(context), states, lambda: here.initial)

    def with_setup(function: Callable[[Message, Context, Setup], Message]) -> ClientAppCallable:
        return lambda message, context: function(message, context, parts(context)[1])

    app = ClientApp(mods=[CompressionMod(link, arrays=False)])
    app.query()(introduce)
    app.train()(with_setup(train))
    app.evaluate()(with_setup(evaluate))
    return app


def site_of(context: Context) -> str:
    """Return the client's name over the whole run: its partition."""
    return str(context.node_config["partition-id"])


def introduce(message: Message, context: Context) -> Message:
    """Answer the handshake with the client's site."""
    fields = ConfigRecord({keys.SITE: site_of(context)})
    return Message(RecordDict({keys.FIELDS: fields}), reply_to=message)


def train(message: Message, context: Context, setup: Setup) -> Message:
    """Train on the received model as the recipe says."""
    work = _work(message, context, setup)
    answer = setup.settings.recipe.fit(work)
    metrics = MetricRecord({**answer.metrics, keys.EXAMPLES: len(work.train)})
    arrays = Finished(answer.tensors, answer.side)
    return Message(RecordDict({keys.ARRAYS: arrays, keys.METRICS: metrics}), reply_to=message)


def evaluate(message: Message, context: Context, setup: Setup) -> Message:
    """Measure the received model on the client's validation samples."""
    _receive(message, setup)
    trained, validation = setup.client_indices(int(site_of(context)))
    samples = setup.dataset.train.take(validation if len(validation) else trained)
    task = setup.dataset.task
    measured = evaluate_module(setup.module, samples, setup.settings.train, task=task)
    metrics = MetricRecord({**measured, keys.EXAMPLES: len(samples)})
    return Message(RecordDict({keys.METRICS: metrics}), reply_to=message)


def _receive(message: Message, setup: Setup) -> ClientLink:
    """Load the received model into the process's module."""
    limit_threads(setup.settings.engine.cpus_per_client)
    records = message.content.array_records.values()
    link = next(record.link for record in records if isinstance(record, OpenArrays))
    load_tensors(setup.module, link.received)
    return link


def _work(message: Message, context: Context, setup: Setup) -> Work:
    link = _receive(message, setup)
    client = int(site_of(context))
    samples, validation = setup.client_samples(client)
    return Work(
        module=setup.module,
        train=samples,
        validation=validation,
        task=setup.dataset.task,
        settings=setup.settings,
        link=link,
        round=link.round,
        client=client,
        config=dict(message.content.config_records.get(keys.CONFIG, {})),
        prunable=lambda: setup.prunable,
    )


app = make_app()
