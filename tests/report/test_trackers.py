"""Trackers: what they are told, and that nothing of them reaches the run."""

from __future__ import annotations

import json
import logging
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from importlib.util import find_spec
from pathlib import Path
from threading import Event, current_thread, main_thread
from threading import enumerate as threads
from typing import Any, ClassVar

import pytest

from fedcomp import cli, registry
from fedcomp.commands import EXIT_USAGE
from fedcomp.config import compose_config
from fedcomp.errors import ConfigError, RunInterrupted
from fedcomp.report.observer import Observer
from fedcomp.report.trackers import TRACKERS, TrackedRun, Tracker, TrackerSettings, tracked
from fedcomp.runtime import Hooks
from fedcomp.settings import Job, parse
from fedcomp.setup import Setup
from tests.common import QUICK, interrupt, read_csv, read_summary, run_inline

HOOKS = ("create", "start", "log", "end")
TOLD: list[tuple[str, Any]] = []
RELEASE = Event()


@dataclass(frozen=True)
class Fake(TrackerSettings):
    """Keeps what it is told, and fails where it is to.

    Parameters
    ----------
    fails
        The hook that raises.
    hangs
        The hook that does not return.
    """

    name: ClassVar[str] = "fake"

    fails: str = ""
    hangs: str = ""

    def create(self) -> Tracker:
        note(self, "create", current_thread() is main_thread())
        return Told(self)


class Told(Tracker):
    def __init__(self, settings: Fake) -> None:
        self._settings = settings

    def start(self, run: TrackedRun) -> None:
        note(self._settings, "start", run)

    def log(self, round_number: int, values: Mapping[str, float]) -> None:
        note(self._settings, "log", (round_number, values))

    def end(self, summary: Mapping[str, Any]) -> None:
        note(self._settings, "end", summary)


def note(settings: Fake, hook: str, what: object) -> None:
    TOLD.append((hook, what))
    if settings.hangs == hook:
        RELEASE.wait()
    if settings.fails == hook:
        kind = SystemExit if hook == "start" else OSError
        raise kind("no space\nleft")


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the words that choose a tracker of another package."""
    folder = tmp_path / "their conf" / "tracker"
    folder.mkdir(parents=True)
    (folder / "fake.yaml").write_text("name: fake\nfails: ''\nhangs: ''\n")
    point = EntryPoint("fake", f"{__name__}:Fake", "fedcomp.trackers")
    monkeypatch.setattr(
        registry, "entry_points", lambda group: [point] if group == point.group else []
    )
    monkeypatch.setattr(TRACKERS, "_entries", dict(TRACKERS._entries))
    monkeypatch.setattr(TRACKERS, "_entry_points_read", False)
    TOLD.clear()
    return [f"hydra.searchpath=['file://{folder.parent}']", "tracker=fake"]


def rows_of(folder: Path) -> list[tuple[int, dict[str, float]]]:
    """Return what a tracker is to be told of a run's rounds."""
    found, total, training, reference = [], 0, 0, 0
    parameters = read_summary(folder)["parameters"]
    for row in read_csv(folder / "rounds.csv"):
        number = int(row.pop("round"))
        values = {name: float(cell) for name, cell in row.items() if cell}
        sent = int(row["uplink_bytes"]) + int(row["downlink_bytes"])
        training, total = training + sent, total + sent + int(row["evaluation_bytes"])
        reference += 2 * 4 * parameters * int(row["clients"])
        values["total_bytes"] = total
        if training:
            values["compression_ratio"] = reference / training
        found.append((number, values))
    return found


def test_a_tracker_of_another_package_is_told_all_of_a_run(tmp_path: Path, fake: list[str]) -> None:
    run = run_inline(tmp_path / "run", *fake)
    assert [hook for hook, _ in TOLD] == ["create", "start", "log", "log", "log", "end"]
    assert TOLD[0][1] is False  # not in the main thread, whose time is the run's
    started = TOLD[1][1]
    config = compose_config([*QUICK, *fake])
    assert started == TrackedRun(config, tmp_path / "run", "test")
    assert started.name == "run"
    assert [what for hook, what in TOLD if hook == "log"] == rows_of(run)
    summary = read_summary(run)
    assert TOLD[-1][1] == summary
    assert rows_of(run)[-1][1]["total_bytes"] == summary["total_bytes"]
    assert rows_of(run)[-1][1]["compression_ratio"] == summary["compression_ratio"]


