"""From the scan's grid to the head's: an affine and a smooth elastic warp, and periodic noise for textures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Array = NDArray[np.float32]
NODE_MM = 8.0  # distance of the nodes of the displacement grid


@dataclass(frozen=True)
class Warp:
    """Scan position p (mm, z y x, from the scan's centre) to head voxel: ``matrix @ p + offset`` plus a displacement.

    ``field`` (3, z, y, x) in head mm, nodes ``NODE_MM`` apart in scan space, its middle node at the scan's centre.
    """

    matrix: NDArray[np.float64]
    offset: NDArray[np.float64]
    field: Array


def smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], sigma: float) -> Array:
    """Unit-variance noise smoothed by a Gaussian of ``sigma`` samples, periodic in every axis."""
    noise = ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), sigma, mode="wrap")
    return np.ascontiguousarray(noise / max(float(noise.std()), 1e-6))


def rotation(degrees: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotation about z, y and x in turn, for vectors (z, y, x)."""
    result = np.eye(3)
    for axis, angle in enumerate(np.deg2rad(degrees)):
        first, second = [k for k in range(3) if k != axis]
        turn = np.eye(3)
        turn[first, first] = turn[second, second] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        result = result @ turn
    return result


def random_warp(
    rng: np.random.Generator,
    extent: tuple[float, float, float],
    pivot: NDArray[np.float64],
    head_length: float,
    *,
    tilt: float,
    scale: float,
    elastic: float,
    shift: float,
    mirror: bool,
) -> Warp:
    """Draw a warp. ``extent`` of the scan and ``head_length`` in mm; ``pivot``: head voxel laid at the scan's centre.

    ``tilt`` sd of each rotation in degrees (drawn up to twice that), ``scale`` largest change of each axis (the head
    stays 150 to 205 mm long), ``elastic`` sd of the displacement in mm, ``shift`` largest move in mm.
    """
    angles = np.clip(rng.normal(0, tilt / 2, 3), -tilt, tilt) if tilt else np.zeros(3)
    common = rng.uniform(-scale, scale) * 0.6 if scale else 0.0
    factors = 1 + common + (rng.uniform(-scale, scale, 3) * 0.4 if scale else np.zeros(3))
    if scale:
        factors *= np.clip(head_length * factors[1], 150.0, 205.0) / (head_length * factors[1])
    matrix = rotation(angles) @ np.diag(1 / factors)
    if mirror and rng.random() < 0.5:
        matrix[2] = -matrix[2]
    offset = pivot + (rng.uniform(-shift, shift, 3) if shift else 0.0)
    nodes = [int(np.ceil(e / 2 / NODE_MM)) * 2 + 3 for e in extent]
    field = np.zeros((3, *nodes), np.float32)
    if elastic:
        coarse, fine = rng.uniform(0.5, 1.0) * elastic, rng.uniform(0.1, 0.35) * elastic
        for axis in range(3):
            padded = [n + 12 for n in nodes]
            slow = smooth_noise(rng, tuple(padded), 4.0)[6:-6, 6:-6, 6:-6]
            quick = smooth_noise(rng, tuple(padded), 1.8)[6:-6, 6:-6, 6:-6]
            field[axis] = coarse * slow + fine * quick
    return Warp(matrix, np.asarray(offset, np.float64), field)
