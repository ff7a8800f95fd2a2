"""Stacks of two-dimensional pictures as volumes: what is said of windowed CTs without HU, spacing or air."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from DiffMaCore.imaging.grid import AIR_HU
from DiffMaCore.training.experiment import DataConfig

SLICE_MM = 5.0  # between slices where nothing tells: thick enough that no step looks across them
_BLACK = 0.04  # of the range: noise of the background lies below
_CLOSING = 4  # pixels: scalp and fat are black in a narrow window, and so are gaps between what is not


def stack(array: NDArray[np.float32], data: DataConfig) -> sitk.Image:
    """Slices (N, H, W), rows to the back and columns to the left, as an axial image of ``eight_bit_spacing``."""
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((data.eight_bit_spacing, data.eight_bit_spacing, SLICE_MM))
    return image


def windowed_ct(array: NDArray[np.float32], body: NDArray[np.bool_], data: DataConfig) -> NDArray[np.float32]:
    """A CT (N, H, W) in [0, 1] as HU: 0 and 1 are the ends of ``eight_bit_window``, outside the body is air.

    A narrow window shows air and fat alike black; as air outside the body it can be told from what is inside.
    """
    low, high = data.eight_bit_window
    hu = np.float32(low) + array * np.float32(high - low)
    return np.where(body, hu, np.float32(AIR_HU))


def picture_body(array: NDArray[np.float32]) -> NDArray[np.bool_]:
    """The body in pictures (N, H, W) in [0, 1]: in each the largest piece that is not black, closed and filled."""
    return np.stack([_plane_body(plane) for plane in array])


def _plane_body(plane: NDArray[np.float32]) -> NDArray[np.bool_]:
    bright = np.pad(ndimage.binary_opening(plane > _BLACK), _CLOSING)
    closed = ndimage.binary_closing(bright, iterations=_CLOSING)[_CLOSING:-_CLOSING, _CLOSING:-_CLOSING]
    filled = ndimage.binary_fill_holes(closed)
    labels, count = ndimage.label(filled)
    return filled if count < 2 else labels == np.bincount(labels.ravel())[1:].argmax() + 1
