from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

import fedcomp.data.digits
from fedcomp.data.digits import Digits
from fedcomp.errors import DataError


def test_all_images_of_scikit_learn_are_there_once(tmp_path: Path) -> None:
    found = Digits().load(tmp_path)
    images, labels = load_digits(return_X_y=True)
    parts = (found.train, found.test)
    pixels = np.concatenate([part.inputs.reshape(len(part), 64) * 16 for part in parts])
    ours = np.column_stack([pixels, np.concatenate([part.targets for part in parts])])
    theirs = np.column_stack([images, labels])
    assert np.array_equal(ours[np.lexsort(ours.T)], theirs[np.lexsort(theirs.T)])
    assert [len(part) for part in parts] == [1438, 359]


def test_without_scikit_learn_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fedcomp.data.digits, "find_spec", lambda _: None)
    with pytest.raises(DataError, match="come with scikit-learn, which is not installed"):
        Digits().load(tmp_path)
