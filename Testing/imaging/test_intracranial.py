"""The space inside the skull."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from DiffMaCore.errors import InputError
from DiffMaCore.imaging.agreement import dice
from DiffMaCore.imaging.intracranial import intracranial_space
from DiffMaCore.imaging.reading import read_volume
from Testing.images import BONE, head_images, head_labels


def _true_space(image: sitk.Image) -> np.ndarray:
    """Where the head of ``head_images`` is inside its skull."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in image.GetSize()), indexing="ij"), -1)
    axes = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    return (head_labels(index @ axes.T + image.GetOrigin()) > BONE).transpose(2, 1, 0)


@pytest.mark.parametrize(
    "grid",
    [
        {},
        {"size": (150, 180, 26), "spacing": (1, 1.05, 6.5)},
        {"euler": (0.4, -0.2, 0.3), "size": (90, 104, 96)},
        {"highest_mm": 40},
        {"craniotomy": True},
        {"euler": (0, 0, np.pi)},
    ],
    ids=["isotropic", "thick slices", "oblique", "no vertex", "craniotomy", "turned over"],
)
def test_the_inside_of_a_skull_is_found(grid: dict) -> None:
    ct, _ = head_images(**grid)
    assert dice(intracranial_space(ct), _true_space(ct)) > 0.97


def test_slices_of_padding_above_a_cut_change_nothing() -> None:
    ct, _ = head_images(highest_mm=30)
    padded = sitk.ConstantPad(ct, [0, 0, 0], [0, 0, 12], -1024)
    found = intracranial_space(padded)
    assert not found[-12:].any()
    assert dice(found[:-12], intracranial_space(ct)) > 0.99


def test_without_a_skull_there_is_no_inside() -> None:
    ct, _ = head_images()
    boneless = sitk.Minimum(ct, 100.0)
    with pytest.raises(InputError, match="no skull"):
        intracranial_space(boneless)
    with pytest.raises(InputError, match="no skull"):
        intracranial_space(ct * 0 - 1000)


def test_real_heads_have_a_brain_of_the_usual_size_and_a_pelvis_has_none(shared: Path) -> None:
    image = read_volume(shared / "data" / "head_ct_detilted_1x1x2mm.nii.gz").image
    assert 1300 < intracranial_space(image).sum() * 2 / 1000 < 1700
    with pytest.raises(InputError, match="no skull"):
        intracranial_space(read_volume(shared / "data" / "pelvis_ct" / "example_ct.nii.gz").image)
