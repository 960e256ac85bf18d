"""The command `scripts/deploy-local`: a job on a SuperLink and SuperNodes of this machine."""

from __future__ import annotations

import argparse
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import psutil

from fedcomp.errors import FedcompError
from scripts.deployment import commands
from scripts.deployment.cluster import Cluster
from scripts.deployment.processes import kill_all

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_STOP_SECONDS = 15.0
_FAILED = 1

DEFAULTS = ("dataset=digits", "rounds=3")
"""Settings of the job that are not given."""


class Stopped(BaseException):
    """A signal that asks to stop."""

    def __init__(self, number: int) -> None:
        self.number = number


def main() -> None:
    """Run the command and exit with the job's code, or 128 and the signal's number."""
    given = _arguments()
    for number in _SIGNALS:
        signal.signal(number, _stop)
    folder = Path(tempfile.mkdtemp(prefix="fedcomp-"))
    try:
        code = _deploy(given, folder)
    except FedcompError as error:
        print(f"scripts/deploy-local: {error}", file=sys.stderr)
        code = _FAILED
    except Stopped as stopped:
        code = 128 + stopped.number
    finally:
        _ignore_signals()
        kill_all(psutil.Process().children(recursive=True))
    if code == _FAILED and list(folder.glob("*.log")):
        print(f"scripts/deploy-local: the logs of all processes are in {folder}", file=sys.stderr)
    else:
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(code)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/deploy-local",
        description="Start a SuperLink and N SuperNodes on this machine, run a job, stop them.",
    )
    parser.add_argument("nodes", type=int, metavar="N", help="how many SuperNodes")
    parser.add_argument("--tls", action="store_true", help="with certificates, made for this run")
    parser.add_argument(
        "--auth", action="store_true", help="let in registered keys only (needs --tls)"
    )
    parser.add_argument("--show", action="store_true", help="print every command that is run")
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="KEY=VALUE",
        help=f"settings of the job, as fedcomp takes them; else {' '.join(DEFAULTS)}",
    )
    given = parser.parse_intermixed_args()
    if given.nodes < 1:
        parser.error(f"N is {given.nodes}; at least 1 node is needed")
    if given.auth and not given.tls:
        parser.error("--auth needs --tls: a SuperLink authenticates nodes over TLS alone")
    return given


def _deploy(given: argparse.Namespace, folder: Path) -> int:
    def show(command: Sequence[str]) -> None:
        if given.show:
            print(f"+ {shlex.join(command)}", flush=True)

    job = {word.split("=")[0]: word for word in (*DEFAULTS, *given.overrides)}
    data_dir = Path(job.get("data_dir", "=data").partition("=")[2]).absolute()
    if "data_dir" not in job and not data_dir.is_dir():
        data_dir = folder / "data"  # for data sets that come with a library
        data_dir.mkdir()
    job["data_dir"] = f"data_dir={data_dir}"
    options = {"tls": given.tls, "auth": given.auth, "data_dir": data_dir, "show": show}
    with Cluster(given.nodes, folder, work=Path.cwd(), **options) as cluster:
        kind = " with TLS" * given.tls + " and authentication" * given.auth
        print(f"{given.nodes} SuperNodes are online at {cluster.address}{kind}", flush=True)
        command = commands.job(
            cluster.address, cluster.root_certificates, given.nodes, *job.values()
        )
        show(command)
        code = _run(command, cluster.environment)
        if given.auth:
            print(f"a node with an unregistered key is refused: {cluster.refusal()}", flush=True)
    return code


def _run(command: Sequence[str], environment: dict[str, str]) -> int:
    """Run the job to its end; if this is stopped, stop it first, as Ctrl-C would."""
    job = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        return job.wait()
    except Stopped:
        _ignore_signals()
        job.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            job.wait(_STOP_SECONDS)
        raise


def _stop(number: int, _: FrameType | None) -> NoReturn:
    _ignore_signals()  # what was started has to be stopped undisturbed
    raise Stopped(number)


def _ignore_signals() -> None:
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


if __name__ == "__main__":
    main()
