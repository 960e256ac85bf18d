from __future__ import annotations

import re

import pytest

from fedcomp.building import build_codec
from fedcomp.codecs import CODECS
from fedcomp.codecs.table import README, table, written
from fedcomp.errors import ConfigError


def test_the_readme_is_up_to_date() -> None:
    text = README.read_text(encoding="utf-8")
    assert written(text) == text, "run: python -m fedcomp.codecs.table"


def test_every_codec_has_a_line() -> None:
    lines = table().splitlines()[2:]
    assert [re.findall("`(.*?)`", line)[0] for line in lines] == list(CODECS.builtin)
    assert {len(re.split(r"(?<!\\)\|", line)) for line in lines} == {9}


def test_codes_for_too_many_levels_are_refused_beforehand() -> None:
    for name in ("powersgd", "randk", "threshold", "topk", "uniform"):
        values = {"name": name, "bits": 17, "coder": "huffman"}
        with pytest.raises(ConfigError, match="coder=huffman has code words for 65,536 levels"):
            build_codec(values, "uplink")
