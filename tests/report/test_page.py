"""The page of a report: what is in it, and what a real browser makes of it."""

from __future__ import annotations

import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from fedcomp.report.cli import main
from fedcomp.report.comparison.page_style import SCRIPT
from tests.report.browser import Browser, find
from tests.report.made import make_run

METHODS = ("fedavg", "fsfl", "stc", "cossgd")
HOSTILE = '<img src=x onerror="document.title=1">&"\''
MEASURE = """
<script>
document.body.dataset.across = document.documentElement.scrollWidth
  + " " + document.documentElement.clientWidth;
document.body.dataset.pictures = [...document.querySelectorAll("figure svg")].filter(
  svg => svg.getBoundingClientRect().height > 80).length;
document.body.dataset.boxes = [...document.querySelectorAll(".scroll")].every(
  box => box.getBoundingClientRect().right <= document.documentElement.clientWidth);
const first = [...document.querySelectorAll("thead th")].find(h => h.textContent === "sent");
const names = () => [...document.querySelectorAll("tbody")][0].innerText.split("\\n")
  .map(line => line.split("\\t")[0]).filter(name => /^[a-z]/.test(name)).join(" ");
const button = first.querySelector("button");
button.click();
document.body.dataset.up = names();
button.click();
document.body.dataset.down = names();
document.body.dataset.sort = first.getAttribute("aria-sort");
const line = document.querySelector("figure g[data-line='2']");
line.dispatchEvent(new PointerEvent("pointerover", {bubbles: true}));
document.body.dataset.lit = [...document.querySelectorAll(".on")].every(
  part => part.dataset.line === "2") && document.querySelectorAll(".on").length > 5;
</script>
"""


class Outline(HTMLParser):
    """What a page consists of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]

    def values(self, name: str, tag: str = "") -> list[str]:
        return [v or "" for t, n, v in self.attributes if n == name and tag in ("", t)]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on four methods with three seeds each, on a network, one run not finished."""
    place = tmp_path_factory.mktemp("report")
    for at, method in enumerate(METHODS):
        for seed in (1, 2, 3):
            scores = tuple(0.1 + 0.05 * n + 0.01 * seed + 0.02 * at for n in range(10))
            summary = {"status": "stopped"} if (method, seed) == ("stc", 3) else {}
            words = {"method__name": method, "seed": seed, "uplink": {"name": method}}
            make_run(
                place / "runs" / f"{method}{seed}", scores, up=9000 // (at + 1), seconds=7.0,
                summary=summary, **words,
            )  # fmt: skip
    main([str(place / "runs"), "--out", str(place / "report.html")])
    return place / "report.html"


PICTURES = ["by_round", "by_bytes", "by_time", "to_target", "round_bytes", "split", "bits"]


def test_the_command_says_what_it_has_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path / "run", (0.1, 0.2))
    main([str(tmp_path / "run"), "--out", str(tmp_path / "r.html"), "--format", "csv"])
    found = capsys.readouterr()
    assert len(found.out.splitlines()) == 2
    folder = tmp_path / "r_pictures"
    assert found.err.splitlines()[-2:] == [
        f"5 pictures, each as PNG and SVG: {folder}",
        f"page: {tmp_path / 'r.html'}",
    ]
    expected = set(PICTURES) - {"by_time", "to_target"}  # no network, and nobody got there
    assert {path.stem for path in folder.iterdir()} == expected
    main([str(tmp_path / "run"), "--pictures", str(tmp_path / "here" / "there")])
    assert len(list((tmp_path / "here" / "there").glob("*.png"))) == 5


def test_pictures_lie_beside_the_page(report: Path) -> None:
    folder = report.with_name("report_pictures")
    for name in PICTURES:
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert ElementTree.parse(folder / f"{name}.svg").getroot().tag.endswith("svg")


def test_the_page_is_whole_and_asks_for_nothing(report: Path) -> None:
    text = report.read_text()
    page = Outline(text)
    assert page.values("id", "figure") == PICTURES
    assert page.tags.count("svg") == len(PICTURES) + len(METHODS)
    assert [len(v) for v in page.values("aria-label", "svg")] > [20] * len(PICTURES)
    assert not page.values("src")
    assert all(value.startswith("#") for value in page.values("xlink:href"))
    assert not re.search(r"url\((?!#)|@import|https?://(?!www\.w3\.org)", text)
    names = page.values("id")
    assert len(names) == len(set(names))
    for used in re.findall(r'(?:url\(|href=")#([^)"]+)', text):
        assert used in names
    assert {"scope"} <= {name for tag, name, _ in page.attributes if tag == "th"}
    assert "default-src 'none'" in text
    for word in ("1 of 12 runs have not finished", "stopped", "fedcomp 0.1.0", "uplink"):
        assert word in text


def test_inline_pictures_have_the_colours_of_the_page(report: Path) -> None:
    figures = re.findall(r"<figure.*?</figure>", report.read_text(), re.DOTALL)
    for figure in figures:
        ElementTree.fromstring(re.search(r"<svg.*</svg>", figure, re.DOTALL).group())  # type: ignore[union-attr]
        assert not re.search(r"#(1b1c1d|6a6b6c|dddedf|fefefd|0072b2|d55e00)", figure)
        assert "currentColor" in figure
    assert "var(--line-0072b2)" in figures[0]
    assert "DejaVu" not in "".join(figures)


def test_lines_have_the_same_number_in_all_pictures_and_in_the_table(report: Path) -> None:
    text = report.read_text()
    for number, method in enumerate(sorted(METHODS)):
        assert f'<tr data-line="{number}"><th scope="row"' in text
        titles = re.findall(rf'<g data-line="{number}"><title>(.*?)</title>', text)
        assert len(titles) >= 5
        assert set(titles) == {method}


