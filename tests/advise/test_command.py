"""The command itself: a table, and command lines of runs with the codecs that were measured."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from fedcomp.advise import cli
from fedcomp.advise.candidates import candidates
from fedcomp.advise.measure import Bench
from fedcomp.advise.report import command
from fedcomp.advise.search import best_setting
from fedcomp.codecs import CODECS
from fedcomp.config import compose_config
from fedcomp.settings import Settings, parse


def run(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    """Run the command in this process; return what it printed, or what was wrong."""
    with pytest.raises(SystemExit) as end:
        cli.main(words)
    assert end.value.code == code
    said = capsys.readouterr()
    assert bool(said.err) == bool(code)
    return said.err if code else said.out


@pytest.mark.parametrize(
    ("name", "budget"),
    [*((name, 1000) for name in CODECS.builtin), ("nnc", 10**6), ("randk", 200), ("eden", 200)],
)
def test_a_command_line_gives_the_measured_codec(
    name: str, budget: int, bench: Bench, settings: Settings, words: list[str]
) -> None:
    answer = best_setting(name, dict(candidates(words, settings))[name], bench, budget)
    program, *own = shlex.split(command(answer, words))
    assert program == "fedcomp"
    assert parse(compose_config(own)).uplink == answer.measured.codec


def test_a_table_and_commands(
    capsys: pytest.CaptureFixture[str], words: list[str], bench: Bench
) -> None:
    given = [word for word in words if word != "method=fedavg"]
    out = run(capsys, *given, "--budget", "6bits", "--all")
    rows = [line.split("│")[1:-1] for line in out.splitlines() if line.startswith("│")]
    assert sorted(row[0].strip() for row in rows) == sorted(CODECS.builtin)
    sizes = [int(row[2].replace(",", "")) for row in rows]
    errors = [float(row[5]) for row in rows]
    fitting = sum(size <= 6 * bench.session.manifest.elements / 8 for size in sizes)
    assert 10 < fitting < len(rows)
    assert errors[:fitting] == sorted(errors[:fitting])
    assert sizes[fitting:] == sorted(sizes[fitting:])
    commands = [line for line in out.splitlines() if line.startswith("  fedcomp ")]
    assert len(commands) == fitting
    for line, row in zip(commands, rows, strict=False):
        program, first, *others = shlex.split(line)
        assert (program, first) == ("fedcomp", "method=fedavg")
        assert f"codec@uplink={row[0].strip()}" in others
    assert "is not the accuracy of a run" in out


def test_a_line_instead_of_a_size(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    out = run(capsys, *words, "--network", "iot", "--seconds", "0.25")
    first, *_ = out.splitlines()
    assert first.endswith("a packet may have 3.4 kB")  # 0.3 Mb/s · 0.999 · (0.25 s − 0.15 s)
    assert "network=iot codec@uplink=" in out


def test_what_nothing_fits_in(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    out = run(capsys, *words, "--budget", "40B")
    assert "No codec brings this update through 40 bytes; " in out
    assert "codec@uplink=" not in out


def test_a_method_that_rules_codecs_out(
    capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    own = ["method=signsgd", *words[1:]]
    out = run(capsys, *own, "--budget", "1kB")
    assert "stc is left out: server_step=majority: counts signs" in out
    assert "fedcomp method=signsgd" in out


def test_what_is_tried_can_be_kept(
    capsys: pytest.CaptureFixture[str], words: list[str], tmp_path: Path
) -> None:
    file = str(tmp_path / "update.safetensors")
    first = run(capsys, *words, "--budget", "1kB", "--save", file)
    again = run(capsys, *words, "--budget", "1kB", "--update", file)
    best = first.splitlines()[-3:]
    assert again.splitlines()[-3:] == best
    assert [line for line in first.splitlines() if line.startswith("  fedcomp ")] == best


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give either --budget SIZE, or --network NAME with --seconds S"),
        (["--budget", "1kB", "--network", "4g", "--seconds", "1"], "give either --budget"),
        (["--network", "4g"], "--network NAME and --seconds S go together"),
        (["--network", "4gg", "--seconds", "1"], "there is no such option; did you mean 4g?"),
        (["--network", "4g", "--seconds", "soon"], "invalid float value: 'soon'"),
        (["--budget", "1 cow"], "--budget 1 cow: is no size"),
        (["--budget", "1kB", "uplink.bits=3"], "fedcomp-advise looks for that"),
        (["--budget", "1kB", "codec@uplink=stc"], "fedcomp-advise looks for that"),
        (["--budget", "1kB", "method=fsfl"], "choose method=fedavg"),
        (["--budget", "1kB", "experiment=fsfl_cifar10"], "is about a method of its own"),
        (
            ["--budget", "1kB", "method=stc", "experiment=stc_digits"],
            "the words set uplink.density",
        ),
        (["--budget", "1kB", "sweep=methods"], "is for a sweep of many runs"),
        (["--budget", "1kB", "--save", "x.pt"], "ends in .safetensors"),
        (["--budget", "1kB", "modell=mlp"], "did you mean model?"),
        (["--budget", "1kB", "--after", "x"], "--before MODEL and --after MODEL go together"),
        (["--budget", "1kB", "--update", "gone"], "does not exist"),
        (["--budget", "1kB", "--save", "update.pt"], "ends in .safetensors"),
        (["--budget", "1kB", "--fast"], "unrecognized arguments: --fast"),
    ],
)
def test_mistakes_end_with_a_line(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str], data: Path
) -> None:
    err = run(capsys, f"data_dir={data}", "model=mlp", *words, code=2)
    assert message in err
    assert all(line.startswith("fedcomp-advise: ") for line in err.splitlines())


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from fedcomp.advise.cli import main\n"
        "try: main(['--help'])\n"
        "finally: assert not {'torch', 'hydra', 'numba', 'numpy'} & set(sys.modules)"
    )
    given = [sys.executable, "-c", code]
    done = subprocess.run(given, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--budget SIZE" in done.stdout
