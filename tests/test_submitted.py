"""Jobs as deployed apps get them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fedcomp.config import compose_config
from fedcomp.errors import ConfigError, EngineError
from fedcomp.settings import Job
from fedcomp.submitted import is_deployed, read
from fedcomp.wire import keys
from tests.common import QUICK


def whole(*words: str, **changed: Any) -> dict[str, str]:
    """Return a run config with a whole job."""
    text = json.loads(Job(compose_config([*QUICK, *words]), "run", "outputs/x").to_json())
    return {keys.RUN_CONFIG: json.dumps({**text, **changed})}


def words(text: str) -> dict[str, str]:
    return {keys.RUN_CONFIG: "", keys.OVERRIDES: text}


def test_a_whole_job_comes_as_it_was_sent() -> None:
    config = compose_config([*QUICK, "engine=superlink", "seed=7"])
    sent = Job(config, "run", "outputs/x")
    assert read({keys.RUN_CONFIG: sent.to_json()}, 5) == sent


def test_both_sides_make_the_same_job_of_words() -> None:
    given = words("method=fsfl rounds=3 'model.hidden=[8]' model=mlp")
    server, client = read(given, 5), read(given, 5)
    assert server.settings == client.settings
    assert server.run_id == client.run_id != read(given, 6).run_id
    assert (server.settings.rounds, server.settings.engine.name) == (3, "superlink")
    assert server.folder.startswith("outputs/")
    assert server.folder.endswith("-fsfl-digits")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("engine=inline", r"engine=inline: overrides of flwr run are keys and groups"),
        ("hydra.run.dir=/x", r"hydra\.run\.dir=/x: overrides"),
        ("--cfg", r"--cfg: overrides"),
        ("++engine=inline", r"engine=inline: overrides of flwr run are keys and groups"),
        ("resume=outputs/x", r"resume=outputs/x: runs of flwr run cannot be resumed"),
        ("+resume_allow=[seed]", r"resume_allow=\[seed\]: runs of flwr run cannot be resumed"),
        ("rounds='3", r"cannot be split into words: No closing quotation"),
        ("rouns=3", r"rouns=3: there is no key rouns; did you mean rounds"),
    ],
)
def test_words_that_make_no_job(text: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        read(words(text), 5)


def test_what_runs_in_a_deployment() -> None:
    assert is_deployed(words(""))
    assert is_deployed(whole("engine=superlink"))
    assert not is_deployed(whole("engine=inline"))
    assert not is_deployed({})


def test_another_version_is_refused_before_its_settings_are_read() -> None:
    news = {**compose_config([*QUICK, "engine=superlink"]), "news": True}
    with pytest.raises(EngineError, match=r"fedcomp 9\.9: all machines .*; install fedcomp 9\.9 "):
        read(whole("engine=superlink", version="9.9", config=news), 5)
