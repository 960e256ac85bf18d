"""What the READMEs say: commands compose, links lead somewhere, no method is missing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from fedcomp.advise import cli as advise
from fedcomp.codecs import CODECS
from fedcomp.config import compose_config, config_dir, group_choices, split_sweep
from fedcomp.quantise.cli import configure
from fedcomp.report import cli as report
from scripts.benchmarks.__main__ import BENCHMARKS
from scripts.reproductions.__main__ import PLANS
from tests.guide import ROOT, blocks, commands

FOLDERS = (".", "conf", "fedcomp", "strategies", "clients", "scripts", "tests")
READMES = sorted(
    path
    for folder in FOLDERS
    for path in (ROOT / folder).glob("*.md" if folder == "." else "**/*.md")
)
FIRST = ROOT / "README.md"
THEIRS = "hydra.searchpath="  # of an example: tests/test_examples.py


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def told(program: str) -> list[tuple[str, ...]]:
    """Return the arguments of a command wherever a README gives it, but for deployments."""
    lines = [words for path in READMES for words in commands("sh", path)]
    found = {tuple(words[1:]) for words in lines if words[0] == program}
    return sorted(words for words in found if not any(word.startswith(THEIRS) for word in words))


def test_the_readmes_are_found() -> None:
    assert FIRST in READMES
    assert {"conf/README.md", "scripts/README.md"} <= set(map(named, READMES))


@pytest.mark.parametrize("words", told("fedcomp"), ids=" ".join)
def test_every_run_composes(words: tuple[str, ...]) -> None:
    if words == ("--help",):
        return
    if words and (words[0] == "--cfg" or words[0].startswith("resume=")):
        words = words[1:]
    sweep = words[:1] == ("-m",)
    given = [w for w in words[sweep:] if not w.startswith("sweep.parallel=")]
    chosen = [word for word in given if word.startswith("sweep=")]
    assert all(word.partition("=")[2] in group_choices()["sweep"] for word in chosen)
    problems: list[str] = []
    choices, _ = split_sweep([word for word in given if word not in chosen], problems)
    assert not problems
    assert sweep or all(len(choice) == 1 for choice in choices)
    longest = max(map(len, choices), default=1)
    for at in range(longest):  # each word is in one of them
        compose_config([choice[min(at, len(choice) - 1)] for choice in choices])


@pytest.mark.parametrize("words", told("fedcomp-quantise"), ids=" ".join)
def test_every_quantisation_composes(words: tuple[str, ...]) -> None:
    configure(list(words))


@pytest.mark.parametrize("words", told("fedcomp-advise"), ids=" ".join)
def test_every_question_for_advice_is_a_valid_one(words: tuple[str, ...]) -> None:
    given = advise._parser().parse_intermixed_args(words)
    advise._check(given)
    compose_config(given.words)


@pytest.mark.parametrize("words", told("fedcomp-report"), ids=" ".join)
def test_every_report_is_a_valid_one(words: tuple[str, ...]) -> None:
    assert report._parser().parse_args(words).folder


def test_scripts_are_there() -> None:
    lines = [words for path in READMES for words in commands("sh", path)]
    found = {words[0] for words in lines if words[0].startswith("scripts/")}
    assert {"scripts/demo", "scripts/test"} <= found
    text = "".join(path.read_text("utf-8") for path in READMES)
    found |= set(re.findall(r"`(scripts/[a-z-]+)", text))
    assert all((ROOT / name).exists() for name in found), found
    known = {*PLANS, "NAME"}
    assert set(re.findall(r"scripts/reproduce (\w+)", text)) <= known
    listed = (ROOT / "conf" / "experiment" / "README.md").read_text("utf-8")
    assert all(f"`{name}`" in listed for name in PLANS)
    benches = (ROOT / "scripts" / "README.md").read_text("utf-8")
    assert all(f"`{name}`" in benches for name in BENCHMARKS)


@pytest.mark.parametrize("path", READMES, ids=named)
def test_every_link_leads_somewhere(path: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", path.read_text("utf-8"), flags=re.M | re.S)
    for link in re.findall(r"\]\(([^)]*)\)", text):
        if re.match(r"https?://", link):
            continue
        name, _, heading = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), f"{named(path)}: {link}"
        if heading:
            assert heading in anchors(target), f"{named(path)}: {link}"


def anchors(path: Path) -> set[str]:
    """Return the headings of a file as GitHub names them in links."""
    titles = re.findall(r"^#+ (.*)$", path.read_text("utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_files_that_are_named_are_there() -> None:
    for path in READMES:
        for name in re.findall(
            r"`((?:fedcomp|conf|tests|clients|strategies)/[\w/.]+\w)`", path.read_text("utf-8")
        ):
            assert "NAME" in name or (ROOT / name).exists(), f"{named(path)}: {name}"


def rows() -> dict[str, list[str]]:
    """Return the first page's table of methods."""
    text = FIRST.read_text("utf-8")
    lines = text[text.index("| method | what it does |") :].split("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {re.findall("`(.*?)`", row[0])[0]: row for row in cells}


def test_the_table_has_every_method() -> None:
    assert sorted(rows()) == group_choices()["method"]
    (default,) = (name for name, row in rows().items() if "(default)" in row[0])
    assert compose_config([])["method"]["name"] == default


@pytest.mark.parametrize("method", group_choices()["method"])
def test_a_method_has_the_codecs_and_the_paper_that_the_table_says(method: str) -> None:
    _, about, paper, up, down = rows()[method]
    config: dict[str, Any] = compose_config([f"method={method}"])
    assert (up, down) == (f"`{config['uplink']['name']}`", f"`{config['downlink']['name']}`")
    assert about
    file = (config_dir() / "method" / f"{method}.yaml").read_text("utf-8")
    codec = CODECS.get(config["uplink"]["name"]).about.paper
    given = set(re.findall(r"arXiv:([\d.]+\d)", paper))
    assert given <= papers(file) | papers(codec)
    assert papers(file) <= given


def papers(text: str) -> set[str]:
    return set(re.findall(r"arXiv:([\d.]+\d)", text))


def test_codecs_are_listed_by_what_they_lose() -> None:
    text = (ROOT / "fedcomp" / "codecs" / "README.md").read_text("utf-8")
    listed = text[text.index("| what is lost |") :].split("\n\n")[0].splitlines()[2:]
    names = {name for line in listed for name in re.findall("`(.*?)`", line)}
    assert names == set(CODECS.builtin)


def test_the_first_page_is_short() -> None:
    text = re.sub(r"<details>.*?</details>", "", FIRST.read_text("utf-8"), flags=re.S)
    lines = [line for line in text.splitlines() if not line.startswith(("|", "!["))]
    assert len(lines) <= 150
    assert not [line for line in lines if len(line) > 120 and "“to target”" not in line]


def test_the_citation_is_that_of_this_version() -> None:
    from fedcomp import __version__

    (entry,) = blocks("bibtex", FIRST)
    assert f"{{{__version__}}}" in entry