@pytest.mark.parametrize("hook", HOOKS)
def test_a_tracker_that_fails_is_left_out_with_one_line(
    hook: str, tmp_path: Path, fake: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    whole = run_inline(tmp_path / "whole")
    run = run_inline(tmp_path / "run", *fake, f"tracker.fails={hook}")
    assert read_summary(run)["status"] == "finished"
    assert (run / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    lines = [record for record in caplog.records if record.name == tracked.__name__]
    kind = "SystemExit" if hook == "start" else "OSError"
    assert [(line.levelno, line.getMessage()) for line in lines] == [
        (
            logging.WARNING,
            f"tracker=fake fails, the run goes on without it: {kind}: no space left",
        )
    ]
    told = [hook for hook, _ in TOLD]
    assert told == [*HOOKS[: HOOKS.index(hook)], hook] if hook != "end" else told[-1] == "end"


@pytest.mark.parametrize("hook", HOOKS)
def test_a_tracker_that_hangs_is_not_waited_for(
    hook: str,
    tmp_path: Path,
    fake: list[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tracked, "PATIENCE_SECONDS", 0.05)
    RELEASE.clear()
    try:
        run = run_inline(tmp_path / "run", *fake, f"tracker.hangs={hook}")
        assert read_summary(run)["status"] == "finished"
        (line,) = (record for record in caplog.records if record.name == tracked.__name__)
        assert line.getMessage().endswith("it is still at work 0.05 s after the run's end")
    finally:
        RELEASE.set()
        for thread in threads():
            if thread.name == "tracker":
                thread.join()


def test_a_run_that_ends_before_its_first_round_has_no_summary_to_tell(
    tmp_path: Path, fake: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr("strategies.app.evaluate", fail)
    with pytest.raises(RuntimeError, match="no"):
        run_inline(tmp_path / "run", *fake)
    assert [hook for hook, _ in TOLD] == ["create", "start", "end"]
    assert TOLD[-1][1] == {}


def test_a_resumed_run_says_where_it_goes_on(tmp_path: Path, fake: list[str]) -> None:
    whole = run_inline(tmp_path / "whole", "rounds=4")
    run = run_inline(tmp_path / "run", *fake)
    job = Job(compose_config([*QUICK, *fake, "rounds=4"]), "test", str(run), began=True)
    TOLD.clear()
    job.settings.engine.run(job, Setup(job.settings), Hooks())
    assert TOLD[1][1].resumed == 2
    assert [what for hook, what in TOLD if hook == "log"] == rows_of(run)[2:]
    assert (run / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


@pytest.mark.parametrize("name", ["mlflow", "tensorboard", "wandb"])
def test_an_absent_package_is_named_before_anything_starts(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fedcomp.report.trackers.base.find_spec", lambda _: None)
    with pytest.raises(SystemExit) as left:
        cli.main([*QUICK, f"tracker={name}"])
    assert left.value.code == EXIT_USAGE
    assert capfd.readouterr().err == (
        f"fedcomp: tracker={name}: the package {name} is not installed; pip install"
        f" 'fedcomp[{name}]', or leave it at tracker=csv\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_the_terminal_and_the_log_have_the_line(
    tmp_path: Path,
    fake: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as left:
        cli.main([*QUICK, *fake, "tracker.fails=log", "hydra.run.dir=run"])
    assert left.value.code == 0
    text = "tracker=fake fails, the run goes on without it: OSError: no space left"
    assert capfd.readouterr().err == f"fedcomp: {text}\n"
    (line,) = (x for x in (tmp_path / "run" / "run.log").read_text().splitlines() if "fake" in x)
    assert line.endswith(text)


@pytest.mark.parametrize("group", ["tracker", "sweep"])
def test_a_run_may_go_on_with_another_tracker(group: str) -> None:
    from fedcomp.resume import Start

    start = Start("1", [], json.loads(json.dumps(compose_config([]))))
    start.check(compose_config(["tracker=tensorboard", "tracker.dir=x", "resume_allow=[]"]))
    del start.config[group]
    start.check(compose_config(["resume_allow=[]"]))


def test_ctrl_c_does_not_wait_for_a_tracker(tmp_path: Path) -> None:
    """With the real TensorBoard, where it is installed."""
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed")
    words = (*QUICK, "rounds=100000", "tracker=tensorboard")
    assert "interrupted" in interrupt(tmp_path, *words)


def scalars(folder: Path) -> dict[int, dict[str, float]]:
    """Return what TensorBoard's own reader finds, by round."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    reader = EventAccumulator(str(folder))
    reader.Reload()
    found: dict[int, dict[str, float]] = {}
    for name in reader.Tags()["scalars"]:
        for event in reader.Scalars(name):
            values = found.setdefault(event.step, {})
            assert name not in values, f"{name} of round {event.step} is there twice"
            values[name] = event.value
    return found


def test_tensorboard_shows_the_rows_of_the_table(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed")
    run = run_inline(tmp_path / "run", "tracker=tensorboard", "rounds=3")
    assert_same(scalars(run / "tensorboard"), run)


def test_tensorboard_holds_rounds_once_where_a_run_went_on(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed")
    words = (f"tracker.dir={tmp_path / 'boards'}", "tracker=tensorboard", "checkpoint_every=2")
    run = tmp_path / "run"

    class Killer(Observer):
        """Ends the run after a round that no checkpoint holds."""

        def on_round(self, result: Any) -> None:
            if result.round == 3:
                raise RunInterrupted

    with pytest.raises(RunInterrupted):
        run_inline(run, *words, "rounds=5", observers=[Killer()])
    (board,) = (tmp_path / "boards").iterdir()
    assert board.name.startswith("run-")
    assert set(scalars(board)) == {0, 1, 2, 3}
    run_inline(run, *words, "rounds=5", resumed=True)
    assert_same(scalars(board), run)
    assert not (run / "tensorboard").exists()


def assert_same(found: dict[int, dict[str, float]], run: Path) -> None:
    rows = rows_of(run)
    assert sorted(found) == [number for number, _ in rows]
    for number, values in rows:
        assert found[number] == pytest.approx(values, rel=1e-6)  # events hold float32


needs_mlflow = pytest.mark.skipif(not find_spec("mlflow"), reason="MLflow is not installed")


@needs_mlflow
@pytest.mark.filterwarnings("ignore")
def test_mlflow_goes_on_in_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    monkeypatch.chdir(tmp_path)
    run = run_inline(tmp_path / "run", "tracker=mlflow")
    run_inline(run, "tracker=mlflow", "rounds=4", resumed=True)
    client = MlflowClient("sqlite:///mlflow.db")
    place = client.get_experiment_by_name("fedcomp").experiment_id
    (found,) = client.search_runs([place])
    assert (found.info.run_name, found.info.status) == ("run", "FINISHED")
    assert found.data.params["train.lr"] == "0.05"
    rows = rows_of(run)
    for name in ("accuracy", "total_bytes", "compression_ratio"):
        history = client.get_metric_history(found.info.run_id, name)
        expected = {number: values[name] for number, values in rows if name in values}
        assert sorted(metric.step for metric in history) == sorted(expected)
        assert {metric.step: metric.value for metric in history} == expected


@pytest.mark.skipif(not find_spec("wandb"), reason="Weights & Biases is not installed")
@pytest.mark.filterwarnings("ignore")
def test_wandb_writes_its_files_without_a_network(tmp_path: Path) -> None:
    words = ("tracker=wandb", "tracker.mode=offline")
    run = run_inline(tmp_path / "run", *words)
    run_inline(run, *words, "rounds=4", resumed=True)
    steps = [history(path) for path in sorted(run.glob("wandb/offline-run-*/run-test.wandb"))]
    assert [list(part) for part in steps] == [[0, 1, 2], [3, 4]]
    told = {**steps[0], **steps[1]}
    for number, values in rows_of(run):
        for name in ("accuracy", "total_bytes"):
            assert told[number][name] == values[name]


def history(path: Path) -> dict[int, dict[str, float]]:
    """Return what an offline file of Weights & Biases says, by step."""
    from wandb.proto import wandb_internal_pb2

    found: dict[int, dict[str, float]] = {}
    for data in log_records(path.read_bytes()):
        record = wandb_internal_pb2.Record.FromString(data)
        if record.WhichOneof("record_type") == "history":
            items = {
                item.key or ".".join(item.nested_key): json.loads(item.value_json)
                for item in record.history.item
            }
            assert record.history.step.num not in found
            found[record.history.step.num] = items
    return found


def log_records(data: bytes) -> Iterator[bytes]:
    """Yield the records of a file of LevelDB's log format, after the seven bytes of its name."""
    block, header = 32768, struct.Struct("<IHB")  # checksum, length, which part of a record
    at, record = 7, b""
    while at + header.size <= len(data):
        if block - at % block < header.size:
            at += block - at % block  # a header never lies in two blocks
            continue
        _, length, part = header.unpack_from(data, at)
        at += header.size
        record += data[at : at + length]
        at += length
        if part in (1, 4):  # the whole, the last
            yield record
            record = b""


def test_csv_adds_nothing(tmp_path: Path) -> None:
    assert parse(compose_config(QUICK)).tracker.create() is None
    names = {path.name for path in run_inline(tmp_path / "run").iterdir()}
    assert names == {path.name for path in run_inline(tmp_path / "x", "tracker=csv").iterdir()}


@pytest.mark.parametrize("word", ["tracker=tensorbord", "tracker.dir=x", "tracker.name=none"])
def test_a_wrong_tracker_is_explained(word: str) -> None:
    with pytest.raises(ConfigError, match=r"did you mean tensorboard|no key tracker.dir|unknown"):
        compose_config([word])
