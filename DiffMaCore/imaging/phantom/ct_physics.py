"""What a CT scanner does to the head: slices and their thickness, tilt, blur, noise of a reconstruction kernel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from DiffMaCore.imaging.phantom.ct_artefacts import harden

Array = NDArray[np.float32]
LOWEST, HIGHEST = -1024.0, 3071.0
SOFT = 0.18  # cycles per mm: below it a kernel leaves less noise than was drawn
STREAK_WIDTH = 0.25  # sine of about 15 degrees
Range = tuple[float, float]


@dataclass(frozen=True)
class Scan:
    """How the CT was taken: mm, degrees and HU.

    ``thickness`` and ``distance`` of the slices, ``tilt`` of the gantry, ``blur`` (sd, in-plane), ``noise`` (sd in
    water), ``cutoff`` of the kernel in cycles per mm, ``streaks`` (how much stronger noise is that varies ``towards``
    so many degrees from left to right), ``cupping`` and ``bands`` of beam hardening, ``offset``, ``sharpness`` of an
    edge-enhancing kernel.
    """

    thickness: float = 1.0
    distance: float = 1.0
    tilt: float = 0.0
    blur: float = 0.4
    noise: float = 0.0
    cutoff: float = 0.25
    streaks: float = 0.0
    towards: float = 0.0
    cupping: float = 0.0
    bands: float = 0.0
    offset: float = 0.0
    sharpness: float = 0.0


def draw_scan(
    rng: np.random.Generator, spacing_z: float, noise: Range, blur: Range, cutoff: Range, streaks: float
) -> Scan:
    """A scanner's settings, from thin spiral scans to thick tilted ones; ``spacing_z`` of the output in mm, ``noise``
    from and to how many HU, ``blur`` from and to how many mm, ``cutoff`` from and to how many cycles per mm,
    ``streaks`` the share of scans whose noise has a direction.

    A kernel softer than usual leaves less noise, and what it leaves is as coarse as the folds of the cortex.
    """
    kind = rng.random()
    if kind < 0.3:  # thin slices, a reader's average of about the output's spacing
        distance = thickness = float(rng.uniform(0.6, 1.6))
    elif kind < 0.6:  # slices as thick as the output's
        thickness = spacing_z * rng.uniform(0.7, 1.3)
        distance = spacing_z * rng.uniform(0.8, 1.1)
    else:
        thickness = rng.uniform(2.5, 8.0)
        distance = thickness * rng.uniform(0.75, 1.1)
    tilt = rng.uniform(-22, 22) if kind > 0.6 and rng.random() < 0.5 else 0.0
    level, drawn_blur = float(np.exp(rng.uniform(*np.log(noise)))), float(rng.uniform(*blur))
    drawn_cutoff = float(rng.uniform(*cutoff))
    streaked = bool(streaks) and rng.random() < streaks  # nothing is drawn where there are none
    return Scan(
        thickness=float(thickness),
        distance=float(distance),
        tilt=float(tilt),
        blur=drawn_blur,
        noise=level * min(1.0, drawn_cutoff / SOFT),
        cutoff=drawn_cutoff,
        streaks=float(rng.uniform(1.0, 4.0)) if streaked else 0.0,
        towards=float(rng.uniform(0.0, 180.0)) if streaked else 0.0,
        cupping=float(rng.uniform(0.0, 6.0)),
        bands=float(rng.uniform(0.0, 8.0)),
        offset=float(rng.uniform(-10, 16) if rng.random() < 0.12 else rng.normal(0, 1.7)),
        sharpness=float(rng.uniform(0.2, 1.0)) if rng.random() < 0.3 else 0.0,
    )


def slice_profiles(count: int, step: float, scan: Scan, start: float) -> Array:
    """Weights (slices, count) of native slices over fine ones ``step`` mm apart, the first native at ``start`` mm."""
    positions = np.arange(count) * step
    centres = np.arange(start, positions[-1] + scan.distance, scan.distance)
    away = np.abs(centres[:, None] - positions[None])
    weight = np.clip((max(scan.thickness, step) + step) / 2 - away, 0, step)
    beyond = weight.sum(1) < 1e-6
    weight[beyond, np.argmin(away[beyond], 1)] = 1.0
    return (weight / weight.sum(1, keepdims=True)).astype(np.float32)


def reading(positions: NDArray[np.float64], slices: int, scan: Scan, start: float) -> Array:
    """Weights (positions, slices) of linear interpolation between native slices, positions in mm."""
    where = np.clip((positions - start) / scan.distance, 0, slices - 1)
    low = np.minimum(where.astype(int), max(slices - 2, 0))
    weight = np.zeros((len(positions), slices), np.float32)
    rows = np.arange(len(positions))
    weight[rows, low] = 1 - (where - low)
    if slices > 1:
        weight[rows, low + 1] = where - low
    return weight


def scanner_noise(rng: np.random.Generator, shape: tuple[int, int, int], pixel: float, scan: Scan) -> Array:
    """Unit-variance noise with a reconstruction kernel's spectrum: white, times (f + 0.03) exp(-(f / cutoff)^2), and
    times up to 1 + ``streaks`` within about 15 degrees of the direction that the streaks vary in.

    ``pixel`` in mm, f in cycles per mm; slices are independent.
    """
    _, ny, nx = shape
    white = rng.standard_normal(shape, dtype=np.float32)
    fy, fx = np.fft.fftfreq(ny, pixel)[:, None], np.fft.rfftfreq(nx, pixel)[None]
    f = np.hypot(fy, fx)
    gain = (f + 0.03) * np.exp(-((f / scan.cutoff) ** 2))
    if scan.streaks:
        angle = np.deg2rad(scan.towards)
        off = (fx * np.sin(angle) - fy * np.cos(angle)) / np.maximum(f, 1e-9)  # sine of the angle between
        gain *= 1 + scan.streaks * np.exp(-((off / STREAK_WIDTH) ** 2))
    gain = gain.astype(np.float32)
    noise = fft.irfft2(fft.rfft2(white, axes=(1, 2)) * gain, s=(ny, nx), axes=(1, 2)).astype(np.float32)
    return noise / max(float(noise.std()), 1e-6)


def acquire(
    fine: Array, per_slice: int, spacing: tuple[float, float, float], scan: Scan, rng: np.random.Generator
) -> Array:
    """The CT on the output grid. ``fine`` (z * per_slice, y, x) HU, ``spacing`` (z, y, x) of the output in mm."""
    nz = fine.shape[0] // per_slice
    step = spacing[0] / per_slice
    ct = ndimage.gaussian_filter1d(fine, scan.blur / spacing[1], 1)
    ct = ndimage.gaussian_filter1d(ct, scan.blur / spacing[2], 2)
    if scan.sharpness:
        ct += scan.sharpness * (ct - ndimage.gaussian_filter(ct, (0, 1.0 / spacing[1], 1.0 / spacing[2])))
    slope = float(np.tan(np.deg2rad(scan.tilt)))
    start = rng.uniform(0, scan.distance) if scan.noise else (per_slice - 1) / 2 * step
    slices = int(np.ceil(fine.shape[0] * step / scan.distance)) + 2
    grain = scanner_noise(rng, (slices, *fine.shape[1:]), spacing[1], scan) if scan.noise else None
    # thin series are averaged over the output's slices, thick ones are read where the output's slices are
    per_read = max(round(spacing[0] / scan.distance), 1)
    within = ((np.arange(per_read) + 0.5) / per_read - 0.5) * spacing[0]
    positions = (np.arange(nz)[:, None] * spacing[0] + (per_slice - 1) / 2 * step + within).ravel()
    out = np.empty((nz, *fine.shape[1:]), np.float32)
    for row in range(fine.shape[1]):
        first = float((start + row * spacing[1] * slope) % scan.distance)
        if row == 0 or slope:
            profile = slice_profiles(fine.shape[0], step, scan, first)
            read = reading(positions, len(profile), scan, first).reshape(nz, per_read, -1).mean(1)
            both = read @ profile
        out[:, row] = both @ ct[:, row]
        if grain is not None:
            level = scan.noise * np.clip((out[:, row] + 1000) / 1000, 0.3, 1.5)
            out[:, row] += level * (read @ grain[: read.shape[1], row])
    if scan.cupping or scan.bands:
        harden(out, spacing, scan.cupping, scan.bands, rng)
    return out + np.float32(scan.offset)


def clipped(ct: Array) -> Array:
    """Within the range that scanners store."""
    return np.clip(ct, LOWEST, HIGHEST).astype(np.float32)
