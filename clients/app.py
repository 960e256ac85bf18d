"""The ClientApp that every engine runs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from flwr.app import ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from clients.mod import CompressionMod, Finished, OpenArrays
from clients.node import Node, check_folders, deployed, simulated
from clients.states import forget_old, open_states
from fedcomp.errors import FedcompError, one_line
from fedcomp.link.client import ClientLink
from fedcomp.link.file_store import FileStateStore
from fedcomp.methods import Work
from fedcomp.models.base import load_tensors
from fedcomp.runtime import limit_threads
from fedcomp.setup import Setup
from fedcomp.submitted import is_deployed, read
from fedcomp.training.loop import evaluate as evaluate_module
from fedcomp.wire import keys
from fedcomp.wire.records import fields_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from flwr.clientapp.typing import ClientAppCallable

    from fedcomp.link.session import Session
    from fedcomp.link.stores import StateStore
    from fedcomp.settings import Job

_RUN_KEYS = (keys.RUN_CONFIG, keys.OVERRIDES)


@lru_cache(maxsize=1)
def read_job(run_config: tuple[str, ...], run_number: int) -> Job:
    """Read a job once a process."""
    return read(dict(zip(_RUN_KEYS, run_config, strict=True)), run_number)


@lru_cache(maxsize=1)
def build_setup(
    run_config: tuple[str, ...], run_number: int, data_dir: str | None, *, own_data: bool
) -> Setup:
    """Build a job's parts once a process."""
    settings = read_job(run_config, run_number).settings
    here = settings if data_dir is None else replace(settings, data_dir=data_dir)
    return Setup(here, needs_weights=False, own_data=own_data)


@lru_cache(maxsize=1)
def open_session(setup: Setup, run_id: str) -> Session:
    """Agree on a session once a process; where times count, let none of them be a first one."""
    session = setup.session(run_id)
    if setup.settings.network.is_measured:
        session.rehearse(setup.initial)
    return session


@dataclass(frozen=True)
class Client:
    """One client of a run: what it does, who it is, and what with."""

    job: Job
    node: Node
    setup: Setup

    @classmethod
    def of(cls, context: Context, setup: Setup | None = None) -> Client:
        """Find out from Flower's context; a deployment's is checked."""
        given = tuple(str(context.run_config.get(key, "")) for key in _RUN_KEYS), context.run_id
        job = read_job(*given)
        remote, config = job.settings.engine.remote, context.node_config
        node = deployed(config, job.settings.clients) if remote else simulated(config)
        own_data = node.part is None
        return cls(job, node, setup or build_setup(*given, node.data_dir, own_data=own_data))

    def states(self) -> StateStore:
        """Open where its state lies: in a simulation in the run folder."""
        if self.job.settings.engine.remote:
            return open_states(self.node.state_dir, self.job.run_id)
        return FileStateStore(self.job.states / self.job.run_id)


def make_app(store: StateStore | None = None, setup: Setup | None = None) -> ClientApp:
    """Return the ClientApp.

    Parameters
    ----------
    store
        Where clients keep their state; by default files.
    setup
        The run's parts where the process has built them already.
    """

    def link(context: Context) -> ClientLink:
        client = Client.of(context, setup)
        session = open_session(client.setup, client.job.run_id)
        states = store or client.states()
        return ClientLink(session, client.node.site, states, lambda: client.setup.initial)

    def as_client(function: Callable[[Message, Client], Message]) -> ClientAppCallable:
        return lambda message, context: function(message, Client.of(context, setup))

    app = ClientApp(mods=[CompressionMod(link, arrays=False)])
    app.query()(introduce)
    app.train()(as_client(train))
    app.evaluate()(as_client(evaluate))
    return app


def site_of(context: Context) -> str:
    """Return the name of a simulated client over the whole run: its partition."""
    return simulated(context.node_config).site


def introduce(message: Message, context: Context) -> Message:
    """Answer the handshake with the client's site, or with what keeps it from taking part."""
    question = fields_of(message.content)
    if not is_deployed(context.run_config):
        fields = ConfigRecord({keys.SITE: site_of(context)})
    else:
        try:
            fields = _ready(Client.of(context))
        except FedcompError as error:
            fields = ConfigRecord({keys.PROBLEM: one_line("; ".join(str(error).splitlines()))})
    if keys.NONCE in question:
        fields[keys.NONCE] = question[keys.NONCE]
    return Message(RecordDict({keys.FIELDS: fields}), reply_to=message)


def _ready(client: Client) -> ConfigRecord:
    """Build what the rounds will need, so that what is missing is missed at the start."""
    check_folders(client.node)
    forget_old(client.node.state_dir)
    client.setup.check_client(client.node.number)
    session = open_session(client.setup, client.job.run_id)
    fields = ConfigRecord({keys.SITE: client.node.site, keys.SESSION: session.digest})
    if client.node.part is not None:
        fields[keys.PARTITION] = client.node.part
    return fields


def train(message: Message, client: Client) -> Message:
    """Train on the received model as the recipe says."""
    work = _work(message, client)
    answer = work.settings.recipe.fit(work)
    metrics = MetricRecord({**answer.metrics, keys.EXAMPLES: len(work.train)})
    arrays = Finished(answer.tensors, answer.side)
    return Message(RecordDict({keys.ARRAYS: arrays, keys.METRICS: metrics}), reply_to=message)


def evaluate(message: Message, client: Client) -> Message:
    """Measure the received model on the client's validation samples."""
    setup = client.setup
    _receive(message, setup)
    trained, validation = setup.client_indices(client.node.number)
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


def _work(message: Message, client: Client) -> Work:
    setup = client.setup
    link = _receive(message, setup)
    samples, validation = setup.client_samples(client.node.number)
    return Work(
        module=setup.module,
        train=samples,
        validation=validation,
        task=setup.dataset.task,
        settings=setup.settings,
        link=link,
        round=link.round,
        client=client.node.number,
        config=dict(message.content.config_records.get(keys.CONFIG, {})),
        prunable=lambda: setup.prunable,
    )


app = make_app()
