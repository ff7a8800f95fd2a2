"""The phantom itself: one call paints a head and scans it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from DiffMaCore.errors import InputError
from DiffMaCore.phantom import acquisition, face, neck
from DiffMaCore.phantom import brain as brain_parts
from DiffMaCore.phantom import cranium as cranium_parts
from DiffMaCore.phantom.canvas import Canvas
from DiffMaCore.phantom.lesions import paint_lesions

if TYPE_CHECKING:
    import SimpleITK as sitk


@dataclass(frozen=True)
class Phantom:
    """A procedural head: arrays (z, y, x), z to the vertex, y to the back, x to the patient's left.

    ``ct`` float32 in HU, ``mr`` float32 T1-weighted intensity (0 to about 1000, no units), ``labels`` uint8
    (``phantom.tissues``; 0 is outside the head), ``spacing`` (x, y, z) in mm.
    """

    ct: NDArray[np.float32]
    mr: NDArray[np.float32]
    labels: NDArray[np.uint8]
    spacing: tuple[float, float, float]

    @property
    def body(self) -> NDArray[np.bool_]:
        """Mask of the head, air spaces inside it included."""
        return self.labels > 0

    def _image(self, array: NDArray[np.generic]) -> sitk.Image:
        import SimpleITK as sitk

        image = sitk.GetImageFromArray(array)
        image.SetSpacing(self.spacing)
        image.SetOrigin([-(n - 1) / 2 * s for n, s in zip(array.shape[::-1], self.spacing, strict=True)])
        return image

    def ct_image(self) -> sitk.Image:
        """The CT as an axial image in LPS patient coordinates, 16-bit HU."""
        return self._image(np.round(self.ct).astype(np.int16))

    def mr_image(self) -> sitk.Image:
        """The T1-weighted MR on the same grid."""
        return self._image(self.mr)

    def label_image(self) -> sitk.Image:
        """The tissue labels on the same grid."""
        return self._image(self.labels)


def head_phantom(
    seed: int,
    spacing: tuple[float, float, float] = (1.8, 1.8, 4.0),
    size: tuple[int, int, int] = (128, 128, 54),
    *,
    lesions: bool = True,
    artefacts: bool = True,
) -> Phantom:
    """Paint and scan a random head from vertex to jaw; the same seed gives the same head.

    ``spacing`` (x, y, z) in mm, ``size`` (x, y, z) in voxels; a whole head needs about 230 x 230 x 216 mm.
    ``lesions`` allows findings in the brain; ``artefacts`` allows thick or tilted slices, dental metal,
    and parts of the head outside the scan. Raises InputError for a grid without voxels or extent.
    """
    if min(size) < 2 or min(spacing) <= 0:
        raise InputError(
            f"a phantom of {size} voxels of {spacing} mm is empty; give at least 2 voxels a side and positive spacing"
        )
    rng = np.random.default_rng((0xD1FF, int(seed)))
    canvas = Canvas(rng, size, spacing)
    s = cranium_parts.surfaces(canvas)
    cranium_parts.paint_soft_tissue(canvas, s)
    cranium_parts.paint_skull(canvas, s)
    face.paint_bones(canvas, s)
    metal = face.paint_jaws(canvas, s)
    cranium_parts.paint_temporal_bones(canvas)
    brain_parts.paint_brain(canvas, s)
    if lesions:
        paint_lesions(canvas, s)
    neck.paint_spine(canvas)
    face.paint_orbits(canvas, s)
    face.paint_sinuses(canvas, s)
    cranium_parts.paint_ears(canvas, s)
    mr = acquisition.acquire_mr(canvas)
    labels = np.where((s.head < 0) & (canvas.labels == 0), np.uint8(1), canvas.labels)
    ct = acquisition.acquire_ct(canvas, s, metal and artefacts, 0.5 if artefacts else 0.0)
    if artefacts:
        acquisition.cut_field(canvas, ct, mr, labels)
    return Phantom(ct, mr, labels, spacing)
