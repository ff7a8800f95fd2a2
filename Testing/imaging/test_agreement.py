"""Whether an MRI follows its CT, judged without a true MRI."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from DiffMaCore.errors import InputError
from DiffMaCore.imaging.agreement import (
    Agreement,
    agreement,
    agreement_words,
    between_classes,
    contrast_of,
    slice_change,
)
from DiffMaCore.imaging.reading import read_volume
from Testing.images import head_images


@pytest.fixture(scope="module")
def pair() -> tuple[sitk.Image, sitk.Image]:
    return head_images("t1")


@pytest.fixture(scope="module")
def followed(pair: tuple[sitk.Image, sitk.Image]) -> Agreement:
    return agreement(*pair)


def _changed(image: sitk.Image, array: np.ndarray) -> sitk.Image:
    changed = sitk.GetImageFromArray(array)
    changed.CopyInformation(image)
    return changed


def test_the_true_mri_follows_its_ct(followed: Agreement) -> None:
    assert followed.csf_dice is not None and followed.csf_dice > 0.9 and followed.skull_dice > 0.9
    assert followed.csf_volume_error == pytest.approx(0, abs=0.1)
    assert followed.verdict == "the MR follows the CT"
    assert agreement_words(followed).endswith("the MR follows the CT")
    assert followed.nmi > followed.nmi_mirrored + 0.02
    assert followed.slice_change == pytest.approx(1, abs=0.2)


def test_the_scalp_is_measured_in_mm_in_both(followed: Agreement) -> None:
    assert followed.scalp_ct_mm == pytest.approx(7, abs=1) and followed.scalp_mr_mm == pytest.approx(7, abs=1)


def test_a_mirrored_mri_scores_lower(pair: tuple[sitk.Image, sitk.Image], followed: Agreement) -> None:
    ct, mr = pair
    mirrored = agreement(ct, _changed(mr, sitk.GetArrayFromImage(mr)[:, :, ::-1]))
    assert mirrored.csf_dice is not None and followed.csf_dice is not None
    assert mirrored.csf_dice < followed.csf_dice - 0.1
    assert mirrored.nmi == pytest.approx(followed.nmi_mirrored, abs=0.005)


def test_an_mri_of_another_size_does_not_follow(pair: tuple[sitk.Image, sitk.Image]) -> None:
    ct, mr = pair
    scaled = sitk.Resample(mr, sitk.ScaleTransform(3, (1.15, 1.15, 1.15)))
    assert agreement(ct, scaled).verdict == "the MR does NOT follow the CT"


@pytest.mark.parametrize("contrast", ["MR T2", "FLAIR"])
def test_fluid_is_bright_in_t2_and_dark_in_flair(contrast: str) -> None:
    ct, mr = head_images(contrast_of(contrast))
    found = agreement(ct, mr, contrast)
    assert found.csf_dice is not None and found.csf_dice > 0.9 and found.skull_dice > 0.85
    wrong = agreement(ct, mr, "T1" if contrast == "MR T2" else "T2")
    assert wrong.csf_dice is not None and wrong.csf_dice < 0.5


@pytest.mark.parametrize(
    "grid",
    [{"size": (150, 180, 26), "spacing": (1, 1.05, 6.5)}, {"euler": (0.4, -0.2, 0.3), "size": (90, 104, 96)}],
    ids=["thick slices", "oblique"],
)
def test_spacing_and_orientation_do_not_matter(grid: dict, followed: Agreement) -> None:
    found = agreement(*head_images("t1", **grid))
    assert found.csf_dice is not None and found.csf_dice > 0.85 and found.skull_dice > 0.8
    assert found.intracranial_ml == pytest.approx(followed.intracranial_ml, rel=0.05)
    assert found.csf_ct_ml == pytest.approx(followed.csf_ct_ml, rel=0.15)
    assert found.scalp_ct_mm == pytest.approx(7, abs=1.5) and found.scalp_mr_mm == pytest.approx(7, abs=1.5)


def test_the_axes_of_the_file_do_not_matter(pair: tuple[sitk.Image, sitk.Image], followed: Agreement) -> None:
    found = agreement(*(sitk.DICOMOrient(image, "PIR") for image in pair))
    for key in ("csf_dice", "skull_dice", "nmi", "nmi_mirrored", "slice_change", "scalp_ct_mm"):
        assert getattr(found, key) == pytest.approx(getattr(followed, key), abs=0.02)


def test_slices_that_were_not_converted_are_left_out(pair: tuple[sitk.Image, sitk.Image], followed: Agreement) -> None:
    ct, mr = pair
    array = sitk.GetArrayFromImage(mr)
    array[:30] = 0
    found = agreement(ct, _changed(mr, array))
    assert found.intracranial_ml < 0.9 * followed.intracranial_ml
    assert found.csf_dice is not None and found.csf_dice > 0.9
    with pytest.raises(InputError, match="no image"):
        agreement(ct, mr * 0)


def test_a_ct_whose_hu_are_shifted_is_judged_all_the_same(pair: tuple[sitk.Image, sitk.Image]) -> None:
    ct, mr = pair
    found = agreement(ct + 25, mr)
    assert found.hu_shift == pytest.approx(20, abs=5)
    assert found.csf_dice is not None and found.csf_dice > 0.85
    assert agreement(ct, mr).hu_shift == 0


def test_other_grids_and_contrasts_are_refused(pair: tuple[sitk.Image, sitk.Image]) -> None:
    ct, mr = pair
    moved = sitk.Image(mr)
    moved.SetOrigin([origin + 1 for origin in mr.GetOrigin()])
    for other in (moved, mr[1:]):
        with pytest.raises(InputError, match="one grid"):
            agreement(ct, other)
    with pytest.raises(InputError, match="contrast"):
        agreement(ct, mr, "proton density")


def test_a_volume_that_flickers_changes_more_from_slice_to_slice() -> None:
    rng = np.random.default_rng(0)
    calm = np.cumsum(rng.normal(0, 1, (20, 30, 30)), axis=0)
    inside = np.ones(calm.shape, bool)
    assert slice_change(rng.normal(0, 1, calm.shape), inside, (1, 1, 1)) == pytest.approx(1, abs=0.05)
    flat = np.broadcast_to(rng.normal(0, 1, (1, 30, 30)), calm.shape)
    assert slice_change(flat, inside, (1, 1, 1)) == 0
    flicker = np.broadcast_to(rng.normal(0, 1, (20, 1, 1)), calm.shape) + 0.1 * rng.normal(0, 1, calm.shape)
    found = slice_change(flicker, inside, (1, 1, 1))
    assert found is not None and found > 5
    assert slice_change(calm[:1], inside[:1], (1, 1, 1)) is None


def test_classes_are_parted_between_their_peaks() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(m, 2, n) for m, n in ((20, 800), (60, 3000), (100, 3000))])
    low, high = between_classes(values, 3)
    assert 30 < low < 50 and 70 < high < 90
    with pytest.raises(InputError, match="same value"):
        between_classes(np.ones(10), 2)


def test_a_real_head_is_judged_and_its_mirror_falls_behind(shared: Path) -> None:
    """A fake T1 of a real CT: fluid and bone dark, fat bright."""
    ct = read_volume(shared / "data" / "head_ct_detilted_1x1x2mm.nii.gz").image
    hu = sitk.GetArrayFromImage(ct)
    smooth = sitk.GetArrayFromImage(sitk.SmoothingRecursiveGaussian(sitk.Clamp(ct, sitk.sitkFloat32, -50, 80), 1.0))
    soft = np.where(smooth < -10, 120, np.interp(smooth, [7, 37, 60], [22, 62, 80]))
    fake = np.where(hu > 300, 10, np.where(hu < -300, 0, soft))
    found = agreement(ct, _changed(ct, fake.astype(np.float32)))
    assert found.csf_dice is not None and found.csf_dice > 0.85 and found.skull_dice > 0.9
    mirrored = agreement(ct, _changed(ct, fake[:, :, ::-1].astype(np.float32)))
    assert mirrored.csf_dice is not None and mirrored.csf_dice < found.csf_dice - 0.2
