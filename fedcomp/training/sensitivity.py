"""How much the loss depends on each connection, told before training from one mini-batch.

    g_j = w_j · ∂L / ∂w_j,  s_j = |g_j| / Σ_k |g_k|

Lee, Ajanthan and Torr, "SNIP: Single-shot Network Pruning based on Connection Sensitivity", ICLR
2019, arXiv:1810.02340.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from fedcomp.training.loop import train

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import nn

    from fedcomp.data.base import Samples
    from fedcomp.tensors import Tensors
    from fedcomp.training.settings import TrainSettings


def sensitivity(
    module: nn.Module,
    samples: Samples,
    settings: TrainSettings,
    *,
    task: str,
    names: Iterable[str],
    rng: np.random.Generator,
) -> Tensors:
    """Return s by tensor for the mini-batch that training with `rng` would begin with.

    A copy of the module takes that step, the module itself stays as it is. Parameters that are not
    trained score 0; where there are no gradients, or some are not finite, all score the same.
    `fedcomp.training.pruning.magnitude_masks` makes masks of scores.

    Parameters
    ----------
    names
        The parameters that are scored, and over which the scores add up to 1.
    """
    twin = deepcopy(module)
    parameters = dict(twin.named_parameters(remove_duplicate=False))
    chosen = {name: parameters[name] for name in names}
    found: Tensors = {}

    def score() -> None:
        for name, value in chosen.items():
            gradient = value.new_zeros(value.shape) if value.grad is None else value.grad
            found[name] = (gradient * value).detach().abs().cpu().numpy()

    one = replace(settings, steps=1)
    train(twin, samples, one, task=task, lr=one.lr, proximal_mu=0, rng=rng, before_step=score)
    return _normalised(found)


def _normalised(scores: Tensors) -> Tensors:
    """Divide scores by the sum of all.

    Examples
    --------
    >>> found = _normalised({"a": np.array([1.0, 2.0]), "b": np.array([5.0])})
    >>> {name: value.tolist() for name, value in found.items()}
    {'a': [0.125, 0.25], 'b': [0.625]}
    """
    total = np.sum([value.sum(dtype=np.float64) for value in scores.values()])
    if not 0 < total < np.inf:
        total = np.float64(max(sum(value.size for value in scores.values()), 1))
        scores = {name: np.ones_like(value) for name, value in scores.items()}
    return {name: np.asarray(v / total, v.dtype, order="C") for name, v in scores.items()}
