"""A CT and its synthetic MRI in, how well they agree out, without a true MRI: fluid, skull, scalp, information.

What a CT shows beyond doubt must stand in the MRI at the same place: fluid inside the skull, bone, the thickness of
the scalp. Lengths are in mm, so that spacing and orientation do not matter.
"""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from DiffMaCore.errors import InputError
from DiffMaCore.imaging.grid import same_grid
from DiffMaCore.imaging.head_pair import HeadPair, scalp_thickness
from DiffMaCore.imaging.intracranial import BONE_HU, WATERY_HU, Bools

CONTRASTS = ("t1", "t2", "flair")

_CSF_HU, _BRAIN_HU = 16.0, 31.0
_BRAIN_VARIES_HU = 5.0  # between scanners and patients; a CT whose brain lies further off has shifted HU
_CSF_SHARE = 0.3  # where 16 HU lie between fluid (7) and cortex (37): the MRI's threshold lies there, too
_SMOOTHING_MM = 0.8  # standard deviation: sulci survive, noise of 3 HU does not
_RIM_MM = 4.0  # next to bone, whose blur hides the fluid in a CT
_SHELL_MM, _DEPTH_MM = 6.0, 8.0  # of soft tissue outside and inside the skull
_DARK = {"t1": 0.5, "t2": 0.4, "flair": 0.4}  # of the brain's median; muscle is darker in the latter two
_MIXED_HU = (150.0, 600.0)  # marrow and the edge of bone, dark in one MRI and bright in the other
_BINS, _NMI_HU = 64, (-150.0, 250.0)
_CLASS_BINS = 128
_TAILS = (0.1, 99.9)  # percentiles between which the bins lie: an outlier is no class of its own
_LEAST_CSF_ML = 3.0
_GOOD, _FAIR = 0.75, 0.6  # the lower of both Dice coefficients


@dataclass(frozen=True)
class Agreement:
    """How well an MRI follows a CT. Dice coefficients: 1 the same voxels, 0 none in common.

    Attributes:
        contrast: "t1", "t2" or "flair".
        hu_shift: by how much fluid and brain lie higher in this CT than is usual, where that is more than 5 HU; else 0.
        intracranial_ml: of the space inside the skull that was judged.
        csf_dice: fluid inside the skull, not within 4 mm of bone: CT (below 16 HU + ``hu_shift``) against MRI
            (the darkest class; in T2 the brightest); None where the CT shows too little of it. True MRIs of rendered
            heads reach 0.83 to 0.89.
        csf_ct_ml, csf_mr_ml: volume of that fluid.
        csf_volume_error: (MRI - CT) / CT, None as ``csf_dice``.
        skull_dice: compact bone in the CT (above 600 HU; 150 to 600 are not counted) against darkness in the MRI (below
            half of the brain's median; 0.4 of it but in T1), around the skull. True MRIs of rendered heads reach 0.83
            to 0.86.
        scalp_ct_mm, scalp_mr_mm: median thickness of the scalp over the upper skull; None where it is not to be seen.
        nmi: normalised mutual information (Studholme 1999, 1 to 2) of CT and MRI in and around the skull.
        nmi_mirrored: the same of the MRI mirrored right to left: the least, which any symmetrical head would reach.
        slice_change: mean change of the MRI from slice to slice over that at the same distance within a slice; about 1
            is right, far above 1 the volume flickers; None for a single slice.
    """

    contrast: str
    hu_shift: float
    intracranial_ml: float
    csf_dice: float | None
    csf_ct_ml: float
    csf_mr_ml: float
    csf_volume_error: float | None
    skull_dice: float
    scalp_ct_mm: float | None
    scalp_mr_mm: float | None
    nmi: float
    nmi_mirrored: float
    slice_change: float | None

    @property
    def verdict(self) -> str:
        """In plain words whether the MRI follows the CT, by the lower of the two Dice coefficients."""
        worst = min(self.skull_dice, 1.0 if self.csf_dice is None else self.csf_dice)
        if worst >= _GOOD:
            return "the MR follows the CT"
        return "the MR follows the CT only roughly" if worst >= _FAIR else "the MR does NOT follow the CT"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, with the verdict and the line of :func:`agreement_words`."""
        return {**asdict(self), "verdict": self.verdict, "words": agreement_words(self)}


def agreement_words(a: Agreement) -> str:
    """One line: "CSF agrees by 0.87, skull by 0.88: the MR follows the CT"."""
    csf = "too little CSF to judge" if a.csf_dice is None else f"CSF agrees by {a.csf_dice:.2f}"
    return f"{csf}, skull by {a.skull_dice:.2f}: {a.verdict}"


def contrast_of(name: str) -> str:
    """The contrast in a modality's name ("MR T1", "T2w", "FLAIR"); InputError where there is none of the three."""
    for contrast in ("flair", "t2", "t1"):
        if contrast in name.lower():
            return contrast
    raise InputError(f"the contrast of {name!r} is not known; give one of {', '.join(CONTRASTS)}")


