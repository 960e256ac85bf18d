"""What a node of a deployment is told by its owner, and what it says to a job it cannot do."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict

import clients.app
import fedcomp.settings
from clients.app import Client, introduce
from clients.node import Node, check_folders, deployed, simulated
from clients.states import KEPT_DAYS, forget_old, open_states
from fedcomp.config import compose_config
from fedcomp.errors import ConfigError, LinkError
from fedcomp.settings import Job
from fedcomp.setup import Setup
from fedcomp.wire import keys
from fedcomp.wire.fields import EXCHANGE_BYTES, Downlink
from fedcomp.wire.private import assume_identity
from fedcomp.wire.records import blob_record, downlink_record
from tests.common import QUICK

RUN = "0123456789abcdef"


def config_of(**given: object) -> dict[str, object]:
    return {key.replace("_", "-"): value for key, value in given.items()}


@pytest.mark.parametrize(
    ("given", "node"),
    [
        ({"partition_id": 3}, Node("3", 3)),
        ({"partition_id": 0, "site": "north", "num_partitions": 9}, Node("north", 0)),
        ({"data": "local", "site": "hospital-a"}, Node("hospital-a", None)),
        ({"data": "local", "partition_id": 9}, Node("9", None)),
        (
            {"partition_id": 1, "data_dir": "/data", "state_dir": "/state", "memory": "32 GB"},
            Node("1", 1, "/data", Path("/state")),
        ),
    ],
)
def test_node_configs_that_make_sense(given: dict[str, object], node: Node) -> None:
    found = deployed(config_of(**given), 4)
    assert replace(found, state_dir=node.state_dir.expanduser()) == replace(
        node, state_dir=node.state_dir.expanduser()
    )


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({}, r'names neither partition-id=0 … 3 nor data="local"'),
        ({"partition_id": 4}, r"partition-id=4: the job has 4 clients, 0 to 3"),
        ({"partition_id": -1}, r"partition-id=-1: the job has 4 clients, 0 to 3"),
        ({"partition_id": "1"}, r"partition-id='1': must be a whole number"),
        ({"partition_id": True}, r"partition-id=True: must be a whole number"),
        ({"data": "local"}, r'data="local" needs a name: site="…"'),
        ({"data": "remote", "partition_id": 1}, r"data='remote': only data=\"local\" is known"),
        ({"partition_id": 1, "site": "../x"}, r"site='\.\./x': must be 1 to 64 letters"),
        ({"partition_id": 1, "site": ".."}, r"site='\.\.': must be"),
        ({"partition_id": 1, "site": "a" * 65}, r"must be 1 to 64"),
        ({"partition_id": 1, "data_dir": 7}, r"data-dir=7: must be a text"),
        ({"partition_id": 1, "data_dir": ""}, r"data-dir='': must be a text"),
        ({"partitionid": 1}, r"partitionid: unknown; did you mean partition-id\?"),
        ({"partition_id": 1, "state_dirr": "/x"}, r"state-dirr: unknown; did you mean state-dir\?"),
    ],
)
def test_node_configs_that_do_not(given: dict[str, object], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        deployed(config_of(**given), 4)


def test_seeds_of_partitions_are_those_of_simulations() -> None:
    """A named site with a partition trains as the partition does in a simulation."""
    assert deployed(config_of(partition_id=2, site="north"), 4).number == 2
    assert simulated({"partition-id": 2}).number == 2
    named = [deployed(config_of(data="local", site=site), 4).number for site in ("a", "b", "7")]
    assert len({*named, 7}) == 4
    assert named == [deployed(config_of(data="local", site=s), 9).number for s in ("a", "b", "7")]


def test_folders_that_cannot_be_used(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    check_folders(Node("0", 0, str(tmp_path), tmp_path / "new" / "state"))
    assert list((tmp_path / "new" / "state").iterdir()) == []
    with pytest.raises(ConfigError, match=r"data-dir=.*nothing: cannot be read \(No such file"):
        check_folders(Node("0", 0, str(tmp_path / "nothing"), tmp_path))
    with pytest.raises(ConfigError, match=r"data-dir=.*file: cannot be read \(Not a directory"):
        check_folders(Node("0", 0, str(file), tmp_path))
    with pytest.raises(ConfigError, match=r"state-dir=.*file/x: cannot be written"):
        check_folders(Node("0", 0, None, file / "x"))


def test_states_of_runs_of_long_ago_are_forgotten(tmp_path: Path) -> None:
    old, new, alive, other = (tmp_path / name for name in (RUN, RUN[::-1], "a" * 16, "notes"))
    for run in (old, new, alive, other):
        (run / "models").mkdir(parents=True)
        (run / "sites" / "0").mkdir(parents=True)
        (run / "sites" / "0" / "state.json").write_text("{}")
    day = 86400
    now = old.stat().st_mtime + (KEPT_DAYS + 1) * day
    os.utime(new, (now - day, now - day))
    os.utime(alive / "sites" / "0" / "state.json", (now - day, now - day))
    forget_old(tmp_path, now)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [new.name, alive.name, other.name]
    )


def test_folders_that_are_no_states_stay(tmp_path: Path) -> None:
    for name in ("sites", "models"):
        (tmp_path / RUN / name).mkdir(parents=True)
        (tmp_path / RUN[::-1] / name).mkdir(parents=True)
    (tmp_path / RUN / "models").rmdir()
    forget_old(tmp_path, time.time() + (KEPT_DAYS + 1) * 86400)
    assert [path.name for path in tmp_path.iterdir()] == [RUN]


@pytest.mark.parametrize("name", ["lost+found", RUN])
def test_what_nobody_may_look_at_is_passed_over(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name / "sites").mkdir(parents=True)
    is_dir = Path.is_dir

    def refuse(self: Path) -> bool:
        if self.parent.name == name:
            raise PermissionError(13, "Permission denied", str(self))
        return is_dir(self)

    monkeypatch.setattr(Path, "is_dir", refuse)
    forget_old(tmp_path, time.time() + (KEPT_DAYS + 1) * 86400)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_run_that_another_node_forgets_at_the_same_moment_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two nodes on one folder: the state of a run vanishes between its listing and its look."""
    gone, other = tmp_path / RUN, tmp_path / RUN[::-1]
    for run in (gone, other):
        open_states(tmp_path, run.name)
        (run / "sites" / "0").mkdir()
        (run / "sites" / "0" / "state.json").write_text("{}")
    glob = Path.glob

    def late(self: Path, pattern: str) -> list[Path]:
        found = list(glob(self, pattern))
        if self == gone:
            shutil.rmtree(gone)
        return found

    monkeypatch.setattr(Path, "glob", late)
    forget_old(tmp_path, time.time() + (KEPT_DAYS + 1) * 86400)
    assert list(tmp_path.iterdir()) == []


