"""Submitting a job and following it, against a SuperLink that is made up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tomllib
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from flwr.cli.build import build_fab_from_disk

import fedcomp.engines.command as command
import fedcomp.engines.following as following
import fedcomp.engines.superlink as module
from fedcomp.config import compose_config
from fedcomp.engines.command import FlwrCommand, connected
from fedcomp.errors import EngineError, RunInterrupted
from fedcomp.report.events import EventWriter
from fedcomp.runtime import Hooks
from fedcomp.settings import Job
from fedcomp.setup import Setup
from fedcomp.signals import held_back, interrupting
from fedcomp.wire import keys
from scripts.deployment.cluster import Cluster
from tests.common import QUICK, read_summary
from tests.report.test_events import Watch, written

DONE = {"status": "finished:completed", "status-details": ""}
RUNNING = {"status": "running", "status-details": ""}


class Fake:
    """A SuperLink with a log for each time somebody reads it, and a state for each question."""

    def __init__(self, home: Path, logs: list[list[str]], states: list[Any]) -> None:
        self.home, self.logs, self.states = home, logs, states
        self.stopped: list[str] = []
        self.hooks = Hooks()
        self.on_log: Callable[[], None] = lambda: None
        self.on_submit: Callable[[], None] = lambda: None
        self.on_stop: Callable[[], None] = lambda: None

    def submit(self, app: Path, config: Path) -> str:
        self.on_submit()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of a package that Flower uses
            self.fab = build_fab_from_disk(app)
        self.config = tomllib.loads(config.read_text(encoding="utf-8"))
        return "12"

    def log(self, run: str) -> Any:
        self.on_log()
        text = "".join(self.logs.pop(0))
        show = "import sys; sys.stdout.write(sys.argv[1])"
        arguments = [sys.executable, "-c", show, text]
        return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)

    def state(self, run: str) -> dict[str, Any]:
        found = self.states.pop(0)
        if isinstance(found, Exception):
            raise found
        return dict(found)

    def stop(self, run: str) -> None:
        self.on_stop()
        self.stopped.append(run)


def run(
    monkeypatch: pytest.MonkeyPatch, folder: Path, logs: list[list[str]], states: list[Any]
) -> tuple[Fake, Watch, Callable[[], None]]:
    """Return a SuperLink, an observer, and what runs a job on the one before the other."""
    (folder / "home").mkdir()
    fake, watch = Fake(folder / "home", logs, states), Watch()

    @contextmanager
    def to_fake(*_: object) -> Iterator[Fake]:
        yield fake

    monkeypatch.chdir(folder)
    monkeypatch.setattr(module, "connected", to_fake)
    monkeypatch.setattr(following, "PAUSE_SECONDS", 0.0)
    config = compose_config([*QUICK, "engine=superlink"])
    job = Job(config, "r", str(folder / "outputs" / "x"), "outputs/x", began=True)
    fake.hooks = Hooks([watch])
    return fake, watch, lambda: job.settings.engine.run(job, Setup(job.settings), fake.hooks)


def traffic(inbound: int, outbound: int) -> dict[str, Any]:
    return {**DONE, "network-traffic": {"inbound-bytes": inbound, "outbound-bytes": outbound}}


def test_a_run_is_told_and_its_summary_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    fake, watch, go = run(monkeypatch, tmp_path, [["noise\n", *written(2)]], [traffic(60, 50)])
    go()
    assert [r.round for r, _ in watch.results] == [0, 1, 2]
    assert (watch.ends, fake.stopped) == (1, [])
    assert read_summary(tmp_path / "outputs" / "x") == {
        "rounds": 2,
        "server_folder": "/srv/run",
        "superlink_counted_bytes": {"inbound": 60, "outbound": 50},
    }
    assert capfd.readouterr() == ("", "")


def test_the_app_holds_two_lines_a_side_and_the_job_is_in_its_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake, _, go = run(monkeypatch, tmp_path, [written(0)], [DONE])
    go()
    assert len(fake.fab) < 5000
    (key, text), *others = fake.config.items()
    assert (key, others) == (keys.RUN_CONFIG, [])
    sent = Job.from_json(text)
    assert (sent.run_id, sent.folder, sent.began) == ("r", "outputs/x", True)
    assert str(tmp_path) not in text
    app = fake.home / "app"
    for side in ("server", "client"):
        source = (app / f"fedcomp_{side}.py").read_text()
        assert source.splitlines()[-1] == "app = make_app()"
    declared = tomllib.loads((app / "pyproject.toml").read_text())["tool"]["flwr"]["app"]
    assert declared["config"] == {keys.RUN_CONFIG: ""}


def test_a_broken_connection_is_taken_up_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = written(3)
    logs = [lines[:2], lines[:3], lines]
    states = [RUNNING, EngineError("flwr ls failed"), RUNNING, DONE]
    _, watch, go = run(monkeypatch, tmp_path, [*logs, lines], states)
    go()
    assert [r.round for r, _ in watch.results] == [0, 1, 2, 3]


def test_a_superlink_that_is_gone_ends_the_wait_and_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    gone = [EngineError("flwr ls failed: unavailable")] * 5
    fake, _, go = run(monkeypatch, tmp_path, [written(1)[:2]] * 5, gone)
    with pytest.raises(EngineError, match=r"does not answer any more: flwr ls failed: unavail"):
        go()
    assert fake.stopped == []
    said = capfd.readouterr().err
    assert "Flower's run 12 is left alone and may go on at 127.0.0.1:8000: flwr stop 12" in said
    assert "what there is of the run lies in /srv/run on the server" in said


@pytest.mark.parametrize("tries", [1, 2, 3])
def test_a_summary_that_was_lost_is_looked_for(
    tries: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    whole = written(1)
    logs = [whole[:-1]] * tries + [whole] * (3 - tries)
    _, watch, go = run(monkeypatch, tmp_path, logs, [DONE])
    go()
    assert ([r.round for r, _ in watch.results], watch.ends) == ([0, 1], 1)
    assert (tmp_path / "outputs" / "x" / "summary.json").exists() == (tries < 3)
    assert ("did not arrive: it lies in /srv/run" in capfd.readouterr().err) == (tries == 3)


def test_a_broken_disk_here_does_not_end_the_run_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    fake, _, go = run(monkeypatch, tmp_path, [], [])

    def fail() -> None:
        raise OSError("no room")

    fake.on_log = fail
    with pytest.raises(OSError, match="no room"):
        go()
    assert fake.stopped == []
    assert "Flower's run 12 is left alone" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("status", "details", "message"),
    [
        ("failed", "ServerApp failed with exception: no disk", r"^no disk$"),
        ("failed", "No heartbeat received", r"^the run failed: No heartbeat received$"),
        ("stopped", "", r"^the run was stopped: no reason was given$"),
    ],
)
def test_the_reason_of_a_failure_reaches_the_user(
    status: str, details: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = {"status": f"finished:{status}", "status-details": details}
    fake, _, go = run(monkeypatch, tmp_path, [written(1)], [state])
    with pytest.raises(EngineError, match=message):
        go()
    assert fake.stopped == []
    assert read_summary(tmp_path / "outputs" / "x")["rounds"] == 1


def test_ctrl_c_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake, _, go = run(monkeypatch, tmp_path, [], [])

    def press() -> None:
        raise KeyboardInterrupt

    fake.on_log = press
    with pytest.raises(KeyboardInterrupt):
        go()
    assert fake.stopped == ["12"]


@pytest.mark.parametrize("error", [EngineError("flwr stop failed: no way"), KeyboardInterrupt()])
def test_a_run_that_cannot_be_stopped_is_named(
    error: BaseException,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    fake, _, go = run(monkeypatch, tmp_path, [written(5)], [])

    def fail() -> None:
        raise error

    fake.on_log, fake.on_stop = fake.hooks.stop.set, fail
    with pytest.raises(RunInterrupted):
        go()
    why = str(error) or "interrupted"
    said = capfd.readouterr().err
    assert f"Flower's run 12 was not stopped ({why}) and may still go on at 127.0.0.1:8000" in said
    assert "left alone" not in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("moment", ["on_submit", "on_log"])
def test_whatever_ends_the_command_stops_the_run(
    number: signal.Signals, moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it is submitted, too: nothing may come between that and its name."""
    fake, _, go = run(monkeypatch, tmp_path, [written(5)], [])
    done: list[int] = []

    def press() -> None:
        signal.raise_signal(number)
        done.append(number)

    setattr(fake, moment, press)
    outside = [0]
    usual = signal.default_int_handler if number == signal.SIGINT else lambda *_: outside.append(1)
    before = signal.signal(number, usual)
    try:
        if number != signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)
        with (
            pytest.raises((KeyboardInterrupt, RunInterrupted)),
            interrupting(fake.hooks, remote=True),
        ):
            go()
        assert signal.getsignal(number) == (
            signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        )
    finally:
        signal.signal(number, before)
    assert done == ([number] if moment == "on_submit" else [])
    assert fake.stopped == ["12"]


