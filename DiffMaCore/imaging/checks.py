"""An image in, out whether it is a CT in Hounsfield units, and of the part of the body the model knows."""

from __future__ import annotations

from typing import Any

import numpy as np
import SimpleITK as sitk

from DiffMaCore.errors import InputError
from DiffMaCore.imaging.body import body_of
from DiffMaCore.imaging.grid import AIR_HU, anatomical_axes

_MOST_NOT_FINITE = 0.05
_LEAST_AIR = 0.001  # part of the voxels below _AIR_BELOW: every scan of a body has air around or inside it
_AIR_BELOW = -200.0
_LEAST_BODY = 1e-4
_PADDING_BELOW = -1100.0  # noise in air reaches a little below -1024 HU, padding far below
_HIGHEST_HU = 1e5  # metal, in scanners of an extended range, stays below 65536
_HU_AIR, _HU_DEPTH = -900.0, -500.0  # no MRI, z-scored ones included, has values like these
_SPACING_MM = (0.05, 100.0)
_THICK_SLICES_MM = 20.0

_ANATOMY_LIMITS = {
    # anatomy: (mm right-left at most, mm head-foot at most, mm right-left at least, the body part)
    "brain": (300.0, 450.0, 90.0, "a head"),
    "pelvis": (650.0, 1200.0, 200.0, "a pelvis"),
}


def check_ct(image: sitk.Image) -> tuple[sitk.Image, list[str]]:
    """Make sure that ``image`` can be a CT in HU; repair what is safe to repair.

    Repaired: a few NaN or infinite voxels (become air), padding far below -1024 HU, and stored
    values that lack the rescale intercept of -1024 beyond doubt.

    Returns:
        The image (the same object where nothing was repaired) and sentences for the user.

    Raises:
        InputError: values that cannot be HU, all air, mostly NaN, or an impossible voxel spacing.
    """
    notes = _check_form(image, "CT in HU")
    array = sitk.GetArrayViewFromImage(image)
    repaired, changed = _without_holes(array, notes)
    low, high = float(repaired.min()), float(repaired.max())
    if low == high:
        raise InputError(f"the volume has the same value {low:g} everywhere; export the CT again")
    sample = _sample(repaired)
    if _lacks_intercept(sample):
        repaired = repaired - np.float32(1024)
        low, sample, changed = low - 1024, sample - 1024, True
        notes.append("All values were 1024 too high (intercept left out): 1024 was subtracted.")
    if np.mean(sample > _AIR_BELOW) < _LEAST_BODY:
        raise InputError(f"the volume is all air (nothing above {_AIR_BELOW:g} HU); check that it is a CT in HU")
    problem = f"the values reach {high:g}" if high > _HIGHEST_HU else _not_hu(sample, repaired)
    if problem:
        raise InputError(f"{problem}; give the original CT in Hounsfield units with the air around the body")
    if not _has_tissue_peak(sample):
        notes.append("The values have no peak where a CT's soft tissue lies: if this is no CT in HU, expect nonsense.")
    if low < _PADDING_BELOW:
        share = max(0.1, 100 * float(np.mean(sample < AIR_HU)))
        repaired, changed = np.maximum(repaired, np.float32(AIR_HU)), True
        notes.append(f"Values below -1024 HU (down to {low:.0f}, about {share:.1f} % of all) were set to -1024.")
    return (with_voxels(repaired, image) if changed else image), notes


def check_mr(image: sitk.Image) -> tuple[sitk.Image, list[str]]:
    """Make sure that ``image`` can be an MRI; a few NaN or infinite voxels become its lowest value.

    Raises:
        InputError: the values are those of a CT in HU, the same everywhere, mostly NaN, or the spacing is impossible.
    """
    notes = _check_form(image, "MRI")
    array = sitk.GetArrayViewFromImage(image)
    finite = array if _all_finite(array) else array[np.isfinite(array)]
    lowest = float(finite.min()) if finite.size else 0.0
    repaired, changed = _without_holes(array, notes, lowest, "the lowest value")
    if lowest == float(repaired.max()):
        raise InputError(f"the volume has the same value {lowest:g} everywhere; export the MRI again")
    if looks_like_hu(repaired):
        raise InputError("the volume is a CT in HU, and an MRI is wanted here; give the MRI, or choose a model for CTs")
    return (with_voxels(repaired, image) if changed else image), notes


