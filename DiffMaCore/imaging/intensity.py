"""An image without units in, intensities out: percentiles inside the body become -1 and 1."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from DiffMaCore.errors import InputError


def normalise(array: NDArray[np.floating], body: NDArray[np.bool_], low: float, high: float) -> NDArray[np.float32]:
    """``array`` mapped so that its ``low`` and ``high`` percentiles inside ``body`` become -1 and 1, clipped.

    Raises InputError where the body is empty or has one value only.
    """
    if not body.any():
        raise InputError("there is no body to take the intensities from; check that the image shows a patient")
    floor, ceiling = (float(value) for value in np.percentile(array[body], (low, high)))
    if not ceiling > floor:
        raise InputError(f"the image has the same value {floor:g} all over the body; give an image with contrast")
    scaled = (array.astype(np.float32) - np.float32(floor)) * np.float32(2 / (ceiling - floor)) - np.float32(1)
    return np.clip(scaled, np.float32(-1), np.float32(1))
