"""Source | generated | true of a few fixed slices, as one picture and as arrays (paper, Figures 5 to 7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from DiffMaCore.imaging.pictures import CAPTION_HEIGHT, CT_WINDOW, grey
from DiffMaCore.training.cache import CT, PairedCache, SliceDataset
from DiffMaCore.training.experiment import DataConfig

COUNT = 4
MODALITIES = {"ct": "CT", "mr": "MR", "t1": "MR T1", "t2": "MR T2"}


def modality(name: str) -> str:
    """A configuration's word for a modality as people write it."""
    return MODALITIES.get(name.lower(), f"MR {name.upper()}")


def source_window(data: DataConfig) -> tuple[float, float]:
    """Source values that pictures show black and white; of a CT its own window, the second where there are three."""
    if data.source != CT:
        return (-1.0, 1.0)
    return data.hu_windows[len(data.hu_windows) // 2]


def target_window(data: DataConfig) -> tuple[float, float]:
    """The same of a target in [-1, 1]."""
    if data.target != CT:
        return (-1.0, 1.0)
    low, high = data.target_window
    black, white = ((value - low) / (high - low) * 2 - 1 for value in CT_WINDOW)
    return black, white


@dataclass(frozen=True)
class FixedSlices:
    """Slices that are shown again and again while a system learns.

    Attributes:
        split: where they come from: "validation", or "training" where no patient validates.
        ids: the cases they come from.
        rows: of ``SliceDataset(cache, ids, ...)``.
        labels: "case a, slice n" of each.
        source, target: float32 (n, S, S), as ``Case`` gives them.
    """

    split: str
    ids: tuple[str, ...]
    rows: tuple[int, ...]
    labels: tuple[str, ...]
    source: NDArray[np.float32]
    target: NDArray[np.float32]

    @classmethod
    def choose(cls, cache: PairedCache, count: int = COUNT) -> FixedSlices:
        """``count`` slices (fewer of a very small set) spread over the patients and over the body."""
        held_out = cache.split["validation"]
        ids = held_out or cache.ids("train")
        lengths = [len(cache.case(id)) for id in ids]
        starts = [0, *accumulate(lengths)]
        rows = set()
        for n in range(count):
            case = n * len(ids) // count if len(ids) >= count else n % len(ids)
            rows.add(starts[case] + (n + 1) * lengths[case] // (count + 1))
        dataset = SliceDataset(cache, ids, ("source", "target"))
        items = [dataset[row] for row in sorted(rows)]
        return cls(
            split="validation" if held_out else "training",
            ids=ids,
            rows=tuple(sorted(rows)),
            labels=tuple(dataset.where(row) for row in sorted(rows)),
            source=np.stack([item["source"].numpy() for item in items]),
            target=np.stack([item["target"].numpy() for item in items]),
        )

    def batch(self, cache: PairedCache, keys: tuple[str, ...], embeddings: Path | None = None) -> dict[str, Tensor]:
        """Their entries of the cache, (n, ...) each."""
        dataset = SliceDataset(cache, self.ids, keys, embeddings)
        items = [dataset[row] for row in self.rows]
        return {key: torch.stack([item[key] for item in items]) for key in keys}

    def arrays(self, generated: NDArray[np.floating]) -> dict[str, np.ndarray]:
        """What the report's Figure 7 needs: ``generated`` and ``target`` in [-1, 1], ``source``, ``labels``."""
        return {
            "generated": generated.astype(np.float16),
            "source": self.source.astype(np.float16),
            "target": self.target.astype(np.float16),
            "labels": np.array(self.labels),
        }


def triplet_picture(
    fixed: FixedSlices, generated: NDArray[np.floating], data: DataConfig, caption: str, side: int = 192
) -> Image.Image:
    """One row a slice: source, generated, true.

    Args:
        fixed: the slices.
        generated: (n, S, S) in [-1, 1].
        data: names the modalities and says how they are shown.
        caption: printed below, with the split the slices are from.
        side: of one slice in screen pixels.
    """
    columns: Sequence[tuple[str, NDArray[np.floating], tuple[float, float]]] = (
        (f"{modality(data.source)} (source)", fixed.source, source_window(data)),
        (f"{modality(data.target)} (generated)", generated, target_window(data)),
        (f"{modality(data.target)} (true)", fixed.target, target_window(data)),
    )
    canvas = Image.new("L", (side * len(columns), CAPTION_HEIGHT * 2 + side * len(fixed.rows)))
    draw = ImageDraw.Draw(canvas)
    for c, (title, slices, window) in enumerate(columns):
        draw.text((c * side + 4, 3), title, fill=255)
        for r, tile in enumerate(grey(slices, window)):
            picture = Image.fromarray(tile).resize((side, side), Image.Resampling.BICUBIC)
            canvas.paste(picture, (c * side, CAPTION_HEIGHT + r * side))
    for r, label in enumerate(fixed.labels):
        draw.text((4, CAPTION_HEIGHT + r * side + 2), label, fill=255, stroke_width=2, stroke_fill=0)
    draw.text((4, canvas.height - CAPTION_HEIGHT + 3), f"{caption}; {fixed.split} slices", fill=255)
    return canvas
