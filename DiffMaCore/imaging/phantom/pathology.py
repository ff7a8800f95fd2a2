"""What is not in the label map: calcifications, choroid plexus, infarcts, bleeds, masses, craniotomies, metal.

Everything is an ellipsoid with an irregular border that turns some tissues into another, in CT and MR alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from DiffMaCore.imaging.phantom import tissues as t
from DiffMaCore.imaging.phantom.heads import Head

# what an object may replace
(PARENCHYMA, WHITE_ONLY, VENTRICLES, CISTERNS, UNDER_BONE, BONE_ONLY, BONE_RING, FLESH, ALL_BRAIN, MEMBRANE) = range(10)
COLUMNS = 10  # z, y, x, radii z, y, x, tissue, what it replaces, irregularity, limit (mm or share)
_CEREBRUM = (t.WHITE.label, t.CORTEX.label, t.DEEP_GREY.label, t.PUTAMEN.label, t.THALAMUS.label)


def replaceable() -> NDArray[np.bool_]:
    """What may be replaced by tissue: (kinds, tissues)."""
    nuclei = (t.DEEP_GREY, t.PUTAMEN, t.PALLIDUM, t.THALAMUS, t.BRAIN_STEM, t.VENTRAL_DC)
    white = (t.WHITE, t.CEREBELLAR_WHITE, t.WHITE_LESION)
    parenchyma = (*nuclei, *white, t.CORTEX, t.CEREBELLAR_GREY, t.OEDEMA, t.PERIVASCULAR)
    found = (t.NEW_INFARCT, t.OLD_INFARCT, t.BLOOD, t.TUMOUR)
    table = np.zeros((10, t.COUNT), np.bool_)
    for kind, tissues in (
        (PARENCHYMA, parenchyma),
        (WHITE_ONLY, (*white, t.PALLIDUM, t.THALAMUS)),
        (VENTRICLES, (t.VENTRICLE, t.CHOROID)),
        (CISTERNS, (t.CSF, t.CHOROID)),
        (BONE_ONLY, (t.BONE, t.DIPLOE, t.TOOTH)),
        (FLESH, (t.MUSCLE, t.FAT, t.FIBROUS_FAT, t.FATTY_MUSCLE)),
        (ALL_BRAIN, (*parenchyma, *found, t.CSF, t.VENTRICLE)),
        (MEMBRANE, (t.DURA,)),
    ):
        table[kind, [tissue.label for tissue in tissues]] = True
    return table


@dataclass
class Objects:
    """A growing list of objects; later ones lie over earlier ones. ``leukoaraiosis``: mm around the ventricles."""

    rows: list[list[float]]
    leukoaraiosis: float = 0.0

    def add(
        self,
        centre: NDArray[np.floating],
        radii: tuple[float, float, float] | NDArray[np.floating],
        tissue: t.Tissue,
        replaces: int,
        irregular: float = 0.3,
        limit: float = 0.0,
    ) -> None:
        """An ellipsoid, centre and radii (z, y, x) in voxels of the head."""
        values = [*centre, *radii, tissue.label, replaces, irregular, limit]
        if np.all(np.isfinite(values)):
            self.rows.append([float(value) for value in values])

    def array(self) -> NDArray[np.float32]:
        """Rows of COLUMNS."""
        return np.array(self.rows, np.float32).reshape(-1, COLUMNS)


def _somewhere(rng: np.random.Generator, head: Head, labels: tuple[int, ...]) -> NDArray[np.float64]:
    """A random voxel of the labels."""
    for _ in range(2000):
        point = [int(rng.integers(n)) for n in head.labels.shape]
        if head.labels[tuple(point)] in labels:
            return np.array(point, np.float64)
    return np.array(head.centre, np.float64)


def _size(rng: np.random.Generator, low: float, high: float, flat: float = 0.35) -> NDArray[np.float64]:
    return float(np.exp(rng.uniform(np.log(low), np.log(high)))) * rng.uniform(1 - flat, 1 + flat, 3)


def anatomy(rng: np.random.Generator, head: Head, objects: Objects) -> None:
    """Choroid plexus and pineal gland, calcified in many; calcified basal ganglia, falx and vessels in some."""
    left, right, pineal, _ = head.landmarks
    calcified = rng.random() < 0.6
    for point in (left, right):
        objects.add(point, _size(rng, 4.0, 7.0), t.CHOROID, VENTRICLES, 0.5)
        if calcified and rng.random() < 0.85:
            objects.add(point + rng.normal(0, 1.0, 3), _size(rng, 1.2, 3.6), t.CALCIUM, VENTRICLES, 0.5)
    objects.add(pineal, _size(rng, 2.5, 4.0), t.CHOROID, CISTERNS, 0.3)
    if rng.random() < 0.6:
        objects.add(pineal + rng.normal(0, 0.8, 3), _size(rng, 1.0, 2.6), t.CALCIUM, CISTERNS, 0.4)
    if rng.random() < 0.15:
        for _ in range(2):
            objects.add(_somewhere(rng, head, (t.PALLIDUM.label,)), _size(rng, 1.5, 3.5), t.CALCIUM, PARENCHYMA, 0.5)
    if rng.random() < 0.25:
        spot = _somewhere(rng, head, (t.CORTEX.label,))
        spot[0], spot[2] = max(spot[0], head.base + 45), head.centre[2]
        objects.add(spot, _size(rng, 4.0, 12.0), t.CALCIUM, MEMBRANE, 0.4)


def flesh(rng: np.random.Generator, head: Head, objects: Objects) -> None:
    """Parotid and submandibular glands, buccal and parapharyngeal fat, left and right."""
    teeth = head.landmarks[3]
    if not len(head.eyes) or not np.all(np.isfinite(teeth)):
        return
    level, front, middle = head.base, float(head.eyes[:, 1].mean()), float(teeth[2])
    gland = t.FAT if rng.random() < 0.15 else t.GLAND
    spots = (
        ((-42, 62, 56), (19, 13, 9), gland),
        ((-82, 48, 32), (11, 12, 8), gland),
        ((-44, 24, 38), (15, 9, 7), t.FAT),
        ((-50, 55, 26), (16, 7, 4), t.FAT),
    )
    for (dz, dy, dx), radii, tissue in spots:
        shift, factor = rng.normal(0, 2.5, 3), rng.uniform(0.7, 1.25, 3)
        for side in (-1, 1):
            centre = np.array([level + dz, front + dy, middle + side * dx]) + shift * (1, 1, side)
            objects.add(centre, np.array(radii) * factor, tissue, FLESH, 0.6)


def _infarct(rng: np.random.Generator, head: Head, objects: Objects) -> None:
    old = rng.random() < 0.5
    if rng.random() < 0.4:  # lacunes
        for _ in range(int(rng.integers(1, 4))):
            spot = _somewhere(rng, head, (t.PUTAMEN.label, t.THALAMUS.label, t.DEEP_GREY.label, t.WHITE.label))
            objects.add(spot, _size(rng, 1.8, 4.5), t.OLD_INFARCT if old else t.NEW_INFARCT, PARENCHYMA)
        return
    spot = _somewhere(rng, head, (t.CORTEX.label, t.CEREBELLAR_GREY.label))
    radii = _size(rng, 9.0, 30.0)
    if old:
        objects.add(spot, radii * 1.15, t.WHITE_LESION, WHITE_ONLY, 0.4)
    objects.add(spot, radii, t.OLD_INFARCT if old else t.NEW_INFARCT, PARENCHYMA, 0.45)


def _bleed(rng: np.random.Generator, head: Head, objects: Objects) -> None:
    kind = rng.random()
    if kind < 0.45:
        spot = _somewhere(rng, head, _CEREBRUM)
        radii = _size(rng, 4.0, 20.0)
        objects.add(spot, radii + rng.uniform(2, 7), t.OEDEMA, WHITE_ONLY, 0.4)
        objects.add(spot, radii, t.BLOOD, ALL_BRAIN, 0.3)
    elif kind < 0.75:  # under the dura, or above it
        spot = _somewhere(rng, head, (t.CORTEX.label,))
        spot[0] = max(spot[0], head.base + 15)
        radii = rng.uniform(25, 60, 3)
        tissue = t.FLUID if rng.random() < 0.4 else t.BLOOD
        objects.add(spot, radii, tissue, UNDER_BONE, 0.2, rng.uniform(3.0, 12.0))
    elif kind < 0.9:
        spot = np.array([head.base + rng.uniform(-5, 25), head.centre[1] + rng.uniform(-25, 10), head.centre[2]])
        objects.add(spot, rng.uniform(20, 60, 3), t.SUBARACHNOID_BLOOD, CISTERNS, 0.4)
    else:
        objects.add(_somewhere(rng, head, (t.VENTRICLE.label,)), _size(rng, 6, 18), t.BLOOD, VENTRICLES, 0.3)


def _mass(rng: np.random.Generator, head: Head, objects: Objects) -> None:
    for _ in range(1 if rng.random() < 0.7 else int(rng.integers(2, 5))):
        spot = _somewhere(rng, head, (*_CEREBRUM, t.CEREBELLAR_GREY.label))
        radii = _size(rng, 4.0, 18.0)
        objects.add(spot, radii + rng.uniform(3, 16), t.OEDEMA, WHITE_ONLY, 0.5)
        objects.add(spot, radii, t.TUMOUR, ALL_BRAIN, 0.25)
        if rng.random() < 0.4:
            objects.add(spot, radii * rng.uniform(0.3, 0.75), t.FLUID, ALL_BRAIN, 0.3)
        elif rng.random() < 0.2:
            objects.add(spot, radii * rng.uniform(0.2, 0.5), t.CALCIUM, ALL_BRAIN, 0.5)


def _craniotomy(rng: np.random.Generator, head: Head, objects: Objects) -> None:
    spot = _somewhere(rng, head, (t.BONE.label, t.DIPLOE.label))
    spot[0] = max(spot[0], head.base + 25)
    radius = rng.uniform(14, 35)
    if rng.random() < 0.25:
        objects.add(spot, (radius,) * 3, t.FLUID, BONE_ONLY, 0.1)
        return
    objects.add(spot, (radius,) * 3, t.MUSCLE, BONE_RING, 0.08, rng.uniform(0.8, 2.0) / radius)
    if rng.random() < 0.5:
        objects.add(spot, _size(rng, 8, 20), t.OLD_INFARCT, PARENCHYMA, 0.4)
    for _ in range(int(rng.integers(0, 4))):
        turn = rng.normal(size=3)
        objects.add(spot + radius * turn / np.linalg.norm(turn), (2.0, 2.0, 2.0), t.METAL, BONE_ONLY, 0.0)


def draw(rng: np.random.Generator, head: Head, lesions: float, artefacts: bool) -> Objects:
    """Everything for one volume; ``lesions``: the chance that it has pathology; ``artefacts`` allow dental metal."""
    objects = Objects([])
    anatomy(rng, head, objects)
    flesh(rng, head, objects)
    if rng.random() < lesions:
        for _ in range(1 if rng.random() < 0.7 else 2):
            kind = rng.choice(5, p=(0.3, 0.25, 0.15, 0.2, 0.1))
            if kind == 3:
                objects.leukoaraiosis = float(rng.uniform(1.5, 8.0))
            else:
                (_infarct, _bleed, _mass, _mass, _craniotomy)[kind](rng, head, objects)
    teeth = head.landmarks[3]
    if artefacts and rng.random() < 0.35:
        for _ in range(int(rng.integers(1, 5))):
            angle = rng.uniform(-1.5, 1.5)
            spot = teeth + np.array([rng.uniform(-6, 6), 24 * (1 - np.cos(angle)), 24 * np.sin(angle)])
            objects.add(spot, _size(rng, 1.6, 3.2), t.METAL, BONE_ONLY, 0.3)
    return objects
