"""Face: orbits and eyes, paranasal sinuses, nasal cavity, jaws and teeth, pharynx, chewing muscles."""

from __future__ import annotations

import numpy as np

from DiffMaCore.phantom import tissues as t
from DiffMaCore.phantom.canvas import Canvas
from DiffMaCore.phantom.cranium import Surfaces
from DiffMaCore.phantom.shapes import Array, Coordinates, capsule, chain, ellipsoid, mirrored


def paint_bones(canvas: Canvas, s: Surfaces) -> None:
    """Maxilla, zygoma and arch, pterygoid plates, clivus and the frontal bone in front of its sinus."""
    region = canvas.region((0.0, -55.0, -55.0), 72.0)
    p = canvas.at(region)
    grain = canvas.noise(6.0, region)
    under_skin = s.head[region] + 4.0

    def bone(distance: Array, hu: float = 900.0) -> None:
        canvas.paint(np.maximum(distance, under_skin), t.BONE, region, hu=hu + 130.0 * grain, mr=90.0)

    clivus = capsule(p, (0.0, -14.0, -40.0), (0.0, 22.0, -64.0), 7.5, 5.0)
    canvas.paint(clivus, t.MARROW, region, hu=560.0 + 150.0 * grain, mr=420.0)
    canvas.paint(np.abs(clivus + 0.5) - 0.9, t.BONE, region)
    for side in (1, -1):
        q = mirrored(p, side)
        for points in (
            [(20.0, -88.0, -50.0, 5.0), (30.0, -84.0, -80.0, 5.5)],  # front wall of the maxilla
            [
                (37.0, -84.0, -52.0, 5.0),
                (50.0, -72.0, -50.0, 5.5),
                (52.0, -70.0, -34.0, 4.5),
                (50.0, -70.0, -16.0, 5.5),
            ],  # zygoma and lateral orbital rim
            [(52.0, -66.0, -52.0, 4.0), (63.0, -42.0, -51.0, 2.6), (64.0, -18.0, -47.0, 3.2)],  # arch
        ):
            bone(chain(q, points))
        bone(capsule(q, (12.0, -36.0, -50.0), (14.0, -36.0, -82.0), 2.2, 1.8), 700.0)
        bone(capsule(q, (45.0, -44.0, -38.0), (28.0, -36.0, -34.0), 4.0, 4.0), 800.0)
    brow = ellipsoid(p, (0.0, -86.0, -14.0), (40.0, 9.0, 10.0))
    bone(np.maximum(brow, s.skull[region] - 5.0), 950.0)


