"""The grid of a deployment: counts what its SuperLink counts, and asks it in a calm way."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from fedcomp.errors import EngineError, one_line
from fedcomp.wire.private import error_reply, superlink_bytes, transport_errors, with_reply_to
from strategies.forward import ForwardingGrid

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flwr.app import Message
    from flwr.serverapp import Grid

PAUSE_SECONDS = 0.5
"""Between two questions to the SuperLink: each is a request over HTTP."""

SUPERLINK = 1
"""The node id that replies bear which the SuperLink makes itself."""


class CountedGrid(ForwardingGrid):
    """Wrap the innermost grid, so that no message goes past it.

    A message to a node that never fetches it is counted here and not there; in a run without
    failures both numbers are the same but for a few bytes a message.

    Parameters
    ----------
    timeout
        Seconds without any node after which the run ends: strategies would wait for ever.
    """

    def __init__(self, inner: Grid, timeout: float) -> None:
        super().__init__(inner)
        self._timeout = timeout
        self._inbound = self._outbound = 0
        self._asked = 0.0
        self._alone_since: float | None = None

    def account(self) -> dict[str, object]:
        """Return what the SuperLink is expected to have counted, as part of the summary."""
        return {"superlink_bytes": {"inbound": self._inbound, "outbound": self._outbound}}

    def get_node_ids(self) -> Iterable[int]:
        """Return the nodes that are there."""
        self._wait()
        nodes, now = list(super().get_node_ids()), time.monotonic()
        self._alone_since = None if nodes else self._alone_since or now
        if now > (self._alone_since or now) + self._timeout:
            msg = f"no client was connected for {self._timeout:g} s (engine.round_timeout)"
            raise EngineError(msg)
        return nodes

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Send messages and count those that were taken."""
        given = list(messages)
        identifiers = list(super().push_messages(given))
        for message, identifier in zip(given, identifiers, strict=False):
            if identifier:
                self._count(superlink_bytes(message))
        return identifiers

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return replies that have arrived, and count those that came from a node.

        Each is a request of its own: Flower's grid puts what a node uploaded together again, takes
        its metadata from there, and loses all replies of a request when one of them is broken.
        """
        self._wait()
        return [reply for identifier in message_ids for reply in self._pull(identifier)]

    def _pull(self, identifier: str) -> list[Message]:
        """Return what answers one message, an error where that cannot be read."""
        try:
            replies = [
                with_reply_to(reply, identifier) for reply in super().pull_messages([identifier])
            ]
            sizes = [
                superlink_bytes(reply)
                for reply in replies
                if reply.metadata.src_node_id != SUPERLINK
            ]
        except transport_errors():
            raise
        except Exception as error:
            reason = one_line(f"{type(error).__name__}: {error}")
            return [error_reply(identifier, f"the reply cannot be read: {reason}")]
        for size in sizes:
            self._count(size)
        return replies

    def _count(self, size: tuple[int, int]) -> None:
        self._inbound += size[0]
        self._outbound += size[1]

    def _wait(self) -> None:
        time.sleep(max(0.0, self._asked + PAUSE_SECONDS - time.monotonic()))
        self._asked = time.monotonic()
