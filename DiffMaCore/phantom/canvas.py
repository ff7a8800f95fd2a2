"""The volume being painted: CT numbers, T1 intensities and labels together, with partial volume at edges."""

from __future__ import annotations

import math

import numpy as np

from DiffMaCore.phantom.fields import noise
from DiffMaCore.phantom.shapes import Array, Coordinates, Point
from DiffMaCore.phantom.tissues import OUTSIDE, Tissue

Region = tuple[slice, slice, slice]
WARP_MARGIN = 8.0  # mm a boxed structure may stray by the smooth warp


class Canvas:
    """Head coordinates of every voxel (random size, pose and smooth warp) and the three painted volumes.

    ``size`` (x, y, z) voxels and ``spacing`` (x, y, z) mm; arrays are (z, y, x), z to the vertex, y to the
    back, x to the patient's left.
    """

    def __init__(
        self, rng: np.random.Generator, size: tuple[int, int, int], spacing: tuple[float, float, float]
    ) -> None:
        self.rng = rng
        self.shape = (size[2], size[1], size[0])
        self.spacing = (spacing[2], spacing[1], spacing[0])
        self.edge = max(spacing[0], spacing[1])
        self.ct = np.full(self.shape, OUTSIDE.hu, np.float32)
        self.mr = np.full(self.shape, OUTSIDE.mr, np.float32)
        self.labels = np.zeros(self.shape, np.uint8)
        self.p = self._head_coordinates()

    def _head_coordinates(self) -> Coordinates:
        rng = self.rng
        scale = np.array([1.0, 1.0, 1.0]) * rng.uniform(0.94, 1.08) * rng.uniform(0.96, 1.05, 3)
        pitch, roll, yaw = np.deg2rad(rng.normal(0.0, (9.0, 3.0, 5.0)))
        cp, sp, cr, sr, cy, sy = (f(v) for v in (pitch, roll, yaw) for f in (math.cos, math.sin))
        turn = (
            np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
            @ np.array([[cr, 0, sr], [0, 1, 0], [-sr, 0, cr]])
            @ np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
        )
        extent = [n * s for n, s in zip(self.shape, self.spacing, strict=True)]
        # The head spans about z -130 to 90; the grid's middle lies at the head's, give or take.
        self._shift = np.array([rng.normal(0, 5.0), 2.0 + rng.normal(0, 6.0), 15.0 + rng.normal(0, 6.0)])
        self._turn, self._scale = turn, scale
        axes = [
            (np.arange(n, dtype=np.float32) + 0.5) * s - e / 2
            for n, s, e in zip(self.shape, self.spacing, extent, strict=True)
        ]
        world = (axes[2][None, None, :], axes[1][None, :, None], axes[0][:, None, None])
        inverse = turn.T / scale[:, None]
        offset = -inverse @ self._shift
        amplitude = rng.uniform(1.2, 2.6)
        head = []
        for k in range(3):
            value = sum(np.float32(inverse[k, j]) * world[j] for j in range(3)) + np.float32(offset[k])
            bend = amplitude * noise(rng, self.shape, self.spacing, 45.0)
            ripple = 0.5 * noise(rng, self.shape, self.spacing, 16.0)
            head.append((value + bend + ripple).astype(np.float32))
        return head[0], head[1], head[2]

    def region(self, centre: Point, reach: float) -> Region:
        """Index box of all voxels that may lie within ``reach`` mm of a point in head coordinates."""
        world = self._turn @ (np.asarray(centre) * self._scale) + self._shift
        reach = reach * float(self._scale.max()) + WARP_MARGIN
        slices = []
        for n, s, w in zip(self.shape, self.spacing, world[::-1], strict=True):
            middle = (w + n * s / 2) / s - 0.5
            low = int(np.clip(math.floor(middle - reach / s), 0, n))
            high = int(np.clip(math.ceil(middle + reach / s) + 1, low, n))
            slices.append(slice(low, high))
        return slices[0], slices[1], slices[2]

    def at(self, region: Region) -> Coordinates:
        """Head coordinates (x, y, z) of the voxels of a region."""
        return self.p[0][region], self.p[1][region], self.p[2][region]

    def noise(
        self, scale: float | tuple[float, float, float], region: Region | None = None, band: bool = False
    ) -> Array:
        """Smooth noise of unit variance over the canvas or one region of it."""
        shape = (
            self.shape
            if region is None
            else tuple(len(range(*s.indices(n))) for s, n in zip(region, self.shape, strict=True))
        )
        return noise(self.rng, (shape[0], shape[1], shape[2]), self.spacing, scale, band)

    def paint(
        self,
        distance: Array,
        tissue: Tissue,
        region: Region | None = None,
        *,
        hu: float | Array | None = None,
        mr: float | Array | None = None,
        opacity: float = 1.0,
    ) -> None:
        """Lay a tissue over a solid given by its signed distance, mixed at the edge by partial volume."""
        cover = np.clip(0.5 - distance / self.edge, 0.0, opacity).astype(np.float32)
        self.blend(cover, tissue, region, hu=hu, mr=mr)

    def sheet_cover(self, distance: Array, half_width: float | Array) -> Array:
        """Share of a voxel filled by a sheet ``2 * half_width`` mm thick whose middle is ``distance`` mm away."""
        h = self.edge / 2
        a = np.abs(distance)
        return np.clip((np.minimum(a + h, half_width) - np.maximum(a - h, -half_width)) / (2 * h), 0.0, 1.0)

    def blend(
        self,
        cover: Array,
        tissue: Tissue,
        region: Region | None = None,
        *,
        hu: float | Array | None = None,
        mr: float | Array | None = None,
    ) -> None:
        """Mix a tissue in by the share (0 to 1) it fills of every voxel."""
        if cover.size == 0:
            return
        where: Region = region or (slice(None), slice(None), slice(None))
        for volume, value in (
            (self.ct, tissue.hu if hu is None else hu),
            (self.mr, tissue.mr if mr is None else mr),
        ):
            part = volume[where]
            part += cover * (value - part)
        self.labels[where][cover > 0.5] = tissue.label