def paint_sinuses(canvas: Canvas, s: Surfaces) -> None:
    """Air spaces with thin walls: maxillary, sphenoid, frontal, ethmoid, and the nose with its turbinates."""
    rng = canvas.rng
    region = canvas.region((0.0, -62.0, -54.0), 62.0)
    p = canvas.at(region)
    grain = canvas.noise(7.0, region)
    skin = s.head[region] + 3.0

    def cavity(distance: Array, wall: float, lining: float) -> None:
        canvas.paint(np.maximum(distance - wall, skin), t.BONE, region, hu=620.0, mr=100.0)
        canvas.paint(distance, t.MUCOSA, region, mr=300.0)
        canvas.paint(distance + lining, t.AIR, region)

    cells = canvas.noise(4.0, region, band=True)
    ethmoid = np.maximum(ellipsoid(p, (0.0, -56.0, -37.0), (13.5, 27.0, 12.0)), p[2] + 25.0)
    canvas.paint(ethmoid, t.MUCOSA, region, hu=rng.uniform(40.0, 220.0), mr=260.0)
    canvas.paint(np.maximum(ethmoid + 1.0, (0.22 - np.abs(cells)) * 6.0), t.AIR, region)

    nose = np.maximum(np.abs(p[0]) - 12.0 + 0.10 * np.clip(p[2] + 80.0, 0, 50.0), np.abs(p[1] + 66.0) - 34.0)
    nose = np.maximum(nose, np.maximum(np.abs(p[2] + 62.0) - 18.0, s.head[region] + 5.0))
    bridge = capsule(p, (0.0, -92.0, -34.0), (0.0, -103.0, -52.0), 4.0, 3.0)
    canvas.paint(np.maximum(bridge, skin - 1.0), t.BONE, region, hu=700.0, mr=110.0)
    vestibule = capsule(p, (0.0, -98.0, -64.0), (0.0, -108.0, -74.0), 7.0, 5.0)
    canvas.paint(nose - 1.5, t.BONE, region, hu=450.0, mr=150.0)
    canvas.paint(np.minimum(nose, vestibule), t.AIR, region)
    bend = rng.normal(0.0, 1.5)
    septum = canvas.sheet_cover(p[0] + bend * np.sin((p[1] + 65.0) / 14.0), 1.1)
    septum = septum * np.clip(0.5 - np.minimum(nose, vestibule) / canvas.edge, 0, 1)
    canvas.blend(septum.astype(np.float32), t.MUCOSA, region, hu=110.0, mr=300.0)
    for side in (1, -1):
        q = mirrored(p, side)
        swollen = rng.uniform(0.7, 1.25)
        for centre, radii in (((7.0, -64.0, -71.0), (3.4, 24.0, 5.5)), ((6.5, -60.0, -58.0), (2.6, 20.0, 5.0))):
            r = (radii[0] * swollen, radii[1], radii[2] * swollen)
            canvas.paint(ellipsoid(q, centre, r) + 0.5 * grain, t.MUCOSA, region, mr=420.0)
        f = rng.uniform(0.75, 1.1)
        lining = rng.choice([0.2, 0.6, 3.0], p=[0.6, 0.3, 0.1])
        maxillary = ellipsoid(q, (29.0, -63.0, -67.0), (13.0 * f, 17.0 * f, 15.0 * f)) + 0.8 * grain
        cavity(maxillary, 1.5, float(lining))
        if rng.random() < 0.12:  # fluid level: the patient lies on the back
            canvas.paint(np.maximum(maxillary, -58.0 - p[1]), t.MUCOSA, region, hu=22.0, mr=280.0)
        if rng.random() < 0.75:
            f = rng.uniform(0.5, 1.1)
            frontal = ellipsoid(q, (10.0, -88.5, -8.0), (11.0 * f, 4.6, 13.0 * f)) + 0.8 * grain
            cavity(np.maximum(frontal, s.skull[region] + 1.5), 1.2, 0.3)
    f = rng.uniform(0.6, 1.1)
    sphenoid = ellipsoid(p, (0.0, -30.0, -45.0), (15.0 * f, 13.0 * f, 10.0 * f)) + 0.7 * grain
    cavity(sphenoid, 1.4, 0.4)
    wall = canvas.sheet_cover(p[0] - 3.0 * grain, 0.6) * np.clip(0.5 - sphenoid / canvas.edge, 0, 1)
    canvas.blend(wall.astype(np.float32), t.BONE, region, hu=500.0)


def _rectus(q: Coordinates, dx: float, dz: float) -> Array:
    return capsule(q, (31.0 + dx, -70.0, -38.0 + dz), (15.0, -34.0, -35.0), 2.2, 1.8)


