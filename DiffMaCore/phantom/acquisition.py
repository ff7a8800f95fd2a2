"""From tissue to image: what a CT and an MR scanner do to the painted head."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from DiffMaCore.phantom import tissues as t
from DiffMaCore.phantom.canvas import Canvas
from DiffMaCore.phantom.cranium import Surfaces
from DiffMaCore.phantom.shapes import Array


def _slab_matrix(count: int, spacing: float, distance: float, thickness: float, offset: float) -> Array:
    """Rows that average slabs ``thickness`` mm thick every ``distance`` mm, read back by linear interpolation.

    Returns (count, count) weights.
    """
    positions = np.arange(count) * spacing
    centres = np.arange(offset, positions[-1] + 1e-3, distance)
    weight = np.clip((thickness + spacing) / 2 - np.abs(centres[:, None] - positions[None]), 0, spacing)
    weight /= np.maximum(weight.sum(1, keepdims=True), 1e-6)
    where = (positions - offset) / distance
    low = np.clip(np.floor(where).astype(int), 0, max(len(centres) - 2, 0))
    share = np.clip(where - low, 0, 1)
    high = np.minimum(low + 1, len(centres) - 1)
    return ((1 - share)[:, None] * weight[low] + share[:, None] * weight[high]).astype(np.float32)


def thick_slices(canvas: Canvas, volume: Array, distance: float, thickness: float, tilt: float, offset: float) -> Array:
    """Slices of a tilted gantry resampled to the upright grid, with the steps that leaves at the vertex."""
    count = volume.shape[0]
    out = np.empty_like(volume)
    for row in range(volume.shape[1]):
        start = (offset + row * canvas.spacing[1] * tilt) % distance
        matrix = _slab_matrix(count, canvas.spacing[0], distance, thickness, start)
        out[:, row] = matrix @ volume[:, row]
    return out


def _headrest(canvas: Canvas, s: Surfaces) -> None:
    """A U-shaped plastic shell with foam, fixed to the scanner and not to the head; MR does not see it."""
    rng = canvas.rng
    nz, ny, nx = canvas.shape
    air = s.head > 1.0
    y = (np.arange(ny, dtype=np.float32)[:, None] - ny / 2) * canvas.spacing[1]
    x = (np.arange(nx, dtype=np.float32)[None, :] - nx / 2) * canvas.spacing[2]
    half, drop = rng.uniform(80, 100), rng.uniform(95, 120)
    level = (np.abs(x / half) ** 3.5 + np.abs(np.clip(y, -20, None) / drop) ** 3.5) ** (1 / 3.5)
    ring = (level - 1.0) * half
    top = rng.uniform(-25.0, 45.0)
    wall = np.clip(0.5 - (np.abs(ring) - rng.uniform(0.6, 1.6)) / canvas.edge, 0, 1) * (y > top)
    foam = np.clip(0.5 - ring / canvas.edge, 0, 1) * (y > top - 10)
    ends = slice(0, int(nz * rng.uniform(0.8, 1.0)))
    shell, filling = rng.uniform(-150, 900), rng.uniform(-985, -880)
    ripple = canvas.noise((60.0, 8.0, 8.0))[ends]
    part = canvas.ct[ends]
    inside = air[ends]
    part += np.where(inside, foam * np.clip(filling + 12.0 * ripple - part, -200, 200), 0.0).astype(np.float32)
    part += np.where(inside, wall * (shell - part), 0.0).astype(np.float32)


def _beam_hardening(canvas: Canvas, s: Surfaces) -> None:
    """Cupping inside the skull and dark bands between the petrous bones."""
    rng = canvas.rng
    x, y, z = canvas.p
    inside = np.clip(0.5 - s.cavity / 4.0, 0, 1)
    cup = rng.uniform(0.0, 5.0) * np.exp(s.cavity.clip(-40, 0) / 9.0)
    cap = rng.uniform(0.0, 9.0) * np.clip((z - 38.0) / 30.0, 0, 1)
    canvas.ct += inside * (cup + cap)
    band = np.exp(-(((z + 38.0) / 11.0) ** 2) - (x / 34.0) ** 2 - ((y - 14.0) / 24.0) ** 2)
    stripes = canvas.noise((9.0, 4.5, 60.0))
    canvas.ct += inside * band * rng.uniform(0.0, 9.0) * (stripes - 0.3)


def _metal_streaks(canvas: Canvas) -> None:
    rng = canvas.rng
    teeth = np.argwhere(canvas.labels == t.TOOTH.label)
    if not len(teeth):
        return
    yy = np.arange(canvas.shape[1])[:, None]
    xx = np.arange(canvas.shape[2])[None, :]
    body = canvas.labels > 0
    for _ in range(int(rng.integers(1, 4))):
        z, y, x = teeth[rng.integers(len(teeth))]
        angle = np.arctan2(yy - y, xx - x)
        reach = 1.0 / (1.0 + np.hypot(yy - y, xx - x) / 12.0)
        star = sum(np.cos(k * angle + rng.uniform(0, 6.3)) for k in (7, 12, 19)) / 3.0
        for dz in range(-2, 3):
            if 0 <= z + dz < canvas.shape[0]:
                gain = rng.uniform(150, 700) * np.exp(-0.5 * dz * dz)
                canvas.ct[z + dz] += (gain * star * reach * (0.3 + 0.7 * body[z + dz])).astype(np.float32)
        canvas.ct[max(z - 1, 0) : z + 1, y, x] = 3000.0


def acquire_ct(canvas: Canvas, s: Surfaces, metal: bool, realism: float) -> Array:
    """CT in HU: headrest, beam hardening, streaks, blur, thick or tilted slices, correlated noise, padding."""
    rng = canvas.rng
    if rng.random() < 0.75:
        _headrest(canvas, s)
    _beam_hardening(canvas, s)
    if metal:
        _metal_streaks(canvas)
    blur = rng.uniform(0.5, 1.1) / canvas.spacing[1]
    ct = ndimage.gaussian_filter(canvas.ct, (0, blur, blur))
    if rng.random() < realism:
        distance = rng.uniform(3.0, 7.5)
        tilt = np.tan(np.deg2rad(rng.uniform(-22, 22))) if rng.random() < 0.5 else 0.0
        ct = thick_slices(canvas, ct, distance, distance * rng.uniform(0.6, 1.0), float(tilt), rng.uniform(0, distance))
    level = rng.uniform(0.8, 3.6)
    width = rng.uniform(0.45, 0.85)
    grain = ndimage.gaussian_filter(rng.standard_normal(canvas.shape, dtype=np.float32), (0, width, width))
    grain /= grain.std()
    absorbed = np.clip((ct + 1000.0) / 1000.0, 0.25, 1.6)
    return np.clip(ct + level * grain * absorbed, -1024.0, 3071.0).astype(np.float32)


def acquire_mr(canvas: Canvas) -> Array:
    """T1-weighted intensities, 0 to about 1000: gentle bias field, blur, Rician noise of 1 to 2 %."""
    rng = canvas.rng
    bias = 1.0 + 0.035 * canvas.noise(90.0)
    mr = ndimage.gaussian_filter(canvas.mr * bias, (0, 0.35, 0.35))
    sigma = rng.uniform(5.0, 12.0)
    real = mr + sigma * rng.standard_normal(mr.shape, dtype=np.float32)
    imaginary = sigma * rng.standard_normal(mr.shape, dtype=np.float32)
    return np.hypot(real, imaginary).astype(np.float32)


def cut_field(canvas: Canvas, ct: Array, mr: Array, labels: np.ndarray) -> None:
    """Leave out what a tilted or short scan never covered: padding on CT, nothing on MR (in place)."""
    rng = canvas.rng
    nz, ny, nx = ct.shape
    kind = rng.random()
    z = np.arange(nz, dtype=np.float32)[:, None] * canvas.spacing[0]
    y = np.arange(ny, dtype=np.float32)[None, :] * canvas.spacing[1]
    height = nz * canvas.spacing[0]
    if kind < 0.3:
        slope = np.tan(np.deg2rad(rng.uniform(8, 25))) * rng.choice([-1.0, 1.0])
        middle = slope * (y - ny * canvas.spacing[1] / 2)
        low, high = rng.uniform(0.05, 0.35) * height, rng.uniform(0.85, 1.05) * height
        outside = (z < low + middle) | (z > high + middle)
        ct[outside] = rng.choice([-1024.0, -1000.0])
        mr[outside] = 0.0
        labels[outside] = 0
    elif kind < 0.36:  # a field of view smaller than the head
        x = np.arange(nx)[None, :] - nx / 2
        circle = np.hypot(x * canvas.spacing[2], (np.arange(ny)[:, None] - ny / 2) * canvas.spacing[1])
        outside2 = circle > rng.uniform(95.0, 112.0)
        ct[:, outside2] = -1024.0
        mr[:, outside2] = 0.0
        labels[:, outside2] = 0
