"""A real T1 of a head in, what it shows beyond the label map out, and added to every rendering: a real T1 as target."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from DiffMaCore.imaging.phantom import tissues as t
from DiffMaCore.imaging.phantom.signal import signal_table
from DiffMaCore.imaging.phantom.warp import NODE_MM, Warp

_NOT_SHOWN = (t.OUTSIDE.label, t.UNSCANNED.label)
_MOST = 2000.0  # beyond any intensity that is rendered


def detail_of(labels: NDArray[np.uint8], t1: NDArray[np.number]) -> NDArray[np.int16]:
    """A real T1 of a head, in any units, minus what its labels give; 0 outside the head and where the T1 is 0.

    Fluid and white matter get the table's intensities, and everything else lies on the line through them. Raises
    ValueError where white matter is not brighter than the ventricles.
    """
    values, table = t1.astype(np.float32), signal_table(("t1",))[0]
    known = (values > 0) & ~np.isin(labels, _NOT_SHOWN)
    ventricle, brain = (values[known & (labels == tissue.label)] for tissue in (t.VENTRICLE, t.WHITE))
    # the rim of a ventricle is half brain
    fluid, white = (np.percentile(part, q) if part.size else 0.0 for part, q in ((ventricle, 25), (brain, 50)))
    if white <= fluid:
        raise ValueError(
            "is not brighter in white matter than in the ventricles of its label map; give a T1 of this head"
        )
    scale = (table[t.WHITE.label] - table[t.VENTRICLE.label]) / np.float32(white - fluid)
    values = table[t.VENTRICLE.label] + (values - fluid) * scale
    return np.where(known, np.clip(values, 0, _MOST) - table[labels], 0).round().astype(np.int16)


def add_detail(
    t1: NDArray[np.float32], labels: NDArray[np.uint8], detail: NDArray[np.int16], warp: Warp, step: NDArray[np.float64]
) -> None:
    """Add the ``detail`` of a head to the T1 of its rendering (z, y, x) in place; ``labels`` are the rendering's,
    ``step`` its voxels' size in mm."""
    places = np.argwhere(~np.isin(labels, _NOT_SHOWN))
    middle = (np.array(labels.shape) - 1) / 2
    nodes = (np.array(warp.field.shape[1:]) - 1) / 2
    layers = max(1, int(np.ceil(step[0])))  # of a voxel, about 1 mm apart
    total = np.zeros(len(places), np.float32)
    for layer in range(layers):
        mm = (places - middle) * step
        mm[:, 0] += ((layer + 0.5) / layers - 0.5) * step[0]
        moved = mm @ warp.matrix.T + warp.offset
        moved += np.stack(
            [ndimage.map_coordinates(axis, (mm / NODE_MM + nodes).T, order=1, mode="nearest") for axis in warp.field], 1
        )
        total += ndimage.map_coordinates(detail, moved.T, np.float32, order=1)
    t1[tuple(places.T)] += total / layers
