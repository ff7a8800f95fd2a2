"""Signed distances (mm, negative inside) of the solids the head is built of.

Coordinates are the head's own, in mm: x to the patient's left, y to the back, z to the vertex; the origin
lies in the middle of the brain. Distances are exact for capsules and first-order for ellipsoids.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
Point = tuple[float, float, float]
Coordinates = tuple[Array, Array, Array]


def ellipsoid(p: Coordinates, centre: Point, radii: Point) -> Array:
    """Ellipsoid with its axes along x, y, z."""
    scaled = [(a - c) / r for a, c, r in zip(p, centre, radii, strict=True)]
    k0 = np.sqrt(scaled[0] ** 2 + scaled[1] ** 2 + scaled[2] ** 2)
    k1 = np.sqrt(sum((s / r) ** 2 for s, r in zip(scaled, radii, strict=True)))
    return k0 * (k0 - 1.0) / np.maximum(k1, 1e-4)


def capsule(p: Coordinates, a: Point, b: Point, ra: float, rb: float) -> Array:
    """Segment from a to b with radius ra at a and rb at b."""
    axis = [e - s for s, e in zip(a, b, strict=True)]
    length2 = max(sum(v * v for v in axis), 1e-6)
    rel = [q - s for q, s in zip(p, a, strict=True)]
    h = np.clip(sum(r * v for r, v in zip(rel, axis, strict=True)) / length2, 0.0, 1.0)
    d2 = sum((r - h * v) ** 2 for r, v in zip(rel, axis, strict=True))
    return np.sqrt(d2) - (ra + (rb - ra) * h)


def chain(p: Coordinates, points: list[tuple[float, float, float, float]]) -> Array:
    """Union of capsules along (x, y, z, radius) points."""
    parts = [capsule(p, a[:3], b[:3], a[3], b[3]) for a, b in itertools.pairwise(points)]
    return np.minimum.reduce(parts)


def smooth_union(a: Array, b: Array, k: float) -> Array:
    """Union of two solids with a fillet of about k mm."""
    h = np.clip(k - np.abs(a - b), 0.0, None) / k
    return np.minimum(a, b) - h * h * k * 0.25


def mirrored(p: Coordinates, side: int) -> Coordinates:
    """Coordinates in which the structure of one side (+1 left, -1 right) is built at positive x."""
    return p[0] * side, p[1], p[2]
