"""Small CT volumes made on the spot."""

from __future__ import annotations

from pathlib import Path

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


AIR, SCALP, BONE, FLUID, CORTEX, WHITE = range(6)
HU = np.array([-1000, -20, 1100, 7, 37, 29], np.float32)
SIGNAL = {"t1": (0, 120, 15, 22, 62, 100), "t2": (0, 80, 5, 240, 98, 72), "flair": (0, 90, 5, 12, 110, 90)}


def head_labels(points: np.ndarray) -> np.ndarray:
    """Tissues of a lopsided head of ellipsoids at points (..., 3) in mm from its middle (left, back, head): uint8."""
    x, y, z = np.moveaxis(points, -1, 0)
    depth = 80 * (1 - np.sqrt((x / 75) ** 2 + (y / 92) ** 2 + (z / 80) ** 2))  # mm below the skin, about
    labels = np.select([depth < 0, depth < 7, depth < 14, depth < 17], [AIR, SCALP, BONE, FLUID], CORTEX)
    folds = 2 * np.sin(x / 6) * np.sin(y / 7) + 2 * np.sin(z / 7)
    labels[depth > 22 + folds] = WHITE
    ventricle = (np.abs(x) - 14) ** 2 / 9**2 + y**2 / 32**2 + (z - 5) ** 2 / 14**2 < 1
    cyst = (x - 35) ** 2 + (y - 25) ** 2 + (z + 10) ** 2 < 15**2
    labels[ventricle | cyst] = FLUID
    return labels.astype(np.uint8)


def head_images(
    contrast: str = "t1",
    size: tuple[int, int, int] = (80, 98, 86),
    spacing: tuple[float, float, float] = (2, 2, 2),
    euler: tuple[float, float, float] = (0, 0, 0),
    highest_mm: float = 200,
    craniotomy: bool = False,
) -> tuple[sitk.Image, sitk.Image]:
    """CT and MRI of the head of :func:`head_labels`, centred, its axes turned by ``euler`` (radians).

    ``highest_mm``: planes above are not in the images; ``craniotomy``: a bone flap of 6 cm is missing.
    """
    image = sitk.Image(list(size), sitk.sitkUInt8)
    image.SetSpacing(spacing)
    image.SetDirection(sitk.Euler3DTransform((0, 0, 0), *euler).GetMatrix())
    image.SetOrigin([-c for c in image.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in size])])
    axes = np.array(image.GetDirection()).reshape(3, 3) * spacing
    index = np.stack(np.meshgrid(*(np.arange(n) for n in size), indexing="ij"), -1)
    points = (index @ axes.T + image.GetOrigin()).transpose(2, 1, 0, 3)
    labels = head_labels(points)
    if craniotomy:
        flap = (points[..., 0] > 0) & (np.hypot(points[..., 1], points[..., 2] - 25) < 30)
        labels[(labels == BONE) & flap] = SCALP
    rng = np.random.default_rng(0)
    arrays = [table[labels] for table in (HU, np.array(SIGNAL[contrast], np.float32))]
    arrays[0] = arrays[0] + rng.normal(0, 2, labels.shape).astype(np.float32)
    kept = int((points[:, 0, 0, 2] <= highest_mm).sum())
    made = []
    for array in arrays:
        volume = sitk.GetImageFromArray(array)
        volume.CopyInformation(image)
        made.append(volume[:, :, :kept])
    return made[0], made[1]


def write_heads(folder: Path, name: str) -> Path:
    """``folder``, made, with four heads ``<name>_0.mha`` to ``<name>_3.mha``, each denser than the one before."""
    folder.mkdir()
    for number in range(4):
        sitk.WriteImage(head_like_ct() + 10 * number, str(folder / f"{name}_{number}.mha"))
    return folder
