"""Relevance of a net's weights, again and again while it is trained, on mini-batches of its own.

In the published code of ECQ^x these are those of the training steps, and momentum starts anew in
each epoch.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from fedcomp.training.batches import Batches
from fedcomp.training.loop import batch_ends, index_batches, place
from fedcomp.training.relevance import Averaged, Relevance

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from torch import Tensor, nn

    from fedcomp.data.base import Samples
    from fedcomp.training.settings import RelevanceSettings, TrainSettings


class Relevances:
    """Relevances that follow a module through its training.

    Parameters
    ----------
    module
        Stays on the device where training puts it.
    samples
        Those to draw mini-batches from, changed at random as for training.
    settings
        Rules, momentum, and after how many calls there is another pass.
    batches
        Size of the mini-batches, and the device.
    """

    def __init__(
        self,
        module: nn.Module,
        samples: Samples,
        settings: RelevanceSettings,
        batches: TrainSettings,
        *,
        task: str,
        rng: np.random.Generator,
    ) -> None:
        device = place(module, batches)
        self._batches = Batches(samples, device, channels_last=batches.channels_last)
        ends = batch_ends(len(samples), batches.batch_size)
        self._order = index_batches(len(samples), ends, sys.maxsize, rng)
        self._settings, self._task, self._rng = settings, task, rng
        self._averaged = Averaged(settings.momentum)
        self._relevance: Relevance | None = None
        self._calls = 0

    def mean(self, module: nn.Module, count: int) -> Mapping[str, Tensor]:
        """Return the mean of so many passes through a module as it is."""
        total: dict[str, Tensor] = {}
        for _ in range(count):
            for name, value in self._pass(module, {}).items():
                total[name] = total[name] + value / count if name in total else value / count
        return total

    def next(self, module: nn.Module, behind: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return the relevances by parameter, new ones at the first and every so many-th call.

        Parameters
        ----------
        behind
            The weights behind those of a quantised module, see `Relevance.of`.
        """
        if self._calls % self._settings.every == 0:
            self._averaged.add(self._pass(module, behind))
        self._calls += 1
        return self._averaged.weights

    def _pass(self, module: nn.Module, behind: Mapping[str, Tensor]) -> dict[str, Tensor]:
        inputs, targets = self._batches.training(next(self._order), self._rng)
        if self._relevance is None:
            self._relevance = Relevance(module, inputs[:2], self._settings)
        return self._relevance.of(module, inputs, targets, self._task, behind).weights
