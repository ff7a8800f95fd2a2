"""Head surface, scalp and skull: everything that is laid round the cranial cavity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from DiffMaCore.phantom import tissues as t
from DiffMaCore.phantom.canvas import Canvas
from DiffMaCore.phantom.shapes import Array, capsule, ellipsoid, mirrored, smooth_union


@dataclass(frozen=True)
class Surfaces:
    """Signed distances in mm over the whole canvas: cranial cavity, outer skull, head."""

    cavity: Array
    skull: Array
    head: Array
    temporalis: Array  # thickness of the temporal muscle, mm


def cavity_distance(canvas: Canvas) -> Array:
    """Inner table of the skull: vault, two middle fossae and the posterior fossa."""
    x, y, z = canvas.p
    rng = canvas.rng
    width, length = rng.uniform(66.0, 76.0), rng.uniform(83.0, 90.0)
    power = rng.uniform(2.1, 2.5)
    rz = np.where(z > 0, rng.uniform(72.0, 80.0), 48.0).astype(np.float32)
    # Narrower in front than behind the ears, as seen from above.
    half = width * (1.0 - 0.10 * np.clip(-y / length, 0.0, 1.0) ** 1.5 + 0.03 * np.clip(y / length, -1, 1))
    level = (np.abs(x / half) ** power + np.abs(y / length) ** power + np.abs(z / rz) ** 2.2) ** (1 / power)
    gradient = 1.0 / np.where(z > 0, 70.0, 58.0)
    floor = -24.0 - 9.0 * np.clip((y + 45.0) / 25.0, 0.0, 1.0)
    vault = np.maximum((level - 1.0) / gradient, floor - z)
    fossae = [ellipsoid(mirrored(canvas.p, s), (37.0, -20.0, -22.0), (25.0, 29.0, 21.0)) for s in (1, -1)]
    back = ellipsoid(canvas.p, (0.0, 49.0, -32.0), (rng.uniform(52.0, 58.0), 41.0, rng.uniform(33.0, 38.0)))
    canal = capsule(canvas.p, (0.0, 36.0, -60.0), (0.0, 42.0, -150.0), 13.5, 10.5)
    cavity = smooth_union(smooth_union(vault, fossae[0], 6.0), fossae[1], 6.0)
    cavity = smooth_union(cavity, back, 8.0)
    # Petrous ridges stand between the middle and the posterior fossae.
    return smooth_union(cavity, canal, 6.0).astype(np.float32)


def surfaces(canvas: Canvas) -> Surfaces:
    """Build the three nested surfaces; thickness of skull and scalp vary smoothly over the head."""
    x, y, z = canvas.p
    rng = canvas.rng
    cavity = cavity_distance(canvas)
    mean = rng.uniform(4.5, 7.5)
    frontal = rng.uniform(0.0, 3.5) * np.exp(-(((y + 85) / 25) ** 2) - ((z + 2) / 30) ** 2)
    occipital = rng.uniform(1.0, 5.0) * np.exp(-(((y - 88) / 18) ** 2) - (x / 25) ** 2 - ((z + 18) / 22) ** 2)
    temporal = -0.35 * mean * np.exp(-(((np.abs(x) - 66) / 25) ** 2) - ((y + 15) / 28) ** 2 - ((z + 10) / 25) ** 2)
    thickness = mean + frontal + occipital + temporal + 0.7 * canvas.noise(28.0)
    skull = cavity - np.clip(thickness, 2.0, None)
    muscle = rng.uniform(5.0, 12.0) * np.exp(-(((y + 28) / 30) ** 2) - ((z + 14) / 32) ** 2)
    muscle = muscle * np.clip((np.abs(x) - 35) / 20, 0, 1)
    nape = rng.uniform(4.0, 12.0) * np.exp(-(((y - 88) / 35) ** 2) - ((z + 48) / 26) ** 2)
    scalp = rng.uniform(3.8, 7.0) + 0.8 * canvas.noise(35.0) + nape
    vault = skull - np.clip(scalp, 2.5, None) - muscle
    # Below the skull base the cavity says nothing about the skin: face and neck have their own forms.
    face = ellipsoid(canvas.p, (0.0, -36.0, -62.0), (rng.uniform(64, 71), rng.uniform(59, 65), 70.0))
    jaw = ellipsoid(canvas.p, (0.0, -44.0, -104.0), (rng.uniform(50, 60), rng.uniform(48, 54), 34.0))
    neck = capsule(canvas.p, (0.0, 34.0, -30.0), (0.0, 26.0, -220.0), rng.uniform(56, 66), rng.uniform(52, 62))
    nose = capsule(canvas.p, (0.0, -88.0, -28.0), (0.0, rng.uniform(-118, -110), -66.0), 8.0, 10.5)
    head = smooth_union(vault, smooth_union(face, jaw, 14.0), 16.0)
    head = smooth_union(smooth_union(head, neck, 22.0), nose, 12.0)
    return Surfaces(cavity, skull.astype(np.float32), head.astype(np.float32), muscle.astype(np.float32))


def paint_soft_tissue(canvas: Canvas, s: Surfaces) -> None:
    """Skin, subcutaneous fat, and the muscles outside the skull, in bundles parted by fat."""
    _, y, z = canvas.p
    rng = canvas.rng
    texture = canvas.noise((14.0, 6.0, 6.0), band=True)
    canvas.paint(s.head, t.SKIN)
    canvas.paint(s.head + rng.uniform(1.6, 2.6), t.FAT, hu=-98.0 + 7.0 * texture, mr=885.0 + 40.0 * texture)
    # Galea and pericranium: a grey line between the fat and the bone.
    canvas.paint(s.skull - rng.uniform(0.8, 1.8), t.SKIN, opacity=0.8)
    fat = rng.uniform(3.0, 7.0)
    deep = s.head + fat + 1.2 * canvas.noise(25.0)
    low = z + 40.0 + 0.25 * np.abs(y) - 25.0 * np.exp(-(((y - 85) / 40) ** 2))
    temporal = np.maximum(s.skull + 1.5 - s.temporalis, np.maximum(s.head + 2.5, 1.0 - s.temporalis))
    bundles = canvas.noise((30.0, 12.0, 13.0), band=True)
    front = 14.0 * canvas.noise(20.0)
    fibre = 3.0 * texture
    canvas.paint(temporal, t.MUSCLE, hu=t.MUSCLE.hu + fibre, mr=t.MUSCLE.mr - 6.0 * texture)
    neck = np.maximum(np.maximum(deep, low), 0.4 * (-14.0 - y + front))
    septa = rng.uniform(0.02, 0.16) + 0.10 * front / 14.0
    neck = np.maximum(neck, (septa - np.abs(bundles)) * 12.0)
    canvas.paint(neck, t.MUSCLE, hu=t.MUSCLE.hu + fibre, mr=t.MUSCLE.mr - 8.0 * texture)


def paint_skull(canvas: Canvas, s: Surfaces) -> None:
    """Cortical tables with diploe between them; the base below is thinner and rougher."""
    x, y, z = canvas.p
    rng = canvas.rng
    bottom = -58.0 - 0.18 * y + 4.0 * canvas.noise(14.0)
    shell = np.maximum(s.skull, bottom - z)
    bone = rng.uniform(950.0, 1350.0)
    canvas.paint(shell, t.BONE, hu=bone + 60.0 * canvas.noise(12.0))
    table = rng.uniform(1.5, 2.2)
    spongy = np.maximum(np.maximum(s.skull + table, table * 0.9 - s.cavity), bottom - z + 2.0)
    grain = canvas.noise(5.0)
    fill = rng.uniform(400.0, 900.0)
    marrow = rng.uniform(330.0, 560.0)
    canvas.paint(spongy, t.MARROW, hu=fill + 130.0 * grain, mr=marrow + 70.0 * canvas.noise(9.0))
    if rng.random() < 0.7:  # sutures: thin dark seams in the vault
        coronal = canvas.sheet_cover(y + 22.0 + 2.0 * grain + 0.3 * z, 0.5)
        lambdoid = canvas.sheet_cover(y - 70.0 + 0.5 * np.abs(x) - 0.25 * z + 2.0 * grain, 0.5)
        inside = np.clip(0.5 - np.maximum(s.skull, -s.cavity) / canvas.edge, 0, 1) * (z > 5)
        canvas.blend(np.maximum(coronal, lambdoid) * inside * 0.7, t.MUCOSA)


def paint_temporal_bones(canvas: Canvas) -> None:
    """Petrous pyramids, mastoid air cells, ear canals and internal meatus, one side after the other."""
    rng = canvas.rng
    for side in (1, -1):
        middle = (42.0 * side, 8.0, -42.0)
        region = canvas.region(middle, 48.0)
        p = mirrored(canvas.at(region), side)
        cells = canvas.noise(2.6, region, band=False)
        petrous = capsule(p, (56.0, 14.0, -42.0), (14.0, -6.0, -37.0), 11.0, 6.0)
        mastoid = ellipsoid(p, (55.0, 24.0, -54.0), (13.0, 15.0, 21.0))
        bone = smooth_union(petrous, mastoid, 6.0)
        canvas.paint(bone, t.DENSE_BONE, region, hu=rng.uniform(750, 1150) + 160.0 * cells, mr=110.0)
        canvas.paint(ellipsoid(p, (34.0, 3.0, -40.0), (9.0, 6.0, 6.0)), t.DENSE_BONE, region)
        pneumatised = rng.uniform(0.35, 1.0)
        air = np.maximum(ellipsoid(p, (55.0, 24.0, -54.0), (10.5, 12.0, 17.0 * pneumatised)), (cells - 0.25) * 1.6)
        canvas.paint(air, t.AIR, region, hu=-820.0)
        canvas.paint(capsule(p, (84.0, 6.0, -44.0), (46.0, 5.0, -43.0), 3.6, 2.6), t.AIR, region)
        canvas.paint(ellipsoid(p, (45.0, 4.0, -43.0), (4.0, 4.0, 5.0)), t.AIR, region, hu=-900.0)
        canvas.paint(capsule(p, (28.0, 4.0, -39.0), (16.0, 8.0, -39.0), 2.3, 2.8), t.CSF, region)


def paint_ears(canvas: Canvas, s: Surfaces) -> None:
    """Auricles: curled shells of skin and cartilage standing off the head."""
    rng = canvas.rng
    for side in (1, -1):
        region = canvas.region((84.0 * side, 16.0, -38.0), 36.0)
        p = mirrored(canvas.at(region), side)
        tilt = rng.uniform(0.15, 0.5)
        q = (p[0] - tilt * (p[1] - 8.0), p[1], p[2])
        lift = rng.uniform(80.0, 86.0)
        shell = np.abs(ellipsoid(q, (lift, 17.0, -36.0), (7.0, 15.0, 30.0))) - 1.3
        fold = np.abs(ellipsoid(q, (lift - 2.0, 14.0, -38.0), (5.0, 8.0, 16.0))) - 1.0
        pinna = np.minimum(shell, fold)
        outside = np.maximum(pinna, 0.5 - s.head[region])
        outside = np.maximum(outside, 4.0 - p[1])
        canvas.paint(outside, t.SKIN, region, hu=35.0, mr=480.0)
