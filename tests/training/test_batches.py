from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import functional as TF

from fedcomp.data.base import Samples
from fedcomp.data.preparation import IGNORED, Augment, Preparation
from fedcomp.training.batches import Batches, cutout, jitter, move

CPU = torch.device("cpu")
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.1)


def images(count: int = 6, channels: int = 3, height: int = 10, width: int = 8) -> Samples:
    rng = np.random.default_rng(0)
    values = rng.integers(1, 256, size=(count, channels, height, width), dtype=np.uint8)
    return Samples(values, np.arange(count), Preparation(MEAN[:channels], STD[:channels]))


def evaluated(samples: Samples, *, channels_last: bool = False) -> torch.Tensor:
    batches = Batches(samples, CPU, channels_last=channels_last)
    return torch.cat([inputs for inputs, _ in batches.evaluation()])


def test_evaluation_is_to_tensor_and_normalise() -> None:
    samples = images()
    for value, found in zip(samples.inputs, evaluated(samples), strict=True):
        expected = TF.normalize(TF.to_tensor(value.transpose(1, 2, 0)), MEAN, STD)
        torch.testing.assert_close(found, expected, atol=2e-6, rtol=0)
    last = evaluated(samples, channels_last=True)
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(last, evaluated(samples))


def test_floats_stay_as_they_are_and_a_gray_channel_is_repeated() -> None:
    inputs = np.random.default_rng(1).normal(size=(5, 1, 4, 4)).astype(np.float32)
    plain = Samples(inputs, np.zeros(5))
    assert np.array_equal(evaluated(plain).numpy(), inputs)
    triple = Samples(inputs, np.zeros(5), Preparation(channels=3))
    assert np.array_equal(evaluated(triple).numpy(), np.repeat(inputs, 3, axis=1))
    assert triple.preparation.shape((1, 4, 4)) == (3, 4, 4)
    assert triple.preparation.shape((3, 4, 4)) == (3, 4, 4)


def test_large_images_are_evaluated_in_small_batches() -> None:
    samples = Samples(np.zeros((3, 1, 3000, 3000), np.uint8), np.zeros(3))
    batches = Batches(samples, CPU, channels_last=False)
    assert [len(inputs) for inputs, _ in batches.evaluation()] == [1, 1, 1]


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 4), st.booleans(), st.integers(0, 9))
def test_a_moved_image_is_a_window_of_the_padded_one(pad: int, flip: bool, seed: int) -> None:
    samples = images(4)
    inputs = torch.from_numpy(samples.inputs)
    masks = torch.from_numpy(samples.inputs[:, 0].copy())
    augment = Augment(crop=pad, flip=flip)
    found, moved = move(inputs, masks, augment, np.random.default_rng(seed))
    assert found.dtype == torch.uint8
    for before, after, mask in zip(samples.inputs, found.numpy(), moved.numpy(), strict=True):
        padded = np.pad(before, ((0, 0), (pad, pad), (pad, pad)))
        windows = [
            window[:, :, ::way]
            for top in range(2 * pad + 1)
            for left in range(2 * pad + 1)
            for window in [padded[:, top : top + 10, left : left + 8]]
            for way in ((1, -1) if flip else (1,))
        ]
        assert any(np.array_equal(after, window) for window in windows)
        inside = after[0] > 0  # the images have no zeros, so that zeros are padding
        assert np.array_equal(mask[inside], after[0][inside])
        assert (mask[~inside] == IGNORED).all()


def test_half_of_the_images_are_mirrored_and_all_offsets_occur() -> None:
    one = torch.arange(1.0, 10).reshape(1, 1, 3, 3).expand(4000, 1, 3, 3)
    rng = np.random.default_rng(2)
    mirrored, _ = move(one, torch.zeros(4000), Augment(flip=True), rng)
    assert (mirrored[:, 0, 0, 0] == 3).float().mean().item() == pytest.approx(0.5, abs=0.03)
    cropped, _ = move(one, torch.zeros(4000), Augment(crop=1), rng)
    centres = cropped[:, 0, 1, 1].unique(return_counts=True)
    assert centres[0].tolist() == list(range(1, 10))
    assert centres[1].min() > 350


