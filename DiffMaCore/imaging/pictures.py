"""Slices in, a picture of them side by side out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

CAPTION_HEIGHT = 18
CT_WINDOW = (-160.0, 240.0)  # soft tissue, wide enough to tell bone from brain

Column = tuple[str, np.ndarray, tuple[float, float]]
"""A title, slices (N, S, S), and the values shown black and white."""


def grey(slices: np.ndarray, window: tuple[float, float]) -> np.ndarray:
    """Values as grey levels, uint8, ``window`` being black and white."""
    low, high = window
    return np.clip((slices - low) / (high - low) * 255, 0, 255).astype(np.uint8)


def side_by_side(columns: Sequence[Column], side: int, caption: str, labels: Sequence[str] = ()) -> Image.Image:
    """A picture with one row a slice, ``side`` screen pixels wide, under the columns' titles.

    ``caption`` is printed below: say what is synthetic and with which model. ``labels`` are the rows' names.
    """
    canvas = Image.new("L", (side * len(columns), CAPTION_HEIGHT * 2 + side * len(columns[0][1])))
    draw = ImageDraw.Draw(canvas)
    for c, (title, slices, window) in enumerate(columns):
        draw.text((c * side + 4, 3), title, fill=255)
        for r, tile in enumerate(grey(slices, window)):
            picture = Image.fromarray(tile).resize((side, side), Image.Resampling.BICUBIC)
            canvas.paste(picture, (c * side, CAPTION_HEIGHT + r * side))
    for r, label in enumerate(labels):
        draw.text((4, CAPTION_HEIGHT + r * side + 2), label, fill=255, stroke_width=2, stroke_fill=0)
    draw.text((4, canvas.height - CAPTION_HEIGHT + 3), caption, fill=255)
    return canvas


def spread_indices(body: np.ndarray, array_axis: int, count: int) -> list[int]:
    """Indices of ``count`` slices spread over those that hold body."""
    filled = np.flatnonzero(body.any(axis=tuple(a for a in range(3) if a != array_axis)))
    places = np.linspace(0, len(filled) - 1, count + 2)[1:-1].round().astype(int)
    return sorted({int(filled[p]) for p in places}, reverse=True)
