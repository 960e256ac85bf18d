"""A SuperLink and some SuperNodes on this machine, for as long as a `with` lasts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from fedcomp.engines.command import OFFLINE, direct
from scripts.deployment import commands
from scripts.deployment.processes import Process, ProcessError, free_port, settle

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

ROOT = Path(__file__).parents[2]
HOST = "127.0.0.1"
_NAMES = f"DNS:localhost,IP:{HOST}"

_SUPERLINK_UP = "Uvicorn running on"
_SUPERNODE_UP = "SuperNode ID: "
_NOT_LET_IN = "Failed to activate SuperNode"
_NO_SUCH_KEY = "No SuperNode found with the given public key"

_FORGET_SECONDS = 90.0
_RETRY_SECONDS = 3.0


def _silent(_: Sequence[str]) -> None:
    return


class Cluster:
    """A deployment on the loopback interface.

    Parameters
    ----------
    nodes
        How many SuperNodes: client i of as many, each with a folder of its own for its states.
    folder
        Made for keys, logs, states, and Flower's own files.
    tls
        Encrypt, with a certificate authority made for the purpose.
    auth
        Let in only nodes whose keys are registered; needs `tls`.
    work
        The folder in which the processes run.
    data_dir
        Where the data of all nodes lie.
    show
        Told of every command before it runs.

    Attributes
    ----------
    address
        The SuperLink's.
    fleet_address
        Where nodes look for it: there as well, unless there is a proxy.
    """

    def __init__(
        self,
        nodes: int,
        folder: Path,
        *,
        tls: bool = False,
        auth: bool = False,
        work: Path | None = None,
        data_dir: Path | None = None,
        show: Callable[[Sequence[str]], None] = _silent,
    ) -> None:
        self.address = self.fleet_address = ""
        self.folder = folder
        self.root_certificates = folder / commands.CA if tls else None
        self._auth = auth
        self._work = work or folder
        self._data_dir = data_dir or self._work / "data"
        self._show = show
        self._superlink: Process | None = None
        self._nodes: list[Process | None] = [None] * nodes

    def __enter__(self) -> Self:
        """Start all processes and wait until the nodes are online."""
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop all processes."""
        self.stop()

    @property
    def environment(self) -> dict[str, str]:
        """The environment of all processes: this checkout and Python, offline, a home of its own.

        Flower starts its helpers by name, so that the Python environment has to be in PATH.
        """
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        programs = [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
        return {
            **direct(os.environ, HOST),
            **OFFLINE,
            "FLWR_HOME": str(self.folder / "flower"),
            "PYTHONPATH": os.pathsep.join(paths),
            "PATH": os.pathsep.join(programs),
        }

    def state_dir(self, index: int) -> Path:
        """Return where a node keeps its states."""
        return self.folder / f"state-{index}"

    def online(self) -> list[str]:
        """Return the ids of the nodes that the SuperLink takes for online."""
        nodes = self.flwr(commands.list_nodes())["nodes"]
        return [node["node-id"] for node in nodes if node["status"] == "online"]

    def kill(self, index: int) -> None:
        """End a node at once, as when its machine loses its power."""
        if node := self._nodes[index]:
            node.kill()

    def restart(self, index: int) -> None:
        """Start a node again, with the same key, site and states.

        The SuperLink refuses a second node of a key.  One that was killed counts as online until
        it has missed its heartbeats for a minute; whoever restarts it has to try again until then.
        """
        if node := self._nodes[index]:
            node.stop()
        deadline = time.monotonic() + _FORGET_SECONDS
        while True:
            try:
                self._nodes[index] = settle(lambda: self._start_node(index), _SUPERNODE_UP)
            except ProcessError as error:
                if _NOT_LET_IN not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(_RETRY_SECONDS)
            else:
                return

    def refusal(self) -> str:
        """Return what the SuperLink says of a node with an unregistered key; raise if it is let in.

        Such a node ends, as it does when it cannot reach the SuperLink at all.
        """
        key = self.folder / "stranger"
        self.call(commands.node_key(key))
        log = key.with_suffix(".log")
        node = self._supernode(0, key, log)
        try:
            if node.comes_up(_SUPERNODE_UP):
                msg = f"a node with an unregistered key was let in; see {log}"
                raise ProcessError(msg)
            heard = str(node.failure())
        finally:
            node.kill()
        if (
            _NOT_LET_IN not in heard
            or not self._superlink
            or _NO_SUCH_KEY not in self._superlink.text
        ):
            msg = f"a node with an unregistered key ended for another reason: {heard}"
            raise ProcessError(msg)
        return _NO_SUCH_KEY

    def call(self, command: Sequence[str]) -> str:
        """Run a command to its end and return what it printed; raise if it failed."""
        self._show(command)
        try:
            done = subprocess.run(
                command, env=self.environment, cwd=self._work, capture_output=True, text=True
            )
        except FileNotFoundError as error:
            msg = f"{command[0]} is needed for --tls and --auth, and is not in PATH; install it"
            raise ProcessError(msg) from error
        if done.returncode:
            said = (done.stderr + done.stdout).strip()
            msg = f"{' '.join(command)} has ended with {done.returncode}:\n{said}"
            raise ProcessError(msg)
        return done.stdout

    def flwr(self, command: Sequence[str]) -> dict[str, Any]:
        """Run a command of `flwr` and return its answer."""
        answer: dict[str, Any] = json.loads(self.call([*command, "--format", "json"]))
        return answer

    def stop(self) -> None:
        """Stop all processes: nodes first, which say goodbye to their SuperLink."""
        nodes = [node for node in self._nodes if node]
        for node in nodes:
            node.terminate()
        for process in [*nodes, *filter(None, [self._superlink])]:
            process.stop()

    def _start(self) -> None:
        home = self.folder / "flower"
        home.mkdir(parents=True)
        if self.root_certificates:
            self.call(commands.authority(self.folder))
            self.call(commands.certificate(self.folder, _NAMES))
        self._superlink = settle(self._start_superlink, _SUPERLINK_UP)
        connection = commands.connection(self.address, self.root_certificates)
        (home / "config.toml").write_text(connection, encoding="utf-8")
        indices = range(len(self._nodes))
        for index in indices if self._auth else ():
            self.call(commands.node_key(self._key(index)))
            self.flwr(commands.register(self._key(index).with_suffix(".pub")))
        for index in indices:
            self._nodes[index] = self._start_node(index)
        for index in indices:
            start = partial(self._start_node, index)
            self._nodes[index] = settle(start, _SUPERNODE_UP, self._nodes[index])
        if len(online := self.online()) != len(self._nodes):
            msg = f"{len(online)} of {len(self._nodes)} SuperNodes are online; see {self.folder}"
            raise ProcessError(msg)

    def _key(self, index: int) -> Path:
        return self.folder / f"node-{index}"

    def _start_superlink(self) -> Process:
        port = free_port()
        self.address = self.fleet_address = f"{HOST}:{port}"
        tls = self.folder if self.root_certificates else None
        database = self.folder / "superlink.db"
        command = commands.superlink(HOST, port, tls, auth=self._auth, database=database)
        return self._process(command, self.folder / "superlink.log")

    def _start_node(self, index: int) -> Process:
        key = self._key(index) if self._auth else None
        return self._supernode(index, key, self.folder / f"supernode-{index}.log")

    def _supernode(self, index: int, key: Path | None, log: Path) -> Process:
        config: dict[str, int | str] = {
            "partition-id": index,
            "data-dir": str(self._data_dir),
            "state-dir": str(self.state_dir(index)),
        }
        trust = self.root_certificates
        command = commands.supernode(
            self.fleet_address, free_port(), config, root_certificates=trust, key=key
        )
        return self._process(command, log)

    def _process(self, command: Sequence[str], log: Path) -> Process:
        self._show(command)
        return Process(command, log, self.environment, self._work)
