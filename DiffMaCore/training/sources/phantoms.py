"""Procedural heads instead of a data set."""

from __future__ import annotations

from functools import partial

import numpy as np
import SimpleITK as sitk

from DiffMaCore.errors import InputError
from DiffMaCore.phantom import head_phantom
from DiffMaCore.training.experiment import DataConfig
from DiffMaCore.training.sources.case import RawCase, RawPair

FIRST_SEED = 100_000  # far from the demo's own phantoms, whose networks an experiment may use
_SEEDS_APART = 10_000  # two experiments' seeds
_SLICE_MM = 4.0
_HEAD_MM = 216.0  # from vertex to jaw
_MODALITIES = ("ct", "mr", "t1")


def phantom_cases(data: DataConfig, seed: int) -> list[RawCase]:
    """``data.phantoms`` heads on the model's own pixels; every one has a seed of its own, which its id tells."""
    for name in (data.source, data.target):
        if name not in _MODALITIES:
            raise InputError(f"phantoms have no {name}; set data: source and target to ct and t1")
    first = FIRST_SEED + _SEEDS_APART * seed
    return [RawCase(f"phantom_{s}", "", partial(_load, s, data)) for s in range(first, first + data.phantoms)]


def _load(seed: int, data: DataConfig) -> RawPair:
    spacing = (data.pixel_spacing, data.pixel_spacing, _SLICE_MM)
    phantom = head_phantom(seed, spacing, (data.image_size, data.image_size, round(_HEAD_MM / _SLICE_MM)))
    images = {"ct": sitk.Cast(phantom.ct_image(), sitk.sitkFloat32), "mr": phantom.mr_image()}
    body = sitk.GetImageFromArray(phantom.body.astype(np.uint8))
    body.CopyInformation(images["mr"])
    source, target = (images["ct" if name == "ct" else "mr"] for name in (data.source, data.target))
    return RawPair(source, target, body)