def agreement(ct: sitk.Image, mr: sitk.Image, contrast: str = "MR T1") -> Agreement:
    """Measure how well a synthetic MRI follows the CT that it was made from.

    Args:
        ct: head CT in HU, any orientation and spacing.
        mr: MRI on the same grid, in any units. Slices without an image (not converted) are left out.
        contrast: as a bundle's ``target_modality``: "MR T1", "MR T2", "MR FLAIR"; or "t1", "t2", "flair".

    Raises:
        InputError: the grids differ, the CT shows no skull, the MRI is empty inside of it, or the contrast is unknown.
    """
    kind = contrast_of(contrast)
    if not same_grid(ct, mr):
        sizes = [" x ".join(map(str, image.GetSize())) for image in (ct, mr)]
        raise InputError(
            f"the CT ({sizes[0]} voxels) and the MR ({sizes[1]}) do not lie on one grid; give the CT that this MR"
            " was made from"
        )
    head = HeadPair.of(ct, mr)
    shift = _hu_shift(head)
    of_ct, of_mr = _fluid(head, kind, shift)
    ct_ml, mr_ml = (float(mask.sum()) * head.voxel_ml for mask in (of_ct, of_mr))
    judged = ct_ml >= _LEAST_CSF_ML
    scalp_ct, scalp_mr = scalp_thickness(head)
    return Agreement(
        contrast=kind,
        hu_shift=shift,
        intracranial_ml=float(head.space.sum()) * head.voxel_ml,
        csf_dice=dice(of_ct, of_mr) if judged else None,
        csf_ct_ml=ct_ml,
        csf_mr_ml=mr_ml,
        csf_volume_error=(mr_ml - ct_ml) / ct_ml if judged else None,
        skull_dice=_skull(head, kind, shift),
        scalp_ct_mm=scalp_ct,
        scalp_mr_mm=scalp_mr,
        nmi=_nmi(head, head.values),
        nmi_mirrored=_nmi(head, head.mirrored),
        slice_change=slice_change(head.values, head.space, head.spacing, head.slab),
    )


def dice(a: Bools, b: Bools) -> float:
    """Dice coefficient of two masks; 1 where both are empty."""
    total = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / total if total else 1.0


def slice_change(values: NDArray, inside: Bools, spacing: tuple[float, ...], slab: int = 0) -> float | None:
    """Mean absolute change between neighbouring slices over that at the same distance within a slice.

    Args:
        values, inside: image and where it counts, of one shape.
        spacing: mm along the array's axes.
        slab: axis across which the slices follow each other.

    Returns:
        About 1 where no direction is special; None where there are no two neighbours, or nothing changes.
    """
    across = _change(values, inside, slab, 1)
    others = [axis for axis in range(values.ndim) if axis != slab]
    within = [_change(values, inside, axis, max(1, round(spacing[slab] / spacing[axis]))) for axis in others]
    known = [change for change in within if change]
    return across / float(np.mean(known)) if across is not None and known else None


def _change(values: NDArray, inside: Bools, axis: int, step: int) -> float | None:
    planes, counted = np.moveaxis(values, axis, 0), np.moveaxis(inside, axis, 0)
    both = counted[:-step] & counted[step:]
    return float(np.abs(planes[step:] - planes[:-step])[both].mean(dtype=np.float64)) if both.any() else None


def _hu_shift(head: HeadPair) -> float:
    """A cadaver, contrast agent or a wrong intercept: by how much the whole brain lies off, beyond what is usual."""
    off = float(np.median(head.hu[_deep(head)])) - _BRAIN_HU
    beyond = abs(off) - _BRAIN_VARIES_HU
    return float(np.copysign(beyond, off)) if beyond > 0 else 0.0


def _deep(head: HeadPair) -> Bools:
    """Inside the skull, away from the blur of bone, no air and no fat; all of the space where that is nothing."""
    deep = _watery(head) & (head.bone_mm > _RIM_MM)
    return deep if deep.any() else head.space


def _watery(head: HeadPair) -> Bools:
    return head.space & (head.hu > WATERY_HU[0]) & (head.hu < WATERY_HU[1])


def _fluid(head: HeadPair, kind: str, shift: float) -> tuple[Bools, Bools]:
    """CSF inside the skull by the CT and by the MRI, both smoothed alike."""
    watery, judged = _watery(head), _deep(head)
    weight = np.maximum(_smooth(watery, head.spacing), 1e-6)
    hu, values = (_smooth(np.where(watery, array, 0), head.spacing) / weight for array in (head.hu, head.values))
    if np.ptp(values[judged]) == 0:
        raise InputError("the MR has the same value all over the brain; give an MRI with contrast")
    sign = -1 if kind == "t2" else 1
    return judged & (hu < _CSF_HU + shift), judged & (sign * values < _fluid_threshold(sign * values[judged], kind))


