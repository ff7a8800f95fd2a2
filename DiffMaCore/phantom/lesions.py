"""Findings: haemorrhage, oedema, infarct, meningioma, subdural collections, small white-matter holes."""

from __future__ import annotations

import numpy as np

from DiffMaCore.phantom import tissues as t
from DiffMaCore.phantom.canvas import Canvas
from DiffMaCore.phantom.cranium import Surfaces
from DiffMaCore.phantom.shapes import ellipsoid


def _place(rng: np.random.Generator) -> tuple[float, float, float]:
    side = rng.choice([-1.0, 1.0])
    return float(side * rng.uniform(14, 48)), float(rng.uniform(-50, 55)), float(rng.uniform(-12, 48))


def paint_lesions(canvas: Canvas, s: Surfaces, chance: float = 0.45) -> None:
    """With the given chance one or two findings; what shows on CT shows on T1 in its usual way."""
    rng = canvas.rng
    if rng.random() > chance:
        return
    for _ in range(int(rng.integers(1, 3))):
        kind = rng.choice(["blood", "infarct", "tumour", "subdural", "lacunes"], p=[0.25, 0.3, 0.15, 0.1, 0.2])
        centre = _place(rng)
        size = rng.uniform(6.0, 20.0)
        region = canvas.region(centre, 2.6 * size + 8.0)
        p = canvas.at(region)
        ragged = canvas.noise(9.0, region)
        brain = s.cavity[region] + 2.5
        wide, long, tall = (float(size * f) for f in rng.uniform(0.7, 1.3, 3))
        blob = ellipsoid(p, centre, (wide, long, tall))
        if kind == "blood":
            canvas.paint(np.maximum(0.6 * (blob - 0.5 * size) + 2.0 * ragged, brain), t.OEDEMA, region, opacity=0.7)
            canvas.paint(np.maximum(blob + 1.5 * ragged, brain), t.BLOOD, region, hu=66.0 + 3.0 * ragged)
        elif kind == "infarct":
            old = rng.random() < 0.5
            wedge = np.maximum(1.2 * blob + 3.0 * ragged, brain)
            canvas.paint(wedge, t.INFARCT, region, hu=14.0 if old else 22.0, mr=230.0 if old else 400.0, opacity=0.85)
        elif kind == "tumour":
            canvas.paint(np.maximum(0.5 * (blob - 0.7 * size) + 2.5 * ragged, brain), t.OEDEMA, region, opacity=0.75)
            canvas.paint(np.maximum(blob + ragged, brain), t.TUMOUR, region)
        elif kind == "subdural":
            # A crescent under the vault, over one hemisphere.
            side = float(np.sign(centre[0]))
            thick = rng.uniform(4.0, 11.0)
            x, y, z = canvas.p
            arc = ((y - 5.0) / rng.uniform(35, 60)) ** 2 + ((z - 28.0) / rng.uniform(25, 45)) ** 2
            depth = thick * np.clip(1.0 - arc, 0.0, None)
            crescent = np.maximum(np.maximum(-s.cavity - depth, s.cavity + 0.7), 20.0 - x * side)
            acute = rng.random() < 0.5
            canvas.paint(crescent, t.BLOOD, hu=64.0 if acute else 22.0, mr=560.0 if acute else 300.0)
        else:
            for _ in range(int(rng.integers(2, 6))):
                at = _place(rng)
                spot = canvas.region(at, 8.0)
                wide, long, tall = (float(v) for v in rng.uniform(1.5, 4.0, 3))
                hole = ellipsoid(canvas.at(spot), at, (wide, long, tall))
                canvas.paint(np.maximum(hole, s.cavity[spot] + 4.0), t.CSF, spot, hu=12.0, mr=220.0)
