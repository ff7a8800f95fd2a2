"""A CT or an MRI of a head in, the thickness of its scalp out, in mm along rays from the middle of the head."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from DiffMaCore.imaging.head_pair import HeadPair

_BONE_HU, _AIR_HU = 500.0, -500.0  # half way between the scalp and what lies next to it
_RAYS = 600  # over the upper half
_LOWEST = 0.15  # sine of a ray's elevation: ears, orbits and neck lie below
_STEP_MM, _REACH_MM = 0.25, 130.0
_THICKEST_MM = 25.0
_AROUND_MM = 4.0  # that the MRI's scalp may lie off the CT's
_LEAST_SHARE = 0.3  # of the rays that must see a scalp


def thickness(head: HeadPair) -> tuple[float | None, float | None]:
    """Median thickness in mm of the scalp above the middle of the head: by the CT, and by the MRI.

    In the CT it lies between the last bone and the air, in the MRI it is the width of the bright band at half of its
    height. None where too few rays meet a scalp (cut away, or dark in the MRI).
    """
    centre = np.array([float(places.mean()) for places in np.nonzero(head.space)])
    distance = np.arange(0, _REACH_MM, _STEP_MM)
    up = _upper_half()
    directions = np.insert(up[:, 1:], head.slab, head.up * up[:, 0], axis=1)
    places = centre[:, None, None] + directions.T[:, :, None] * distance / np.array(head.spacing)[:, None, None]
    nothing = float(head.values.min())
    rays = [
        ndimage.map_coordinates(volume, places, order=1, cval=outside)
        for volume, outside in ((head.hu, np.nan), (head.values, nothing))
    ]
    of_ct, of_mr = [], []
    for ct, mr in zip(rays[0], rays[1] - nothing, strict=True):
        between = _in_ct(ct)
        if between:
            of_ct.append((between[1] - between[0]) * _STEP_MM)
            of_mr.append(_in_mr(mr, *between))
    return _median(of_ct), _median([mm for mm in of_mr if mm > 0])


def _in_ct(hu: NDArray) -> tuple[int, int] | None:
    """First and one past the last sample of the scalp along a ray; None where there is none."""
    bone = np.flatnonzero(hu > _BONE_HU)
    air = np.flatnonzero(hu[bone[0] :] < _AIR_HU) if len(bone) else bone
    if not len(air):
        return None
    skin = int(bone[0] + air[0])
    skull = int(bone[bone < skin][-1]) + 1
    return (skull, skin) if 0 < (skin - skull) * _STEP_MM < _THICKEST_MM else None


def _in_mr(values: NDArray, skull: int, skin: int) -> float:
    """Width in mm of the bright band at about the scalp's place; 0 where nothing is bright."""
    first = max(0, skull - round(_AROUND_MM / 4 / _STEP_MM))
    peak = first + int(np.argmax(values[first : skin + round(_AROUND_MM / _STEP_MM)]))
    low = np.flatnonzero(values <= values[peak] / 2)
    below, above = low[low < peak], low[low > peak]
    if values[peak] <= 0 or not len(below) or not len(above):
        return 0.0
    return float(above[0] - below[-1] - 1) * _STEP_MM


def _upper_half() -> NDArray[np.float64]:
    """Directions (n, 3), spread evenly (Fibonacci's lattice), the first component upwards."""
    k = np.arange(_RAYS) + 0.5
    height = _LOWEST + (1 - _LOWEST) * k / _RAYS
    turn = np.pi * (1 + 5**0.5) * k
    flat = np.sqrt(1 - height**2)
    return np.stack([height, flat * np.cos(turn), flat * np.sin(turn)], axis=1)


def _median(values: list[float]) -> float | None:
    return float(np.median(values)) if len(values) >= _LEAST_SHARE * _RAYS else None
