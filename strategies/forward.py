"""A grid that passes everything on to another one; what differs is overridden."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flwr.serverapp import Grid

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flwr.app import Message


class ForwardingGrid(Grid):
    """Wrap a grid of Flower's, whatever methods future versions add to it."""

    def __init__(self, inner: Grid) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def set_run(self, run: Any) -> None:
        """Tell the inner grid which run it serves."""
        self._inner.set_run(run)

    @property
    def run(self) -> Any:
        """The run of the inner grid."""
        return self._inner.run

    def create_message(self, *args: Any, **kwargs: Any) -> Message:
        """Let the inner grid make a message."""
        return self._inner.create_message(*args, **kwargs)

    def get_nodes(self) -> Any:
        """Return what the inner grid knows of its nodes."""
        return self._inner.get_nodes()

    def get_node_ids(self) -> Iterable[int]:
        """Return the inner grid's nodes."""
        return self._inner.get_node_ids()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Send messages through the inner grid."""
        return self._inner.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return replies that have reached the inner grid."""
        return self._inner.pull_messages(message_ids)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Let the inner grid send messages and wait for their replies."""
        return self._inner.send_and_receive(messages, timeout=timeout)