def paint_orbits(canvas: Canvas, s: Surfaces) -> None:
    """Bony cone, orbital fat, globe with lens, optic nerve and the straight eye muscles of each side."""
    rng = canvas.rng
    gaze = rng.normal(0.0, 0.25, 2)
    size = rng.uniform(11.3, 12.6)
    proptosis = rng.normal(0.0, 2.0)
    for side in (1, -1):
        region = canvas.region((30.0 * side, -62.0, -37.0), 42.0)
        p = canvas.at(region)
        q = mirrored(p, side)
        cone = capsule(q, (33.0, -72.0, -38.0), (15.0, -34.0, -35.0), 18.0, 5.0)
        skin = s.head[region]
        rim = np.maximum(cone - 2.2, -77.0 - q[1])
        canvas.paint(np.maximum(rim, skin + 5.0), t.BONE, region, hu=800.0, mr=90.0)
        canvas.paint(np.maximum(cone, skin + 3.0), t.FAT, region)
        for dx, dz in ((11.0, 0.0), (-10.5, 0.0), (0.0, 10.5), (0.0, -10.5)):
            canvas.paint(np.maximum(_rectus(q, dx, dz), cone), t.MUSCLE, region)
        canvas.paint(capsule(q, (30.0, -66.0, -38.0), (12.0, -29.0, -33.0), 2.3, 2.3), t.NERVE, region, mr=480.0)
        centre = (32.0, -76.0 - proptosis, -38.0)
        globe = ellipsoid(q, centre, (size, size, size))
        lid = np.maximum(ellipsoid(q, centre, (size + 5, size + 3.5, size + 5)), -76.0 - proptosis - q[1])
        lid = np.maximum(ellipsoid(q, centre, (size + 5, size + 3.5, size + 5)), q[1] + 76.0 + proptosis)
        canvas.paint(lid, t.SKIN, region, hu=40.0)
        canvas.paint(globe, t.SCLERA, region)
        canvas.paint(globe + 1.1, t.VITREOUS, region)
        lens = (32.0 + side * 8.0 * gaze[0], centre[1] - size + 3.6, -38.0 + 8.0 * gaze[1])
        canvas.paint(ellipsoid(q, lens, (4.6, 2.1, 4.6)), t.LENS, region)
        gland = ellipsoid(q, (44.0, -74.0, -30.0), (4.0, 7.0, 6.0))
        canvas.paint(np.maximum(gland, cone), t.GLAND, region, hu=30.0, mr=450.0)


def paint_jaws(canvas: Canvas, s: Surfaces) -> bool:
    """Palate, teeth, mandible, tongue, pharynx, chewing muscles, parotids; returns whether teeth hold metal."""
    rng = canvas.rng
    region = canvas.region((0.0, -40.0, -95.0), 82.0)
    p = canvas.at(region)
    x, y, z = p
    skin = s.head[region]
    grain = canvas.noise(5.0, region)
    bundles = canvas.noise((9.0, 6.0, 6.0), region, band=True)

    def muscle(distance: Array, fat: float = 0.12) -> None:
        inside = np.maximum(np.maximum(distance, skin + 4.0), (fat - np.abs(bundles)) * 6.0)
        canvas.paint(inside, t.MUSCLE, region, hu=t.MUSCLE.hu + 3.0 * grain)

    open_by = rng.uniform(0.0, 8.0)
    cheek = canvas.noise((8.0, 8.0, 8.0), region, band=True)
    filled = np.maximum(np.maximum(skin + rng.uniform(5.0, 9.0) + 2.0 * grain, np.abs(z + 82.0) - 40.0), -52.0 - y)
    muscle(np.maximum(filled, (rng.uniform(0.1, 0.5) - cheek) * 7.0), 0.08)
    thin = np.maximum(np.abs(skin + 6.0 + 1.5 * grain) - 1.3, np.maximum(-cheek * 8.0, np.abs(z + 85.0) - 40.0))
    canvas.paint(np.maximum(thin, y + 45.0), t.MUSCLE, region)
    lips = np.maximum(np.abs(skin + 5.0) - 4.0, np.abs(z + 92.0) - 22.0)
    canvas.paint(np.maximum(np.maximum(lips, y + 62.0), np.abs(x) - 34.0), t.MUSCLE, region, hu=45.0)
    muscle(ellipsoid(p, (0.0, -48.0, -103.0 - open_by / 2), (23.0, 33.0, 17.0)), 0.06)
    muscle(np.maximum(ellipsoid(p, (0.0, -52.0, -122.0), (34.0, 36.0, 9.0)), -140.0 - z))
    for side in (1, -1):
        q = mirrored(p, side)
        muscle(ellipsoid(q, (57.0, -40.0, -84.0), (8.0, 19.0, 26.0)))
        muscle(ellipsoid(q, (36.0, -24.0, -70.0), (13.0, 18.0, 13.0)))
        muscle(ellipsoid(q, (33.0, -20.0, -90.0), (8.0, 13.0, 17.0)))
        muscle(ellipsoid(q, (20.0, 4.0, -84.0), (8.0, 6.0, 30.0)))
        muscle(capsule(q, (56.0, 22.0, -62.0), (46.0, 0.0, -140.0), 9.0, 10.0))
        parotid = np.maximum(ellipsoid(q, (57.0, -6.0, -80.0), (11.0, 15.0, 24.0)) + 1.2 * grain, skin + 3.0)
        canvas.paint(parotid, t.GLAND, region, hu=-10.0 + 12.0 * grain, mr=610.0 + 25.0 * grain)
        canvas.paint(
            np.maximum(ellipsoid(q, (28.0, -42.0, -122.0), (9.0, 15.0, 10.0)), skin + 5.0),
            t.GLAND,
            region,
            hu=38.0,
            mr=480.0,
        )
        canvas.paint(capsule(q, (26.0, 4.0, -60.0), (30.0, -2.0, -150.0), 3.0, 3.6), t.VESSEL, region)
        canvas.paint(capsule(q, (32.0, 10.0, -60.0), (36.0, 6.0, -150.0), 4.5, 5.5), t.VESSEL, region, mr=260.0)
        ramus = [(50.0, -16.0, -54.0, 4.5), (50.0, -20.0, -66.0, 3.6), (48.0, -24.0, -104.0, 5.0)]
        body = [
            (48.0, -26.0, -106.0, 5.5),
            (36.0, -54.0, -112.0, 6.0),
            (22.0, -76.0, -115.0, 6.0),
            (0.0, -86.0, -117.0, 6.5),
        ]
        lower = [(a, b, c - open_by, r) for a, b, c, r in body]
        coronoid = [(48.0, -38.0, -62.0, 2.5), (48.0, -27.0, -100.0, 4.0)]
        jaw = np.minimum.reduce([chain(q, ramus), chain(q, lower), chain(q, coronoid)])
        jaw = np.maximum(jaw, skin + 3.5)
        canvas.paint(jaw, t.BONE, region, hu=1250.0 + 80.0 * grain)
        canvas.paint(jaw + 2.6, t.MARROW, region, hu=350.0 + 120.0 * grain, mr=480.0)
    _paint_teeth(canvas, region, p, open_by)
    pharynx = np.minimum(
        ellipsoid(p, (0.0, -17.0, -70.0), (13.0, 8.0, 15.0)),
        capsule(p, (0.0, -8.0, -84.0), (0.0, -4.0, -160.0), 8.0, 7.0),
    )
    canvas.paint(pharynx - 3.5, t.MUSCLE, region, mr=400.0)
    canvas.paint(pharynx + grain, t.AIR, region)
    canvas.paint(capsule(p, (0.0, -34.0, -86.0), (0.0, -16.0, -92.0), 4.0, 4.5), t.MUSCLE, region, mr=400.0)
    return bool(rng.random() < 0.35)


