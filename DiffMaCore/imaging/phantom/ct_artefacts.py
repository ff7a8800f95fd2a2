"""What disturbs a CT beyond slices and noise: beam hardening, metal, motion, headrest, a short or narrow scan."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]
Spacing = tuple[float, float, float]  # (z, y, x) mm
AIR, METAL = -1000.0, 2900.0
BONE, FAT = 900.0, -100.0  # HU that a picture's white and black stand for, here and where pairs are judged


def harden(ct: Array, spacing: Spacing, cupping: float, bands: float, rng: np.random.Generator) -> None:
    """Cupping inside bone (HU at its edge) and streaky dark bands between dense bone (HU), in place."""
    coarse = ct[:, ::2, ::2]
    dy, dx = 2 * spacing[1], 2 * spacing[2]
    bone = np.clip((coarse - 300) / 900, 0, 1.5)
    near = ndimage.gaussian_filter(bone, (3 / spacing[0], 6 / dy, 6 / dx))
    wide = ndimage.gaussian_filter(bone, (1.5 / spacing[0], 5 / dy, 26 / dx))
    stripes = rng.standard_normal(coarse.shape, dtype=np.float32)
    stripes = ndimage.gaussian_filter(stripes, (2 / spacing[0], 2.5 / dy, 26 / dx))
    stripes /= max(float(stripes.std()), 1e-6)
    change = ndimage.zoom(cupping * 4 * near - bands * 2.5 * wide * (0.6 + stripes), (1, 2, 2), order=1)
    soft = (ct > -200) & (ct < 250)
    missing = [(0, n - m) for n, m in zip(ct.shape, change.shape, strict=True)]
    if any(after > 0 for _, after in missing):
        change = np.pad(change, [(0, max(after, 0)) for _, after in missing], mode="edge")
    change = change[:, : ct.shape[1], : ct.shape[2]]
    ct += np.where(soft, change, 0).astype(np.float32)


def streak(ct: Array, body: Mask, spacing: Spacing, rng: np.random.Generator) -> None:
    """Bright and dark rays from metal, and dark bands between two pieces of it (in place)."""
    yy, xx = np.arange(ct.shape[1])[:, None] * spacing[1], np.arange(ct.shape[2])[None, :] * spacing[2]
    strength = rng.uniform(0.3, 1.5)
    for z in np.flatnonzero((ct > METAL).any((1, 2))):
        pieces, count = ndimage.label(ct[z] > METAL)
        centres = ndimage.center_of_mass(pieces > 0, pieces, range(1, min(count, 4) + 1))
        change = np.zeros(ct.shape[1:])
        spots = [(cy * spacing[1], cx * spacing[2]) for cy, cx in centres]
        for cy, cx in spots:
            angle, far = np.arctan2(yy - cy, xx - cx), np.hypot(yy - cy, xx - cx)
            rays = sum(np.cos(k * angle + rng.uniform(0, 6.3)) for k in (3, 7, 13, 22)) / 2
            change += 260 * rays / (1 + (far / 14) ** 1.2)
        for (ay, ax), (by, bx) in itertools.pairwise(spots):
            length = max(np.hypot(by - ay, bx - ax), 1.0)
            across = np.abs((xx - ax) * (by - ay) - (yy - ay) * (bx - ax)) / length
            change -= 320 * np.exp(-((across / 4.0) ** 2))
        ct[z] += (strength * change * (0.25 + 0.75 * body[z])).astype(np.float32)


def move(ct: Array, spacing: Spacing, rng: np.random.Generator) -> None:
    """The patient moved during a few slices: two positions shine through each other (in place)."""
    first = int(rng.integers(0, max(ct.shape[0] - 1, 1)))
    last = first + max(int(rng.uniform(6, 25) / spacing[0]), 1)
    shift = rng.normal(0, 2.0, 2) / spacing[1:]
    part = ct[first:last]
    part[...] = 0.6 * part + 0.4 * ndimage.shift(part, (0, *shift), order=1, mode="nearest")


def show_in_window(ct: Array, body: Mask, rng: np.random.Generator) -> None:
    """The CT as a picture of 256 greys in a brain window was taken for HU (in place): all bone alike, fat as black as
    air, air outside the body."""
    low, high = rng.uniform(-20.0, 0.0), rng.uniform(70.0, 100.0)
    grey = np.round(np.clip((ct - low) / (high - low), 0, 1) * 255)
    picture = low + grey * (high - low) / 255
    picture[grey == 255] = BONE
    picture[grey == 0] = FAT
    ct[...] = np.where(body, picture, AIR)


def add_headrest(fine: Array, spacing: Spacing, rng: np.random.Generator) -> None:
    """A shell with or without foam, or a table, behind and around the head (in place, where there is air)."""
    nz, ny, nx = fine.shape
    y = (np.arange(ny, dtype=np.float32)[:, None] - ny / 2) * spacing[1]
    x = (np.arange(nx, dtype=np.float32)[None, :] - nx / 2) * spacing[2]
    if rng.random() < 0.7:  # a cup
        half, drop, power = rng.uniform(80, 105), rng.uniform(92, 120), rng.uniform(2.2, 4.5)
        level = (np.abs(x / half) ** power + np.abs(np.clip(y, -20, None) / drop) ** power) ** (1 / power)
        depth = (1.0 - level) * half
        wall = np.clip(1.5 - np.abs(depth) / rng.uniform(0.8, 2.2), 0, 1) * (y > rng.uniform(-25.0, 60.0))
        foam = np.clip(depth / 2, 0, 1) * (y > rng.uniform(0, 50))
    else:  # a table, flat or hollowed
        depth = y - (rng.uniform(92, 112) - x**2 / rng.uniform(250, 3000))
        wall = np.clip(1.5 - np.abs(depth) / rng.uniform(0.8, 2.5), 0, 1)
        foam = np.clip(depth / 2, 0, 1)
    foam = foam * (rng.random() < 0.5)
    shell, filling = rng.uniform(-300, 700), rng.uniform(-985, -860)
    over = AIR + foam * (filling - AIR)
    over = over + wall * (shell - over)
    ends = slice(int(nz * max(rng.uniform(-0.3, 0.3), 0)), int(nz * min(rng.uniform(0.7, 1.3), 1)))
    part = fine[ends]
    part[...] = np.where(part < -950, np.maximum(part, over[None]), part)


def outside_scan(shape: tuple[int, int, int], spacing: Spacing, rng: np.random.Generator) -> Mask:
    """What a tilted, short or narrow scan leaves out; mostly nothing."""
    outside = np.zeros(shape, np.bool_)
    kind = rng.random()
    nz, ny, nx = shape
    z = (np.arange(nz)[:, None, None] - (nz - 1) / 2) * spacing[0]
    y = (np.arange(ny)[None, :, None] - (ny - 1) / 2) * spacing[1]
    x = (np.arange(nx)[None, None, :] - (nx - 1) / 2) * spacing[2]
    height = nz * spacing[0]
    if kind < 0.22:
        slope = np.tan(np.deg2rad(rng.uniform(-25, 25))) * (rng.random() < 0.7)
        low, high = rng.uniform(-0.55, -0.1) * height, rng.uniform(0.25, 0.55) * height
        outside |= (z < low + slope * y) | (z > high + slope * y)
    elif kind < 0.28:
        outside |= np.hypot(x - rng.normal(0, 6), y - rng.normal(0, 6)) > rng.uniform(92.0, 112.0)
    return outside
