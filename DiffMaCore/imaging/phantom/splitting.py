"""What a label map does not say: distances and zones from which skin, fat, muscle, dura, falx and the like follow.

Every map is uint8, trilinearly read by the renderer, so that the borders that follow from it are smooth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from DiffMaCore.imaging.phantom import tissues as t

Labels = NDArray[np.uint8]
Mask = NDArray[np.bool_]
# name: (steps per mm, value at distance 0)
MAPS = ("depth", "bone", "brain", "grey", "white", "ventricle", "falx", "tentorium", "membrane", "orbit", "mastoid")
DEPTH, TO_BONE, TO_BRAIN, TO_GREY, TO_WHITE, TO_VENTRICLE, FALX, TENTORIUM, MEMBRANE, ORBIT, MASTOID = range(len(MAPS))
SCALES = {"depth": (4.0, 8.0), "bone": (8.0, 32.0)}
SIGNED = (16.0, 128.0)  # all others; falx and tentorium are differences of two distances
SIDES = {"left": (2, 3), "right": (41, 42), "cerebellum": (7, 8, 46, 47)}  # source labels


FAR = 20.0  # mm, the longest distance that matters

# choroid plexus in the atria of the lateral ventricles, pineal gland, middle of the incisors
LANDMARKS = ("choroid_left", "choroid_right", "pineal", "teeth")


@dataclass(frozen=True)
class Eye:
    """An eyeball: centre (z, y, x) and radius in voxels of 1 mm."""

    centre: tuple[float, float, float]
    radius: float


def signed_distance(mask: Mask) -> NDArray[np.float32]:
    """Distance in mm to the mask's surface, negative inside; right up to FAR mm, FAR or more beyond."""
    import SimpleITK as sitk

    distance = np.full(mask.shape, FAR, np.float32)
    if not mask.any():
        return distance
    box = []
    for axis in range(3):
        across = tuple(k for k in range(3) if k != axis)
        hit = np.flatnonzero(mask.any(across))
        box.append(slice(max(int(hit[0]) - int(FAR), 0), int(hit[-1]) + int(FAR) + 1))
    image = sitk.GetImageFromArray(mask[tuple(box)].astype(np.uint8))
    inside = sitk.SignedMaurerDistanceMap(image, squaredDistance=False, useImageSpacing=False)
    distance[tuple(box)] = sitk.GetArrayViewFromImage(inside)
    distance[tuple(box)] -= 0.5
    return distance


def coded(distance: NDArray[np.float32], scale: tuple[float, float]) -> NDArray[np.uint8]:
    """A distance in mm as uint8."""
    return np.clip(np.round(distance * scale[0] + scale[1]), 0, 255).astype(np.uint8)


def find_eyes(labels: Labels) -> list[Eye]:
    """The eyeballs, two of them or none."""
    components, _ = ndimage.label(labels == t.EYE.label)
    eyes = []
    for index, box in enumerate(ndimage.find_objects(components), start=1):
        points = np.argwhere(components[box] == index)
        if len(points) > 2000:
            radius = (len(points) * 3 / (4 * np.pi)) ** (1 / 3)
            centre = points.mean(0) + [part.start for part in box]
            eyes.append(Eye(tuple(centre.tolist()), float(radius)))
    return eyes


def distance_maps(labels: Labels, sides: dict[str, Mask], eyes: list[Eye]) -> NDArray[np.uint8]:
    """All MAPS of cleaned labels, (z, y, x, maps) uint8.

    ``sides``: masks "left", "right" (cerebrum) and "cerebellum".
    """
    maps = np.zeros((*labels.shape, len(MAPS)), np.uint8)
    outside = np.pad(labels == t.OUTSIDE.label, ((0, 0), (1, 1), (1, 1)), constant_values=True)
    maps[..., DEPTH] = coded(signed_distance(outside)[:, 1:-1, 1:-1], SCALES["depth"])
    bone = (labels == t.BONE.label) | (labels == t.DIPLOE.label)
    to_bone = signed_distance(bone)
    maps[..., TO_BONE] = coded(to_bone, SCALES["bone"])
    for index, mask in (
        (TO_BRAIN, np.isin(labels, t.BRAIN)),
        (TO_GREY, np.isin(labels, [t.CORTEX.label, t.CEREBELLAR_GREY.label])),
        (TO_WHITE, np.isin(labels, [t.WHITE.label, t.WHITE_LESION.label, t.CEREBELLAR_WHITE.label])),
        (TO_VENTRICLE, labels == t.VENTRICLE.label),
    ):
        maps[..., index] = coded(signed_distance(mask), SIGNED)

    left, right, below = (signed_distance(sides[name]) for name in ("left", "right", "cerebellum"))
    above = np.minimum(left, right)
    maps[..., FALX] = coded(left - right, SIGNED)
    maps[..., TENTORIUM] = coded(above - below, SIGNED)
    callosum = np.argwhere(labels == t.VENTRICLE.label)
    level = np.percentile(callosum[:, 0], 50) if len(callosum) else 0
    z = np.arange(labels.shape[0])[:, None, None]
    falx = (np.maximum(left, right) < 9) & (z > level)
    tentorium = (np.maximum(above, below) < 7) & (below < 5)
    maps[..., MEMBRANE] = np.where(falx, 255, np.where(tentorium, 128, 0))

    maps[..., ORBIT] = _orbits(labels, eyes, maps[..., DEPTH])
    maps[..., MASTOID] = _mastoids(labels, to_bone, below, eyes)
    return maps


