"""Brain: folded cortex, white matter, ventricles, deep nuclei, cerebellum, brain stem, falx and tentorium."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from DiffMaCore.phantom import tissues as t
from DiffMaCore.phantom.canvas import Canvas
from DiffMaCore.phantom.cranium import Surfaces
from DiffMaCore.phantom.fields import noise_at
from DiffMaCore.phantom.shapes import Array, capsule, chain, ellipsoid, mirrored


@dataclass(frozen=True)
class BrainState:
    """What age and chance decide once for the whole brain."""

    atrophy: float  # 0 (young, narrow sulci) to 1 (old, wide sulci)
    ventricles: float  # factor on the ventricles' radii
    white_disease: float  # periventricular white-matter change, 0 to 1


STEM = [
    (0.0, 10.0, 0.0, 13.0),
    (0.0, 11.0, -10.0, 14.5),
    (0.0, 8.0, -28.0, 15.5),
    (0.0, 22.0, -50.0, 9.0),
    (0.0, 36.0, -72.0, 7.0),
    (0.0, 42.0, -150.0, 6.3),
]
CALLOSUM = [
    (0.0, -30.0, -2.0, 3.0),
    (0.0, -39.0, 8.0, 5.5),
    (0.0, -26.0, 22.0, 4.5),
    (0.0, 0.0, 28.0, 4.5),
    (0.0, 24.0, 24.0, 4.5),
    (0.0, 37.0, 12.0, 6.5),
]


def _lateral_ventricle(v: float) -> list[list[tuple[float, float, float, float]]]:
    body = [
        (11.0, -43.0, 4.0, 3.0 * v),
        (10.0, -26.0, 12.0, 5.5 * v),
        (11.0, -4.0, 22.0, 5.5 * v),
        (15.0, 18.0, 22.0, 6.0 * v),
        (25.0, 35.0, 11.0, 7.5 * v),
        (27.0, 52.0, 6.0, 4.5 * v),
        (24.0, 66.0, 4.0, 2.0 * v),
    ]
    temporal = [(25.0, 35.0, 11.0, 6.0 * v), (33.0, 20.0, -10.0, 3.4 * v), (33.0, -2.0, -20.0, 2.4 * v)]
    return [body, temporal]


def paint_cavity(canvas: Canvas, s: Surfaces) -> None:
    """Fill the cranial cavity and the spinal canal with CSF inside a thin dura."""
    canvas.paint(s.cavity, t.DURA)
    canvas.paint(s.cavity + 0.7, t.CSF)


def _sulci(canvas: Canvas, inside: np.ndarray, depth: Array, state: BrainState) -> tuple[Array, Array]:
    """Distance (mm) to the nearest sulcus and its half width, for the voxels ``inside``."""
    x, y, z = (c[inside] for c in canvas.p)
    rng = canvas.rng
    radius = np.sqrt(x * x + y * y * 0.65 + z * z) + 1.0
    pull = (62.0 / radius) ** 0.75
    scale = rng.uniform(4.3, 5.6)
    # The two hemispheres fold independently: shift one of them far away in the noise.
    apart = np.where(x > 0, 400.0, 0.0).astype(np.float32)
    radial = noise_at(rng, (z * pull, y * pull, x * pull + apart), scale)
    free = noise_at(rng, (z, y, x + apart), scale)
    field = (0.85 * radial + 0.5 * free).astype(np.float32)
    slope = 0.20 * 5.8 / scale
    across = np.abs(field) / slope
    wander = canvas.noise(22.0)[inside]
    reach = (14.0 + 4.0 * wander) * np.where(z < -8, 0.8, 1.0)
    half = np.clip(0.05 + 0.9 * state.atrophy + 0.4 * canvas.noise(18.0)[inside], 0.05, 2.0)
    half = half * np.clip(1.35 - 0.5 * depth / 15.0, 0.4, 1.35)
    distance = np.hypot(np.clip(across, 0, None), np.clip(depth - reach, 0, None))
    return distance.astype(np.float32), half.astype(np.float32)


def _tentorium(canvas: Canvas) -> Array:
    """Height (mm) of the tent over the cerebellum."""
    x, y, _ = canvas.p
    ridge = 21.0 * np.exp(-((x / 26.0) ** 2)) * np.clip((72.0 - y) / 45.0, 0.0, 1.0)
    return -23.0 + ridge + 0.05 * (y - 45.0)


def paint_cerebrum(canvas: Canvas, s: Surfaces, state: BrainState) -> Array:
    """Both hemispheres; returns the signed distance of the tentorium (positive above it)."""
    x, y, z = canvas.p
    rng = canvas.rng
    tent = z - _tentorium(canvas)
    gap = 1.2 + 2.0 * state.atrophy * (1.0 + 0.8 * (y < -30)) + 0.5 * canvas.noise(24.0)
    hull = s.cavity + np.clip(gap, 0.8, None)
    behind = np.where((y > 10.0) & (s.cavity < 0), 1.5 - tent, -50.0)
    hull = np.maximum(hull, behind)
    hull = np.maximum(hull, -26.0 - z - 1.2 * np.clip(np.abs(x) - 14.0, 0.0, 40.0))
    stem = chain(canvas.p, STEM[1:4])
    hull = np.maximum(hull, np.where(z < -3.0, 1.8 + 1.5 * state.atrophy - stem, -50.0))
    hull = np.maximum(hull, -ellipsoid(canvas.p, (0.0, -14.0, -24.0), (15.0, 13.0, 11.0)))
    hull = np.maximum(hull, -ellipsoid(canvas.p, (0.0, 28.0, -2.0), (9.0, 4.0 + 3 * state.atrophy, 7.0)))

    middle = x - 1.5 * canvas.noise(40.0)
    callosum = chain(canvas.p, CALLOSUM)
    centre = np.maximum(np.abs(y) - 34.0, np.abs(z - 8.0) - 18.0)
    open_middle = np.minimum(callosum - 0.5, centre)  # negative where the hemispheres are joined
    split = np.where(open_middle > 0, np.abs(middle), 40.0)
    # Sylvian fissures: a lateral slit that opens on a sheet over the insula.
    sylvian = np.full_like(x, 40.0)
    for side in (1, -1):
        px, slope = x * side, rng.uniform(0.25, 0.45)
        level = rng.uniform(-6.0, 0.0) + slope * (y + 10.0) + 2.0 * canvas.noise(18.0)
        beyond = np.clip(37.0 - px, 0, None) + np.clip(np.abs(y + 2.0) - 28.0, 0, None)
        slit = np.hypot(z - level, beyond)
        insula = px - 39.0 + 0.006 * (y + 4.0) ** 2 + 1.8 * canvas.noise(12.0)
        insula = np.hypot(insula, np.clip(np.abs(y + 3.0) - 20.0, 0, None) + np.clip(np.abs(z - 5.0) - 12.0, 0, None))
        sylvian = np.minimum(sylvian, np.minimum(slit, insula))

    inside = hull < canvas.edge
    depth = np.clip(-hull, 0.0, None)
    sulcus = np.full_like(x, 40.0)
    width = np.full_like(x, 0.3)
    sulcus[inside], width[inside] = _sulci(canvas, inside, np.minimum(depth, split)[inside], state)
    fissure = 0.6 + 0.9 * state.atrophy
    slit_width = 0.5 + 1.6 * state.atrophy
    to_csf = np.minimum.reduce(
        [
            depth,
            np.clip(sulcus - width, 0, None),
            np.clip(split - fissure, 0, None),
            np.clip(sylvian - slit_width, 0, None),
        ]
    )
    cover = np.clip(0.5 - hull / canvas.edge, 0, 1)
    for distance, half in ((sulcus, width), (split, fissure), (sylvian, slit_width)):
        cover = cover * (1.0 - canvas.sheet_cover(distance, half))
    cortex = rng.uniform(3.2, 4.2) + 0.4 * canvas.noise(15.0)
    texture = canvas.noise(7.0)
    slow = canvas.noise(30.0)
    hu_shift = rng.normal(0.0, 1.0)
    canvas.blend(
        cover.astype(np.float32),
        t.GREY,
        hu=t.GREY.hu + hu_shift + 0.7 * texture + 0.7 * slow,
        mr=t.GREY.mr + 10.0 * texture,
    )
    white = cover * np.clip(0.5 - (cortex - to_csf) / canvas.edge, 0, 1)
    disease = np.clip(0.4 * slow + 0.3, 0, 1) * state.white_disease
    white_hu = t.WHITE.hu + hu_shift + 0.5 * texture + 0.6 * slow - 3.0 * disease
    canvas.blend(white.astype(np.float32), t.WHITE, hu=white_hu, mr=t.WHITE.mr + 10.0 * texture - 45.0 * disease)
    canvas.paint(
        np.maximum(callosum, np.abs(middle) - 9.0), t.WHITE, hu=t.WHITE.hu + hu_shift + 0.5, mr=t.WHITE.mr + 15.0
    )
    _paint_falx(canvas, s, middle, open_middle)
    return tent


def _paint_falx(canvas: Canvas, s: Surfaces, middle: Array, open_middle: Array) -> None:
    x, y, z = canvas.p
    rng = canvas.rng
    upright = (z > -4.0 - 0.15 * y) & (s.cavity < 1.0) & (open_middle > rng.uniform(5.0, 14.0))
    falx = canvas.sheet_cover(middle, rng.uniform(0.5, 0.9)) * upright
    canvas.blend(falx.astype(np.float32), t.DURA, hu=rng.uniform(46.0, 75.0), mr=330.0)
    # Sagittal and transverse sinuses: dense blood on CT, flow void or grey on T1.
    sagittal = np.maximum(capsule((x, y * 0, s.cavity), (0, 0, -2.5), (0, 0, -2.5), 3.6, 3.6), -y + 10.0)
    canvas.paint(np.maximum(sagittal, -8.0 - z), t.VESSEL, hu=rng.uniform(48.0, 62.0), mr=rng.uniform(180, 320))


def paint_hindbrain(canvas: Canvas, s: Surfaces, tent: Array, state: BrainState) -> None:
    """Cerebellum with folia, brain stem, cord, tentorium and fourth ventricle."""
    rng = canvas.rng
    region = canvas.region((0.0, 45.0, -36.0), 66.0)
    p = canvas.at(region)
    lobes = [ellipsoid(mirrored(p, k), (24.0, 49.0, -38.0), (27.5, 33.0, 23.5)) for k in (1, -1)]
    vermis = ellipsoid(p, (0.0, 46.0, -23.0), (17.0, 28.0, 23.0))
    hull = np.minimum(np.minimum(lobes[0], lobes[1]), vermis)
    hull = np.maximum(hull, s.cavity[region] + 1.5 + state.atrophy)
    hull = np.maximum(hull, tent[region] + 1.8)
    folia = noise_at(rng, (p[2].ravel() * 1.0, p[1].ravel() * 0.8, p[0].ravel() * 0.35), 3.4).reshape(p[0].shape)
    texture = canvas.noise(6.0, region)
    canvas.paint(hull, t.GREY, region, hu=t.GREY.hu - 1.0 + texture, mr=t.GREY.mr + 12.0 * texture)
    slits = np.clip(0.7 - np.abs(folia) / 0.35, 0, 1) * np.clip(0.5 - hull / canvas.edge, 0, 1)
    slits = slits * np.clip(1 + hull / 12.0, 0, 1) * (0.25 + 0.5 * state.atrophy)
    canvas.blend(slits.astype(np.float32), t.CSF, region)
    canvas.paint(hull + 6.0 - 2.0 * folia, t.WHITE, region, mr=t.WHITE.mr - 25.0 + 8.0 * texture)
    for k in (1, -1):
        peduncle = capsule(mirrored(p, k), (12.0, 16.0, -30.0), (22.0, 40.0, -36.0), 8.0, 9.0)
        canvas.paint(np.maximum(peduncle, s.cavity[region] + 2.0), t.WHITE, region, mr=t.WHITE.mr - 25.0)
    stem = np.maximum(chain(canvas.p, STEM), s.cavity + 1.5)
    canvas.paint(stem, t.WHITE, hu=31.0, mr=t.WHITE.mr - 45.0)
    v = 0.7 + 0.4 * state.ventricles
    canvas.paint(ellipsoid(p, (0.0, 28.5, -33.0), (6.5 * v, 4.5 * v, 9.5)), t.CSF, region)
    canvas.paint(capsule(p, (0.0, 21.0, -14.0), (0.0, 19.0, -4.0), 1.2, 1.2), t.CSF, region, opacity=0.7)
    # The tent itself lies only between the occipital lobes and the cerebellum.
    edge = (p[1] > 14.0) & (s.cavity[region] < 0.5)
    leaf = canvas.sheet_cover(tent[region] - 0.2, rng.uniform(0.5, 0.9)) * edge
    leaf = leaf * np.clip((np.hypot(p[0] * 0.9, p[1] - 16.0) - 18.0) / 4.0, 0, 1)
    canvas.blend(leaf.astype(np.float32), t.DURA, region)
    transverse = np.maximum(np.abs(tent[region]) - 4.0, np.abs(s.cavity[region] + 3.0) - 3.5)
    transverse = np.maximum(transverse, 30.0 - p[1])
    canvas.paint(transverse, t.VESSEL, region, hu=52.0, mr=240.0)


def paint_depths(canvas: Canvas, state: BrainState) -> None:
    """Ventricles, basal ganglia, thalami, septum, choroid plexus and pineal body."""
    rng = canvas.rng
    p = canvas.at(region := canvas.region((0.0, 5.0, 5.0), 78.0))
    texture = canvas.noise(7.0, region)

    def grey(distance: Array, mr: float, hu: float) -> None:
        canvas.paint(distance, t.DEEP_GREY, region, hu=hu + 0.7 * texture, mr=mr + 8.0 * texture)

    for side in (1, -1):
        q = mirrored(p, side)
        v = state.ventricles * rng.uniform(0.85, 1.15)
        chains = _lateral_ventricle(v)
        ventricle = np.minimum(chain(q, chains[0]), chain(q, chains[1])) + 0.4 * texture
        halo = rng.uniform(3.0, 7.0) * (0.4 + state.white_disease)
        rim = np.clip(1.0 - ventricle / halo, 0, 1) * np.clip(state.white_disease, 0, 1) * 0.8
        canvas.blend((rim * (ventricle < halo)).astype(np.float32), t.OEDEMA, region, mr=430.0)
        # Lentiform nucleus tilts outwards and back; the internal capsule stays white on its inner side.
        turned = (q[0] - 0.35 * (q[1] + 4.0), q[1], q[2])
        grey(ellipsoid(turned, (27.5, -8.0, 3.0), (5.0, 17.0, 10.5)), 515.0, 38.5)
        grey(ellipsoid(turned, (22.0, -3.0, 1.0), (4.0, 9.0, 7.0)), 575.0, 37.5)
        grey(ellipsoid(q, (10.5, 8.0, 7.0), (8.0, 14.5, 9.0)), 545.0, 36.0)
        canvas.paint(ventricle, t.CSF, region)
        out = 1.5 * (v - 1.0) * 4.0
        grey(ellipsoid(q, (15.0 + out, -25.0, 8.0), (5.5, 11.0, 9.0)), 505.0, 38.5)
        grey(capsule(q, (17.0 + out, -16.0, 17.0), (21.0 + out, 14.0, 23.0), 3.6, 2.2), 510.0, 38.0)
        if rng.random() < 0.75:  # choroid plexus, often calcified in the atrium
            spot = (24.0 + rng.normal(0, 1.5), 37.0 + rng.normal(0, 2.0), 10.0 + rng.normal(0, 2.0))
            plexus = ellipsoid(q, spot, (2.4 + rng.uniform(0, 1.5), 3.5 + rng.uniform(0, 2.5), 4.0))
            hard = rng.random() < 0.6
            canvas.paint(
                plexus,
                t.CALCIUM if hard else t.VESSEL,
                region,
                hu=rng.uniform(120, 420) if hard else 45.0,
                mr=230.0 if hard else 330.0,
            )
    wide = 1.0 + 1.6 * (state.ventricles - 0.6)
    third = np.maximum(np.abs(p[0]) - wide, np.hypot(p[1] + 1.0, (p[2] - 1.0) * 1.3) - 15.0)
    canvas.paint(third, t.CSF, region)
    commissure = ellipsoid(p, (0.0, 4.0, 4.0), (5.0, 3.0, 3.0))
    canvas.paint(commissure, t.DEEP_GREY, region, opacity=0.8)
    septum = canvas.sheet_cover(p[0] + 0.5 * texture, 0.6) * (np.abs(p[1] + 18.0) < 24) * (np.abs(p[2] - 15.0) < 8)
    canvas.blend(septum.astype(np.float32), t.WHITE, region, mr=560.0)
    fornix = capsule(p, (0.0, -16.0, 10.0), (0.0, 12.0, 19.0), 2.2, 2.6)
    canvas.paint(fornix, t.WHITE, region)
    if rng.random() < 0.8:
        pineal = ellipsoid(p, (0.0, 26.0, 2.0), (3.2, 4.0, 3.0))
        canvas.paint(pineal, t.CALCIUM, region, hu=rng.uniform(50, 260), mr=rng.uniform(250, 420))
    vessels = [(0.0, -9.0, -26.0, 2.0), (10.0, -13.0, -21.0, 2.0), (26.0, -14.0, -16.0, 1.6)]
    basilar = capsule(p, (0.0, -9.0, -30.0), (0.0, -8.0, -14.0), 1.8, 1.8)
    canvas.paint(basilar, t.VESSEL, region)
    for side in (1, -1):
        canvas.paint(chain(mirrored(p, side), vessels), t.VESSEL, region)


def paint_brain(canvas: Canvas, s: Surfaces) -> BrainState:
    """Everything inside the skull but the lesions."""
    rng = canvas.rng
    atrophy = float(rng.beta(1.3, 1.8))
    state = BrainState(
        atrophy=atrophy,
        ventricles=float(0.7 + 0.8 * atrophy + rng.normal(0.0, 0.12)),
        white_disease=float(np.clip(atrophy * rng.uniform(-0.4, 1.3), 0.0, 1.0)),
    )
    paint_cavity(canvas, s)
    tent = paint_cerebrum(canvas, s, state)
    paint_depths(canvas, state)
    paint_hindbrain(canvas, s, tent, state)
    return state
