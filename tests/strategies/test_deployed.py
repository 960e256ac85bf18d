"""The server's side of a deployment, on a grid in this process."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Context, RecordDict

import fedcomp.engines.inline as inline
import strategies.app
import strategies.counted
from clients.app import make_app as client_app
from fedcomp.config import compose_config, stored_group
from fedcomp.errors import ConfigError, DataError, EngineError
from fedcomp.report.events import EventReader
from fedcomp.settings import Job
from fedcomp.wire import keys
from fedcomp.wire.private import assume_identity
from strategies.app import make_app
from tests.common import QUICK, read_csv, read_summary, run_inline
from tests.report.test_events import Watch

WORDS = (*QUICK, "clients=2", "codec@uplink=topk", "link.verify=true")
SAVED = (".csv", ".json", ".yaml", ".safetensors")
REMOTE = (*WORDS, "engine=superlink", "engine.start_timeout=0.5")


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strategies.counted, "PAUSE_SECONDS", 0.0)
    (tmp_path / "server").mkdir()
    monkeypatch.chdir(tmp_path / "server")


@pytest.fixture
def deployed(tmp_path: Path) -> Callable[..., None]:
    """Return what runs a deployment: the run config, and the nodes' configurations."""

    def run(run_config: dict[str, str], *nodes: dict[str, object]) -> None:
        number = assume_identity()

        def context(node: int, config: Any) -> Context:
            return Context(number, node, config, RecordDict(), dict(run_config))

        given = [{"state-dir": str(tmp_path / f"state{at}"), **c} for at, c in enumerate(nodes)]
        contexts = {1000 + at: context(1000 + at, config) for at, config in enumerate(given)}
        make_app()(grid=inline._grid(client_app(), contexts), context=context(0, {}))

    return run


def sent(*words: str, folder: str = "outputs/x", began: bool = False) -> dict[str, str]:
    """Return the run config of a whole job."""
    job = Job(compose_config([*REMOTE, *words]), "0123456789abcdef", folder, began=began)
    return {keys.RUN_CONFIG: job.to_json()}


PARTS: tuple[dict[str, object], ...] = ({"partition-id": 0}, {"partition-id": 1})


def followed(text: str) -> tuple[Watch, dict[str, Any]]:
    """Return what the events in an output tell."""
    watch, notices = Watch(), dict[str, Any]()
    reader = EventReader([watch], lambda kind, event: notices.setdefault(kind, event))
    for line in text.splitlines():
        reader.read(line)
    return watch, notices


