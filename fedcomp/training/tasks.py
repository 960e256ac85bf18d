"""Losses and metrics by task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch
from torch.nn import functional as F

if TYPE_CHECKING:
    from torch import Tensor


class Task(Protocol):
    """What a kind of target asks of training and evaluation.

    Attributes
    ----------
    metric
        Name of the metric that results are compared by; larger is better.
    """

    metric: str

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean training loss of a batch."""

    def measure(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        """Return the loss and all metrics over a whole evaluation set."""


class Classification:
    """One class a sample: cross-entropy and accuracy."""

    metric = "accuracy"

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy."""
        return F.cross_entropy(outputs, targets)

    def measure(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        """Return accuracy and cross-entropy."""
        correct = (outputs.argmax(dim=1) == targets).to(torch.float64).mean()
        return {"accuracy": float(correct), "loss": float(self.loss(outputs, targets))}


TASKS: dict[str, Task] = {"classification": Classification()}
