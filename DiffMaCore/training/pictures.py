"""What training shows: source | generated | true of a few fixed slices, and soft masks over theirs, with metrics.

Paper, Figures 1 and 5 to 7.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from DiffMaCore.imaging.pictures import CAPTION_HEIGHT, CT_WINDOW, grey, side_by_side
from DiffMaCore.training.batches import Batch, to_device
from DiffMaCore.training.cache import CT, PairedCache, SliceDataset
from DiffMaCore.training.experiment import DataConfig

COUNT = 4
SIDE = 192
MODALITIES = {"ct": "CT", "mr": "MR", "t1": "MR T1", "t2": "MR T2"}
_SMOOTH = 3  # circles are drawn this many times larger
_LIGHT, _DARK = np.array((250.0, 222.0, 160.0)), np.array((120.0, 0.0, 10.0))


def modality(name: str) -> str:
    """A configuration's word for a modality as people write it."""
    return MODALITIES.get(name.lower(), f"MR {name.upper()}")


def source_window(data: DataConfig) -> tuple[float, float]:
    """Source values that pictures show black and white; of a CT its own window, the second where there are three."""
    return data.hu_windows[len(data.hu_windows) // 2] if data.source == CT else (-1.0, 1.0)


def target_window(data: DataConfig) -> tuple[float, float]:
    """The same of a target in [-1, 1]."""
    low, high = data.target_window
    black, white = ((value - low) / (high - low) * 2 - 1 for value in CT_WINDOW)
    return (black, white) if data.target == CT else (-1.0, 1.0)


@dataclass(frozen=True)
class FixedSlices:
    """Slices that are shown again and again while a model learns."""

    split: str  # where they come from: "validation", or "training" where no patient validates
    ids: tuple[str, ...]  # the cases they come from
    rows: tuple[int, ...]  # of SliceDataset(cache, ids, ...)
    labels: tuple[str, ...]  # "case a, slice n" of each
    source: NDArray[np.float32]  # (n, S, S), as Case gives it
    target: NDArray[np.float32]  # likewise

    @classmethod
    def choose(cls, cache: PairedCache) -> FixedSlices:
        """``COUNT`` slices (fewer of a very small set) spread over the patients and over the body."""
        ids = cache.split["validation"] or cache.ids("train")
        lengths = [len(cache.case(id)) for id in ids]
        starts = [0, *accumulate(lengths)]
        cases = [n * len(ids) // COUNT if len(ids) >= COUNT else n % len(ids) for n in range(COUNT)]
        rows = sorted({starts[c] + (n + 1) * lengths[c] // (COUNT + 1) for n, c in enumerate(cases)})
        dataset = SliceDataset(cache, ids, ("source", "target"))
        shown = dataset.batch(rows)
        split = "validation" if cache.split["validation"] else "training"
        images = shown["source"].numpy(), shown["target"].numpy()
        return cls(split, ids, tuple(rows), tuple(map(dataset.where, rows)), *images)

    def batch(self, cache: PairedCache, keys: tuple[str, ...], device: torch.device) -> Batch:
        """Their entries of the cache, float32 (n, ...) each."""
        return to_device(SliceDataset(cache, self.ids, keys).batch(self.rows), device)

    def arrays(self, generated: NDArray[np.floating]) -> dict[str, np.ndarray]:
        """What the report's Figure 7 needs: ``generated`` and ``target`` in [-1, 1], ``source``, ``labels``."""
        images = {"generated": generated, "source": self.source, "target": self.target}
        return {name: image.astype(np.float16) for name, image in images.items()} | {"labels": np.array(self.labels)}


def triplet_picture(fixed: FixedSlices, generated: NDArray[np.floating], data: DataConfig, caption: str) -> Image.Image:
    """One row a slice: source, generated (n, S, S) in [-1, 1], true; each ``SIDE`` screen pixels wide.

    ``data`` names the modalities and says how they are shown; the caption is printed below, with the split.
    """
    columns = (
        (f"{modality(data.source)} (source)", fixed.source, source_window(data)),
        (f"{modality(data.target)} (generated)", generated, target_window(data)),
        (f"{modality(data.target)} (true)", fixed.target, target_window(data)),
    )
    return side_by_side(columns, SIDE, f"{caption}; {fixed.split} slices", fixed.labels)


@dataclass(frozen=True)
class MaskMeasures:
    """What the masks of N slices are like."""

    share: float  # of the variance that comes from the slice and not from the token's place, 0 to 1
    mean: float  # of all weights
    closed: float  # share of the weights below 0.01: the denoiser's masked branch sees next to nothing of such tokens
    open: float  # share of the weights above 0.99


def variance_share(masks: Tensor) -> float:
    """Share of the variance of masks (N, L) or (N, L, 1) that comes from the slice and not from the place; a mask
    that does not vary has none."""
    masks = masks.double().reshape(len(masks), -1)
    whole = float(masks.var(unbiased=False))
    return float(masks.var(dim=0, unbiased=False).mean()) / whole if whole > 1e-12 else 0.0


def mask_measures(masks: Tensor) -> MaskMeasures:
    """Figures of masks (N, L, 1)."""
    closed, open = (float(some.float().mean()) for some in (masks < 0.01, masks > 0.99))
    return MaskMeasures(variance_share(masks), float(masks.mean()), closed, open)


def mask_picture(
    sources: NDArray[np.floating],
    masks: Tensor,
    labels: Sequence[str],
    window: tuple[float, float],
    caption: str,
    side: int = 320,
) -> Image.Image:
    """The masks over their slices, one column a slice: above the source, below it pale and with a circle a token,
    the larger and darker the more important, from the least of the pictured weights to the greatest.

    ``sources`` are (N, S, S), ``masks`` (N, L, 1), L a square number; ``window`` is shown black and white, a slice
    ``side`` screen pixels wide.
    """
    values = masks.double().reshape(len(masks), -1).numpy()
    grid = math.isqrt(values.shape[1])
    low, high = float(values.min()), float(values.max())
    strength = (values - low) / max(high - low, 1e-9)
    canvas = Image.new("RGB", (side * len(sources), 2 * side + 2 * CAPTION_HEIGHT))
    draw = ImageDraw.Draw(canvas)
    for n, (tile, label) in enumerate(zip(grey(sources, window), labels, strict=True)):
        slice_ = Image.fromarray(tile).resize((side, side), Image.Resampling.BICUBIC)
        draw.text((n * side + 4, 3), label, fill="white")
        canvas.paste(slice_.convert("RGB"), (n * side, CAPTION_HEIGHT))
        canvas.paste(_circles(slice_, strength[n].reshape(grid, grid)), (n * side, CAPTION_HEIGHT + side))
    text = f"{caption}; circles: weight {low:.2f} (small, pale) to {high:.2f} (large, dark)"
    draw.text((4, canvas.height - CAPTION_HEIGHT + 3), text, fill="white")
    return canvas


def _circles(slice_: Image.Image, strength: NDArray[np.floating]) -> Image.Image:
    """A pale copy of a slice with one circle for each of (G, G) strengths, 0 to 1."""
    large = slice_.width * _SMOOTH
    pale = slice_.point(lambda v: round(150 + v * 105 / 255)).convert("RGB").resize((large, large))
    draw = ImageDraw.Draw(pale)
    cell = large / len(strength)
    for (row, column), value in np.ndenumerate(strength):
        radius = cell * (0.08 + 0.40 * float(value))
        colour = tuple(int(c) for c in _LIGHT + (_DARK - _LIGHT) * value)
        centre = ((column + 0.5) * cell, (row + 0.5) * cell)
        draw.ellipse(tuple(c + d for d in (-radius, radius) for c in centre), fill=colour)
    return pale.resize(slice_.size, Image.Resampling.LANCZOS)