def test_a_deployment_in_this_process_equals_a_simulation(
    deployed: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluated = "strategy.fraction_evaluate=1.0"
    deployed(sent(evaluated), *PARTS)
    here = tmp_path / "server" / "outputs" / "x"
    simulated = run_inline(tmp_path / "inline", evaluated, quick=WORDS)
    models = [(folder / "model.safetensors").read_bytes() for folder in (here, simulated)]
    assert models[0] == models[1]
    watch, notices = followed(capsys.readouterr().out)
    assert [str(result.round) for result, _ in watch.results] == ["0", "1", "2"]
    assert [f"{r.metrics['accuracy']}" for r, _ in watch.results] == [
        row["accuracy"] for row in read_csv(here / "rounds.csv")
    ]
    assert notices["folder"] == {"folder": str(here)}
    summary = read_summary(here)
    assert notices["summary"] == {"summary": summary}
    counted, messages = (
        sum(summary["superlink_bytes"].values()),
        len(read_csv(here / "packets.csv")),
    )
    assert 800 * messages < counted - summary["message_bytes"] < 2000 * messages
    assert stored_group(here, "model")["name"] == "mlp"
    assert "superlink_bytes" not in read_summary(simulated)


def test_sites_have_names_and_data_of_their_own(
    deployed: Callable[..., None], tmp_path: Path
) -> None:
    """One site has a part of the common data, the other one all that it finds."""
    own: dict[str, object] = {"data": "local", "site": "north.1"}
    deployed(sent(), {"partition-id": 1, "site": "b"}, own)
    rows = read_csv(tmp_path / "server" / "outputs" / "x" / "packets.csv")
    clients = [row["client"] for row in rows if row["purpose"] == "train" and row["round"] == "1"]
    assert sorted(clients) == ["b", "b", "north.1", "north.1"]
    states = tmp_path.glob("state*/0123456789abcdef/sites/*/state.json")
    assert sorted(path.parent.name for path in states) == ["b", "north.1"]


def test_words_of_the_command_line_run_too_and_people_can_read_it(
    deployed: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = " ".join(f"'{word}'" for word in WORDS if not word.startswith("engine="))
    config = {keys.RUN_CONFIG: "", keys.OVERRIDES: f"{text} method=half"}
    deployed(config, *PARTS, {"partition-id": 5})
    output = capsys.readouterr().out
    (run,) = (tmp_path / "server").glob("outputs/*/*-half-digits")
    assert "fedcomp-event" not in output
    assert "node 1002 is left out: node config: partition-id=5: the job has 2 clients" in output
    assert "round 2/2  accuracy" in output
    assert f"{read_summary(run)['final_accuracy']:.4f} after 2 rounds" in output


def test_refused_nodes_are_told_of_while_the_run_waits(
    deployed: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(
        EngineError, match=r"1 of 2 clients are there .*; node 1001 was refused: no"
    ):
        deployed(sent(), PARTS[0], {})
    _, notices = followed(capsys.readouterr().out)
    assert notices["warning"]["text"].startswith("node 1001 is left out: node config: names nei")
    assert "summary" not in notices


def test_what_the_server_lacks_ends_the_run_in_one_line(deployed: Callable[..., None]) -> None:
    config = sent("dataset=cifar10", "data_dir=nothing")
    with pytest.raises(EngineError, match=r"^on the server, in the folder /.*: cifar10: not found"):
        deployed(config, *PARTS)


def test_a_folder_that_cannot_be_written_ends_the_run(
    deployed: Callable[..., None], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    config = sent(folder=str(tmp_path / "file" / "run"))
    with pytest.raises(EngineError, match=r"file/run cannot be written on the server: Not a dir"):
        deployed(config, *PARTS)


def test_wrong_words_end_the_run_with_all_that_is_wrong(deployed: Callable[..., None]) -> None:
    config = {keys.RUN_CONFIG: "", keys.OVERRIDES: "rouns=3 clients=0"}
    with pytest.raises(ConfigError) as caught:
        deployed(config, *PARTS)
    assert len(caught.value.problems) == 2


def test_a_run_that_goes_on_says_nothing_old_and_keeps_its_new_settings(
    deployed: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The clients are gone when it is resumed, so that it has no summary of its own."""
    deployed(sent("rounds=1"), *PARTS)
    here = tmp_path / "server" / "outputs" / "x"
    assert stored_group(here, "engine")["start_timeout"] == 0.5
    capsys.readouterr()
    with pytest.raises(EngineError, match=r"0 of 2 clients are there after 0\.25 s"):
        deployed(sent("engine.start_timeout=0.25", began=True))
    _, notices = followed(capsys.readouterr().out)
    assert (here / "summary.json").exists()
    assert notices["folder"] == {"folder": str(here)}
    assert "summary" not in notices
    assert stored_group(here, "engine")["start_timeout"] == 0.5
    deployed(sent("rounds=2", "engine.start_timeout=0.75", began=True), *PARTS)
    assert stored_group(here, "engine")["start_timeout"] == 0.75


def test_a_job_does_not_take_the_folder_of_another_run(
    deployed: Callable[..., None], tmp_path: Path
) -> None:
    deployed(sent("rounds=1"), *PARTS)
    here = tmp_path / "server" / "outputs" / "x"
    before = {path: path.read_bytes() for path in here.rglob("*.*") if path.suffix in SAVED}
    other = Job.from_json(str(sent("rounds=2")[keys.RUN_CONFIG]))
    config = {keys.RUN_CONFIG: replace(other, run_id="fedcba9876543210").to_json()}
    with pytest.raises(DataError, match=r"is of another run, .*: name another folder"):
        deployed(config, *PARTS)
    assert {path: path.read_bytes() for path in before} == before
    shutil.rmtree(here / "checkpoint")
    with pytest.raises(EngineError, match=r"holds a run already on the server; name another"):
        deployed(config, *PARTS)


def test_a_damaged_summary_does_not_hide_why_a_run_failed(
    deployed: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(grid: Any, job: Job, *_: object) -> None:
        (Path(job.folder) / "summary.json").write_text("{")
        raise EngineError("this is why")

    monkeypatch.setattr(strategies.app, "serve", fail)
    with pytest.raises(EngineError, match=r"^this is why$"):
        deployed(sent(), *PARTS)


@pytest.mark.parametrize("lost", ["folder", "checkpoints"])
def test_a_run_that_had_begun_does_not_begin_again(
    lost: str, deployed: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployed(sent("rounds=1"), *PARTS)
    here = tmp_path / "server"
    if lost == "folder":
        here = tmp_path / "elsewhere"
        here.mkdir()
        monkeypatch.chdir(here)
    else:
        for path in here.glob("outputs/x/checkpoint/round-*/state.json"):
            path.unlink()
    with pytest.raises(DataError, match=r"had begun, and /.*/outputs/x holds no checkpoint of it"):
        deployed(sent(began=True), *PARTS)
    assert not (here / "outputs/x/checkpoint/round-000002").exists()
