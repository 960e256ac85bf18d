from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from torch.nn import functional as F

from fedcomp.training.average_precision import class_precisions, means
from fedcomp.training.tasks import TASKS

RNG = np.random.default_rng(0)


def measure(task: str, outputs: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
    meter = TASKS[task].meter()
    for part in torch.arange(len(outputs)).split(7):
        meter.add(outputs[part], targets[part])
    return meter.result()


def test_classification_counts_over_batches() -> None:
    outputs = torch.from_numpy(RNG.normal(size=(40, 12)).astype(np.float32))
    targets = torch.from_numpy(RNG.integers(0, 12, 40))
    found = measure("classification", outputs, targets)
    ranks = (outputs > outputs.gather(1, targets[:, None])).sum(dim=1)
    assert found["accuracy"] == pytest.approx(float((ranks == 0).double().mean()))
    assert found["top5_accuracy"] == pytest.approx(float((ranks < 5).double().mean()))
    assert found["loss"] == pytest.approx(float(F.cross_entropy(outputs, targets)), rel=1e-6)
    assert "top5_accuracy" not in measure("classification", outputs[:, :10], targets % 10)


def test_plain_average_precision_is_sklearns() -> None:
    for _ in range(50):
        count = int(RNG.integers(2, 60))
        scores, targets = RNG.normal(size=count), RNG.integers(0, 2, count)
        targets[0] = 1
        expected = average_precision_score(targets, scores)
        assert class_precisions(scores, targets)[2] == pytest.approx(expected)


def slow(scores: np.ndarray, targets: np.ndarray) -> tuple[float, float]:  # type: ignore[type-arg]
    """The definitions, point by point."""
    order = sorted(range(len(scores)), key=lambda at: -scores[at])
    hits = [targets[at] == 1 for at in order]
    total = sum(hits)
    points = [(sum(hits[:k]) / total, sum(hits[:k]) / k) for k in range(1, len(hits) + 1)]

    def envelope(recall: float) -> float:
        return max(p for r, p in points if r >= recall - 1e-12)

    area = sum(envelope(n / total) / total for n in range(1, total + 1))
    return area, sum(envelope(i / 10) for i in range(11)) / 11


def test_voc_average_precisions_are_their_definitions() -> None:
    for _ in range(50):
        count = int(RNG.integers(2, 60))
        scores, targets = RNG.normal(size=count), RNG.integers(0, 2, count)
        targets[-1] = 1
        assert class_precisions(scores, targets)[:2] == pytest.approx(slow(scores, targets))


def test_difficult_samples_and_absent_classes_do_not_count() -> None:
    scores = RNG.normal(size=(30, 3))
    targets = RNG.integers(-1, 2, size=(30, 3))
    targets[:, 2] = 0
    targets[0, :2] = 1
    counted = [class_precisions(scores[t >= 0, c], t[t >= 0]) for c, t in enumerate(targets.T[:2])]
    assert means(scores, targets)["map"] == pytest.approx(np.mean(counted, axis=0)[0])
    assert means(scores, np.zeros_like(targets)) == dict.fromkeys(
        ("map", "map_eleven_points", "macro_ap"), 0.0
    )


def test_multilabel_loss_leaves_out_what_is_not_to_be_counted() -> None:
    outputs = torch.tensor([[2.0, -1.0], [0.5, 3.0]])
    targets = torch.tensor([[1, -1], [0, 1]], dtype=torch.int8)
    kept = torch.tensor([2.0, 0.5, 3.0])
    expected = F.binary_cross_entropy_with_logits(kept, torch.tensor([1.0, 0.0, 1.0]))
    assert float(TASKS["multilabel"].loss(outputs, targets)) == pytest.approx(float(expected))
    assert float(TASKS["multilabel"].loss(outputs, torch.full((2, 2), -1))) == 0
    found = measure("multilabel", outputs, targets)
    assert list(found) == ["map", "map_eleven_points", "macro_ap", "loss"]
    assert found["loss"] == pytest.approx(float(expected))


def test_segmentation_is_the_confusion_matrix_by_hand() -> None:
    targets = torch.tensor([[[0, 0], [1, 255]], [[2, 1], [0, 0]]], dtype=torch.uint8)
    guess = torch.tensor([[[0, 1], [1, 1]], [[2, 0], [0, 0]]])
    outputs = 5 * F.one_hot(guess, 4).permute(0, 3, 1, 2).float()
    found = measure("segmentation", outputs, targets)
    # class 0: 3 of 5, class 1: 1 of 3, class 2: 1 of 1; class 3 occurs nowhere
    assert found["miou"] == pytest.approx((3 / 5 + 1 / 3 + 1) / 3)
    assert found["pixel_accuracy"] == pytest.approx(5 / 7)
    expected = F.cross_entropy(outputs, targets.long(), ignore_index=255)
    assert found["loss"] == pytest.approx(float(expected), rel=1e-6)
    assert float(TASKS["segmentation"].loss(outputs, targets)) == pytest.approx(found["loss"])
    empty = torch.full_like(targets, 255)
    assert float(TASKS["segmentation"].loss(outputs, empty)) == 0
    assert measure("segmentation", outputs, empty)["miou"] == 0


@pytest.mark.parametrize("value", [0.7, np.nan, -np.inf])
@pytest.mark.parametrize("place", [0, 1])
def test_scores_without_an_order_give_chance_whatever_the_order_of_samples(
    value: float, place: int
) -> None:
    targets = np.roll(np.repeat([1, 0], [3, 27]), 27 * place)
    for found in class_precisions(np.full(30, value), targets):
        assert found == pytest.approx(0.1)


def test_tied_scores_count_as_sklearn_counts_them() -> None:
    for _ in range(50):
        scores, targets = RNG.integers(0, 4, 30) / 4, RNG.integers(0, 2, 30)
        targets[0] = 1
        expected = average_precision_score(targets, scores)
        assert class_precisions(scores, targets)[2] == pytest.approx(expected)


def test_outputs_that_are_not_finite_are_wrong() -> None:
    broken = torch.full((4, 12), torch.nan)
    found = measure("classification", broken, torch.zeros(4, dtype=torch.int64))
    assert (found["accuracy"], found["top5_accuracy"]) == (0, 0)
    pixels = torch.full((2, 3, 2, 2), torch.nan)
    found = measure("segmentation", pixels, torch.zeros((2, 2, 2), dtype=torch.uint8))
    assert (found["miou"], found["pixel_accuracy"]) == (0, 0)


def test_the_challenge_of_2007_is_judged_by_eleven_points() -> None:
    assert (TASKS["multilabel"].metric, TASKS["multilabel_2007"].metric) == (
        "map",
        "map_eleven_points",
    )