def asked(node_config: dict[str, object], text: str) -> dict[str, Any]:
    """Return what a node answers to the handshake."""
    number = assume_identity()
    config: Any = {keys.RUN_CONFIG: text}
    context = Context(number, 5, node_config, RecordDict(), config)  # type: ignore[arg-type]
    clients.app.read_job.cache_clear()
    question = RecordDict({keys.FIELDS: ConfigRecord({keys.NONCE: b"12345678"})})
    reply = introduce(Message(question, 5, "query"), context)
    record = reply.content[keys.FIELDS]
    assert isinstance(record, ConfigRecord)
    assert record.pop(keys.NONCE) == b"12345678"
    return dict(record)


def job(*words: str) -> Job:
    return Job(compose_config([*QUICK, "engine=superlink", *words]), RUN, "outputs/x")


def test_a_fit_node_says_its_site_and_session(tmp_path: Path) -> None:
    here = config_of(partition_id=2, site="north", state_dir=str(tmp_path))
    found = asked(here, job().to_json())
    session = Setup(job().settings).session(RUN)
    known = {keys.SITE: "north", keys.SESSION: session.digest}
    assert found == {**known, keys.PARTITION: 2}


@pytest.mark.parametrize(
    ("given", "words", "problem"),
    [
        ({"partition_id": 4}, [], r"partition-id=4: the job has 4 clients"),
        ({"partition_id": 1, "data_dir": "/nowhere"}, [], r"data-dir=/nowhere: cannot be read"),
        ({"partition_id": 1}, ["dataset=cifar10", "data_dir=/nowhere"], r"/nowhere"),
        ({"partition_id": 1}, ["clients=1500"], r"1497|1500"),
    ],
)
def test_an_unfit_node_says_why_in_one_line(
    given: dict[str, object], words: list[str], problem: str, tmp_path: Path
) -> None:
    found = asked(config_of(**given, state_dir=str(tmp_path)), job(*words).to_json())
    assert list(found) == [keys.PROBLEM]
    assert re.search(problem, found[keys.PROBLEM]), found
    assert "\n" not in found[keys.PROBLEM]


