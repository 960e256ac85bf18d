from __future__ import annotations

import numpy as np

from fedcomp.codecs.stochastic import rounded


def test_mean_is_the_value_and_the_levels_are_its_neighbours() -> None:
    values = np.array([0.0, 3.0, -2.0, 0.25, -0.25, 7.5, -1e-20])
    draws = np.stack([rounded(values, np.random.default_rng(i)) for i in range(4000)])
    rest = values - np.floor(values)
    bound = 5 * np.sqrt(rest * (1 - rest) / 4000)
    assert draws.dtype == np.int32
    assert (np.abs(draws.mean(axis=0) - values) <= bound + 1e-15).all()
    assert (draws >= np.floor(values)).all()
    assert (draws <= np.ceil(values)).all()
