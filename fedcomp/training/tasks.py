"""Losses and metrics by task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch
from torch.nn import functional as F

from fedcomp.data.preparation import IGNORED
from fedcomp.training import average_precision

if TYPE_CHECKING:
    from torch import Tensor

_SOME_CLASSES = 10


class Meter(Protocol):
    """Measures a model over an evaluation set, batch by batch."""

    def add(self, outputs: Tensor, targets: Tensor) -> None:
        """Take the outputs for a batch."""

    def result(self) -> dict[str, float]:
        """Return all metrics."""


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

    def divergence(self, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        """Return the mean KL(teacher ‖ student) of predictions softened by a temperature."""

    def meter(self) -> Meter:
        """Return what measures the metrics."""

    def output_shape(self, classes: int, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of a model's outputs for one input."""


class Classification:
    """One class a sample: cross-entropy and accuracy, among many classes top-5 accuracy too."""

    metric = "accuracy"

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy."""
        return F.cross_entropy(outputs, targets)

    def divergence(self, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        """Return the mean over samples."""
        return _softmax_divergence(student, teacher, temperature)

    def meter(self) -> Meter:
        """Return a meter of shares."""
        return _Shares()

    def output_shape(self, classes: int, input_shape: tuple[int, ...]) -> tuple[int, ...]:  # noqa: ARG002
        """One output a class."""
        return (classes,)


class Multilabel:
    """Any number of classes a sample: binary cross-entropy and mean average precision.

    Targets are 1 (present), 0 (absent) and −1 (not to be counted).
    """

    def __init__(self, metric: str) -> None:
        self.metric = metric

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the binary cross-entropy, averaged over all that counts."""
        counted = (targets >= 0).to(outputs.dtype)
        wanted = targets.clamp(min=0).to(outputs.dtype)
        losses = F.binary_cross_entropy_with_logits(outputs, wanted, reduction="none")
        return (losses * counted).sum() / counted.sum().clamp(min=1)

    def divergence(self, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        """Return the mean over samples of the sum over classes, each present or absent."""
        pairs = (torch.stack((outputs, -outputs), -1) for outputs in (student, teacher))
        found, wanted = (F.logsigmoid(pair / temperature) for pair in pairs)
        return F.kl_div(found, wanted, reduction="sum", log_target=True) / len(student)

    def meter(self) -> Meter:
        """Return a meter that keeps all outputs, one a class and sample."""
        return _Ranking(self)

    def output_shape(self, classes: int, input_shape: tuple[int, ...]) -> tuple[int, ...]:  # noqa: ARG002
        """One output a class."""
        return (classes,)


class Segmentation:
    """One class a pixel: cross-entropy, mean intersection over union, accuracy of pixels."""

    metric = "miou"

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy of the pixels that belong to a class."""
        wanted = targets.to(torch.int64)
        total = F.cross_entropy(outputs, wanted, ignore_index=IGNORED, reduction="sum")
        return total / (wanted != IGNORED).sum().clamp(min=1)

    def divergence(self, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        """Return the mean over pixels."""
        return _softmax_divergence(student, teacher, temperature)

    def meter(self) -> Meter:
        """Return a meter of the confusion matrix."""
        return _Confusion()

    def output_shape(self, classes: int, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """One output a class and pixel."""
        return (classes, *input_shape[1:])


def _softmax_divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return the mean over samples, or pixels, of KL between softmax over classes, dimension 1."""
    found, wanted = (F.log_softmax(outputs / temperature, 1) for outputs in (student, teacher))
    total = F.kl_div(found, wanted, reduction="sum", log_target=True)
    return total * found.shape[1] / found.numel()


class _Shares:
    """Sums of correct samples and of the loss."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._count = 0

    def add(self, outputs: Tensor, targets: Tensor) -> None:
        sound = outputs.isfinite().all(dim=1)
        found = {"accuracy": ((outputs.argmax(dim=1) == targets) & sound).sum()}
        if outputs.shape[1] > _SOME_CLASSES:
            best = outputs.topk(5, dim=1).indices == targets[:, None]
            found["top5_accuracy"] = (best.any(dim=1) & sound).sum()
        found["loss"] = F.cross_entropy(outputs, targets, reduction="sum")
        for name, value in found.items():
            self._sums[name] = self._sums.get(name, 0.0) + float(value)
        self._count += len(targets)

    def result(self) -> dict[str, float]:
        return {name: value / self._count for name, value in self._sums.items()}


class _Ranking:
    """All scores and targets: average precision needs their order."""

    def __init__(self, task: Multilabel) -> None:
        self._task = task
        self._outputs: list[Tensor] = []
        self._targets: list[Tensor] = []

    def add(self, outputs: Tensor, targets: Tensor) -> None:
        self._outputs.append(outputs)
        self._targets.append(targets)

    def result(self) -> dict[str, float]:
        outputs, targets = torch.cat(self._outputs), torch.cat(self._targets)
        found = average_precision.means(outputs.cpu().numpy(), targets.cpu().numpy())
        return {**found, "loss": float(self._task.loss(outputs, targets))}


class _Confusion:
    """Pixels by their class and the predicted one."""

    def __init__(self) -> None:
        self._matrix: Tensor | None = None
        self._loss = 0.0

    def add(self, outputs: Tensor, targets: Tensor) -> None:
        classes = outputs.shape[1]
        counted = targets != IGNORED
        wanted = targets[counted].to(torch.int64)
        guessed = outputs.argmax(dim=1)[counted]
        sound = outputs.isfinite().all(dim=1)[counted]
        guessed = torch.where(sound, guessed, (wanted + 1) % classes)  # no guess is a wrong one
        pairs = wanted * classes + guessed
        matrix = torch.bincount(pairs, minlength=classes**2).reshape(classes, classes)
        self._matrix = matrix if self._matrix is None else self._matrix + matrix
        total = F.cross_entropy(
            outputs, targets.to(torch.int64), ignore_index=IGNORED, reduction="sum"
        )
        self._loss += float(total)

    def result(self) -> dict[str, float]:
        assert self._matrix is not None  # noqa: S101  an evaluation set is never empty
        matrix = self._matrix.to(torch.float64)
        both = matrix.diagonal()
        either = matrix.sum(0) + matrix.sum(1) - both
        seen = either > 0
        pixels = matrix.sum().clamp(min=1)
        return {
            "miou": float((both[seen] / either[seen]).mean()) if seen.any() else 0.0,
            "pixel_accuracy": float(both.sum() / pixels),
            "loss": self._loss / float(pixels),
        }


TASKS: dict[str, Task] = {
    "classification": Classification(),
    "multilabel": Multilabel("map"),
    "multilabel_2007": Multilabel("map_eleven_points"),
    "segmentation": Segmentation(),
}