def looks_like_hu(array: np.ndarray) -> bool:
    """Whether the values can only be a CT's: some reach air, -900 HU, and a share of them lies in its depth."""
    sample = _sample(array)
    return bool(sample.min() <= _HU_AIR and np.mean(sample < _HU_DEPTH) > _LEAST_AIR)


def describe_source(image: sitk.Image, anatomy: str = "", is_ct: bool = True) -> dict[str, Any]:
    """:func:`describe_ct` for the kind of image a model takes: a CT, or an MRI.

    ``source_problem`` tells why that model cannot take the image, None where it can.
    """
    description = describe_ct(image, anatomy=anatomy)
    if is_ct:
        return {**description, "source_problem": description["problem"]}
    try:
        checked, notes = check_mr(image)
    except InputError as error:
        return {**description, "source_problem": str(error)}
    body = body_of(checked, "mr")
    extent = [round(mm, 1) for mm in body_extent(checked, body)] if body.any() else None
    notes_on_size = anatomy_notes(checked, body, anatomy) if body.any() else []
    found = {"notes": notes, "body_mm": extent, "anatomy_notes": notes_on_size}
    return {**description, **found, "source_problem": None}


def describe_ct(image: sitk.Image, body: np.ndarray | None = None, anatomy: str = "") -> dict[str, Any]:
    """What a user wants to see before converting, ready for JSON.

    Args:
        image: a volume as read, float32.
        body: its body mask (z, y, x) if it is known already.
        anatomy: the body part that a model knows, if it is to be compared.

    Returns:
        size (x, y, z), spacing_mm, hu_range, nan_count (voxels that are NaN or infinite), body_mm (right-left,
        anterior-posterior, inferior-superior; None without a body), looks_like_ct, problem (a sentence, or None),
        notes and anatomy_notes.
    """
    array = sitk.GetArrayViewFromImage(image)
    description: dict[str, Any] = {
        "size": list(image.GetSize()),
        "spacing_mm": [round(mm, 4) for mm in image.GetSpacing()],
        "hu_range": _finite_range(array),
        "nan_count": 0 if _all_finite(array) else int(array.size - np.isfinite(array).sum()),
        "body_mm": None,
        "looks_like_ct": True,
        "problem": None,
        "notes": [],
        "anatomy_notes": [],
    }
    try:
        checked, description["notes"] = check_ct(image)
    except InputError as error:
        return {**description, "looks_like_ct": False, "problem": str(error)}
    if body is None:
        body = body_of(checked)
    if body.any():
        description["body_mm"] = [round(mm, 1) for mm in body_extent(checked, body)]
        description["anatomy_notes"] = anatomy_notes(checked, body, anatomy)
    return description


def body_extent(image: sitk.Image, body: np.ndarray) -> tuple[float, float, float]:
    """Extent in mm of ``body`` (z, y, x) right-left, anterior-posterior and inferior-superior."""
    slab, row, column = anatomical_axes(image)
    extent = []
    for axis in (column, row, slab):
        profile = np.flatnonzero(body.any(axis=tuple(a for a in range(3) if a != 2 - axis)))
        extent.append(float(profile[-1] - profile[0] + 1) * image.GetSpacing()[axis] if len(profile) else 0.0)
    return extent[0], extent[1], extent[2]


def anatomy_notes(image: sitk.Image, body: np.ndarray, anatomy: str) -> list[str]:
    """Warnings where the body's extent does not fit the ``anatomy`` a model was trained on."""
    if anatomy not in _ANATOMY_LIMITS:
        return []
    widest, longest, narrowest, part = _ANATOMY_LIMITS[anatomy]
    width, _, length = body_extent(image, body)
    if width > widest or length > longest:
        size, than = f"{width:.0f} mm wide and {length:.0f} mm long", "larger"
    elif 0 < width < narrowest:
        size, than = f"{width:.0f} mm wide", "smaller"
    else:
        return []
    return [f"The body ({size}) looks {than} than {part}: this model knows {anatomy} images only."]


def with_voxels(array: np.ndarray, like: sitk.Image) -> sitk.Image:
    """An image of ``array`` (z, y, x) with the geometry of ``like`` and what its reader noted down."""
    image = sitk.GetImageFromArray(array)
    image.CopyInformation(like)
    for key in like.GetMetaDataKeys():
        image.SetMetaData(key, like.GetMetaData(key))
    return image


