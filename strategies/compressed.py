"""The round loop: any Flower strategy with both directions compressed.

configure → exchange → aggregate → server step → publish → checkpoint → evaluate P

The checkpoint comes before the next message to any client: what that message acknowledges must
not be forgotten.
"""

from __future__ import annotations

import logging
import random
import time
from contextlib import ExitStack, contextmanager
from dataclasses import fields
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
from flwr.app import ConfigRecord, MetricRecord
from flwr.serverapp.strategy import FedAvgM

from fedcomp import seeds
from fedcomp.errors import FedcompError, RoundError, RunInterrupted, StorageError
from fedcomp.report.observer import RoundResult, RunStart, Trained
from fedcomp.storage import writing
from fedcomp.wire import keys
from fedcomp.wire.records import from_record, to_record
from strategies.aggregate import check_aggregate, join, strategy_specs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from flwr.app import ArrayRecord, Message
    from flwr.serverapp.strategy import Strategy

    from fedcomp.checkpoint.files import Checkpoints
    from fedcomp.link.ledger import Ledger, Purpose
    from fedcomp.link.server import ServerLink
    from fedcomp.methods import ServerStep
    from fedcomp.report.observer import Observer
    from fedcomp.settings import Settings
    from fedcomp.tensors import Tensors
    from strategies.exchange import Exchange
    from strategies.grid import CompressingGrid

log = logging.getLogger(__name__)


