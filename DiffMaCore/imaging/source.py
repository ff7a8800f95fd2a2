"""The source volume as a model takes it: checked, its body found, its intensities settled.

Preparing a data set and converting a volume both come through here, so that they cannot differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk

from DiffMaCore.imaging.body import body_of
from DiffMaCore.imaging.checks import check_ct, check_mr, with_voxels
from DiffMaCore.imaging.grid import AIR_HU
from DiffMaCore.imaging.intensity import normalise


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
