"""What the phantom's tissues look like: typical CT numbers (HU) and T1-weighted intensities (0 to 1000)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tissue:
    """One tissue: its label in ``Phantom.labels``, its CT number in HU and its T1 intensity."""

    label: int
    hu: float
    mr: float


OUTSIDE = Tissue(0, -1000.0, 0.0)
AIR = Tissue(1, -990.0, 8.0)
SKIN = Tissue(2, 25.0, 420.0)
FAT = Tissue(3, -95.0, 900.0)
MUSCLE = Tissue(4, 52.0, 350.0)
MUCOSA = Tissue(5, 35.0, 330.0)
GLAND = Tissue(6, -5.0, 560.0)
BONE = Tissue(7, 1150.0, 60.0)
MARROW = Tissue(8, 420.0, 430.0)
DENSE_BONE = Tissue(9, 1500.0, 45.0)
TOOTH = Tissue(10, 1900.0, 30.0)
CSF = Tissue(11, 6.0, 140.0)
GREY = Tissue(12, 37.5, 470.0)
WHITE = Tissue(13, 28.5, 660.0)
DEEP_GREY = Tissue(14, 37.0, 520.0)
DURA = Tissue(15, 52.0, 330.0)
VITREOUS = Tissue(16, 8.0, 130.0)
SCLERA = Tissue(17, 45.0, 360.0)
LENS = Tissue(18, 75.0, 300.0)
NERVE = Tissue(19, 30.0, 560.0)
VESSEL = Tissue(20, 45.0, 170.0)
CALCIUM = Tissue(21, 180.0, 190.0)
BLOOD = Tissue(22, 66.0, 600.0)
OEDEMA = Tissue(23, 21.0, 400.0)
INFARCT = Tissue(24, 17.0, 300.0)
TUMOUR = Tissue(25, 47.0, 455.0)
