"""The one table of what tissues look like: CT numbers, MPRAGE-like T1 intensity, relaxation times, proton density.

Sources. Brain CT numbers: Cala et al., AJNR 2 (1981) 41; grey minus white 5.5 to 7 HU: Brooks et al., J Comput Assist
Tomogr 4 (1980) 489. Relaxation times and proton density at 1.5 T: BrainWeb (Kwan et al., IEEE TMI 18 (1999) 1085).
T1-weighted intensities relative to white matter: the priors of SynthSeg (Billot et al., Med Image Anal 86 (2023)
102789), measured on MPRAGE scans. Bone: a real head CT (median above 300 HU 644, 90th percentile 1232). Fat, muscle,
skin, blood, infarcts and tumours: the usual radiological ranges.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tissue:
    """One tissue.

    ``label``: its number in ``Phantom.labels``. ``hu``, ``hu_sd``: mean CT number and its spread between scans.
    ``t1w``: T1-weighted intensity, white matter 1. ``t1``, ``t2`` in ms and ``pd`` in 0..1 at 1.5 T, for T2 and FLAIR.
    ``texture``: spread of the CT number within the tissue (HU), ``mr_texture``: the same of MR, as a fraction.
    """

    label: int
    hu: float
    hu_sd: float
    t1w: float
    t1: float
    t2: float
    pd: float
    texture: float = 0.0
    mr_texture: float = 0.0


OUTSIDE = Tissue(0, -1000, 0, 0.0, 1000, 1, 0.0)
AIR = Tissue(1, -1000, 0, 0.0, 1000, 1, 0.0)
SOFT = Tissue(2, 55, 0, 0.52, 900, 47, 1.0)  # unsplit: becomes skin, fat, muscle or gland while rendering
WHITE = Tissue(3, 29, 1.5, 1.00, 500, 70, 0.77, 0.6, 0.012)
CORTEX = Tissue(4, 35.5, 1.0, 0.63, 833, 83, 0.86, 0.6, 0.015)
VENTRICLE = Tissue(5, 6, 1.6, 0.22, 4000, 2200, 1.0)
CSF = Tissue(6, 8, 2.0, 0.24, 4000, 2200, 1.0)
CEREBELLAR_WHITE = Tissue(7, 29, 1.0, 0.86, 560, 72, 0.78, 0.6, 0.012)
CEREBELLAR_GREY = Tissue(8, 37, 1.2, 0.56, 900, 84, 0.87, 0.8, 0.02)
THALAMUS = Tissue(9, 34, 1.2, 0.81, 680, 76, 0.82, 0.5, 0.02)
DEEP_GREY = Tissue(10, 36, 1.2, 0.62, 820, 82, 0.86, 0.5, 0.015)
PUTAMEN = Tissue(11, 36, 1.2, 0.78, 720, 72, 0.83, 0.5, 0.015)
PALLIDUM = Tissue(12, 36, 2.5, 0.95, 560, 58, 0.78, 0.5, 0.015)
BRAIN_STEM = Tissue(13, 30, 1.2, 0.81, 620, 74, 0.80, 0.6, 0.02)
VENTRAL_DC = Tissue(14, 34, 1.2, 0.89, 600, 70, 0.79, 0.5, 0.02)
WHITE_LESION = Tissue(15, 22, 2.0, 0.72, 752, 237, 0.76, 1.0, 0.02)
PERIVASCULAR = Tissue(16, 20, 3.0, 0.55, 1500, 300, 0.9)
CHOROID = Tissue(17, 38, 4.0, 0.40, 1200, 180, 0.95, 3.0, 0.05)
CHIASM = Tissue(18, 33, 1.5, 0.92, 600, 74, 0.78)
ARTERY = Tissue(19, 44, 4.0, 0.45, 1350, 60, 0.5)
EYE = Tissue(20, 9, 2.5, 0.12, 4000, 1800, 1.0)
RECTUS = Tissue(21, 50, 4.0, 0.60, 900, 50, 1.0, 2.0)
MUCOSA = Tissue(22, 38, 6.0, 0.50, 1000, 120, 0.95, 6.0, 0.06)
CORD = Tissue(23, 34, 2.5, 0.82, 700, 75, 0.80)
VEIN = Tissue(24, 55, 4.0, 0.30, 1350, 55, 0.8, 1.5)
BONE = Tissue(25, 1250, 140, 0.13, 800, 12, 0.3, 160.0, 0.10)
DIPLOE = Tissue(26, 480, 110, 0.59, 549, 49, 0.8, 110.0, 0.14)
OPTIC_NERVE = Tissue(27, 32, 2.0, 0.90, 815, 77, 0.8)
SKIN = Tissue(28, 38, 12.0, 0.71, 700, 45, 0.85, 4.0, 0.03)
FAT = Tissue(29, -100, 7.0, 1.28, 350, 70, 1.0, 7.0, 0.025)
MUSCLE = Tissue(30, 54, 3.5, 0.52, 900, 47, 1.0, 4.0, 0.04)
DURA = Tissue(31, 52, 5.0, 0.40, 900, 45, 0.6)
LENS = Tissue(32, 75, 8.0, 0.40, 1000, 35, 0.7)
SCLERA = Tissue(33, 55, 8.0, 0.45, 900, 45, 0.7)
TOOTH = Tissue(34, 2100, 250, 0.08, 800, 8, 0.15, 120.0)
CALCIUM = Tissue(35, 190, 60, 0.22, 800, 20, 0.3)
GLAND = Tissue(36, 8, 12.0, 0.85, 600, 70, 0.95, 12.0, 0.07)
OLD_INFARCT = Tissue(37, 11, 2.5, 0.28, 3700, 1800, 0.98)
NEW_INFARCT = Tissue(38, 22, 2.0, 0.58, 1000, 140, 0.86, 1.0, 0.02)
BLOOD = Tissue(39, 66, 6.0, 0.75, 650, 60, 0.8, 3.0, 0.06)
TUMOUR = Tissue(40, 42, 5.0, 0.57, 1000, 125, 0.9, 3.0, 0.05)
OEDEMA = Tissue(41, 21, 1.8, 0.66, 900, 190, 0.85, 0.8, 0.02)
METAL = Tissue(42, 4500, 800, 0.0, 800, 5, 0.0)
CARTILAGE = Tissue(43, 85, 15.0, 0.55, 900, 40, 0.8, 8.0, 0.04)
FLUID = Tissue(44, 14, 4.0, 0.30, 2600, 700, 0.94)  # mucus, subdural hygroma, fluid under a bone flap
SUBARACHNOID_BLOOD = Tissue(45, 48, 6.0, 0.40, 1800, 300, 1.0)
UNSCANNED = Tissue(46, -1000, 0, 0.0, 1000, 1, 0.0)  # beyond the lower end of the label map
FIBROUS_FAT = Tissue(47, -50, 12.0, 1.02, 480, 60, 0.95, 18.0, 0.06)  # fat with septa, small vessels, thin muscle
FATTY_MUSCLE = Tissue(48, 18, 10.0, 0.72, 700, 52, 1.0, 14.0, 0.06)

TISSUES = {name: value for name, value in list(globals().items()) if isinstance(value, Tissue)}
COUNT = 1 + max(tissue.label for tissue in TISSUES.values())

# labels of the maps (FreeSurfer's; the 5xx are those of SimNIBS' CHARM) to the tissues above
SOURCE_LABELS = {
    **{2: WHITE, 41: WHITE, 3: CORTEX, 42: CORTEX, 24: CSF, 7: CEREBELLAR_WHITE, 46: CEREBELLAR_WHITE},
    **{8: CEREBELLAR_GREY, 47: CEREBELLAR_GREY, 10: THALAMUS, 49: THALAMUS, 12: PUTAMEN, 51: PUTAMEN},
    **dict.fromkeys((4, 5, 14, 15, 43, 44, 72), VENTRICLE),
    **dict.fromkeys((11, 50, 17, 53, 18, 54, 26, 58), DEEP_GREY),
    **{13: PALLIDUM, 52: PALLIDUM, 16: BRAIN_STEM, 28: VENTRAL_DC, 60: VENTRAL_DC, 25: WHITE_LESION},
    **{57: WHITE_LESION, 30: PERIVASCULAR, 62: PERIVASCULAR, 85: CHIASM, 502: ARTERY, 506: EYE, 507: SOFT, 508: RECTUS},
    **dict.fromkeys((136, 137, 163, 164), DEEP_GREY),
    **{509: MUCOSA, 511: SOFT, 512: CORD, 514: VEIN, 515: BONE, 516: DIPLOE, 530: OPTIC_NERVE},
}
BRAIN = tuple(
    tissue.label
    for tissue in (
        *(WHITE, CORTEX, VENTRICLE, CEREBELLAR_WHITE, CEREBELLAR_GREY, THALAMUS, DEEP_GREY, PUTAMEN, PALLIDUM),
        *(BRAIN_STEM, VENTRAL_DC, WHITE_LESION, PERIVASCULAR, CHOROID, CHIASM, CALCIUM, OLD_INFARCT, NEW_INFARCT),
        *(BLOOD, TUMOUR, OEDEMA, SUBARACHNOID_BLOOD),
    )
)
SOURCE_BRAIN = tuple(value for value, tissue in SOURCE_LABELS.items() if tissue.label in BRAIN)
