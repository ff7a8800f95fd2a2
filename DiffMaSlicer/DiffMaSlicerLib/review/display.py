"""Windows and levels that show each kind of image well from the first moment, set once: the user's changes are kept."""

from __future__ import annotations

import numpy as np
import slicer

BODY_HU = -300.0
"""Soft tissue and fat lie above; air, and most of couch and clothes, below."""

HEAD_WINDOW = (350.0, 40.0)
"""Window and level of a head CT: wide enough that scalp, brain, fluid and bone are told apart in one picture.

A brain window (80 HU) shows the brain better, but turns skull, fat and air into white and black, and it is there that a
synthetic MRI is compared with its CT first.
"""

BODY_WINDOW = (400.0, 40.0)
"""The usual soft-tissue window of trunk and limbs."""

_HEAD_MM = 280.0  # heads with their ears and tilt stay below, trunks are above
_VOXELS = 100_000  # about what the statistics look at, so that a large scan does not hold up the window
_ATTRIBUTE = "DiffMa.windowLevel"  # what we set last; anything else is the user's


def set_default_window(volume, window: float, level: float) -> None:
    """Set window and level, unless somebody else has changed them since we did."""
    display = volume.GetDisplayNode()
    if not display:
        volume.CreateDefaultDisplayNodes()
        display = volume.GetDisplayNode()
    ours = volume.GetAttribute(_ATTRIBUTE)
    if ours is not None and ours != _stamp(display.GetWindow(), display.GetLevel()):
        return
    was = display.StartModify()
    display.SetAutoWindowLevel(False)
    display.SetWindowLevel(window, level)
    display.EndModify(was)
    volume.SetAttribute(_ATTRIBUTE, _stamp(display.GetWindow(), display.GetLevel()))


def set_default_range(volume, low: float, high: float) -> None:
    """The same, given as the values that are shown black and white."""
    set_default_window(volume, high - low, (high + low) / 2)


def ct_window(ct, body: np.ndarray | None) -> tuple[float, float]:
    """Window and level in HU that fit the CT: a head's, or those of a trunk, told apart by the width of the body.

    Args:
        ct: the CT's volume node.
        body: its :func:`body_mask`.
    """
    if body is None or not body.any():
        return BODY_WINDOW
    spacing = np.asarray(ct.GetSpacing())[::-1] * np.asarray(_steps(slicer.util.arrayFromVolume(ct).shape))
    extents = [np.flatnonzero(body.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]
    sizes = sorted((found[-1] - found[0] + 1) * mm for found, mm in zip(extents, spacing, strict=True))
    return HEAD_WINDOW if sizes[1] < _HEAD_MM else BODY_WINDOW


def range_in_body(volume, body: np.ndarray | None) -> tuple[float, float] | None:
    """The 0.5 and 99.5 percentiles of the volume inside the body, or None while all its values are the same.

    The upper one is taken of what is above the lowest value, which fills the slices still to come.

    Args:
        volume: a volume node in the CT's geometry; in another, all its values count.
        body: the CT's :func:`body_mask`.
    """
    values = _values(volume)
    if values is None:
        return None
    inside = values[body] if body is not None and body.shape == values.shape and body.any() else values.ravel()
    inside = inside[np.isfinite(inside)]
    made = inside[inside > inside.min()] if inside.size else inside
    if not made.size:
        return None
    bottom, top = float(np.percentile(inside, 0.5)), float(np.percentile(made, 99.5))
    return (bottom, top) if top > bottom else None


def body_mask(ct) -> np.ndarray | None:
    """Bool array (z, y, x), thinned to about 100,000 voxels: denser than air. None without voxels."""
    values = _values(ct)
    return None if values is None else values > BODY_HU


def _values(volume) -> np.ndarray | None:
    if volume is None or not volume.GetImageData() or not volume.GetImageData().GetPointData().GetScalars():
        return None
    array = slicer.util.arrayFromVolume(volume)
    return array[tuple(slice(None, None, step) for step in _steps(array.shape))]


def _steps(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Steps along z, y, x: in the slices' plane first, where the voxels are finest."""
    voxels = float(np.prod(shape))
    step = max(1, int(np.ceil(np.sqrt(voxels / _VOXELS))))
    return (1, step, step)


def _stamp(window: float, level: float) -> str:
    return f"{window:.6g} {level:.6g}"
