"""Every damage to a case is found and named; a sound case passes."""

from __future__ import annotations

import re

import pytest
import SimpleITK as sitk

from DiffMaCore.training.experiment import DataConfig
from DiffMaCore.training.slicing import check_case, empty_planes
from DiffMaCore.training.sources import RawPair
from Testing.training.synthrad import DAMAGES, case_images

BRAIN = DataConfig(anatomy="brain")
BACK = DataConfig(anatomy="brain", source="mr", target="ct")

REASONS = {
    "size": "mr and ct differ in size: 228 x 228 x 5 and 228 x 228 x 6 voxels",
    "spacing": "mr and ct differ in spacing: 1.1 x 1 x 1 and 1 x 1 x 1 mm",
    "origin": "mr and ct differ in origin",
    "direction": "mr and ct differ in direction",
    "mask_origin": "mask and ct differ in origin",
    "nan": "mr: 3 voxels are NaN or infinite",
    "not_hu": "ct: the values .* hold no air: this is no CT in HU",
    "all_air": "ct: the volume is all air",
    "constant_mr": "mr: the volume has the same value 0 everywhere",
    "empty_slices": "mr: 83 % of the slices with a body are empty",
    "empty_mask": "mask: it is empty",
    "shifted": "overlap by 0.[3-7][0-9] only",
    "ct_as_mr": "mr: the volume is a CT in HU, and an MRI is wanted",
}


def pair_of(images: dict[str, sitk.Image], data: DataConfig) -> RawPair:
    floats = {name: sitk.Cast(images[name], sitk.sitkFloat32) for name in ("ct", "mr")}
    return RawPair(floats[data.source], floats[data.target], images["mask"])


@pytest.mark.parametrize("data", [BRAIN, BACK])
def test_a_sound_case_passes_in_both_directions(data: DataConfig) -> None:
    pair = pair_of(case_images(0, slices=6), data)
    assert check_case(pair, data) == []
    assert check_case(RawPair(pair.source, pair.target), data) == []


@pytest.mark.parametrize("damage", DAMAGES)
def test_every_damage_is_a_reason(damage: str) -> None:
    images = case_images(0, slices=6)
    DAMAGES[damage](images)
    reasons = check_case(pair_of(images, BRAIN), BRAIN)
    assert any(re.search(REASONS[damage], reason) for reason in reasons), reasons


def test_rounding_in_a_header_is_no_difference() -> None:
    images = case_images(0, slices=6)
    images["mr"].SetSpacing((1.000001, 1, 1))
    images["mr"].SetOrigin([mm + 1e-3 for mm in images["mr"].GetOrigin()])
    assert check_case(pair_of(images, BRAIN), BRAIN) == []


def test_planes_without_content_are_known() -> None:
    images = case_images(0, slices=6)
    DAMAGES["empty_slices"](images)
    assert empty_planes(images["mr"], 0).tolist() == [True] * 5 + [False]
