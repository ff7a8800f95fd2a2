"""What the paper prints, for the columns next to our own."""

from __future__ import annotations

TABLE_2: dict[str, dict[str, tuple[float, float, float]]] = {
    "unet": {"pelvis": (40.28, 29.47, 75.85), "brain": (58.35, 29.68, 74.03)},
    "dit": {"pelvis": (49.05, 29.57, 74.53), "brain": (62.22, 29.90, 71.45)},
    "efficient_vmamba": {"pelvis": (45.36, 28.76, 89.08), "brain": (64.61, 29.08, 86.26)},
    "zigma": {"pelvis": (42.18, 29.06, 82.74), "brain": (63.73, 29.37, 81.49)},
    "vim": {"pelvis": (41.49, 29.38, 76.34), "brain": (60.31, 29.38, 80.30)},
    "vmamba": {"pelvis": (51.32, 29.60, 74.38), "brain": (62.52, 29.34, 81.58)},
    "diffma": {"pelvis": (56.59, 29.76, 71.90), "brain": (69.60, 29.40, 79.96)},
}
"""SSIM (%), PSNR (dB) and MSE (8-bit) by model and region, as printed; the regression was not run."""

PAPERS_SIZE = (224, 512, 8, 2)
"""Of Table 2: pixels a side, and DiffMa-B/2's width, depth and patch."""

DATA_SET = "SynthRAD2023"
"""The paper's data set."""
