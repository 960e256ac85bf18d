"""The only place that touches names which Flower and Ray do not promise to keep.

Supported: flwr 1.41 and 1.42.  `check` says so before a run starts on anything else.
"""

from __future__ import annotations

import secrets
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from fedcomp.errors import EngineError
from fedcomp.wire import keys

if TYPE_CHECKING:
    from flwr.app import Message, RecordDict
    from flwr.clientapp import ClientApp
    from flwr.serverapp import Grid, ServerApp

SUPPORTED = ("1.41", "1.42")

CLIENT_PROCESS = "ray::ClientAppActor"
"""How Ray titles the processes in which Flower's simulation runs clients."""

COMMAND = "from flwr.cli.app import app; app()"
"""A program that is Flower's command `flwr`."""


def check() -> None:
    """Raise `EngineError` unless the installed Flower has what this module needs."""
    found = version("flwr")
    try:
        from flwr.common.serde import message_to_proto  # noqa: F401
        from flwr.simulation.run_simulation import _run_simulation  # noqa: F401
        from flwr.supercore.task_identity import TaskIdentity  # noqa: F401
    except ImportError as error:
        msg = (
            f"flwr {found} is installed and lacks what is needed here ({error}); supported are"
            f" versions {' and '.join(SUPPORTED)}: pip install 'flwr[simulation]>=1.41,<1.43'"
        )
        raise EngineError(msg) from error


def import_logger() -> None:
    """Let Flower set up its logger, which it does when it is imported."""
    import flwr.common  # noqa: F401


def end_clients_once() -> None:
    """Let Ray not try again to end a client's process: it would call each end a failed task."""
    from flwr.simulation.ray_transport.ray_actor import ClientAppActor

    actor: Any = ClientAppActor
    actor.__ray_metadata__.method_meta.max_task_retries["terminate"] = 0


def message_bytes(message: Message) -> int:
    """Return the size of a message in the protobuf form in which Flower sends it."""
    from flwr.common.serde import message_to_proto

    return int(message_to_proto(message).ByteSize())


def content_bytes(content: RecordDict) -> int:
    """Return the size of a message's content alone in that form."""
    from flwr.common.serde import recorddict_to_proto

    return int(recorddict_to_proto(content).ByteSize())


def superlink_bytes(message: Message) -> tuple[int, int]:
    """Return what a SuperLink counts of a message as it goes to a node or comes from one.

    In the order in which it names them: inbound, outbound.  It counts Fleet's requests and
    responses without their HTTP headers, and each object that a message consists of.  Taken of a
    copy: naming the objects of a message makes it keep a second copy of its arrays.
    """
    from flwr.common.serde import message_from_proto, message_to_proto
    from flwr.proto.fleet_pb2 import (
        PullMessagesRequest,
        PullMessagesResponse,
        PushMessagesRequest,
        PushMessagesResponse,
        Reconnect,
    )
    from flwr.proto.node_pb2 import Node
    from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree

    whole = message_to_proto(message)
    copy = message_from_proto(whole)
    objects = {name: len(o.deflate()) for name, o in get_all_nested_objects(copy).items()}
    trees = [get_object_tree(copy)]
    whole.ClearField("content")
    meta = message.metadata
    if not meta.reply_to_message_id:
        request = PullMessagesRequest(node=Node(node_id=meta.dst_node_id))
        response = PullMessagesResponse(messages_list=[whole], message_object_trees=trees)
        return request.ByteSize(), response.ByteSize() + sum(objects.values())
    pushed = PushMessagesRequest(
        node=Node(node_id=meta.src_node_id),
        messages_list=[whole],
        message_object_trees=trees,
        clientapp_runtime_list=[1.0],
    )
    answer = PushMessagesResponse(
        reconnect=Reconnect(reconnect=5),
        results={meta.message_id: 0},
        objects_to_push=list(objects),
        session_id=str(uuid4()),
    )
    return pushed.ByteSize() + sum(objects.values()), answer.ByteSize()


def node_keys(grid: Grid) -> dict[int, str]:
    """Return the public key of each node that is there, where a deployment has them."""
    return {node.node_id: node.public_key.hex() for node in grid.get_nodes()}


def set_message_id(message: Message, value: str) -> None:
    """Name a message, as Flower's own grids do when one is pushed."""
    message.metadata.__dict__["_message_id"] = value


def with_reply_to(reply: Message, identifier: str) -> Message:
    """Return a whole reply as one to the message that was asked for, whatever its sender wrote."""
    if reply.has_content() == reply.has_error():
        msg = "a reply carries either records or an error"
        raise ValueError(msg)
    reply.metadata.__dict__["_reply_to_message_id"] = identifier
    return reply


def error_reply(identifier: str, reason: str) -> Message:
    """Return the error that stands for a reply which nobody can read, as if a SuperLink said it."""
    from flwr.app import Error
    from flwr.app.message.message import make_message
    from flwr.app.metadata import Metadata

    return make_message(
        Metadata(
            run_id=0,
            message_id="",
            src_node_id=1,
            dst_node_id=1,
            reply_to_message_id=identifier,
            group_id="",
            created_at=0.0,
            ttl=0.0,
            message_type="query",
        ),
        error=Error(0, reason),
    )


def transport_errors() -> tuple[type[Exception], ...]:
    """Return what Flower's grid raises when its SuperLink does not answer or refuses."""
    from httpx import HTTPError

    return (HTTPError,)


def assume_identity() -> int:
    """Let this process create messages without a SuperLink; return the run id."""
    from flwr.supercore.task_identity import TaskIdentity

    run_id = secrets.randbits(62)
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, run_id, 1
    return run_id


_APP = """
[project]
name = "fedcomp-simulation"
version = "1.0.0"
[tool.flwr.app]
publisher = "fedcomp"
[tool.flwr.app.components]
serverapp = "strategies.app:app"
clientapp = "clients.app:app"
[tool.flwr.app.config]
{key} = ""
"""


def simulate(
    server_app: ServerApp,
    client_app: ClientApp,
    nodes: int,
    *,
    job: str,
    backend: dict[str, Any],
    verbose: bool,
) -> None:
    """Run two apps on Flower's simulation engine with one run config on both sides.

    Clients get a run config only where the app comes from a folder: a temporary one that declares
    the keys.
    """
    from flwr.app import Context, RecordDict
    from flwr.simulation.run_simulation import _run_simulation
    from flwr.supercore.constant import NOOP_FEDERATION_ID
    from flwr.supercore.run import Run
    from flwr.supercore.telemetry import EventType

    end_clients_once()
    run = Run.create_empty(run_id=assume_identity())
    run.primary_task_id = secrets.randbits(62)
    run.federation_id = NOOP_FEDERATION_ID
    run.override_config = {keys.RUN_CONFIG: job}
    context = Context(
        run_id=run.run_id,
        node_id=0,
        node_config={},
        state=RecordDict(),
        run_config={keys.RUN_CONFIG: job},
    )
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "pyproject.toml").write_text(_APP.format(key=keys.RUN_CONFIG))
        _run_simulation(
            num_supernodes=nodes,
            exit_event=EventType.PYTHON_API_RUN_SIMULATION_LEAVE,
            server_app=server_app,
            client_app=client_app,
            server_app_context=context,
            app_dir=folder,
            is_app=True,
            backend_config=backend,
            run=run,
            verbose_logging=verbose,
        )
