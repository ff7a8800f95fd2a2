"""Smooth random fields: the source of every irregular form and texture in the phantom."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Array = NDArray[np.floating]


def _spline_matrix(count: int, step: float, nodes: int) -> Array:
    """Cubic B-spline weights (count, nodes) of samples ``step`` nodes apart; two nodes of margin in front."""
    position = 2.0 + step * np.arange(count)[:, None] - np.arange(nodes)[None, :]
    a = np.abs(position)
    inner = 2.0 / 3.0 - a**2 + a**3 / 2.0
    outer = np.clip(2.0 - a, 0.0, None) ** 3 / 6.0
    return np.where(a < 1.0, inner, outer).astype(np.float32)


def lattice(rng: np.random.Generator, nodes: tuple[int, int, int], band: bool) -> Array:
    """Unit-variance random node values; ``band`` takes out what is slower than a few nodes."""
    values = rng.standard_normal(nodes, dtype=np.float32)
    if band:
        values = values - ndimage.gaussian_filter(values, 1.3, mode="wrap")
    return values


def noise(
    rng: np.random.Generator,
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    scale: float | tuple[float, float, float],
    band: bool = False,
) -> Array:
    """Smooth noise of unit variance, array (z, y, x).

    ``spacing`` in mm (z, y, x); ``scale`` is the distance of the B-spline nodes in mm, one or one per axis,
    about a third of the wavelength; ``band`` keeps a band of wavelengths instead of all that are slower.
    """
    scales = (scale,) * 3 if isinstance(scale, (int, float)) else scale
    steps = [s / d for s, d in zip(spacing, scales, strict=True)]
    nodes = tuple(int(np.ceil(n * step)) + 5 for n, step in zip(shape, steps, strict=True))
    field = lattice(rng, (nodes[0], nodes[1], nodes[2]), band)
    for axis, (count, step) in enumerate(zip(shape, steps, strict=True)):
        weights = _spline_matrix(count, step, nodes[axis])
        field = np.moveaxis(np.tensordot(weights, field, axes=(1, axis)), 0, axis)
    field = np.ascontiguousarray(field, dtype=np.float32)
    return field / np.float32(max(float(field.std()), 1e-6))


def noise_at(rng: np.random.Generator, points: tuple[Array, Array, Array], scale: float) -> Array:
    """Band-limited smooth noise of unit variance at scattered points (mm, z, y, x), nodes ``scale`` mm apart."""
    lowest = [float(p.min()) for p in points]
    nodes = tuple(int((float(p.max()) - low) / scale) + 6 for p, low in zip(points, lowest, strict=True))
    values = lattice(rng, (nodes[0], nodes[1], nodes[2]), band=True)
    where = np.stack([(p - low) / scale + 2.0 for p, low in zip(points, lowest, strict=True)])
    field = ndimage.map_coordinates(values, where, order=3, prefilter=False, mode="nearest")
    return field / np.float32(max(float(field.std()), 1e-6))