def test_jitter_is_torchvisions_brightness_contrast_saturation() -> None:
    values = torch.rand(5, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    found = jitter(values, 0.4, np.random.default_rng(7))
    drawn = np.random.default_rng(7).uniform(0.6, 1.4, size=(3, 5, 1, 1, 1)).astype(np.float32)
    for at, image in enumerate(values):
        brightness, contrast, saturation = (float(f) for f in drawn[:, at, 0, 0, 0])
        expected = TF.adjust_contrast(TF.adjust_brightness(image, brightness), contrast)
        expected = TF.adjust_saturation(expected, saturation)
        # torchvision rounds the weights of the luma to 0.2989, 0.587, 0.114
        torch.testing.assert_close(found[at], expected, atol=2e-4, rtol=0)
    gray = jitter(values[:, :1], 0.4, np.random.default_rng(7))
    assert gray.shape == (5, 1, 6, 6)


def test_cutout_blanks_one_square_around_any_pixel() -> None:
    ones = torch.ones(3000, 2, 8, 8)
    found = cutout(ones, 4, np.random.default_rng(3))
    blank = (found == 0).all(dim=1)
    assert torch.equal(blank, (found == 0).any(dim=1))
    assert blank.sum(dim=(1, 2)).max() == 16
    rows, columns = blank.any(dim=2).sum(dim=1), blank.any(dim=1).sum(dim=1)
    assert torch.equal(blank.sum(dim=(1, 2)), rows * columns)
    # Starts are −2 … 5: an extent of 2, 3, 4, 4, 4, 4, 4, 3 pixels, the mean 3.5
    assert rows.float().mean().item() == pytest.approx(3.5, abs=0.05)


def test_training_batches_are_augmented_and_repeat_with_the_seed() -> None:
    samples = images(20)
    augment = Augment(crop=2, flip=True, jitter=0.3, cutout=3)
    full = Samples(samples.inputs, samples.targets, Preparation(MEAN, STD, None, augment))
    batches = Batches(full, CPU, channels_last=False)
    index = np.array([3, 1, 7])
    first, targets = batches.training(index, np.random.default_rng(1))
    again, _ = batches.training(index, np.random.default_rng(1))
    other, _ = batches.training(index, np.random.default_rng(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert targets.tolist() == [3, 1, 7]
    assert (first == 0).any(), "cut out after normalisation"


def test_plain_training_batches_draw_nothing() -> None:
    rng = np.random.default_rng(1)
    before = rng.bit_generator.state
    batches = Batches(images(), CPU, channels_last=False)
    inputs, _ = batches.training(np.arange(6), rng)
    assert torch.equal(inputs, evaluated(images()))
    assert rng.bit_generator.state == before


def test_a_preparation_needs_one_std_for_each_mean() -> None:
    with pytest.raises(ValueError, match="one positive std for each mean"):
        Preparation((0.5,), (0.0,))


def test_an_evaluated_model_may_change_its_inputs() -> None:
    inputs = np.ones((4, 1, 2, 2), np.float32)
    for part, _ in Batches(Samples(inputs, np.zeros(4)), CPU, channels_last=False).evaluation():
        part.zero_()
    assert (inputs == 1).all()


def test_evaluation_copies_no_more_than_a_batch() -> None:
    class Watched(np.ndarray):  # type: ignore[type-arg]
        largest = 0

        def __getitem__(self, key: object) -> object:
            found = super().__getitem__(key)  # type: ignore[call-overload]
            Watched.largest = max(Watched.largest, len(found))
            return found

    values = np.zeros((200, 3, 128, 128), np.uint8).view(Watched)
    batches = Batches(Samples(values, np.zeros(200)), CPU, channels_last=False)
    assert sum(len(inputs) for inputs, _ in batches.evaluation()) == 200
    assert Watched.largest < 100
