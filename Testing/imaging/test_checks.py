"""Is it a CT in HU, and of the right part of the body?"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from DiffMaCore.errors import InputError
from DiffMaCore.imaging.body import body_mask
from DiffMaCore.imaging.checks import anatomy_notes, body_extent, check_ct, describe_ct, with_voxels
from DiffMaCore.imaging.reading import read_volume


def head(spacing: tuple[float, float, float] = (3.0, 3.0, 4.0), low: float = -1000.0) -> np.ndarray:
    rng = np.random.default_rng(0)
    z, y, x = np.meshgrid(*[np.linspace(-1.2, 1.2, n) for n in (40, 64, 64)], indexing="ij")
    radius = np.sqrt(x * x + y * y + z * z)
    hu = np.where(radius < 0.85, 35.0, np.where(radius < 1, 900.0, low)) + rng.normal(0, 8, radius.shape)
    return hu.astype(np.float32)


def image_of(array: np.ndarray, spacing: tuple[float, float, float] = (3.0, 3.0, 4.0)) -> sitk.Image:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    return image


def test_a_sound_ct_is_handed_on_untouched() -> None:
    image = image_of(head())
    checked, notes = check_ct(image)
    assert checked is image and notes == []


def test_real_cts_pass(shared: Path) -> None:
    data = shared / "data"
    for file in (
        data / "head_ct_detilted_1x1x2mm.nii.gz",
        data / "pelvis_ct" / "example_ct.nii.gz",
        data / "head_neck_ct" / "pt_109_ct_hu.nii.gz",
    ):
        checked, _ = check_ct(read_volume(file).image)
        assert sitk.GetArrayViewFromImage(checked).min() >= -1024, file.name


def test_a_real_mr_is_refused(shared: Path) -> None:
    image = read_volume(shared / "data" / "negative" / "example_mr_sm.nii.gz").image
    with pytest.raises(InputError, match="no CT in HU"):
        check_ct(image)


@pytest.mark.parametrize("scale", [1.0, 255.0, 1200.0, 4000.0])
def test_pictures_and_mrs_without_air_are_refused(scale: float) -> None:
    mr = np.clip((head() + 1000) / 1900, 0, 1) ** 0.7 * scale
    with pytest.raises(InputError):
        check_ct(image_of(mr))


def test_a_body_on_a_background_of_zero_is_refused() -> None:
    array = np.where(head() < -300, 0, head())
    array[16:24, 26:38, 26:38] = -900
    with pytest.raises(InputError, match="background is 0 HU"):
        check_ct(image_of(array))


def test_a_missing_intercept_is_repaired_when_beyond_doubt() -> None:
    stored = np.clip(head() + 1024, 0, None)
    checked, notes = check_ct(image_of(stored))
    assert "1024" in notes[0]
    np.testing.assert_allclose(sitk.GetArrayFromImage(checked), np.clip(head(), -1024, None), atol=1e-3)


def test_a_missing_intercept_beside_padding_is_repaired_too() -> None:
    stored = np.clip(head() + 1024, 0, None)
    stored[:, :5] = -2000
    checked, notes = check_ct(image_of(stored))
    assert "1024" in notes[0] and "padding" not in notes[0]
    assert sitk.GetArrayViewFromImage(checked)[20, 32, 32] == pytest.approx(35, abs=30)
    assert sitk.GetArrayViewFromImage(checked).min() == -1024


def test_an_mr_scaled_to_1000_is_not_taken_for_a_ct_without_intercept() -> None:
    rng = np.random.default_rng(0)
    array = np.where(head() > 500, 150, np.where(head() > -300, 1000, 5)).astype(np.float32)
    array[:, 20:44, 20:44] = np.where(array[:, 20:44, 20:44] == 1000, 740, array[:, 20:44, 20:44])
    array += rng.normal(0, 20, array.shape).astype(np.float32)
    array[:, :, 10:13] = 1900
    with pytest.raises(InputError, match="no CT"):
        check_ct(image_of(np.abs(array)))


def test_images_that_are_not_3d_grey_are_refused() -> None:
    for image in (sitk.Image([9, 9], sitk.sitkInt16), sitk.Image([9, 9, 9], sitk.sitkVectorUInt8, 3)):
        with pytest.raises(InputError, match="3D"):
            check_ct(image)


def test_nothing_but_air_is_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match="all air"):
        check_ct(image_of(rng.normal(-1000, 10, (9, 20, 20)).astype(np.float32)))
    mr = np.where(head() > -500, rng.uniform(100, 760, head().shape), rng.rayleigh(9, head().shape)) - 1024
    with pytest.raises(InputError, match="all air"):  # an MRI's values under a CT's intercept
        check_ct(image_of(mr.astype(np.float32)))
    with pytest.raises(InputError, match="same value"):
        check_ct(image_of(np.zeros((9, 20, 20), np.float32)))


def test_a_few_nans_become_air_and_are_counted() -> None:
    array = head()
    array[3, 4, 5:9] = np.nan
    array[3, 5, 5] = np.inf
    checked, notes = check_ct(image_of(array))
    assert notes[0].startswith("5 NaN")
    assert sitk.GetArrayFromImage(checked)[3, 4, 5] == -1024


def test_many_nans_are_refused() -> None:
    array = head()
    array[:10] = np.nan
    with pytest.raises(InputError, match="25 %"):
        check_ct(image_of(array))


def test_padding_becomes_air_and_is_said_aloud() -> None:
    array = head()
    array[:, :4] = -3024
    checked, notes = check_ct(image_of(array))
    assert "-3024" in notes[0] and sitk.GetArrayViewFromImage(checked).min() == -1024


def test_metal_is_no_reason_to_refuse() -> None:
    array = head()
    array[20, 30:33, 30:33] = 32767
    assert check_ct(image_of(array))[1] == []


@pytest.mark.parametrize("spacing", [(0.0005, 0.0005, 0.003), (300.0, 300.0, 2000.0)])
def test_an_impossible_spacing_is_refused(spacing: tuple[float, float, float]) -> None:
    with pytest.raises(InputError, match="spacing"):
        check_ct(image_of(head(), spacing))


def test_very_thick_slices_are_said_aloud() -> None:
    assert "25 mm apart" in check_ct(image_of(head(), (3.0, 3.0, 25.0)))[1][0]


def test_a_repair_keeps_what_the_reader_noted() -> None:
    image = image_of(head())
    image.SetMetaData("key", "value")
    assert with_voxels(head(), image).GetMetaData("key") == "value"


def test_the_description_is_ready_for_json(shared: Path) -> None:
    ct = describe_ct(image_of(head()))
    assert ct["looks_like_ct"] and ct["size"] == [64, 64, 40]
    assert ct["body_mm"] == pytest.approx([160, 160, 133], abs=12)
    mr = describe_ct(read_volume(shared / "data" / "negative" / "example_mr_sm.nii.gz").image)
    assert not mr["looks_like_ct"] and "MR" in mr["problem"]
    json.dumps([ct, mr])


def test_the_extent_follows_the_anatomy_not_the_axes() -> None:
    array = np.full((30, 40, 50), -1000, np.float32)
    array[5:25, 10:30, 10:40] = 40
    image = image_of(array.transpose(1, 0, 2).copy(), (1.0, 2.0, 3.0))
    image.SetDirection((1, 0, 0, 0, 0, 1, 0, 1, 0))
    assert body_extent(image, sitk.GetArrayViewFromImage(image) > -300) == (30.0, 60.0, 40.0)


def test_a_trunk_is_too_large_for_a_brain_model_and_a_head_is_not(shared: Path) -> None:
    for name, fits in (("pelvis_ct/example_ct.nii.gz", False), ("head_ct_detilted_1x1x2mm.nii.gz", True)):
        image = check_ct(read_volume(shared / "data" / name).image)[0]
        body = body_mask(sitk.GetArrayViewFromImage(image), image.GetSpacing()[::-1])
        notes = anatomy_notes(image, body, "brain")
        assert (notes == []) is fits
        assert anatomy_notes(image, body, "unknown") == []
        if not fits:
            assert "larger than a head" in notes[0] and anatomy_notes(image, body, "pelvis") == []


def test_infinities_of_both_signs_are_measured_without_a_word(recwarn: pytest.WarningsRecorder) -> None:
    array = np.full((6, 20, 20), -1000, np.float32)
    array[2:4, 5:15, 5:15], array[0, 0, 0], array[0, 0, 1] = 40, np.inf, -np.inf
    found = describe_ct(sitk.GetImageFromArray(array))
    assert found["hu_range"] == [-1000.0, 40.0] and found["nan_count"] == 2
    assert not [warning for warning in recwarn if warning.category is RuntimeWarning]
