"""Where a CT lies outside of what a model was trained on: which feature, and by how much.

A bundle keeps the range of each feature below over the CTs that trained it; a CT outside of one may give an MRI that
nobody should believe. All features are taken on blocks of about 3 mm, so that pixel size and slice thickness hardly
matter, in under a second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from DiffMaCore.errors import InputError
from DiffMaCore.imaging.body import BODY_HU, body_mask
from DiffMaCore.imaging.grid import anatomical_axes
from DiffMaCore.imaging.intracranial import BONE_HU, WATERY_HU, Bools, intracranial_space, reduced

NOT_KNOWN = "not known: the model does not say what it was trained on"
WITHIN = "nothing found outside of the training"

_BLOCK_MM = 3.0
_METAL_HU = 2500.0
_LEFT_OUT = 1.0  # percent of the training's CTs at either end of a range
_WIDENED = 0.15  # of the width that is left, at either end
_SOFT_HU = (-200.0, 250.0)
_BLUR_MM = 4.0  # from bone, which brightens what is nearer; twice as far across slices, some of which are thick
_SKULL_MM = 15.0  # from the space inside it
_NAMED = 3  # features in the sentence


@dataclass(frozen=True)
class Feature:
    """What it is called, its unit, and by how much a range is widened at the least."""

    words: str
    unit: str
    least: float


FEATURES = {
    "length": Feature("the body from head to foot", "mm", 10),
    "depth": Feature("the body from front to back", "mm", 5),
    "width": Feature("the body from right to left", "mm", 5),
    "cut": Feature("body at the sides of the image, where it is cut off:", "% of them", 2),
    "soft": Feature("soft tissue (median)", "HU", 5),
    "space": Feature("the space inside the skull", "ml", 50),
    "space_width": Feature("the space inside the skull from right to left", "mm", 5),
    "above": Feature("the brain above the body's centre", "mm", 10),
    "behind": Feature("the brain behind the centre of the air inside the head", "mm", 10),
    "brain": Feature("the brain (median)", "HU", 2),
    "fluid": Feature("the darkest 2 % of the brain below its median", "HU", 4),
    "bright": Feature("denser by 25 HU than the brain, such as blood:", "ml", 20),
    "vessels": Feature("bright fine structures such as vessels with contrast agent, above noise:", "HU", 4),
    "air": Feature("air inside the skull", "ml", 0.5),
    "metal": Feature("metal", "ml", 0.3),
    "metal_near_brain": Feature("metal in or next to the brain", "ml", 0.05),
    "bone": Feature("the skull's bone (median)", "HU", 30),
    "compact_bone": Feature("the skull's densest tenth", "HU", 50),
    "bone_thickness": Feature("bone around the brain, for its size:", "mm", 0.2),
    "noise": Feature("noise", "HU", 1),
}
"""What is measured, by the name under which a bundle keeps its range."""


@dataclass(frozen=True)
class Outside:
    """A feature of a CT outside of its range in training (``low`` to ``high``), ``excess`` in widths of that range."""

    feature: str
    value: float
    low: float
    high: float

    @property
    def excess(self) -> float:
        return max(self.low - self.value, self.value - self.high) / (self.high - self.low)

    def __str__(self) -> str:
        known = FEATURES[self.feature]
        return f"{known.words} {self.value:.3g} {known.unit} (training {max(self.low, 0):.3g} to {self.high:.3g})"


def ranges(measured: Sequence[Mapping[str, float]]) -> dict[str, tuple[float, float]]:
    """Range of each feature over the CTs of a training, as :func:`features` measures them.

    One percent is left out at either end, and what is left is widened by 15 % there. Features that fewer than half
    of the CTs have are left out.
    """
    found = {}
    for name, feature in FEATURES.items():
        values = [each[name] for each in measured if name in each]
        if 2 * len(values) > len(measured):
            low, high = np.percentile(values, [_LEFT_OUT, 100 - _LEFT_OUT])
            wider = max(feature.least, _WIDENED * (high - low))
            found[name] = (round(float(low - wider), 3), round(float(high + wider), 3))
    return found


def outside(ct: sitk.Image, known: Mapping[str, tuple[float, float]]) -> list[Outside]:
    """Features of a CT in HU (any orientation and spacing) outside of their ranges, the furthest first."""
    values = {"space": 0.0, **features(ct)}
    found = [Outside(name, values[name], *known[name]) for name in FEATURES if name in values and name in known]
    return sorted((each for each in found if each.excess > 0), key=lambda each: -each.excess)


def training_words(ct: sitk.Image, known: Mapping[str, tuple[float, float]]) -> tuple[str, bool]:
    """One sentence on where a CT lies outside of the training, and whether it does."""
    if not known:
        return NOT_KNOWN, False
    found = outside(ct, known)
    if not found:
        return WITHIN, False
    more = len(found) - _NAMED
    named = "; ".join([*map(str, found[:_NAMED]), *([f"{more} more"] if more > 0 else [])])
    return f"Outside of what the model was trained on: {named}.", True


def features(ct: sitk.Image) -> dict[str, float]:
    """What :data:`FEATURES` names, as far as it is there; of the brain nothing where no skull encloses one."""
    array, mm = _upright(ct)
    steps = [max(1, int(_BLOCK_MM / each + 0.45)) for each in mm]
    hu, metal = reduced(array, steps), reduced(array > _METAL_HU, steps)
    spacing = tuple(each * step for each, step in zip(mm, steps, strict=True))
    ml = float(np.prod(spacing)) / 1000
    body = body_mask(hu, spacing)  # type: ignore[arg-type]  # three of them
    if not body.any():
        return {}
    soft = hu[body & (hu > _SOFT_HU[0]) & (hu < _SOFT_HU[1])]
    found = dict(zip(("length", "depth", "width"), _extent(body, spacing), strict=True))
    sides = (body[:, 0], body[:, -1], body[:, :, 0], body[:, :, -1])
    found["cut"] = 100 * float(np.concatenate([side.ravel() for side in sides]).mean())
    found["soft"] = float(np.median(soft)) if soft.size else 0.0
    found["metal"] = float(metal.sum()) * ml
    image = sitk.GetImageFromArray(hu)
    image.SetSpacing(spacing[::-1])
    try:
        space = intracranial_space(image)
    except InputError:
        return found
    return {**found, **_of_the_head(hu, metal, body, space, spacing, ml)}


def _of_the_head(
    hu: NDArray[np.float32],
    metal: NDArray[np.float32],
    body: Bools,
    space: Bools,
    spacing: tuple[float, ...],
    ml: float,
) -> dict[str, float]:
    bone = hu > BONE_HU
    from_bone = ndimage.distance_transform_edt(~bone, sampling=(spacing[0] / 2, *spacing[1:]))
    from_space = ndimage.distance_transform_edt(~space, sampling=spacing)
    deep = space & (from_bone > _BLUR_MM)
    watery = deep & (hu > WATERY_HU[0]) & (hu < WATERY_HU[1])
    skull = bone & (from_space <= _SKULL_MM)
    if not watery.any() or not skull.any():
        return {}
    smooth = ndimage.uniform_filter(hu, (1, 2, 2))
    brain = float(np.median(hu[watery]))
    size = float(space.sum()) * ml
    centre = _centre(space, spacing)
    air = body & (hu < BODY_HU)
    fine = hu - ndimage.median_filter(hu, (1, 3, 3))
    curved = np.abs(hu[:, :, 2:] - 2 * hu[:, :, 1:-1] + hu[:, :, :-2])[watery[:, :, 1:-1]]
    noise = float(np.median(curved)) * 1.4826 / 6**0.5
    found = {
        "space": size,
        "space_width": _extent(space, spacing)[2],
        "above": float((centre - _centre(body, spacing))[0]),
        "brain": brain,
        "fluid": brain - float(np.percentile(smooth[watery], 2)),
        "bright": float((smooth[deep] > brain + 25).sum()) * ml,
        "vessels": float(np.percentile(fine[watery], 99.5)) - 2.6 * noise,  # as high as noise alone reaches
        "air": float((hu[ndimage.binary_closing(space, iterations=2) & (from_bone > _BLUR_MM)] < -200).sum()) * ml,
        "metal_near_brain": float(metal[from_space <= 2 * _BLUR_MM].sum()) * ml,
        "bone": float(np.median(hu[skull])),
        "compact_bone": float(np.percentile(hu[skull], 90)),
        "bone_thickness": 10 * float(skull.sum()) * ml / (4.84 * size ** (2 / 3)),  # a ball's surface
        "noise": noise,
    }
    if air.any():
        found["behind"] = float((centre - _centre(air, spacing))[1])
    return found


def _upright(ct: sitk.Image) -> tuple[NDArray, list[float]]:
    """A view of the voxels with axes to the head, to the back and to the left, and mm along them."""
    axes = anatomical_axes(ct)
    direction = np.array(ct.GetDirection()).reshape(3, 3)
    array = sitk.GetArrayViewFromImage(ct).transpose([2 - axis for axis in axes])
    ways = [direction[row, axis] for row, axis in zip((2, 1, 0), axes, strict=True)]
    return array[tuple(slice(None, None, 1 if way >= 0 else -1) for way in ways)], [ct.GetSpacing()[a] for a in axes]


def _extent(mask: Bools, spacing: tuple[float, ...]) -> list[float]:
    slices = ndimage.find_objects(mask.view(np.uint8))[0]
    return [(each.stop - each.start) * mm for each, mm in zip(slices, spacing, strict=True)]


def _centre(mask: Bools, spacing: tuple[float, ...]) -> NDArray[np.float64]:
    return np.array([axis.mean() for axis in np.nonzero(mask)]) * spacing
