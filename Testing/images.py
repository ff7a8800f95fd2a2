"""Small CT volumes made on the spot."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk


def head_like_ct(
    size: tuple[int, int, int] = (40, 44, 6), spacing: tuple[float, float, float] = (5, 5, 8)
) -> sitk.Image:
    """An ellipse of brain in a ring of bone, in air; size in x, y, z, spacing in mm."""
    _z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in size[::-1]), indexing="ij")
    radius = np.hypot(x / 0.75, y / 0.85)
    array = np.full(radius.shape, -1000, np.float32)
    array[radius < 1] = 900
    array[radius < 0.85] = 35
    array[radius < 0.25] = 8
    array += np.random.default_rng(0).normal(0, 5, array.shape).astype(np.float32)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    image.SetOrigin((-91.25, 17.5, 3.125))
    return image