def test_a_node_with_another_version_says_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = json.loads(job().to_json())
    text["version"] = "9.9.9"
    text["config"]["news"] = True  # a later version may have settings that nobody here knows
    found = asked(config_of(partition_id=1, state_dir=str(tmp_path)), json.dumps(text))
    installed = fedcomp.settings.__version__
    assert found[keys.PROBLEM] == (
        f"fedcomp {installed} is installed here and the job needs fedcomp 9.9.9: all machines of a"
        " deployment run the same version; install fedcomp 9.9.9 here from its checkout"
    )


def test_own_data_are_all_of_them(tmp_path: Path) -> None:
    """The client trains on everything below its data-dir but its share for validation."""
    number = assume_identity()
    given = config_of(data="local", site="a", state_dir=str(tmp_path))
    words = ["dataset.validation=0.25"]
    config: Any = {keys.RUN_CONFIG: job(*words).to_json()}
    context = Context(number, 5, given, RecordDict(), config)  # type: ignore[arg-type]
    client = Client.of(context)
    trained, kept = client.setup.client_indices(client.node.number)
    everything = len(client.setup.dataset.train)
    assert sorted([*trained, *kept]) == list(range(everything))
    assert abs(len(kept) - everything / 4) <= 10


def test_a_nodes_data_lie_where_it_says(tmp_path: Path) -> None:
    number = assume_identity()
    given = config_of(partition_id=0, data_dir=str(tmp_path), state_dir=str(tmp_path))
    config: Any = {keys.RUN_CONFIG: job("data_dir=elsewhere").to_json()}
    client = Client.of(Context(number, 5, given, RecordDict(), config))  # type: ignore[arg-type]
    assert client.setup.settings.data_dir == str(tmp_path)
    assert client.job.settings.data_dir == "elsewhere"


def test_a_node_that_came_back_as_another_site_trains_for_none(tmp_path: Path) -> None:
    """A registered node keeps its id when it restarts, so the server takes it for the old site."""
    number = assume_identity()
    config: Any = {keys.RUN_CONFIG: job().to_json()}
    given = config_of(partition_id=2, site="south", state_dir=str(tmp_path))
    context = Context(number, 5, given, RecordDict(), config)  # type: ignore[arg-type]
    fields = Downlink(bytes(EXCHANGE_BYTES), bytes(EXCHANGE_BYTES), bytes(EXCHANGE_BYTES), 0)
    content = {keys.ARRAYS: blob_record(b"no packet"), keys.FIELDS: downlink_record(fields, 1, "a")}
    app = clients.app.make_app()
    with pytest.raises(LinkError, match="is for site 'a' and this node is now site 'south'"):
        app(Message(RecordDict(content), 5, "train"), context)
