"""One call renders a head and scans it: paired CT, T1, T2 and FLAIR of the same tissues."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from DiffMaCore.errors import InputError
from DiffMaCore.imaging.phantom import ct_artefacts, ct_physics, kernel, lookup, pathology
from DiffMaCore.imaging.phantom import tissues as t
from DiffMaCore.imaging.phantom.detail import add_detail
from DiffMaCore.imaging.phantom.heads import Head
from DiffMaCore.imaging.phantom.signal import CONTRASTS, signal_table
from DiffMaCore.imaging.phantom.warp import NODE_MM, random_warp

if TYPE_CHECKING:
    import SimpleITK as sitk

FINE_MM = 1.6  # voxels are sampled at least this densely


@dataclass(frozen=True)
class RenderOptions:
    """What a rendering may vary; the defaults are of what validates, a training's are harder (``training.fresh``).

    ``lesions``: share of volumes with pathology (0 for none). ``artefacts``: scanner noise, slice thickness, tilt,
    headrest, metal, cut field. ``noise`` of the scanner, HU in water, ``blur`` of its kernel, mm, and ``cutoff`` of the
    noise's spectrum, cycles per mm: least and most. ``streaks``: share of volumes whose noise has a direction;
    ``pictures``: of those that were pictures in a brain window.
    ``anatomy``: variation of tissue values, fat, sulci and ventricles. ``grey_white``: by how many HU the cortex is
    denser than white matter, mean and spread. ``dense``: share of volumes whose brain and its fluid are denser by 3 to
    26 HU, as after death. ``tilt`` degrees, ``scale`` share, ``elastic`` and ``shift`` mm: strengths of the
    deformation (``warp.random_warp``).
    """

    lesions: float = 0.35
    artefacts: bool = True
    noise: tuple[float, float] = (0.8, 8.0)
    blur: tuple[float, float] = (0.3, 1.0)
    cutoff: tuple[float, float] = (0.18, 0.40)
    streaks: float = 0.0
    pictures: float = 0.0
    anatomy: bool = True
    grey_white: tuple[float, float] = (6.5, 1.0)
    dense: float = 0.0
    tilt: float = 15.0
    scale: float = 0.2
    elastic: float = 4.0
    shift: float = 10.0
    mirror: bool = True

    @classmethod
    def plain(cls) -> RenderOptions:
        """The head as it is, scanned perfectly."""
        return cls(0.0, False, anatomy=False, tilt=0.0, scale=0.0, elastic=0.0, shift=0.0, mirror=False)


@dataclass(frozen=True)
class Phantom:
    """A rendered head: arrays (z, y, x), z to the vertex, y to the back, x to the patient's left.

    ``ct`` float32 in HU; ``mr`` contrast to float32 intensity (0 to about 1000, fixed scale, no noise); ``labels``
    uint8, the tissue that fills most of the voxel (``phantom.tissues``); ``body``: the head with the air inside it,
    without table and headrest; ``brain``; ``spacing`` (x, y, z) in mm; ``head``: its name.
    """

    ct: NDArray[np.float32]
    mr: dict[str, NDArray[np.float32]]
    labels: NDArray[np.uint8]
    body: NDArray[np.bool_]
    brain: NDArray[np.bool_]
    spacing: tuple[float, float, float]
    head: str

    def _image(self, array: NDArray[np.generic]) -> sitk.Image:
        import SimpleITK as sitk

        image = sitk.GetImageFromArray(array)
        image.SetSpacing(self.spacing)
        image.SetOrigin([-(n - 1) / 2 * s for n, s in zip(array.shape[::-1], self.spacing, strict=True)])
        return image

    def ct_image(self) -> sitk.Image:
        """The CT as an axial image in LPS patient coordinates, 16-bit HU."""
        return self._image(np.round(self.ct).astype(np.int16))

    def mr_image(self, contrast: str = "t1") -> sitk.Image:
        """The MR of a contrast on the same grid; raises InputError where it was not rendered."""
        if contrast not in self.mr:
            raise InputError(f"this head was rendered with {', '.join(self.mr)}, not {contrast}")
        return self._image(self.mr[contrast])


def render(
    head: Head,
    seed: int,
    spacing: tuple[float, float, float] = (1.4, 1.4, 3.0),
    size: tuple[int, int, int | None] = (160, 160, None),
    *,
    contrasts: tuple[str, ...] = CONTRASTS,
    options: RenderOptions = RenderOptions(),
) -> Phantom:
    """Render a head: the same head, seed and grid give the same arrays.

    ``spacing`` (x, y, z) in mm; ``size`` (x, y, z) in voxels, z None for the whole head. Raises InputError for an
    empty grid or an unknown contrast.
    """
    if min(n for n in size if n is not None) < 2 or min(spacing) <= 0:
        raise InputError(
            f"a phantom of {size} voxels of {spacing} mm is empty; give at least 2 voxels a side and positive spacing"
        )
    unknown = [name for name in contrasts if name not in CONTRASTS]
    if unknown:
        raise InputError(f"no contrast {unknown[0]}; there are {', '.join(CONTRASTS)}")
    rng = np.random.default_rng((0x4EAD, int(seed)))
    step = np.array(spacing[::-1], np.float64)
    if size[2] is None:
        size = (size[0], size[1], int(np.ceil((head.labels.shape[0] * (1 + 0.5 * options.scale)) / spacing[2])))
    shape = (int(size[2]), int(size[1]), int(size[0]))  # type: ignore[arg-type]
    per_voxel = np.maximum(np.ceil(step / FINE_MM - 1e-6), [1, 2, 2]).astype(int)
    extent = tuple(float(n * s) for n, s in zip(shape, step, strict=True))
    warp = random_warp(
        rng,
        (extent[0], extent[1], extent[2]),
        np.asarray(head.centre, np.float64),
        head.length,
        tilt=options.tilt,
        scale=options.scale,
        elastic=options.elastic,
        shift=options.shift,
        mirror=options.mirror,
    )
    tiles = lookup.noise_tiles(rng)
    objects = pathology.draw(rng, head, options.lesions, options.artefacts)
    scene = kernel.Scene(
        head.labels,
        head.maps,
        head.eyes,
        lookup.occupied(head.labels),
        _parameters(rng, head, options.anatomy, objects.leukoaraiosis),
        *tiles,
        objects.array(),
        pathology.replaceable(),
    )
    hu, texture, grain = _ct_values(rng, options)
    look = kernel.Look(hu, texture, signal_table(contrasts), grain)
    fine = np.empty((shape[0] * per_voxel[0], *shape[1:]), np.float32)
    mr = np.zeros((len(contrasts), *shape), np.float32)
    labels, inside = np.empty(shape, np.uint8), np.empty(shape, np.float32)
    out = (fine, mr, labels, inside)
    kernel.sample(scene, look, warp.matrix, warp.offset, warp.field, NODE_MM, step, per_voxel, out)
    if head.detail.size and "t1" in contrasts:
        add_detail(mr[contrasts.index("t1")], labels, head.detail, warp, step)
    body = (inside >= 0.5) & (labels != t.UNSCANNED.label)
    cut = labels == t.UNSCANNED.label
    ct = _scan(rng, fine, body, int(per_voxel[0]), (step[0], step[1], step[2]), options)
    if options.artefacts:
        cut |= ct_artefacts.outside_scan(shape, (step[0], step[1], step[2]), rng)
    ct[cut] = rng.choice([ct_physics.LOWEST, ct_artefacts.AIR])
    np.clip(mr, 0, 1000, out=mr)
    mr[:, cut] = 0
    labels[cut], body[cut] = t.OUTSIDE.label, False
    brain = np.isin(labels, t.BRAIN) & body
    return Phantom(ct, dict(zip(contrasts, mr, strict=True)), labels, body, brain, spacing, head.name)


def _scan(
    rng: np.random.Generator,
    fine: NDArray[np.float32],
    body: NDArray[np.bool_],
    per_slice: int,
    step: tuple[float, float, float],
    options: RenderOptions,
) -> NDArray[np.float32]:
    """The CT of the rendered CT numbers, perfect or with what scanners do."""
    if not options.artefacts:
        scan = ct_physics.Scan(thickness=step[0], distance=step[0])
        return ct_physics.clipped(ct_physics.acquire(fine, per_slice, step, scan, rng))
    scan = ct_physics.draw_scan(rng, step[0], options.noise, options.blur, options.cutoff, options.streaks)
    if rng.random() < 0.75:
        ct_artefacts.add_headrest(fine, step, rng)
    ct = ct_physics.acquire(fine, per_slice, step, scan, rng)
    ct_artefacts.streak(ct, body, step, rng)
    if rng.random() < 0.06:
        ct_artefacts.move(ct, step, rng)
    if options.pictures and rng.random() < options.pictures:
        ct_artefacts.show_in_window(ct, body, rng)
    return ct_physics.clipped(ct)


def _ct_values(rng: np.random.Generator, options: RenderOptions) -> tuple[NDArray[np.float32], ...]:
    """CT number, its texture and the MR's of every tissue; numbers drawn for this volume."""
    hu, texture, grain = (np.zeros(t.COUNT, np.float32) for _ in range(3))
    common, vary = rng.normal(), options.anatomy
    for tissue in t.TISSUES.values():
        drawn = tissue.hu_sd * np.clip(0.5 * common + 0.85 * rng.normal(), -2.5, 2.5) if vary else 0.0
        hu[tissue.label], texture[tissue.label], grain[tissue.label] = (
            tissue.hu + drawn,
            tissue.texture,
            tissue.mr_texture,
        )
    white = hu[t.WHITE.label]
    mean, sd = options.grey_white
    contrast = mean + sd * np.clip(rng.normal(), -2.5, 2.5) if vary else mean
    hu[t.CORTEX.label] = white + contrast
    hu[t.DEEP_GREY.label] = white + contrast + 0.3
    if options.dense and rng.random() < options.dense:
        hu[[*t.BRAIN, t.CSF.label]] += np.float32(rng.uniform(3, 26))
    return hu, texture, grain