def _check_form(image: sitk.Image, wanted: str) -> list[str]:
    """Raise InputError where this is no volume in space; returns a note where its slices are far apart."""
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise InputError(f"the image is not a 3D volume with one value per voxel; give a 3D {wanted}")
    spacing = image.GetSpacing()
    if not min(spacing) >= _SPACING_MM[0] or not max(spacing) <= _SPACING_MM[1]:
        text = " x ".join(f"{mm:g}" for mm in spacing)
        raise InputError(f"the voxel spacing of {text} mm is impossible; correct it in the file")
    thick = max(spacing) > _THICK_SLICES_MM
    return [f"The slices are {max(spacing):.0f} mm apart: expect little detail between them."] if thick else []


def _without_holes(
    array: np.ndarray, notes: list[str], fill: float = AIR_HU, fill_name: str = "air (-1024 HU)"
) -> tuple[np.ndarray, bool]:
    """``array`` with its NaN and infinite voxels as ``fill``, and whether there were any."""
    if _all_finite(array):
        return array, False
    broken = ~np.isfinite(array)
    count = int(broken.sum())
    if count > _MOST_NOT_FINITE * array.size:
        share = 100 * count / array.size
        raise InputError(f"{share:.0f} % of the voxels are NaN or infinite; export the image again")
    repaired = array.copy()
    repaired[broken] = fill
    notes.append(f"{count} NaN or infinite voxels were set to {fill_name}.")
    return repaired, True


def _sample(array: np.ndarray) -> np.ndarray:
    """At most about a million voxels, evenly spread: enough for shares and peaks."""
    step = max(1, int((array.size / 1e6) ** (1 / 3)))
    return array[::step, ::step, ::step].ravel()


def _lacks_intercept(sample: np.ndarray) -> bool:
    """Air near 0, soft tissue in one narrow peak near 1024 and bone far above: no MR looks like that."""
    scanned = sample[sample > sample.min()]  # the lowest value may be padding
    tissue = scanned[scanned > 500]
    if np.mean(scanned < -50) > _LEAST_AIR or len(tissue) < 0.02 * len(sample) or tissue.max() < 1600:
        return False
    near_water = np.mean((tissue > 850) & (tissue < 1150))
    lighter = np.mean(tissue <= 850)
    return bool(np.mean(sample < 100) > 0.05 and near_water > 0.6 and lighter < 0.15)


def _has_tissue_peak(sample: np.ndarray) -> bool:
    """Whether a range of 100 HU near water holds a third of what is no air; in real CTs it holds 0.38 and more."""
    tissue = sample[(sample > -400) & (sample < _HIGHEST_HU)]
    counts = np.histogram(tissue, np.arange(-200, 301, 20))[0]
    return bool(np.convolve(counts, np.ones(5), "valid").max() > 0.33 * len(tissue))


def _not_hu(sample: np.ndarray, array: np.ndarray) -> str | None:
    """Why the values cannot be HU; None where they can."""
    low, high = float(sample.min()), float(sample.max())
    if np.mean(sample < _AIR_BELOW) < _LEAST_AIR:
        kind = "an 8-bit picture" if low >= 0 and high <= 255 else "an MR or a masked image"
        return f"the values ({low:.0f} to {high:.0f}) hold no air: this is no CT in HU but perhaps {kind}"
    faces = [array[0], array[-1], array[:, 0], array[:, -1], array[:, :, 0], array[:, :, -1]]
    if np.mean(sample == 0) > 0.1 and np.mean(np.concatenate([face.ravel() for face in faces]) == 0) > 0.5:
        return "the background is 0 HU (water) instead of -1024 HU (air), so the body cannot be told from it"
    return None


def _all_finite(array: np.ndarray) -> bool:
    """Whether every value is finite; a sum tells it without another array."""
    with np.errstate(invalid="ignore"):  # infinities of both signs
        return bool(np.isfinite(array.sum(dtype=np.float64)))


def _finite_range(array: np.ndarray) -> list[float] | None:
    finite = array if _all_finite(array) else array[np.isfinite(array)]
    return [float(finite.min()), float(finite.max())] if finite.size else None
