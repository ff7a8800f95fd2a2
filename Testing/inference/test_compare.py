"""A synthetic MRI against a true one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from DiffMaCore.cli.main import main
from DiffMaCore.errors import InputError
from DiffMaCore.imaging import metrics
from DiffMaCore.inference.compare import compare
from Testing.images import head_like_ct


@pytest.fixture(scope="module")
def ct() -> sitk.Image:
    return head_like_ct()


@pytest.fixture(scope="module")
def mr(ct: sitk.Image) -> sitk.Image:
    """An MRI of the same head: brain bright, bone and air dark."""
    array = sitk.GetArrayFromImage(ct)
    tissue = np.where((array > -100) & (array < 500), 600 + 4 * array, 20.0)
    image = sitk.GetImageFromArray(tissue.astype(np.float32))
    image.CopyInformation(ct)
    return image


def _shifted(image: sitk.Image, mm: float) -> sitk.Image:
    moved = sitk.Image(image)
    moved.SetOrigin([origin + mm for origin in image.GetOrigin()])
    return moved


def test_equal_images_agree_perfectly_whatever_their_units(ct: sitk.Image, mr: sitk.Image) -> None:
    found = compare(mr, mr * 3 + 100, ct)
    assert found.quality.ssim == pytest.approx(1, abs=1e-4)
    assert found.quality.mae < 1e-5 and found.quality.psnr > 80
    assert not found.warnings
    assert compare(mr, mr, ct).quality.psnr == float("inf")


def test_the_figures_are_those_of_the_metrics_inside_the_body(ct: sitk.Image, mr: sitk.Image) -> None:
    noisy = sitk.AdditiveGaussianNoise(mr, 40, 0, 1)
    found = compare(mr, noisy, ct)
    difference = sitk.GetArrayFromImage(found.difference)
    assert np.abs(difference).max() <= 1 and difference[:, 0, 0].max() == 0
    inside = found.body_voxels
    assert found.quality.mae == pytest.approx(np.abs(difference).sum() / inside, rel=1e-4)
    assert found.quality.mse == pytest.approx((difference.astype(float) ** 2).sum() / inside, rel=1e-4)
    assert found.quality.psnr == pytest.approx(metrics.psnr(difference, 0 * difference, 1.0, difference != 0), rel=0.05)
    assert 0 < found.quality.ssim < 0.99


def test_the_true_mri_is_brought_onto_the_synthetic_ones_grid(ct: sitk.Image, mr: sitk.Image) -> None:
    turned = sitk.DICOMOrient(mr, "PIR")
    found = compare(mr, turned, ct)
    assert found.quality.mae < 1e-4
    assert found.difference.GetSize() == mr.GetSize() and found.difference.GetOrigin() == mr.GetOrigin()


def test_without_a_ct_the_body_is_found_in_the_mri(ct: sitk.Image, mr: sitk.Image) -> None:
    alone, with_ct = compare(mr, mr).body_voxels, compare(mr, mr, ct).body_voxels
    assert 0.6 * with_ct < alone <= with_ct


def test_slices_that_were_not_converted_are_left_out_and_said_aloud(ct: sitk.Image, mr: sitk.Image) -> None:
    array = sitk.GetArrayFromImage(mr)
    array[:3] = 0
    part = sitk.GetImageFromArray(array)
    part.CopyInformation(mr)
    found = compare(part, mr, ct)
    assert found.quality.mae < 0.01 and "3 slices" in found.notes[0]


def test_only_the_mask_counts(ct: sitk.Image, mr: sitk.Image) -> None:
    inside = np.zeros(ct.GetSize()[::-1], np.uint8)
    inside[1:5, 12:32, 10:30] = 1
    mask = sitk.GetImageFromArray(inside)
    mask.CopyInformation(ct)
    assert compare(mr, mr, ct, mask).body_voxels == inside.sum()


def test_a_patient_who_lies_elsewhere_is_a_warning_and_no_overlap_an_error(ct: sitk.Image, mr: sitk.Image) -> None:
    assert any("register" in warning for warning in compare(mr, _shifted(mr, 35), ct).warnings)
    with pytest.raises(InputError, match="does not overlap"):
        compare(mr, _shifted(mr, 5000), ct)
    with pytest.raises(InputError, match="same value"):
        compare(mr, mr * 0 + 1, ct)


def test_the_command_answers_a_program_and_writes_the_difference(
    ct: sitk.Image, mr: sitk.Image, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, image in (("ct", ct), ("synthetic", mr), ("true", sitk.AdditiveGaussianNoise(mr, 40, 0, 1))):
        sitk.WriteImage(image, str(tmp_path / f"{name}.nii"))
    paths = [str(tmp_path / f"{name}.nii") for name in ("synthetic", "true", "ct", "difference")]
    words = ["compare", *paths[:2], "--ct", paths[2], "--difference", paths[3]]
    assert main([*words, "--progress", "json"]) == 0
    result = [json.loads(line) for line in capsys.readouterr().out.splitlines()][-1]
    assert {"ssim", "psnr_db", "mae", "mse", "body_voxels", "normalisation", "data_range", "notes"} <= set(result)
    written = sitk.GetArrayFromImage(sitk.ReadImage(result["difference"]))
    assert np.abs(written).sum() / result["body_voxels"] == pytest.approx(result["mae"], rel=1e-4)
    assert main(words[:3]) == 0
    assert "SSIM" in capsys.readouterr().out
    assert main([*words[:3], "--difference", paths[0]]) == 2
    assert "input itself" in capsys.readouterr().err
