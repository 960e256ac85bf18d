"""Everything in this process, one client after the other: deterministic, no start-up."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from fedcomp.checkpoint.files import KEPT
from fedcomp.link.space import check_space
from fedcomp.link.stores import MemoryStateStore
from fedcomp.runtime import EngineSettings, Hooks, limit_threads
from fedcomp.wire import keys, private

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flwr.app import Context, Message
    from flwr.clientapp import ClientApp

    from fedcomp.settings import Job
    from fedcomp.setup import Setup


@dataclass(frozen=True)
class InlineEngine(EngineSettings):
    """Run both apps in this process."""

    name: ClassVar[str] = "inline"

    def run(self, job: Job, setup: Setup, hooks: Hooks) -> None:
        """Run the job to its end, or raise."""
        from flwr.app import Context, RecordDict

        from fedcomp.training.loop import import_optimisers

        settings = job.settings
        if settings.checkpoint_every:
            folder, session = Path(job.folder), setup.session(job.run_id)
            check_space(folder, session, settings.clients, settings.rounds, KEPT)
        limit_threads(self.cpus_per_client)
        import_optimisers()
        states = MemoryStateStore()
        client_app = import_module("clients.app").make_app(states, setup)
        server_app = import_module("strategies.app").make_app(replace(hooks, clients=states), setup)
        run_id = private.assume_identity()
        config = {keys.RUN_CONFIG: job.to_json()}

        def context(node: int, **node_config: int) -> Context:
            return Context(run_id, node, dict(node_config), RecordDict(), dict(config))

        clients = settings.clients
        contexts = {
            1000 + i: context(1000 + i, **{"partition-id": i, "num-partitions": clients})
            for i in range(clients)
        }
        server_app(grid=_grid(client_app, contexts), context=context(0))


def _grid(client_app: ClientApp, contexts: dict[int, Context]) -> Any:
    """Return a grid whose nodes answer while a message is pushed."""
    from flwr.app import Error, Message, RecordDict
    from flwr.serverapp import Grid

    class InlineGrid(Grid):
        def __init__(self) -> None:
            self._replies: dict[str, Message] = {}
            self._names = (f"{number:064x}" for number in count(1))  # as long as Flower's

        def set_run(self, run: Any) -> None:
            self._run = run

        @property
        def run(self) -> Any:
            return self._run

        def create_message(self, *args: Any, **kwargs: Any) -> Message:
            return Message(*args, **kwargs)

        def get_node_ids(self) -> Iterable[int]:
            return list(contexts)

        def get_nodes(self) -> Any:
            return []

        def push_messages(self, messages: Iterable[Message]) -> list[str]:
            identifiers = []
            for message in messages:
                private.set_message_id(message, next(self._names))
                self._replies[message.metadata.message_id] = self._answer(message)
                identifiers.append(message.metadata.message_id)
            return identifiers

        def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
            return [self._replies.pop(i) for i in list(message_ids) if i in self._replies]

        def send_and_receive(
            self,
            messages: Iterable[Message],
            *,
            timeout: float | None = None,  # noqa: ARG002
        ) -> list[Message]:
            return self.pull_messages(self.push_messages(messages))

        def _answer(self, message: Message) -> Message:
            content = RecordDict(dict(message.content.items()))  # the app replaces records in it
            meta = message.metadata
            copy = Message(content, meta.dst_node_id, meta.message_type)
            private.set_message_id(copy, meta.message_id)
            try:
                reply = client_app(copy, contexts[meta.dst_node_id])
            except Exception as error:
                reply = Message(Error(0, f"{type(error).__name__}: {error}"), reply_to=copy)
            return reply

    return InlineGrid()
