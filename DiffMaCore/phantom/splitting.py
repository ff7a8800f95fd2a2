"""What a label map does not say: distances and zones from which skin, fat, muscle, dura, falx and the like follow.

Every map is uint8, trilinearly read by the renderer, so that the borders that follow from it are smooth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from DiffMaCore.phantom import tissues as t

Labels = NDArray[np.uint8]
Mask = NDArray[np.bool_]
# name: (steps per mm, value at distance 0)
MAPS = ("depth", "bone", "brain", "ventricle", "falx", "tentorium", "membrane", "orbit", "mastoid")
DEPTH, TO_BONE, TO_BRAIN, TO_VENTRICLE, FALX, TENTORIUM, MEMBRANE, ORBIT, MASTOID = range(len(MAPS))
SCALES = {"depth": (4.0, 8.0), "bone": (8.0, 32.0), "brain": (16.0, 128.0), "ventricle": (16.0, 128.0)}
SIGNED = (16.0, 128.0)  # falx and tentorium: difference of two distances
SIDES = {"left": (2, 3), "right": (41, 42), "cerebellum": (7, 8, 46, 47)}  # source labels


@dataclass(frozen=True)
class Eye:
    """An eyeball: centre (z, y, x) and radius in voxels of 1 mm."""

    centre: tuple[float, float, float]
    radius: float


def signed_distance(mask: Mask) -> NDArray[np.float32]:
    """Distance in mm to the mask's surface, negative inside."""
    import SimpleITK as sitk

    if not mask.any():
        return np.full(mask.shape, 99.0, np.float32)
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    distance = sitk.SignedMaurerDistanceMap(image, squaredDistance=False, useImageSpacing=False)
    return np.asarray(sitk.GetArrayFromImage(distance), np.float32) - 0.5


def coded(distance: NDArray[np.float32], scale: tuple[float, float]) -> NDArray[np.uint8]:
    """A distance in mm as uint8."""
    return np.clip(np.round(distance * scale[0] + scale[1]), 0, 255).astype(np.uint8)


def find_eyes(labels: Labels) -> list[Eye]:
    """The eyeballs, two of them or none."""
    components, count = ndimage.label(labels == t.EYE.label)
    eyes = []
    for index in range(1, count + 1):
        points = np.argwhere(components == index)
        if len(points) > 2000:
            radius = (len(points) * 3 / (4 * np.pi)) ** (1 / 3)
            eyes.append(Eye(tuple(points.mean(0).tolist()), float(radius)))
    return eyes


def distance_maps(
    labels: Labels, sides: dict[str, Mask], speckle: NDArray[np.float32], eyes: list[Eye]
) -> NDArray[np.uint8]:
    """All MAPS of cleaned labels, (z, y, x, maps) uint8.

    ``sides``: masks "left", "right" (cerebrum) and "cerebellum"; ``speckle``: share of pits in bone around.
    """
    maps = np.zeros((*labels.shape, len(MAPS)), np.uint8)
    outside = np.pad(labels == t.OUTSIDE.label, ((0, 0), (1, 1), (1, 1)), constant_values=True)
    maps[..., DEPTH] = coded(signed_distance(outside)[:, 1:-1, 1:-1], SCALES["depth"])
    bone = (labels == t.BONE.label) | (labels == t.DIPLOE.label)
    to_bone = signed_distance(bone)
    maps[..., TO_BONE] = coded(to_bone, SCALES["bone"])
    brain = np.isin(labels, t.BRAIN)
    maps[..., TO_BRAIN] = coded(signed_distance(brain), SCALES["brain"])
    maps[..., TO_VENTRICLE] = coded(signed_distance(labels == t.VENTRICLE.label), SCALES["ventricle"])

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

    soft = labels == t.SOFT.label
    seeds = np.isin(labels, [t.EYE.label, t.RECTUS.label, t.OPTIC_NERVE.label])
    orbit = np.zeros(labels.shape, np.float32)
    if eyes:
        around = ndimage.binary_dilation(seeds, iterations=9, mask=soft | seeds) & soft
        front = np.mean([eye.centre[1] for eye in eyes])
        y = np.arange(labels.shape[1])[None, :, None]
        orbit = (around & ((maps[..., DEPTH] > 8 + 4 * 5) | (y > front))).astype(np.float32)
        orbit = ndimage.gaussian_filter(orbit, 0.8)
    maps[..., ORBIT] = np.clip(255 * orbit, 0, 255).astype(np.uint8)
    x = np.abs(np.arange(labels.shape[2]) - labels.shape[2] / 2)[None, None, :]
    mastoid = np.clip(speckle * 6, 0, 1) * (x > 22) * (below < 32) * (z < level + 5)
    maps[..., MASTOID] = np.clip(255 * mastoid * (to_bone < 0), 0, 255).astype(np.uint8)
    return maps
