from __future__ import annotations

import re

from fedcomp.codecs import CODECS
from fedcomp.codecs.table import README, table, written


def test_the_readme_is_up_to_date() -> None:
    text = README.read_text(encoding="utf-8")
    assert written(text) == text, "run: python -m fedcomp.codecs.table"


def test_every_codec_has_a_line() -> None:
    lines = table().splitlines()[2:]
    assert [re.findall("`(.*?)`", line)[0] for line in lines] == list(CODECS.builtin)
    assert {len(re.split(r"(?<!\\)\|", line)) for line in lines} == {9}
