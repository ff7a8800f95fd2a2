"""Masks and slice ranges."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from DiffMaCore.errors import InputError
from DiffMaCore.imaging.selection import parse_slices, read_mask


@pytest.fixture
def ct() -> sitk.Image:
    image = sitk.Image([20, 16, 10], sitk.sitkFloat32)
    image.SetSpacing((2.0, 2.0, 3.0))
    image.SetOrigin((5.0, -8.0, 100.0))
    return image


def labels(like: sitk.Image) -> sitk.Image:
    array = np.zeros(like.GetSize()[::-1], np.uint8)
    array[3:6, 4:9, 5:12] = 3
    image = sitk.GetImageFromArray(array)
    image.CopyInformation(like)
    return image


def test_any_label_counts_and_the_grid_is_the_cts(ct: sitk.Image, tmp_path: Path) -> None:
    sitk.WriteImage(labels(ct), str(tmp_path / "m.nrrd"))
    mask, notes = read_mask(tmp_path / "m.nrrd", ct)
    assert notes == []
    assert mask.GetOrigin() == ct.GetOrigin() and mask.GetPixelID() == sitk.sitkUInt8
    assert sitk.GetArrayFromImage(mask).sum() == 3 * 5 * 7


def test_a_mask_on_another_grid_is_resampled_and_said_aloud(ct: sitk.Image, tmp_path: Path) -> None:
    fine = sitk.Resample(labels(ct), [40, 32, 20], sitk.Transform(), sitk.sitkNearestNeighbor,
                         ct.GetOrigin(), [1.0, 1.0, 1.5])  # fmt: skip
    sitk.WriteImage(fine, str(tmp_path / "m.nii.gz"))
    mask, notes = read_mask(tmp_path / "m.nii.gz", ct)
    assert "resampled" in notes[0]
    assert np.array_equal(sitk.GetArrayFromImage(mask), sitk.GetArrayFromImage(labels(ct)) > 0)


def test_a_mask_elsewhere_is_refused(ct: sitk.Image, tmp_path: Path) -> None:
    away = labels(ct)
    away.SetOrigin((900.0, 0.0, 0.0))
    sitk.WriteImage(away, str(tmp_path / "m.mha"))
    with pytest.raises(InputError, match="does not overlap"):
        read_mask(tmp_path / "m.mha", ct)


def test_an_empty_mask_is_refused(ct: sitk.Image, tmp_path: Path) -> None:
    sitk.WriteImage(ct, str(tmp_path / "m.mha"))
    with pytest.raises(InputError, match="empty"):
        read_mask(tmp_path / "m.mha", ct)


@pytest.mark.parametrize(
    ("text", "chosen"),
    [("2:5", (2, 5)), (":5", (0, 5)), ("7:", (7, 10)), ("-3:", (7, 10)), ("4:99", (4, 10))],
)
def test_slices_are_counted_as_in_python(text: str, chosen: tuple[int, int]) -> None:
    assert parse_slices(text, 10) == chosen


@pytest.mark.parametrize("text", ["5", "a:b", "1:2:3", "1.5:3", "8:4", "10:12", ""])
def test_a_range_that_chooses_nothing_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="--slices"):
        parse_slices(text, 10)
