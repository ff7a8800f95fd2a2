"""Real CT and MRI slices of the same patients as 8-bit pictures: HU from a brain window, and the inside of the skull.

A brain window shows all bone white and fat as black as air, and cropped pictures have lost their scale. So bone and fat
get the HU they usually have, and the scale is that of an average brain.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from DiffMaCore.errors import InputError
from DiffMaCore.imaging.grid import AIR_HU
from DiffMaCore.training.sources.slices import SLICE_MM, picture_body

WINDOW = (-10.0, 80.0)

_WHITE = 250  # of 255: bone
_BONE_HU, _FAT_HU = 900.0, -100.0
_BRAIN_MM = 165.0  # front to back inside the skull, adults
_CLOSING = 6  # pixels: gaps in the ring of bone, as between the plates of the skull base
_OPENING = 4
_LEAST = 0.04  # of the picture: smaller insides are orbits and sinuses
_RIM = 2  # pixels beside bone, where a slight misalignment puts bone on brain

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class PicturePair:
    """One patient: ``ct`` and the MRIs by contrast, uint8 (slices, rows, columns)."""

    name: str
    ct: NDArray[np.uint8]
    mrs: dict[str, NDArray[np.uint8]]

    def image(self, window: tuple[float, float] = WINDOW, pixel_mm: float | None = None) -> sitk.Image:
        """The CT in HU as an axial volume; ``pixel_mm`` None: by the size of the brain.

        White pixels become 900 HU, black ones inside the head fat, and air lies around.
        """
        low, high = window
        hu = low + self.ct.astype(np.float32) * np.float32((high - low) / 255)
        hu[ndimage.binary_opening(self.ct >= _WHITE, np.ones((1, 2, 2)))] = _BONE_HU
        hu[self.ct == 0] = _FAT_HU
        hu[~picture_body(self.ct.astype(np.float32) / np.float32(255))] = AIR_HU
        image = sitk.GetImageFromArray(hu)
        mm = pixel_mm or self.estimated_mm()
        image.SetSpacing((mm, mm, SLICE_MM))
        return image

    def estimated_mm(self) -> float:
        """Size of a pixel if the brain is of average length; 1 where no slice shows a brain."""
        brain = inside_skull(self.ct, rim=0)
        lengths = [np.ptp(np.flatnonzero(plane.any(axis=1))) + 1 for plane in brain if plane.any()]
        return _BRAIN_MM / float(max(lengths)) if lengths else 1.0


def read_pair(path: Path) -> PicturePair:
    """The arrays ``ct`` and ``t1``, ``t2`` or ``flair`` of an ``.npz``.

    Raises:
        InputError: damaged, no ``ct``, no MRI, or arrays that are not uint8 of one shape.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in ("ct", "t1", "t2", "flair") if name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as problem:
        raise InputError(f"{path} cannot be read ({problem}); copy it again") from None
    ct = arrays.pop("ct", None)
    if ct is None or not arrays:
        raise InputError(f"{path} has no array ct with a t1, t2 or flair beside it; give paired slices")
    if ct.ndim != 3 or any(array.dtype != np.uint8 or array.shape != ct.shape for array in (ct, *arrays.values())):
        raise InputError(f"{path}: the arrays must be uint8 (slices, rows, columns) and of one shape")
    return PicturePair(path.stem, ct, arrays)


def inside_skull(ct: NDArray[np.uint8], rim: int = _RIM) -> Bools:
    """What a ring of bone encloses in each windowed CT slice, without ``rim`` pixels beside it; nothing where no ring
    does."""
    return np.stack([_plane_inside(plane, rim) for plane in ct])


def _plane_inside(plane: NDArray[np.uint8], rim: int) -> Bools:
    bone = np.pad(ndimage.binary_opening(plane >= _WHITE), _CLOSING + 2)
    closed = ndimage.binary_closing(bone, iterations=_CLOSING)
    hollow = (ndimage.binary_fill_holes(closed) & ~closed)[_CLOSING + 2 : -_CLOSING - 2, _CLOSING + 2 : -_CLOSING - 2]
    labels, count = ndimage.label(ndimage.binary_opening(hollow, iterations=_OPENING))
    if not count:
        return np.zeros(plane.shape, bool)
    largest = labels == np.bincount(labels.ravel())[1:].argmax() + 1
    if largest.sum() < _LEAST * plane.size:
        return np.zeros(plane.shape, bool)
    whole = ndimage.binary_fill_holes(largest)
    return ndimage.binary_erosion(whole, iterations=rim) if rim else whole