def test_what_is_ignored_stays_so(tmp_path: Path) -> None:
    """As by nohup, which lets a run outlive its terminal."""
    hooks = Hooks()
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interrupting(hooks, remote=True), held_back(hooks.stop):
            signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    assert not hooks.stop.is_set()


@pytest.mark.parametrize(
    ("address", "warned"),
    [("127.0.0.1:80", 0), ("[::1]:80", 0), ("localhost:80", 0), ("127.example.org:80", 1)],
)
def test_plain_http_to_others_is_warned_of(
    address: str,
    warned: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    fake, _, _ = run(monkeypatch, tmp_path, [written(1)], [DONE])
    words = [*QUICK, "engine=superlink", f"engine.address='{address}'"]
    job = Job(compose_config(words), "r", str(tmp_path / "x"))
    job.settings.engine.run(job, Setup(job.settings), fake.hooks)
    assert capfd.readouterr().err.count(f"plain HTTP to {address}") == warned


def test_an_order_to_stop_is_obeyed_where_ctrl_c_went_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake, _, go = run(monkeypatch, tmp_path, [written(5)], [])
    fake.on_log = fake.hooks.stop.set
    with pytest.raises(RunInterrupted):
        go()
    assert fake.stopped == ["12"]


def test_traffic_that_differs_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    lines: list[str] = []
    expected = {"superlink_bytes": {"inbound": 500, "outbound": 500}}
    EventWriter(lines.append).say("summary", summary=expected)
    _, _, go = run(monkeypatch, tmp_path, [lines], [traffic(500, 520)])
    go()
    said = capfd.readouterr().err
    assert "counted 1020 bytes, by our own account of the messages it should be 1000" in said


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            'print(\'{"success": false, "error-message": "Using SuperLink: x\\\\nno\\\\nroom"}\')',
            r"^flwr ls failed: no room$",
        ),
        ("import sys; sys.exit('Error: broken')", r"^flwr ls failed: Error: broken$"),
        ("import sys; sys.exit(3)", r"^flwr ls failed: exit code 3$"),
        ("print('{nonsense')", r"^flwr ls failed: \{nonsense$"),
    ],
)
def test_what_flwr_complains_about_becomes_one_line(
    code: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "_flwr", lambda: [sys.executable, "-c", code])
    with pytest.raises(EngineError, match=message):
        FlwrCommand(tmp_path).state("1")


