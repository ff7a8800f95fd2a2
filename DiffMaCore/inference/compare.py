"""A synthetic and a true MRI of one patient in, metrics inside the body and a map of the differences out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from DiffMaCore.errors import InputError
from DiffMaCore.imaging import metrics
from DiffMaCore.imaging.body import body_of, image_body, overlap
from DiffMaCore.imaging.grid import AIR_HU, anatomical_axes
from DiffMaCore.progress import Reporter

DATA_RANGE = 1.0
PERCENTILES = (0.5, 99.5)
NORMALISATION = (
    f"Both images are mapped so that their {PERCENTILES[0]} and {PERCENTILES[1]} percentiles inside the body become 0"
    f" and {DATA_RANGE:g}, and are clipped there; SSIM is taken slice by slice with a Gaussian window of 1.5 pixels."
)

_LEAST_BODY = 1000  # voxels; fewer give metrics that mean nothing
_GOOD_OVERLAP = 0.9  # part of the body that the true MRI covers
_LEAST_DICE = 0.8  # of the two bodies, below which the patient lies elsewhere


@dataclass(frozen=True)
class Comparison:
    """Metrics inside the body with a data range of 1, and how many voxels they are of.

    Attributes:
        difference: normalised synthetic minus normalised true, -1 to 1, on the synthetic's grid; 0 outside.
        notes: what the user should know.
        warnings: what may make the metrics meaningless.
    """

    quality: metrics.Quality
    body_voxels: int
    difference: sitk.Image
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


def compare(
    synthetic: sitk.Image,
    true: sitk.Image,
    ct: sitk.Image | None = None,
    mask: sitk.Image | None = None,
    reporter: Reporter | None = None,
) -> Comparison:
    """Compare a synthetic MRI with the true one, which is resampled (linearly) onto the synthetic's grid.

    Args:
        synthetic, true: any orientation; they must lie in the same place (registered).
        ct: in HU, for the body; without it the body is found in the synthetic MRI.
        mask: label image on the synthetic's grid; only voxels inside of it are compared.
        reporter: gets every slice.

    Raises:
        InputError: the images do not overlap, or there is no body to compare.
    """
    notes, warnings = [], []
    axis = 2 - anatomical_axes(synthetic)[0]
    made = sitk.GetArrayViewFromImage(synthetic).astype(np.float32)
    on_grid, covered = _on_grid(true, synthetic)
    body = _ct_body(ct, synthetic) if ct is not None else image_body(made, axis)
    if mask is not None:
        body &= sitk.GetArrayViewFromImage(mask) > 0
    body, left_out = _made_slices(made, body, axis)
    if left_out:
        notes.append(f"{left_out} slices hold no synthetic MRI (they were not converted) and are left out.")
    inside = body & covered & np.isfinite(on_grid) & np.isfinite(made)
    if not inside.any():
        raise InputError("the true MRI does not overlap the synthetic one; register it to the CT first")
    if inside.sum() < _LEAST_BODY:
        raise InputError(f"only {inside.sum()} voxels of the body lie in both images; give images of the same region")
    share = inside.sum() / body.sum()
    if share < _GOOD_OVERLAP:
        warnings.append(f"The true MRI covers only {100 * share:.0f} % of the body; the rest is left out.")
    if overlap(image_body(on_grid, axis) & covered, body & covered, axis) < _LEAST_DICE:
        warnings.append("The patient seems to lie elsewhere in the true MRI: register it to the CT first.")
    a, b = (_normalised(values, inside) for values in (made, on_grid))
    difference = sitk.GetImageFromArray(a - b)
    difference.CopyInformation(synthetic)
    planes = [np.moveaxis(volume, axis, 0) for volume in (a, b, inside)]
    reporter = reporter or Reporter()
    reporter.stage("measuring", total=len(planes[0]))
    quality = metrics.quality_of_slices(planes[0], planes[1], DATA_RANGE, planes[2], reporter.advance)
    if quality.mse == 0:
        notes.append("The two images are the same, so there is no PSNR.")
    return Comparison(quality, int(inside.sum()), difference, tuple(notes), tuple(warnings))


def _on_grid(image: sitk.Image, like: sitk.Image) -> tuple[np.ndarray, np.ndarray]:
    """``image`` on the grid of ``like`` (z, y, x), and where it has values there."""
    floats = sitk.Cast(image, sitk.sitkFloat32)
    resampled = sitk.Resample(floats, like, sitk.Transform(), sitk.sitkLinear, float("nan"), sitk.sitkFloat32)
    array = sitk.GetArrayFromImage(resampled)
    covered = np.isfinite(array)
    return np.where(covered, array, np.float32(0)), covered


def _ct_body(ct: sitk.Image, like: sitk.Image) -> np.ndarray:
    on_grid, covered = _on_grid(ct, like)
    image = sitk.GetImageFromArray(np.where(covered, on_grid, np.float32(AIR_HU)))
    image.CopyInformation(like)
    return body_of(image)


def _made_slices(made: np.ndarray, body: np.ndarray, axis: int) -> tuple[np.ndarray, int]:
    """The body in slices that hold more than background, and in how many it does not."""
    empty = np.array([plane.min() == plane.max() for plane in np.moveaxis(made, axis, 0)])
    has_body = np.moveaxis(body, axis, 0).any(axis=(1, 2))
    kept = body.copy()
    np.moveaxis(kept, axis, 0)[empty] = False
    return kept, int((empty & has_body).sum())


def _normalised(values: np.ndarray, inside: np.ndarray) -> np.ndarray:
    low, high = np.percentile(values[inside], PERCENTILES)
    if not high > low:
        raise InputError("one of the images has the same value all over the body; give an MRI with contrast")
    return np.where(inside, np.clip((values - low) / (high - low), 0, 1), 0).astype(np.float32)
