"""What differs where the workers belong to a Ray cluster that somebody else has started."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flwr.app import ConfigRecord, Message, MessageType, RecordDict

from fedcomp.engines.reach import split_address
from fedcomp.errors import EngineError
from fedcomp.wire import keys

if TYPE_CHECKING:
    from flwr.app import Message as MessageOf

_CONNECT_SECONDS = 5.0


def check_cluster(address: str) -> None:
    """Raise unless somebody listens at an address; Ray itself would try for many minutes."""
    key = "engine.ray_address"
    given = f"{key}={address}"
    place = split_address(address, key, "10.0.0.1:6379, as ray start --head prints it")
    try:
        socket.create_connection(place, _CONNECT_SECONDS).close()
    except OSError as error:
        msg = (
            f"{given}: no Ray cluster answers ({error.strerror or error}): start it with"
            " ray start --head, or give its host and port"
        )
        raise EngineError(msg) from error


def limit_patience() -> None:
    """Let Ray give up after one attempt where what listens is no cluster; by default it makes 20.

    It reads this when it is imported.
    """
    os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "1")


@dataclass(frozen=True)
class Place:
    """Where the driver runs and keeps the clients' states, as seen from any node.

    Any node may get any client, in every round another one: they have to share the states.
    """

    work: str
    states: str

    @classmethod
    def of(cls, states: Path) -> Place:
        """Make the folder of the states of a run here."""
        states.mkdir(parents=True, exist_ok=True)
        return cls(str(Path.cwd()), str(states.absolute()))

    def enter(self) -> str:
        """Let relative paths mean the same as at the driver; return why it cannot be, if so."""
        with suppress(OSError):  # paths may be absolute and the data on each node
            os.chdir(self.work)
        if Path(self.states).is_dir():
            return ""
        return (
            f"node {socket.gethostname()} does not see {self.states}: with engine.ray_address the"
            " run folder has to lie on storage that all nodes share; choose one with hydra.run.dir"
        )


def refuse(message: MessageOf, problem: str) -> MessageOf:
    """Answer the handshake with what is wrong; fail at anything else."""
    if message.metadata.message_type != MessageType.QUERY:
        raise EngineError(problem)
    return Message(
        RecordDict({keys.FIELDS: ConfigRecord({keys.PROBLEM: problem})}), reply_to=message
    )