def _orbits(labels: Labels, eyes: list[Eye], depth: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Where soft tissue is orbital fat: around the eyeballs, their muscles and nerves, inside the bony walls."""
    orbit = np.zeros(labels.shape, np.float32)
    z, y, x = np.ogrid[: labels.shape[0], : labels.shape[1], : labels.shape[2]]
    soft = labels == t.SOFT.label
    seeds = np.isin(labels, [t.EYE.label, t.RECTUS.label, t.OPTIC_NERVE.label])
    for eye in eyes:
        cz, cy, cx = eye.centre
        reach = eye.radius + 5
        side = np.sign(cx - labels.shape[2] / 2)
        cone = (np.abs(z - cz) < reach) & (side * (x - cx) < eye.radius + 3 - 0.15 * np.clip(y - cy, 0, None))
        cone = cone & (side * (x - cx) > -28) & (y > cy - eye.radius) & (y < cy + 48)
        near = ndimage.binary_dilation(seeds & cone, iterations=9, mask=(soft | seeds) & cone) & soft
        orbit[near & ((depth > 8 + 4 * 4) | (y > cy))] = 1
    return np.clip(255 * ndimage.gaussian_filter(orbit, 0.8), 0, 255).astype(np.uint8)


def _mastoids(
    labels: Labels, to_bone: NDArray[np.float32], cerebellum: NDArray[np.float32], eyes: list[Eye]
) -> NDArray[np.uint8]:
    """Where bone is honeycombed with air: the thick bone next to the cerebellum, below the eyes and not medial."""
    z, _, x = np.ogrid[: labels.shape[0], : labels.shape[1], : labels.shape[2]]
    stem = np.argwhere(labels == t.BRAIN_STEM.label)
    if not len(stem):
        return np.zeros(labels.shape, np.uint8)
    level = np.mean([eye.centre[0] for eye in eyes]) if eyes else stem[:, 0].mean() + 5
    back, middle = stem[:, 1].mean(), stem[:, 2].mean()
    thick = ndimage.gaussian_filter((to_bone < -2.5).astype(np.float32), 2.0)
    y = np.arange(labels.shape[1])[None, :, None]
    zone = (np.abs(x - middle) > 26) & (z < level + 2) & (z > level - 45) & (y > back - 18) & (y < back + 30)
    share = np.clip(thick * 4, 0, 1) * zone * (cerebellum < FAR)
    return np.clip(255 * ndimage.gaussian_filter(share, 1.0), 0, 255).astype(np.uint8)


def landmarks(source: NDArray[np.integer], eyes: list[Eye]) -> NDArray[np.float32]:
    """LANDMARKS of padded source labels, (landmarks, 3) voxels; NaN where they cannot be told."""
    points = np.full((len(LANDMARKS), 3), np.nan, np.float32)
    for index, label in enumerate((4, 43)):
        ventricle = np.argwhere(source == label)
        if len(ventricle) > 2000:
            atrium = ventricle[ventricle[:, 1] > np.percentile(ventricle[:, 1], 82)]
            points[index] = atrium[atrium[:, 0] < np.percentile(atrium[:, 0], 60)].mean(0)
    third, stem = np.argwhere(source == 14), np.argwhere(source == 16)
    if len(third):
        end = third[third[:, 1] > np.percentile(third[:, 1], 92)]
        points[2] = end.mean(0) + np.array([0, 7, 0])
    if eyes and len(stem):
        level, front = np.mean([eye.centre[0] for eye in eyes]), np.mean([eye.centre[1] for eye in eyes])
        points[3] = (level - 64, front + 6, stem[:, 2].mean())
    return points
