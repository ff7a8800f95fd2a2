"""Compiled look-ups in a head: noise, distance maps, labels.

numba notices changes of a function's own file only: after editing this one, or the numbers in ``tissues`` and
``splitting``, delete ``__pycache__`` next to it.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import ndimage

from DiffMaCore.imaging.phantom.warp import smooth_noise

TILE = 64  # side of the periodic noise tiles, a power of two
BLOCK = 8  # voxels, side of the blocks that are skipped where they are empty
_MASK = TILE - 1


def noise_tiles(rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Two periodic tiles of smooth noise, unit variance."""
    return smooth_noise(rng, (TILE,) * 3, 1.1), smooth_noise(rng, (TILE,) * 3, 1.1)


def occupied(labels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Blocks of BLOCK voxels a side that hold a part of the head or have a neighbour that does."""
    padded = np.pad(labels > 0, [(0, -n % BLOCK) for n in labels.shape])
    nz, ny, nx = (n // BLOCK for n in padded.shape)
    filled = padded.reshape(nz, BLOCK, ny, BLOCK, nx, BLOCK).any((1, 3, 5))
    return np.asarray(ndimage.binary_dilation(filled, np.ones((3, 3, 3))))


@njit(nogil=True, cache=True, fastmath=True, inline="always")
def is_empty(near, z, y, x):
    """Whether nothing of the head is near a position."""
    bz, by, bx = int(z) // BLOCK, int(y) // BLOCK, int(x) // BLOCK
    if z < 0 or y < 0 or x < 0 or bz >= near.shape[0] or by >= near.shape[1] or bx >= near.shape[2]:
        return True
    return not near[bz, by, bx]


@njit(nogil=True, cache=True, fastmath=True, inline="always")
def noise_at(tile, z, y, x):
    """Periodic noise at a node position, trilinear."""
    fz, fy, fx = np.floor(z), np.floor(y), np.floor(x)
    wz, wy, wx = np.float32(z - fz), np.float32(y - fy), np.float32(x - fx)
    z0, y0, x0 = int(fz) & _MASK, int(fy) & _MASK, int(fx) & _MASK
    z1, y1, x1 = (z0 + 1) & _MASK, (y0 + 1) & _MASK, (x0 + 1) & _MASK
    a = tile[z0, y0, x0] + wx * (tile[z0, y0, x1] - tile[z0, y0, x0])
    b = tile[z0, y1, x0] + wx * (tile[z0, y1, x1] - tile[z0, y1, x0])
    c = tile[z1, y0, x0] + wx * (tile[z1, y0, x1] - tile[z1, y0, x0])
    d = tile[z1, y1, x0] + wx * (tile[z1, y1, x1] - tile[z1, y1, x0])
    a += wy * (b - a)
    c += wy * (d - c)
    return a + wz * (c - a)


@njit(nogil=True, cache=True, fastmath=True, inline="always")
def map_at(maps, k, at):
    """One of the head's maps as it is coded, trilinear; ``at``: voxel and position in it, (z, y, x) each."""
    z0, y0, x0, wz, wy, wx = at
    value = np.float32(0.0)
    for dz in range(2):
        az = wz if dz else np.float32(1.0) - wz
        for dy in range(2):
            ay = az * (wy if dy else np.float32(1.0) - wy)
            row = maps[z0 + dz, y0 + dy]
            value += ay * ((np.float32(1.0) - wx) * row[x0, k] + wx * row[x0 + 1, k])
    return value


@njit(nogil=True, cache=True, fastmath=True, inline="always")
def mm_at(maps, k, at, scale):
    """One of the maps of distances, in mm."""
    return (map_at(maps, k, at) - scale[1]) / scale[0]


@njit(nogil=True, cache=True, fastmath=True, inline="always")
def uniform(labels, at):
    """Whether the eight voxels around a position have one label."""
    z, y, x, _, _, _ = at
    label = labels[z, y, x]
    low, high = labels[z], labels[z + 1]
    return (
        low[y, x + 1] == label
        and low[y + 1, x] == label
        and low[y + 1, x + 1] == label
        and high[y, x] == label
        and high[y, x + 1] == label
        and high[y + 1, x] == label
        and high[y + 1, x + 1] == label
    )


@njit(nogil=True, cache=True, fastmath=True)
def vote(labels, names, shares, at):
    """The label with the largest trilinear weight among the eight around: borders without steps."""
    z0, y0, x0, wz, wy, wx = at
    n = 0
    for k in range(8):
        dz, dy, dx = k >> 2, (k >> 1) & 1, k & 1
        w = (wz if dz else 1 - wz) * (wy if dy else 1 - wy) * (wx if dx else 1 - wx)
        label = labels[z0 + dz, y0 + dy, x0 + dx]
        for j in range(n):
            if names[j] == label:
                shares[j] += w
                break
        else:
            names[n] = label
            shares[n] = w
            n += 1
    best = 0
    for j in range(1, n):
        if shares[j] > shares[best]:
            best = j
    return names[best]


@njit(nogil=True, cache=True, fastmath=True, inline="always")
def vector_at(field, z, y, x):
    """A vector of a field (3, z, y, x) at a node position, trilinear."""
    bz, by, bx = int(z), int(y), int(x)
    wz, wy, wx = z - bz, y - by, x - bx
    first, second, third = 0.0, 0.0, 0.0
    for dz in range(2):
        for dy in range(2):
            for dx in range(2):
                w = (wz if dz else 1 - wz) * (wy if dy else 1 - wy) * (wx if dx else 1 - wx)
                first += w * field[0, bz + dz, by + dy, bx + dx]
                second += w * field[1, bz + dz, by + dy, bx + dx]
                third += w * field[2, bz + dz, by + dy, bx + dx]
    return first, second, third
