"""CTs that hold what no training's rendering does, each made of a plain rendered head."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from DiffMaCore.imaging.phantom import Phantom
from DiffMaCore.imaging.phantom import tissues as t
from DiffMaCore.imaging.phantom.ct_artefacts import streak

Array = NDArray[np.float32]
_LOW, _HIGH = -1024, 3071


def unseen(kind: str, head: Phantom, seed: int) -> sitk.Image:
    """The CT of a rendered head with one of :data:`KINDS` in it."""
    rng = np.random.default_rng([list(KINDS).index(kind), seed])
    ct = KINDS[kind](head.ct.copy(), head, rng)
    image = sitk.GetImageFromArray(np.clip(np.round(ct), _LOW, _HIGH).astype(np.int16))
    size = rng.uniform(0.6, 0.7) if kind == "a child's head" else 1.0
    image.SetSpacing([size * mm for mm in head.spacing])
    return image


def _clip(ct: Array, head: Phantom, rng: np.random.Generator) -> Array:
    ct[_ball(head, _within(head.brain, 3, rng), rng.uniform(3, 8))] = _HIGH
    streak(ct, head.body, head.spacing[::-1], rng)
    return ct


def _plate(ct: Array, head: Phantom, rng: np.random.Generator) -> Array:
    skull = np.isin(head.labels, (t.BONE.label, t.DIPLOE.label))
    upper = skull.copy()
    upper[: int(np.argwhere(head.brain)[:, 0].mean())] = False
    ct[_ball(head, _within(upper, 0, rng), rng.uniform(18, 35)) & skull] = _HIGH
    return ct


def _contrast(ct: Array, head: Phantom, rng: np.random.Generator) -> Array:
    """In arteries, veins and sinuses, thin vessels of the fissures, dura, plexus, mucosa, muscle and cortex."""
    lumen = rng.uniform(120, 250)
    more = np.zeros(t.COUNT, np.float32)
    more[[t.ARTERY.label, t.VEIN.label]] = lumen
    more[[t.DURA.label, t.CHOROID.label, t.MUCOSA.label]] = rng.uniform(40, 70)
    more[[t.MUSCLE.label, t.GLAND.label, t.RECTUS.label]] = rng.uniform(10, 20)
    more[[t.CORTEX.label, t.DEEP_GREY.label]] = 4
    added = more[head.labels]
    noises = [_smooth_noise(ct.shape, head, rng, 9) for _ in range(2)]
    tubes = np.hypot(*noises) < 0.16  # where two random surfaces meet there is a curve
    added[tubes & np.isin(head.labels, (t.CSF.label, t.CORTEX.label, t.DURA.label))] = lumen
    return ct + ndimage.gaussian_filter(added, (0.2, 0.5, 0.5))


def _dense_brain(ct: Array, head: Phantom, rng: np.random.Generator) -> Array:
    return ct + 32 * ndimage.gaussian_filter(head.brain.astype(np.float32), (0.2, 0.5, 0.5))


def _bone(factor: float) -> Callable[[Array, Phantom, np.random.Generator], Array]:
    return lambda ct, head, rng: np.where((ct > 100) & (ct < 2600), 100 + (ct - 100) * factor, ct)


def _cropped(ct: Array, head: Phantom, rng: np.random.Generator) -> Array:
    axis = int(rng.integers(1, 3))
    there = np.flatnonzero(head.body.any(tuple(a for a in range(3) if a != axis)))
    cut = int(rng.uniform(0.2, 0.4) * (there[-1] - there[0]))
    kept = slice(there[0] + cut, None) if rng.random() < 0.5 else slice(None, there[-1] - cut)
    return ct[(slice(None),) * axis + (kept,)]


def _narrow(ct: Array, head: Phantom, rng: np.random.Generator) -> Array:
    _, y0, x0 = np.argwhere(head.brain).mean(0)
    y, x = np.ogrid[: ct.shape[1], : ct.shape[2]]
    ct[:, np.hypot((y - y0) * head.spacing[1], (x - x0) * head.spacing[0]) > rng.uniform(55, 75)] = _LOW
    return ct


def _neck(ct: Array, head: Phantom, rng: np.random.Generator) -> Array:
    return ct[: max(4, int(np.argwhere(head.brain)[:, 0].min()))]


def _offset(ct: Array, head: Phantom, rng: np.random.Generator) -> Array:
    return ct + rng.choice([-100, 100])


def _noise(ct: Array, head: Phantom, rng: np.random.Generator) -> Array:
    return ct + rng.uniform(25, 45) * _smooth_noise(ct.shape, head, rng, 1, slices=0)


def _air(ct: Array, head: Phantom, rng: np.random.Generator) -> Array:
    ct[_ball(head, _within(head.brain, 0, rng), rng.uniform(14, 22)) & head.brain] = -950
    return ct


def _bleed(ct: Array, head: Phantom, rng: np.random.Generator) -> Array:
    blood = _ball(head, _within(head.brain, 4, rng), rng.uniform(38, 48)) & head.brain
    return np.where(ndimage.binary_erosion(blood), 68 + 0.1 * ct, ct)


KINDS: dict[str, Callable[[Array, Phantom, np.random.Generator], Array]] = {
    "a clip in the brain": _clip,
    "a metal plate": _plate,
    "contrast agent": _contrast,
    "a brain denser by 32 HU": _dense_brain,
    "bone of half the density": _bone(0.5),
    "bone of twice the density": _bone(2.0),
    "an image cut through the head": _cropped,
    "a narrow field of view": _narrow,
    "upside down": lambda ct, head, rng: ct[::-1],
    "front to back": lambda ct, head, rng: ct[:, ::-1],
    "a neck": _neck,
    "a child's head": lambda ct, head, rng: ct,
    "100 HU off": _offset,
    "noise of 25 to 45 HU": _noise,
    "air in the brain": _air,
    "a bleed over 150 ml": _bleed,
}


def _ball(head: Phantom, centre: NDArray[np.integer], mm: float) -> NDArray[np.bool_]:
    grid = np.ogrid[tuple(slice(n) for n in head.ct.shape)]
    return sum(((g - c) * s) ** 2 for g, c, s in zip(grid, centre, head.spacing[::-1], strict=True)) <= mm**2


def _within(mask: NDArray[np.bool_], depth: int, rng: np.random.Generator) -> NDArray[np.integer]:
    """A random voxel of a mask, so many voxels from its edge."""
    places = np.argwhere(ndimage.binary_erosion(mask, iterations=depth) if depth else mask)
    return places[rng.integers(len(places))]


def _smooth_noise(
    shape: tuple[int, ...], head: Phantom, rng: np.random.Generator, mm: float, slices: float = 1
) -> Array:
    """Of unit variance, smoothed by so many mm (across slices by that times ``slices``)."""
    sigma = [mm * each / s for each, s in zip((slices, 1, 1), head.spacing[::-1], strict=True)]
    noise = ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), sigma)
    return noise / noise.std()