@pytest.mark.parametrize(("word", "may_run"), [("run", True), ("ls", False)])
def test_a_submission_without_an_answer_may_have_worked(
    word: str, may_run: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "import time; time.sleep(60)"
    monkeypatch.setattr(command, "_flwr", lambda: [sys.executable, "-c", code])
    monkeypatch.setattr(command, "_SECONDS", 0.01)
    with pytest.raises(EngineError, match=r"no answer within 0\.01 s") as caught:
        FlwrCommand(tmp_path).call(word)
    assert ("the job may run all the same" in str(caught.value)) == may_run


def test_flwr_is_asked_offline_with_a_configuration_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "import json, os, pathlib, sys; home = pathlib.Path(os.environ['FLWR_HOME']);"
        "text = (home / 'config.toml').read_text();"
        "found = dict(os.environ, text=text, words=sys.argv[1:], home=str(home));"
        "print(json.dumps({'success': True, 'runs': [found]}))"
    )
    monkeypatch.setattr(command, "_flwr", lambda: [sys.executable, "-c", code])
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("NO_PROXY", "intranet")
    with connected("[::1]:80", tmp_path / "ca.crt") as flwr:
        found = flwr.state("7")
    assert found["no_proxy"] == found["NO_PROXY"] == "intranet,::1"
    assert os.environ["NO_PROXY"] == "intranet"
    assert found["words"] == ["ls", "fedcomp", "--run-id", "7", "--format", "json"]
    assert {key: found[key] for key in command.OFFLINE} == command.OFFLINE
    connection = tomllib.loads(found["text"])["superlink"]["fedcomp"]
    assert connection == {"address": "[::1]:80", "root-certificates": str(tmp_path / "ca.crt")}
    assert not Path(found["home"]).exists()
    with connected("host:80", None) as flwr:
        text = flwr.state("7")["text"]
    assert tomllib.loads(text)["superlink"]["fedcomp"] == {"address": "host:80", "insecure": True}


def test_the_real_command_is_found_and_answers(tmp_path: Path) -> None:
    done = subprocess.run([*command._flwr(), "--version"], capture_output=True, text=True)
    assert "Flower version" in done.stdout


def test_a_cluster_on_this_machine_needs_no_proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "intranet")
    environment = Cluster(1, tmp_path).environment
    assert environment["no_proxy"] == environment["NO_PROXY"] == "intranet,127.0.0.1"
