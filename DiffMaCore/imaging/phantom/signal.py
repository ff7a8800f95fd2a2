"""MR intensity of every tissue, by contrast: one fixed style, 0 to about 1000, white matter 700 in T1."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from DiffMaCore.imaging.phantom import tissues as t

CONTRASTS = ("t1", "t2", "flair")
T1_WHITE, T2_CSF, FLAIR_SCALE = 700.0, 950.0, 1900.0
T2_TR, T2_TE = 4500.0, 100.0
FLAIR_TR, FLAIR_TI, FLAIR_TE = 9000.0, 2480.0, 100.0


def spin_echo(tissue: t.Tissue, tr: float, te: float) -> float:
    """Signal of a spin echo, repetition and echo time in ms, fully relaxed proton density 1."""
    return float(tissue.pd * (1 - np.exp(-tr / tissue.t1)) * np.exp(-te / tissue.t2))


def inversion_recovery(tissue: t.Tissue, tr: float, ti: float, te: float) -> float:
    """Magnitude of an inversion recovery spin echo (FLAIR), times in ms."""
    recovered = abs(1 - 2 * np.exp(-ti / tissue.t1) + np.exp(-tr / tissue.t1))
    return float(tissue.pd * recovered * np.exp(-te / tissue.t2))


def intensity(tissue: t.Tissue, contrast: str) -> float:
    """Noise-free intensity of a tissue; raises KeyError for a contrast that is not in CONTRASTS."""
    if contrast == "t1":
        return T1_WHITE * tissue.t1w
    if contrast == "t2":
        return T2_CSF * spin_echo(tissue, T2_TR, T2_TE) / spin_echo(t.CSF, T2_TR, T2_TE)
    if contrast == "flair":
        return FLAIR_SCALE * inversion_recovery(tissue, FLAIR_TR, FLAIR_TI, FLAIR_TE)
    raise KeyError(contrast)


def signal_table(contrasts: tuple[str, ...]) -> NDArray[np.float32]:
    """Intensities (contrasts, tissue labels)."""
    table = np.zeros((len(contrasts), t.COUNT), np.float32)
    for tissue in t.TISSUES.values():
        table[:, tissue.label] = [intensity(tissue, contrast) for contrast in contrasts]
    return table
