"""Volumes in, a picture of them side by side out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from PIL import Image, ImageDraw

from DiffMaCore.files import replacing
from DiffMaCore.imaging.grid import SliceGrid

CAPTION_HEIGHT = 18
CT_WINDOW = (-160.0, 240.0)  # soft tissue, wide enough to tell bone from brain


@dataclass(frozen=True)
class Column:
    """One column of the picture: a volume on the CT's grid, and the values shown black and white."""

    title: str
    image: sitk.Image
    window: tuple[float, float]


def grey(slices: np.ndarray, window: tuple[float, float]) -> np.ndarray:
    """Values as grey levels, uint8, ``window`` being black and white."""
    low, high = window
    return np.clip((slices - low) / (high - low) * 255, 0, 255).astype(np.uint8)


def side_by_side(
    columns: Sequence[Column], grid: SliceGrid, indices: Sequence[int], path: Path, caption: str, zoom: int = 2
) -> None:
    """Write a PNG with one row a slice and one column a volume, anterior up, the patient's right on the left.

    Args:
        columns: volumes on one grid.
        grid: of the CT; slices are shown as the model sees them, with square pixels.
        indices: native slices to show.
        path: the PNG.
        caption: printed below; say what is synthetic and with which model.
        zoom: screen pixels a model pixel.
    """
    side = grid.image_size * zoom
    canvas = Image.new("L", (side * len(columns), CAPTION_HEIGHT * 2 + side * len(indices)))
    draw = ImageDraw.Draw(canvas)
    for c, column in enumerate(columns):
        draw.text((c * side + 4, 3), column.title, fill=255)
        slices = replace(grid, image=column.image).ct_slices(indices)
        for r, tile in enumerate(grey(slices, column.window)):
            picture = Image.fromarray(tile).resize((side, side), Image.Resampling.BICUBIC)
            canvas.paste(picture, (c * side, CAPTION_HEIGHT + r * side))
    draw.text((4, canvas.height - CAPTION_HEIGHT + 3), caption, fill=255)
    with replacing(path) as part:
        canvas.save(part, format="png")


def spread_indices(body: np.ndarray, array_axis: int, count: int) -> list[int]:
    """Indices of ``count`` slices spread over those that hold body."""
    filled = np.flatnonzero(body.any(axis=tuple(a for a in range(3) if a != array_axis)))
    places = np.linspace(0, len(filled) - 1, count + 2)[1:-1].round().astype(int)
    return sorted({int(filled[p]) for p in places}, reverse=True)
