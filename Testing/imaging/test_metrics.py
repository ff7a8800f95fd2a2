"""Metrics inside a mask."""

from __future__ import annotations

import numpy as np
import pytest

from DiffMaCore.errors import InputError
from DiffMaCore.imaging import metrics


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    reference = rng.uniform(0, 255, (4, 40, 36)).round()
    return np.clip(reference + rng.normal(0, 12, reference.shape), 0, 255).round(), reference


def test_figures_equal_their_definitions(pair):
    image, reference = pair
    found = metrics.quality(image, reference, 255.0)
    assert found.mae == pytest.approx(np.abs(image - reference).mean())
    assert found.mse == pytest.approx(((image - reference) ** 2).mean())
    assert found.psnr == pytest.approx(10 * np.log10(255**2 / found.mse))


def test_ssim_agrees_with_scikit_image(pair):
    measure = pytest.importorskip("skimage.metrics")
    image, reference = pair
    for slice_, other in zip(image, reference, strict=True):
        _, expected = measure.structural_similarity(
            slice_, other, data_range=255.0, gaussian_weights=True, sigma=1.5, full=True
        )
        found = metrics.ssim_map(slice_, other, 255.0)
        assert np.abs(found - expected).max() < 1e-9


def test_slices_one_by_one_give_the_mean_of_their_figures(pair):
    image, reference = pair
    whole = metrics.ssim(image, reference, 255.0, axes=(-2, -1))
    each = [metrics.ssim(a, b, 255.0) for a, b in zip(image, reference, strict=True)]
    assert whole == pytest.approx(np.mean(each))


def test_slice_after_slice_gives_the_figures_of_the_whole(pair):
    image, reference = pair
    mask = np.zeros(reference.shape, bool)
    mask[:3, 5:30, 8:30] = True
    seen: list[int] = []
    found = metrics.quality_of_slices(image, reference, 255.0, mask, seen.append)
    expected = metrics.quality(image, reference, 255.0, mask, axes=(-2, -1))
    assert vars(found) == pytest.approx(vars(expected))
    assert seen == [0, 1, 2, 3]


def test_eight_bit_input_gives_the_figures_of_the_same_values_in_float(pair):
    image, reference = pair
    eight = metrics.quality(image.astype(np.uint8), reference.astype(np.uint8), 255.0)
    assert eight == metrics.quality(image, reference, 255.0)


def test_what_lies_outside_the_mask_does_not_count(pair):
    image, reference = pair
    mask = np.zeros(reference.shape, bool)
    mask[:, 10:30, 10:30] = True
    damaged = image.copy()
    damaged[:, 0, 0] = 1e6
    assert metrics.mae(damaged, reference, mask) == metrics.mae(image, reference, mask)
    assert metrics.psnr(damaged, reference, 255.0, mask) == metrics.psnr(image, reference, 255.0, mask)


def test_equal_images_have_no_error(pair):
    _, reference = pair
    found = metrics.quality(reference, reference, 255.0)
    assert found.mse == 0 and found.psnr == float("inf") and found.ssim == pytest.approx(1.0)


def test_arrays_of_different_size_and_empty_masks_are_refused(pair):
    image, reference = pair
    with pytest.raises(InputError, match="differ in size"):
        metrics.mae(image[:2], reference)
    with pytest.raises(InputError, match="mask is empty"):
        metrics.mae(image, reference, np.zeros(reference.shape))
