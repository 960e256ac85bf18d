from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from fedcomp.codecs.cast import Cast
from fedcomp.codecs.uniform import Uniform
from fedcomp.errors import ConfigError
from fedcomp.link.settings import LinkSettings
from fedcomp.link.space import check_space
from tests.link.common import session


def test_space_is_checked_before_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    agreed = session(up=Uniform())  # 15 floats and a counter: 68 bytes a model
    folder = tmp_path / "not" / "yet"
    usage = shutil.disk_usage(tmp_path)
    for free, feedback, fits in ((1020, "auto", True), (1019, "auto", False), (340, False, True)):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, n=free: usage._replace(free=n))
        of = replace(agreed, link=LinkSettings(feedback=feedback))  # type: ignore[arg-type]
        if fits:
            check_space(folder, of, clients=5, rounds=5)
        else:
            with pytest.raises(ConfigError, match=r"may take .*feedback_dtype=float16"):
                check_space(folder, of, clients=5, rounds=5)


@pytest.mark.parametrize("clients", [1, 3, 40])
@pytest.mark.parametrize("rounds", [1, 2, 100])
@pytest.mark.parametrize("kept", ["none", "float16", "float32"])
@pytest.mark.parametrize("copies", [1, 3])
def test_a_version_a_round_or_client_and_what_each_keeps_must_fit(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    clients: int,
    rounds: int,
    kept: str,
    copies: int,
) -> None:
    up = Cast(mode="absolute" if kept == "none" else "delta")
    of = replace(
        session(up=up),
        link=LinkSettings(feedback_dtype="float16" if kept == "float16" else "float32"),
    )
    versions = min(
        copies * clients, rounds + 1
    )  # no more are published, and none is kept for nobody
    needed = 68 * versions
    if kept != "none":  # a residual, and an update that may be lost
        needed += copies * clients * (68 + (34 if kept == "float16" else 68))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=needed))
    check_space(tmp_path, of, clients, rounds, copies)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=needed - 1))
    with pytest.raises(ConfigError, match="may take"):
        check_space(tmp_path, of, clients, rounds, copies)
