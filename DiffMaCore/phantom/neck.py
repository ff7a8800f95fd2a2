"""Upper cervical spine: atlas, axis with its dens, the next vertebra, and the occipital condyles."""

from __future__ import annotations

import numpy as np

from DiffMaCore.phantom import tissues as t
from DiffMaCore.phantom.canvas import Canvas
from DiffMaCore.phantom.shapes import Array, capsule, chain, ellipsoid, mirrored


def paint_spine(canvas: Canvas) -> None:
    """Bone round the spinal canal, with marrow inside and the canal's CSF and cord left as they are."""
    region = canvas.region((0.0, 32.0, -100.0), 58.0)
    p = canvas.at(region)
    canal = capsule(p, (0.0, 36.0, -60.0), (0.0, 42.0, -150.0), 11.5, 10.0)
    grain = canvas.noise(5.0, region)

    def bone(distance: Array, table: float = 1.8) -> None:
        solid = np.maximum(distance, 0.5 - canal)
        canvas.paint(solid, t.BONE, region, hu=950.0 + 120.0 * grain)
        canvas.paint(solid + table, t.MARROW, region, hu=330.0 + 110.0 * grain, mr=430.0)

    for side in (1, -1):
        q = mirrored(p, side)
        bone(ellipsoid(q, (18.0, 26.0, -68.0), (8.0, 11.0, 6.0)))
        bone(ellipsoid(q, (23.0, 34.0, -80.0), (9.0, 10.0, 7.0)))
        bone(capsule(q, (28.0, 36.0, -80.0), (40.0, 34.0, -81.0), 4.5, 4.0))
        bone(chain(q, [(23.0, 42.0, -80.0, 4.0), (15.0, 54.0, -80.0, 3.6), (0.0, 58.0, -80.0, 4.0)]), 2.4)
        bone(chain(q, [(22.0, 26.0, -80.0, 4.0), (10.0, 14.0, -80.0, 3.4), (0.0, 12.0, -80.0, 3.8)]), 2.4)
        for level in (-98.0, -116.0, -134.0):
            bone(capsule(q, (16.0, 30.0, level), (20.0, 42.0, level - 3.0), 6.0, 5.0))
            bone(capsule(q, (19.0, 46.0, level - 3.0), (3.0, 62.0, level - 8.0), 3.2, 4.2), 2.4)
    bone(capsule(p, (0.0, 20.0, -74.0), (0.0, 22.0, -94.0), 5.0, 6.5))
    for level in (-98.0, -116.0, -134.0):
        bone(ellipsoid(p, (0.0, 21.0, level), (12.5, 9.5, 7.5)))
        bone(capsule(p, (0.0, 60.0, level - 8.0), (0.0, 72.0, level - 13.0), 4.0, 4.0))
        canvas.paint(ellipsoid(p, (0.0, 21.0, level - 9.0), (11.5, 9.0, 2.8)), t.MUCOSA, region, hu=80.0, mr=300.0)