def _paint_teeth(canvas: Canvas, region: tuple[slice, slice, slice], p: Coordinates, open_by: float) -> None:
    x, y, z = p
    rng = canvas.rng
    # Distance to the dental arch, a half ellipse open to the back, in the axial plane.
    level = np.hypot(x / 27.0, (y + 40.0) / 42.0)
    arch = np.maximum((np.abs(level - 1.0) * 30.0), y + 38.0)
    angle = np.arctan2(x / 27.0, -(y + 40.0) / 42.0)
    gaps = np.cos(angle * 16.0 / np.pi * np.pi)
    plate = np.maximum(np.maximum(level - 1.0, 0) * 30.0 - 2.0, np.maximum(np.abs(z + 84.0) - 1.6, y + 36.0))
    canvas.paint(plate, t.BONE, region, hu=800.0)
    ridge = np.maximum(arch - 5.5, np.abs(z + 88.0) - 6.0)
    canvas.paint(ridge, t.MARROW, region, hu=600.0, mr=330.0)
    if rng.random() < 0.15:
        return  # edentulous
    for top, bottom in ((-84.0, -101.0), (-102.0 - open_by, -117.0 - open_by)):
        middle, half = (top + bottom) / 2, (top - bottom) / 2
        crown = np.maximum(arch - 4.0, np.abs(z - middle) - half)
        crown = np.maximum(crown, (-0.55 - gaps) * 4.0)
        canvas.paint(crown, t.TOOTH, region)
    air = np.maximum(np.maximum((level - 0.75) * 30.0, np.abs(z + 89.0) - 1.5), y + 38.0)
    canvas.paint(air, t.AIR, region, opacity=float(rng.uniform(0.0, 1.0)))