class Compressed:
    """Runs a strategy's rounds over a link.

    Parameters
    ----------
    strategy
        Any of Flower's: its own `configure_*` and `aggregate_*` are called.
    grid, link, ledger
        The compressing grid, and what it sends and books with.
    step
        What the method does to each aggregate.
    evaluate
        Measures a model on the test set.
    observers
        Told of every round.
    checkpoints
        Where to write what a later process needs to go on.
    """

    def __init__(
        self,
        strategy: Strategy,
        *,
        grid: CompressingGrid,
        link: ServerLink,
        ledger: Ledger,
        step: ServerStep,
        settings: Settings,
        evaluate: Callable[[Tensors], dict[str, float]],
        observers: Sequence[Observer],
        checkpoints: Checkpoints,
    ) -> None:
        self._strategy = strategy
        self._grid = grid
        self._link = link
        self._ledger = ledger
        self._step = step
        self._settings = settings
        self._evaluate = evaluate
        self._observers = observers
        self._checkpoints = checkpoints
        self._manifest = link.session.manifest

    def start(self, metric: str, saved: Trained | None = None) -> None:
        """Run all rounds; observers see the end of the run however it comes.

        Parameters
        ----------
        saved
            The round at which an earlier process left the run.
        """
        begins = Trained(0, network_seconds=None if self._grid.clock is None else 0.0)
        trained = saved or begins
        start = RunStart(self._manifest.parameters, metric, self._ledger, trained.round)
        for observer in self._observers:
            with writing():
                observer.on_start(start)
        with ExitStack() as ends:
            for observer in reversed(self._observers):
                ends.push(self._ending(observer))
            if saved is None:
                self._save(trained)
            self._tell(self._measured(trained))
            for number in range(trained.round + 1, self._settings.rounds + 1):
                trained = self._trained(number)
                self._save(trained)
                self._tell(self._measured(trained))

    def _ending(self, observer: Observer) -> Callable[..., None]:
        """Return what tells an observer of the end; why the run ended early counts for more."""

        def end(_: object, error: BaseException | None, __: object) -> None:
            try:
                with writing():
                    observer.on_end(self._link.public)
            except StorageError as other:
                if error is None:
                    raise
                log.warning("%s", other)

        return end

    def _tell(self, result: RoundResult) -> None:
        for observer in self._observers:
            with writing():
                observer.on_round(result)

    def _save(self, trained: Trained) -> None:
        every = self._settings.checkpoint_every
        if every and (trained.round % every == 0 or trained.round == self._settings.rounds):
            with writing():
                self._checkpoints.save(trained.round, trained.to_json())

    def _measured(self, trained: Trained) -> RoundResult:
        """Evaluate the newest version, at clients too if the strategy wants that."""
        began, failures = time.perf_counter(), 0
        federated: dict[str, float] = {}
        seconds = None
        if trained.round:
            federated, exchange = self._evaluate_federated(trained.round)
            failures, seconds = len(exchange.failures), self._network_seconds(exchange)
        metrics = {**self._evaluate(self._link.public), **federated}
        known = {field.name: getattr(trained, field.name) for field in fields(trained)}
        known["failures"] += failures
        if seconds is not None:
            known["network_seconds"] = (trained.network_seconds or 0.0) + seconds
        known["wall_seconds"] += time.perf_counter() - began
        return RoundResult(**known, metrics=metrics, entries=self._ledger.take())

    def _trained(self, number: int) -> Trained:
        """Train at clients and publish a new version."""
        began = time.perf_counter()
        exchange, encode_seconds = self._train(number)
        return Trained(
            round=number,
            reports={**exchange.reports, **self._step.report()},
            uplink=exchange.rate,
            downlink=self._link.rate,
            account=self._step.account(),
            clients=len(exchange.used),
            failures=len(exchange.failures),
            encode_seconds=exchange.seconds[keys.ENCODE_SECONDS] + encode_seconds,
            decode_seconds=exchange.seconds[keys.DECODE_SECONDS],
            train_seconds=exchange.seconds[keys.TRAIN_SECONDS],
            wall_seconds=time.perf_counter() - began,
            network_seconds=self._network_seconds(exchange),
        )

    def _network_seconds(self, exchange: Exchange) -> float | None:
        """Return what an exchange takes on the simulated network, with the server's own work."""
        clock = self._grid.clock
        return None if clock is None else exchange.network_seconds + clock.served(exchange)

    def _train(self, number: int) -> tuple[Exchange, float]:
        """Exchange, aggregate and publish; return the account and the seconds of publishing."""
        exchange = self._open(number, "train")
        with self._calling("configure_train", number), self._seeded("train", number):
            messages = list(
                self._strategy.configure_train(number, self._record(), ConfigRecord(), self._grid)
            )
        self._grid.miss(self._settings.clients_per_round - len(messages))
        replies = self._exchange(messages)
        answered = time.perf_counter()
        del messages  # they hold the old model
        self._ledger.trained(len(replies))
        self._guard(exchange, replies)
        examples = {
            site: float(reply.content.metric_records[keys.METRICS][keys.EXAMPLES])  # type: ignore[arg-type]
            for site, reply in exchange.replies.items()
        }
        losses = [loss for reply in replies if (loss := _train_loss(reply)) is not None]
        if losses:
            self._link.observe(median(losses))  # of three or more, one lie moves no schedule
        tensors, found = self._aggregate(number, replies)
        del replies
        model = join(tensors, exchange, examples, self._link.exact)
        del tensors
        sides = dict(sorted(exchange.side.items()))  # whoever was first: sums are to be the same
        model, side = self._step.after_aggregate(model, sides, found, number)
        bad = [name for name, value in model.items() if not np.isfinite(value).all()]
        if bad:
            msg = f"round {number}: the aggregate is not finite, first in {bad[0]}; it is not sent"
            raise RoundError(msg)
        began = time.perf_counter()
        exchange.release(self._manifest)
        self._link.publish(model, number, exchange.used, side)
        ended = time.perf_counter()
        exchange.server_seconds += ended - answered
        return exchange, ended - began

    def _aggregate(self, number: int, replies: list[Message]) -> tuple[Tensors, dict[str, float]]:
        with self._calling("aggregate_train", number):
            aggregate, found = self._strategy.aggregate_train(number, replies)
            tensors = None if aggregate is None else from_record(aggregate)
            if isinstance(self._strategy, FedAvgM):
                self._strategy.current_arrays = None  # the next round's are what is published
            scalars = _scalars(found)
        who = self._who(number)
        if tensors is None:
            msg = f"{who} returned no model of {len(replies)} replies"
            raise RoundError(msg)
        check_aggregate(tensors, self._manifest, who)
        return tensors, scalars

    def _evaluate_federated(self, number: int) -> tuple[dict[str, float], Exchange]:
        """Let the strategy evaluate the new version at clients; return metrics and account."""
        exchange = self._open(number, "evaluate")
        with self._calling("configure_evaluate", number), self._seeded("evaluate", number):
            messages = list(
                self._strategy.configure_evaluate(
                    number, self._record(), ConfigRecord(), self._grid
                )
            )
        if not messages:
            return {}, exchange
        replies = self._exchange(messages)
        with self._calling("aggregate_evaluate", number):
            found = _scalars(self._strategy.aggregate_evaluate(number, replies))
        metrics = {f"federated_{name}": value for name, value in found.items()}
        return metrics, exchange

    def _record(self) -> ArrayRecord:
        """Return what the strategy sees of the exact model."""
        exact = self._step.view(self._link.exact.__getitem__)
        return to_record({s.name: exact(s.name) for s in strategy_specs(self._manifest)})

    def _open(self, number: int, purpose: Purpose) -> Exchange:
        return self._grid.open(number, purpose, self._settings.engine.round_timeout)

    def _exchange(self, messages: Iterable[Message]) -> list[Message]:
        return self._grid.send_and_receive(messages, timeout=self._settings.engine.round_timeout)

    def _guard(self, exchange: Exchange, replies: list[Message]) -> None:
        """Refuse to go on with too few replies: a dead worker must not look like a result."""
        least = self._settings.engine.min_results
        if len(replies) >= least:
            return
        reason = next(iter(exchange.failures.values()), "no client was asked").strip()
        msg = (
            f"round {exchange.round}: {len(replies)} valid replies, engine.min_results asks for"
            f" {least}; {len(exchange.failures)} clients failed, the first with: {reason}"
        )
        raise RoundError(msg)

    def _who(self, number: int) -> str:
        return f"round {number}: strategy {type(self._strategy).__name__}"

    @contextmanager
    def _calling(self, method: str, number: int) -> Iterator[None]:
        """Turn errors of the strategy's own into ones that name it."""
        try:
            yield
        except (FedcompError, RunInterrupted):
            raise
        except Exception as error:
            kind = type(error).__name__
            msg = f"{self._who(number)} failed: {kind}: {error} (in {method})"
            raise RoundError(msg) from error

    @contextmanager
    def _seeded(self, purpose: str, number: int) -> Iterator[None]:
        """Seed Python's global generator, from which Flower samples clients, for one call."""
        state = random.getstate()
        random.seed(seeds.seed_from(self._settings.seed, purpose, number))
        try:
            yield
        finally:
            random.setstate(state)


def _train_loss(reply: Message) -> float | None:
    return reply.content.metric_records[keys.METRICS].get(keys.TRAIN_LOSS)  # type: ignore[return-value]


def _scalars(record: MetricRecord | None) -> dict[str, float]:
    if record is None:
        return {}
    return {name: float(value) for name, value in record.items() if not isinstance(value, list)}
