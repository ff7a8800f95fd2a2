"""The source volume as a model takes it: checked, its body found, its intensities settled.

Preparing a data set and converting a volume both come through here, so that they cannot differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from DiffMaCore.errors import InputError
from DiffMaCore.imaging.body import body_of
from DiffMaCore.imaging.checks import check_ct, check_mr, with_voxels
from DiffMaCore.imaging.grid import AIR_HU


@dataclass(frozen=True)
class SourceVolume:
    """A volume to lay slices into.

    Attributes:
        image: float32; a CT in HU, every other image normalised to [-1, 1].
        body: its body, bool (z, y, x).
        outside: the value beyond the image: air, or -1.
        notes: sentences for the user.
    """

    image: sitk.Image
    body: np.ndarray
    outside: float
    notes: list[str]


def ready_source(image: sitk.Image, normalisation: Mapping[str, Any] | None = None) -> SourceVolume:
    """Make ``image`` ready: a CT without ``normalisation``, else an image whose percentiles inside the body count.

    Args:
        image: as read, float32.
        normalisation: ``BundleConfig.source_normalisation``: {"method": "percentile", "low", "high", "mask": "body"}.

    Raises:
        InputError: not the kind of image that is wanted; the message says what it is.
    """
    if normalisation is None:
        checked, notes = check_ct(image)
        return SourceVolume(checked, body_of(checked), AIR_HU, notes)
    checked, notes = check_mr(image)
    body = body_of(checked, "mr")
    array = normalise(sitk.GetArrayViewFromImage(checked), body, normalisation["low"], normalisation["high"])
    return SourceVolume(with_voxels(array, checked), body, -1.0, notes)


def percentile_normalisation(low: float, high: float) -> dict[str, Any]:
    """What a bundle's configuration says of images mapped by percentiles inside the body."""
    return {"method": "percentile", "low": low, "high": high, "mask": "body"}


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