def _fluid_threshold(values: NDArray, kind: str) -> float:
    """Where fluid ends, for values of which it is the darkest class.

    In T1 the classes are fluid, grey and white matter; in T2 and FLAIR these two are much nearer to each other than to
    the fluid.
    """
    cuts = between_classes(values, 3 if kind == "t1" else 2)
    fluid = np.percentile(values[values <= cuts[0]], 10)
    next_class = values[values > cuts[0]] if len(cuts) == 1 else values[(values > cuts[0]) & (values <= cuts[1])]
    return float(fluid + _CSF_SHARE * (np.median(next_class) - fluid))


def between_classes(values: NDArray, count: int) -> tuple[float, ...]:
    """The ``count`` - 1 thresholds that part values into classes of least variance (Otsu 1979), in rising order.

    With three classes of an MRI's brain these are fluid, grey and white matter. Exact over 128 bins.

    Raises:
        InputError: all values are the same.
    """
    low, high = np.percentile(values, _TAILS)
    if not high > low:
        raise InputError("the image has the same value everywhere; give one with contrast")
    counts, edges = np.histogram(np.clip(values, low, high), _CLASS_BINS, (low, high))
    centres = (edges[:-1] + edges[1:]) / 2
    number = np.concatenate([[0], np.cumsum(counts)]).astype(np.float64)
    total = np.concatenate([[0], np.cumsum(counts * centres)])
    # between[i, j]: what a class of the bins i to j - 1 adds to the variance between classes
    n, t = number[None] - number[:, None], total[None] - total[:, None]
    between = np.divide(t * t, n, out=np.zeros_like(t), where=n > 0)
    best, cuts = -np.inf, (0,) * (count - 1)
    for tried in itertools.combinations(range(1, _CLASS_BINS), count - 1):
        bounds = (0, *tried, _CLASS_BINS)
        value = sum(between[a, b] for a, b in itertools.pairwise(bounds))
        if value > best:
            best, cuts = value, tried
    # in an empty stretch every cut is as good: half way between the classes' means, where the best one lies anyhow
    bounds = (0, *cuts, _CLASS_BINS)
    means = [t[a, b] / max(n[a, b], 1) for a, b in itertools.pairwise(bounds)]
    return tuple(float(a + b) / 2 for a, b in itertools.pairwise(means))


def _smooth(values: NDArray, spacing: tuple[float, ...]) -> NDArray[np.float32]:
    return ndimage.gaussian_filter(values.astype(np.float32), [_SMOOTHING_MM / mm for mm in spacing], truncate=3)


def _skull(head: HeadPair, kind: str, shift: float) -> float:
    """Dice of bone and darkness in the skull and in soft tissue next to it that is no CSF."""
    nothing, deep = float(head.values.min()), _deep(head)
    brain = head.values[deep & (head.hu > _CSF_HU + shift)]
    dark = nothing + _DARK[kind] * (float(np.median(brain if brain.size else head.values[deep])) - nothing)
    bone = head.near & (head.hu > BONE_HU)
    compact = min(_MIXED_HU[1], float(np.median(head.hu[bone])))  # a child's bone is softer
    outside = ~head.space & (head.bone_mm <= _SHELL_MM) & (head.hu < _MIXED_HU[0])
    inside = head.space & (head.bone_mm > _RIM_MM) & (head.bone_mm <= _DEPTH_MM) & (head.hu < _MIXED_HU[0])
    counted = head.near & ((head.hu > compact) | outside | inside)
    return dice(counted & (head.hu > compact), counted & (head.values < dark))


def _nmi(head: HeadPair, values: NDArray) -> float:
    hu, grey = np.clip(head.hu[head.near], *_NMI_HU), values[head.near]
    low, high = np.percentile(grey, (0.5, 99.5))
    levels = [
        ((a - least) / max(most - least, 1e-12) * (_BINS - 1)).round()
        for a, least, most in ((hu, *_NMI_HU), (np.clip(grey, low, high), low, high))
    ]
    joint = np.bincount((levels[0] * _BINS + levels[1]).astype(np.int64), minlength=_BINS**2).reshape(_BINS, _BINS)
    p = joint / joint.sum()
    both = _entropy(p)
    return (_entropy(p.sum(axis=0)) + _entropy(p.sum(axis=1))) / both if both > 0 else 1.0


def _entropy(p: NDArray) -> float:
    there = p[p > 0]
    return float(-(there * np.log(there)).sum())
