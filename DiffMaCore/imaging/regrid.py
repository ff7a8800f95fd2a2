"""Put a stack of parallel slices on one regular orthogonal grid: tilted gantry, uneven or missing slices."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk

from DiffMaCore.errors import InputError

AIR_HU = -1024.0

_UNEVEN = 0.02  # of the slice spacing: smaller deviations are no deviations
_ROUNDING_MM = 0.06  # positions written with one decimal, up to a tenth of the slice spacing
_DRIFT_PIXELS = 0.25  # sideways drift over the whole stack below which it counts as straight
_COMMON = 0.25  # part of the steps a spacing must make up to become the grid's
_MOST_SLICES = 4  # as many times the slices there were, at most


@dataclass(frozen=True)
class Stack:
    """Parallel slices in order along their normal.

    Attributes:
        voxels: (slices, rows, columns) float32.
        positions: (slices, 3) centre of each slice's first pixel, mm, LPS.
        row, column: directions along a row and along a column.
        spacing: mm between columns and between rows.
        thickness: mm, the slice spacing where there is but one slice.
    """

    voxels: np.ndarray
    positions: np.ndarray
    row: np.ndarray
    column: np.ndarray
    spacing: tuple[float, float]
    thickness: float


def to_regular_grid(stack: Stack) -> tuple[sitk.Image, list[str]]:
    """The stack as an image, and notes; the notes are empty when no voxel had to be moved.

    Where the slices drift sideways (gantry tilt) or their distances differ, voxels are resampled once:
    each slice is shifted within its plane, then neighbours are interpolated linearly along the normal.

    Raises:
        InputError: rows and columns are not perpendicular.
    """
    # directions of three decimals are off by up to 1.8e-3
    if abs(stack.row @ stack.column) > 2e-3 or abs(np.linalg.norm(stack.row) * np.linalg.norm(stack.column) - 1) > 2e-3:
        raise InputError("the DICOM orientation is no pair of perpendicular directions; export the series again")
    # headers round their directions; ITK and NIfTI would each mend what is not orthonormal in another way
    left, _, right = np.linalg.svd(np.stack([stack.row, stack.column]), full_matrices=False)
    row, column = left @ right
    stack = replace(stack, row=row, column=column)
    normal = np.cross(row, column)
    offsets = stack.positions - stack.positions[0]
    along = offsets @ normal
    if len(along) == 1:
        return _image(stack.voxels, stack, stack.positions[0], stack.thickness or 1.0), []
    even = np.linspace(0, along[-1], len(along))
    spacing = float(along[-1]) / (len(along) - 1)
    sideways = np.stack([offsets @ stack.row / stack.spacing[0], offsets @ stack.column / stack.spacing[1]], axis=1)
    tilted = float(np.ptp(sideways, axis=0).max()) > _DRIFT_PIXELS
    uneven = float(np.abs(along - even).max()) > _tolerance(spacing)
    if not tilted and not uneven:
        exact = float(np.linalg.norm(offsets[-1])) / (len(along) - 1)
        return _image(stack.voxels, stack, stack.positions[0], exact), []
    return _resampled(stack, along, sideways, tilted, uneven)


def _resampled(
    stack: Stack, along: np.ndarray, sideways: np.ndarray, tilted: bool, uneven: bool
) -> tuple[sitk.Image, list[str]]:
    step = _common_step(np.diff(along)) if uneven else float(along[-1]) / (len(along) - 1)
    count = int(np.ceil(along[-1] / step - 0.05)) + 1
    if not tilted:
        sideways = np.zeros_like(sideways)
    low = np.floor(sideways.min(axis=0) + 1e-6)
    shifts = sideways - low
    extra = np.ceil(shifts.max(axis=0) - 1e-6).astype(int)
    shape = (stack.voxels.shape[1] + extra[1], stack.voxels.shape[2] + extra[0])
    voxels = np.empty((count, *shape), np.float32)
    shifted: dict[int, np.ndarray] = {}
    for k in range(count):
        at = min(k * step, float(along[-1]))
        lower = min(int(np.searchsorted(along, at + 1e-6, side="right")) - 1, len(along) - 2)
        weight = float((at - along[lower]) / (along[lower + 1] - along[lower]))
        shifted = {
            i: shifted[i] if i in shifted else _shift(stack.voxels[i], shifts[i], shape) for i in (lower, lower + 1)
        }
        voxels[k] = shifted[lower] * np.float32(1 - weight) + shifted[lower + 1] * np.float32(weight)
    origin = stack.positions[0] + low[0] * stack.spacing[0] * stack.row + low[1] * stack.spacing[1] * stack.column
    return _image(voxels, stack, origin, step), [_sentence(stack, along, tilted, uneven, voxels.shape, step)]


def _tolerance(spacing: float) -> float:
    return max(0.01, _UNEVEN * spacing, min(_ROUNDING_MM, 0.1 * spacing))


def _common_step(steps: np.ndarray) -> float:
    """The smallest distance that is common among the slices, else their mean."""
    mean = float(steps.mean())
    for step in np.sort(steps):
        alike = steps[np.abs(steps - step) <= _tolerance(step)]
        if len(alike) >= _COMMON * len(steps) and step >= mean / _MOST_SLICES:
            return float(alike.mean())
    return mean


def _shift(plane: np.ndarray, shift: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """``plane`` moved by ``shift`` (columns, rows) pixels into a larger one, linearly, air around it."""
    out = np.full(shape, AIR_HU, np.float32)
    whole = np.floor(shift + 1e-6).astype(int)
    part = np.clip(shift - whole, 0, 1).astype(np.float32)
    moved = plane
    for axis, fraction in ((1, part[0]), (0, part[1])):
        if fraction > 1e-3:
            pad = [(0, 1) if a == axis else (0, 0) for a in (0, 1)]
            before = [(1, 0) if a == axis else (0, 0) for a in (0, 1)]
            moved = np.pad(moved, pad, constant_values=AIR_HU) * (1 - fraction) + fraction * np.pad(
                moved, before, constant_values=AIR_HU
            )
    rows, columns = min(moved.shape[0], shape[0] - whole[1]), min(moved.shape[1], shape[1] - whole[0])
    out[whole[1] : whole[1] + rows, whole[0] : whole[0] + columns] = moved[:rows, :columns]
    return out


def _image(voxels: np.ndarray, stack: Stack, origin: np.ndarray, step: float) -> sitk.Image:
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing((*stack.spacing, step))
    image.SetOrigin(origin.tolist())
    image.SetDirection(np.stack([stack.row, stack.column, np.cross(stack.row, stack.column)], axis=1).ravel().tolist())
    return image


def _sentence(stack: Stack, along: np.ndarray, tilted: bool, uneven: bool, shape: tuple[int, ...], step: float) -> str:
    moves = np.diff(stack.positions, axis=0)
    lengths = np.linalg.norm(moves, axis=1)
    causes = []
    if tilted:
        angle = np.degrees(
            np.arccos(np.clip(along[-1] / np.linalg.norm(stack.positions[-1] - stack.positions[0]), -1, 1))
        )
        causes.append(f"the gantry was tilted by {angle:.1f} degrees")
    if uneven:
        causes.append(f"the slices lie {_distances(lengths)} mm apart")
    x, y = stack.spacing
    return (
        f"Resampled once to a regular grid, which the result shares, because {' and '.join(causes)}:"
        f" {shape[2]} x {shape[1]} x {shape[0]} voxels of {x:.3f} x {y:.3f} x {step:.2f} mm."
    )


def _distances(lengths: np.ndarray) -> str:
    """Distances with their counts, the commonest first, at most three."""
    values, counts = np.unique(np.round(lengths, 2), return_counts=True)
    order = np.argsort(-counts, kind="stable")
    shown = [f"{values[i]:.2f} ({'once' if counts[i] == 1 else f'{counts[i]} times'})" for i in order[:3]]
    return ", ".join(shown) + (" and others" if len(values) > 3 else "")