def test_what_others_wrote_stays_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / HOSTILE.replace("/", "")
    for number in (1, 2):
        make_run(place / f"run{number}", seed=number, uplink__density=HOSTILE + str(number))
    main([str(place), "--out", str(tmp_path / "r.html")])
    assert HOSTILE in capsys.readouterr().out
    text = (tmp_path / "r.html").read_text()
    page = Outline(text)
    assert "img" not in page.tags
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert text.count("<script>") == 1
    assert unescape(text).count(HOSTILE) >= 8
    for path in (tmp_path / "r_pictures").glob("*.svg"):
        ElementTree.parse(path)


def test_a_page_of_one_run_and_of_many_groups(tmp_path: Path) -> None:
    make_run(tmp_path / "one" / "run", (0.1,))
    main([str(tmp_path / "one"), "--out", str(tmp_path / "one.html")])
    assert "<svg" in (tmp_path / "one.html").read_text()
    for number in range(45):
        make_run(tmp_path / "many" / f"{number:02}", uplink__density=number / 100)
    main([str(tmp_path / "many"), "--out", str(tmp_path / "many.html")])
    page = (tmp_path / "many.html").read_text()
    assert "stc (45)" in page
    assert "the first 40 of 45" in page
    assert "the first 20 of 45" in page


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Browser:
    return find(tmp_path_factory.mktemp("browser"))


@pytest.mark.parametrize("width", [500, 1400])
def test_a_browser_shows_it_all_without_scrolling_across(
    width: int, report: Path, browser: Browser, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    page.write_text(report.read_text().replace("</body>", f"{MEASURE}</body>"))
    found = dict(re.findall(r' data-(\w+)="([^"]*)"', _body(browser.dom(page, width))))
    across, wide = map(int, found["across"].split())
    assert across <= wide == width
    assert found["pictures"] == str(len(PICTURES))
    assert (found["boxes"], found["lit"]) == ("true", "true")
    assert found["up"].split() == ["cossgd", "stc", "fsfl", "fedavg"]
    assert (found["down"].split(), found["sort"]) == (found["up"].split()[::-1], "descending")


def _body(dom: str) -> str:
    found = re.search(r"<body[^>]*>", dom)
    assert found is not None
    return found.group()


def test_a_browser_shows_it_on_a_telephone(report: Path, browser: Browser, tmp_path: Path) -> None:
    """No window is narrower than 500 pixels; a frame is."""
    frame = tmp_path / "frame.html"
    inner = report.read_text().replace("</body>", f"{MEASURE}</body>")
    told = "<script>parent.postMessage(JSON.stringify(document.body.dataset), '*')</script></body>"
    (tmp_path / "inner.html").write_text(inner.replace("</body>", told))
    frame.write_text(
        "<body><script>onmessage = e => { document.body.dataset.told = e.data }</script>"
        '<iframe src="inner.html" width="390" height="800" style="border: 0"></iframe></body>'
    )
    found = re.search(r'data-told="([^"]*)"', browser.dom(frame, 800))
    assert found is not None
    assert '"across":"390 390"' in unescape(found.group(1))
    assert '"boxes":"true"' in unescape(found.group(1))


@pytest.mark.parametrize("width", [500, 1400])
def test_a_browser_shows_it_light_and_dark(width: int, report: Path, browser: Browser) -> None:
    light, dark = (browser.screenshot(report, width, dark=dark) for dark in (False, True))
    assert light.shape == dark.shape == (1200, width, 3)
    paper = {name: np.median(shot, axis=(0, 1)) for name, shot in (("l", light), ("d", dark))}
    np.testing.assert_allclose(paper["l"], np.array([254, 254, 253]) / 255, atol=0.01)
    np.testing.assert_allclose(paper["d"], np.array([21, 24, 28]) / 255, atol=0.01)
    inked = [
        np.abs(shot - np.median(shot, axis=(0, 1))).max(axis=2) > 0.3 for shot in (light, dark)
    ]
    for ink in inked:
        assert 0.005 < ink.mean() < 0.3
        assert ink[:600].any()
        assert ink[600:].any()  # the pictures
    both, any_ = (inked[0] & inked[1]).sum(), (inked[0] | inked[1]).sum()
    assert both > 0.6 * any_  # the same page in other colours


def test_the_script_is_no_part_of_what_is_read(report: Path) -> None:
    assert SCRIPT in report.read_text()
    assert "document.write" not in SCRIPT
    assert "innerHTML" not in SCRIPT


def test_long_runs_are_thinned(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for number in range(60):
        scores = tuple(rng.random(501).round(4))
        make_run(tmp_path / f"{number:03}", scores, uplink__density=number / 1000)
    main([str(tmp_path), "--out", str(tmp_path / "r.html")])
    assert 100_000 < (tmp_path / "r.html").stat().st_size < 3_000_000


def test_a_run_that_has_only_begun_is_shown(tmp_path: Path) -> None:
    make_run(tmp_path / "run", (0.1,), seconds=1.0)
    main([str(tmp_path), "--out", str(tmp_path / "r.html")])
    names = {path.name for path in (tmp_path / "r_pictures").iterdir()}
    assert {"by_round.png", "by_round.svg"} <= names
    assert "by_bytes.png" not in names


def test_pictures_of_an_earlier_report_go(tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "by_time.png").touch()
    (tmp_path / "pictures" / "mine.png").touch()
    main([str(tmp_path), "--pictures", str(tmp_path / "pictures")])
    names = {path.name for path in (tmp_path / "pictures").iterdir()}
    assert "mine.png" in names
    assert "by_time.png" not in names
