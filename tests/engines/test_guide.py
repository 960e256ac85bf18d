"""What the guide says is what `scripts/deploy-local` and the tests with the marker deploy run."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from flwr.common.config import parse_config_args

from clients.node import deployed
from fedcomp.config import compose_config
from fedcomp.engines.command import OFFLINE
from fedcomp.settings import parse
from scripts.deployment import commands
from tests import guide

HERE = Path()
PUBLIC, LOCAL = "flower.example.org:8443", "127.0.0.1:8000"
NAMES = "DNS:flower.example.org,DNS:localhost,IP:127.0.0.1"
NODE = {"data-dir": "/data", "state-dir": "/var/lib/fedcomp"}
KEY, TRUST = HERE / "node-0", HERE / commands.CA


def node(**site: int | str) -> list[str]:
    return commands.supernode(PUBLIC, 9094, {**site, **NODE}, root_certificates=TRUST, key=KEY)


RUN = [
    commands.authority(HERE),
    commands.certificate(HERE, NAMES),
    commands.superlink("127.0.0.1", 8000, HERE, auth=True, database=HERE / "superlink.db"),
    commands.node_key(KEY),
    node(**{"partition-id": 0}),
    node(data="local", site="hospital-a"),
    commands.register(HERE / "node-0.pub"),
    commands.list_nodes(),
    commands.unregister("1234567890123456789"),
    commands.run(HERE, "clients=2 method=fsfl rounds=3"),
    commands.ray_head(6379),
    commands.ray_node("head.example.org:6379"),
    commands.job(LOCAL, TRUST, 2, "rounds=20"),
]
"""Commands as the code builds them, with the guide's names."""

OURS = [words[1:] for words in guide.commands() if words[0] == "fedcomp"]


def parts(words: list[str]) -> tuple[str, list[tuple[str, ...]]]:
    """Return a command's name, and its arguments in any order, options with their values."""
    if words[1:3] == ["-m", "fedcomp"]:
        words = words[2:]
    found: list[tuple[str, ...]] = []
    for word in words[1:]:
        if found and len(found[-1]) == 1 and found[-1][0].startswith("-") and word[0:1] != "-":
            found[-1] += (word,)
        else:
            found.append((word,))
    return Path(words[0]).name, sorted(found)


def test_every_command_is_one_that_the_code_runs() -> None:
    known = [parts(words) for words in RUN]
    told = [words for words in guide.commands() if words[0] != "export"]
    elsewhere = [["fedcomp", *words] for words in OURS if words[0] == "engine=flower"]
    assert elsewhere  # tests/engines/test_ray_cluster.py runs it
    for words in told:
        assert words in elsewhere or parts(words) in known, words
    assert {words[0] for words in told} == {name for name, _ in known}
    for words in RUN:
        assert parts(words) in [parts(words) for words in told], words


def test_the_switches_are_those_that_the_code_sets() -> None:
    (given,) = (words[1:] for words in guide.commands() if words[0] == "export")
    assert dict(word.split("=") for word in given) == OFFLINE


@pytest.mark.parametrize("words", OURS, ids=" ".join)
def test_every_job_is_a_valid_one(words: list[str]) -> None:
    settings = parse(compose_config([w for w in words if not w.startswith("hydra.")]))
    assert settings.engine.name == words[0].removeprefix("engine=")


def test_every_node_is_a_valid_one() -> None:
    configs = [words[-1] for words in guide.commands() if words[0] == "flower-supernode"]
    assert len(configs) == 2
    for config in configs:
        deployed(parse_config_args([config]), 2)


def test_the_connection_is_the_one_that_the_code_writes() -> None:
    (given,) = guide.blocks("toml")
    assert tomllib.loads(given) == tomllib.loads(
        commands.connection(LOCAL, Path("/etc/fedcomp/ca.crt"))
    )
