"""The source volume as a model takes it: a CT in HU, or an MRI by percentiles inside the body."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from DiffMaCore.errors import InputError
from DiffMaCore.imaging.body import body_of, overlap
from DiffMaCore.imaging.checks import check_mr, describe_source, looks_like_hu
from DiffMaCore.imaging.grid import AIR_HU, SliceGrid
from DiffMaCore.imaging.source import normalise, percentile_normalisation, ready_source
from Testing.heads import rendered

PERCENTILES = percentile_normalisation(0.5, 99.5)


@pytest.fixture(scope="module")
def images() -> dict[str, sitk.Image]:
    phantom = rendered(5, (6.0, 6.0, 8.0), (38, 38, 27))
    body = sitk.GetImageFromArray(phantom.body.astype(np.uint8))
    return {"ct": sitk.Cast(phantom.ct_image(), sitk.sitkFloat32), "mr": phantom.mr_image(), "body": body}


def test_percentiles_inside_the_body_become_minus_one_and_one() -> None:
    rng = np.random.default_rng(0)
    array = rng.normal(300, 50, (6, 20, 20)).astype(np.float32)
    body = np.zeros(array.shape, bool)
    body[:, 5:15, 5:15] = True
    array[~body] = 9000  # nothing outside decides
    scaled = normalise(array, body, 1, 99)
    low, high = np.percentile(array[body], (1, 99))
    np.testing.assert_allclose(scaled[body], np.clip((array[body] - low) / (high - low) * 2 - 1, -1, 1), atol=1e-5)
    assert scaled.dtype == np.float32 and scaled[~body].min() == 1
    np.testing.assert_allclose(normalise(array * 7 + 2, body, 1, 99), scaled, atol=1e-4)


def test_an_image_without_body_or_contrast_is_refused() -> None:
    array = np.ones((2, 5, 5), np.float32)
    with pytest.raises(InputError, match="no body"):
        normalise(array, np.zeros(array.shape, bool), 1, 99)
    with pytest.raises(InputError, match="same value 1 all over"):
        normalise(array, np.ones(array.shape, bool), 1, 99)


def test_the_body_in_an_mri_is_that_of_its_ct(images: dict[str, sitk.Image]) -> None:
    truth = sitk.GetArrayFromImage(images["body"]) > 0
    assert overlap(body_of(images["mr"], "mr"), truth, 0) > 0.94
    assert overlap(body_of(images["ct"]), truth, 0) > 0.94
    assert body_of(images["mr"][:, :, 13:14], "mr").any()
    turned = sitk.PermuteAxes(images["mr"], (2, 0, 1))
    back = body_of(turned, "mr").transpose(2, 0, 1)  # from y, x, z to z, y, x
    assert overlap(back, body_of(images["mr"], "mr"), 0) > 0.99


def test_a_ct_stays_in_hu_and_an_mri_comes_normalised(images: dict[str, sitk.Image]) -> None:
    ct, mr = ready_source(images["ct"]), ready_source(images["mr"], PERCENTILES)
    assert ct.outside == AIR_HU and sitk.GetArrayViewFromImage(ct.image).max() > 500
    values = sitk.GetArrayViewFromImage(mr.image)
    assert mr.outside == -1 and (values.min(), values.max()) == (-1, 1)
    assert mr.image.GetSpacing() == images["mr"].GetSpacing() and mr.body.shape == values.shape
    expected = normalise(sitk.GetArrayFromImage(images["mr"]), body_of(images["mr"], "mr"), 0.5, 99.5)
    assert np.array_equal(values, expected)


def test_what_the_model_does_not_take_is_refused_clearly(images: dict[str, sitk.Image]) -> None:
    with pytest.raises(InputError, match=r"is a CT in HU, and an MRI is wanted here; give the MRI"):
        ready_source(images["ct"], PERCENTILES)
    with pytest.raises(InputError, match="no CT in HU but perhaps"):
        ready_source(images["mr"])
    assert looks_like_hu(sitk.GetArrayFromImage(images["ct"]))
    scores = sitk.Normalize(images["mr"])
    assert check_mr(scores)[0] is scores


def test_a_few_nans_in_an_mri_become_its_lowest_value(images: dict[str, sitk.Image]) -> None:
    array = sitk.GetArrayFromImage(images["mr"]) + 10
    lowest = array.min()
    array[3, 4, 5:8] = np.nan
    checked, notes = check_mr(sitk.GetImageFromArray(array))
    assert sitk.GetArrayFromImage(checked)[3, 4, 6] == lowest and notes[0].startswith("3 NaN")


def test_target_slices_lie_on_the_sources_grid(images: dict[str, sitk.Image]) -> None:
    source = ready_source(images["ct"])
    grid = SliceGrid.from_image(source.image, source.body, 6.0, 40)
    indices = range(grid.n_slices)
    hu = sitk.GetArrayFromImage(source.image)
    assert np.array_equal(grid.slices(hu, indices, AIR_HU), grid.ct_slices(indices))
    ones = grid.slices(np.ones(hu.shape, np.float32), [3], 0.0)
    assert ones[0, 20, 20] == pytest.approx(1) and ones[0, 0, 0] == 0


def test_the_description_says_whether_a_model_for_mris_can_take_it(images: dict[str, sitk.Image]) -> None:
    good = describe_source(images["mr"], "brain", is_ct=False)
    assert good["source_problem"] is None and not good["looks_like_ct"] and good["body_mm"][0] > 100
    bad = describe_source(images["ct"], "brain", is_ct=False)
    assert "a CT in HU" in bad["source_problem"]
    assert describe_source(images["ct"])["source_problem"] is None