def _parameters(rng: np.random.Generator, head: Head, vary: bool, leukoaraiosis: float) -> NDArray[np.float32]:
    """Thicknesses and shares that the kernel splits the labels by."""
    p = np.zeros(kernel.PARAMETERS, np.float32)
    draw = rng.uniform if vary else lambda low, high: (low + high) / 2
    p[kernel.SKIN_MM] = draw(1.3, 2.8)
    p[kernel.SCALP_FAT] = draw(0.6, 4.2)
    p[kernel.FACE_FAT] = 1.5 + 6.5 * draw(0.0, 1.0) ** 1.5
    p[kernel.FIBRES] = draw(0.3, 2.0)
    p[kernel.SHEETS] = draw(0.03, 0.11)
    p[kernel.FAT_SHARE] = draw(-0.5, 0.5)
    p[kernel.GROW] = draw(-0.4, 2.2)
    p[kernel.LEUKO] = leukoaraiosis
    p[kernel.MUCOSA_MM] = rng.uniform(0.5, 6) if rng.random() < 0.3 and vary else 0.0
    p[kernel.VENTRICLES] = draw(0, 1) ** 2 * 4 if rng.random() < 0.35 and vary else 0.0
    p[kernel.DURA_MM] = draw(0.7, 1.3)
    p[kernel.FALX_MM] = draw(0.8, 1.5)
    p[kernel.TENT_MM] = draw(0.8, 1.5)
    p[kernel.CELLS] = draw(-0.5, 0.5)
    p[kernel.BASE], p[kernel.MIDDLE] = head.base, head.centre[2]
    stem = head.centre[1]
    p[kernel.STEM_Y] = stem
    teeth = np.nan_to_num(head.landmarks[3], nan=-1000.0)
    p[kernel.TEETH_Z], p[kernel.TEETH_Y] = teeth[0], teeth[1]
    return p
