"""A patient's two volumes to paired slices, by the functions that inference lays its slices with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from DiffMaCore.errors import InputError
from DiffMaCore.imaging.checks import check_ct
from DiffMaCore.imaging.grid import AIR_HU, SliceGrid
from DiffMaCore.imaging.source import normalise, percentile_normalisation, ready_source
from DiffMaCore.training.checks import check_case
from DiffMaCore.training.experiment import CT, DataConfig
from DiffMaCore.training.sources.case import CaseSlices, RawCase, RawPair

_FLAT = 1e-3  # a slice whose target spans less inside the body shows nothing


def read_case(case: RawCase, data: DataConfig) -> CaseSlices | list[str]:
    """The slices of a case, or why it is left out; imports no torch, so that a process that reads starts at once."""
    try:
        pair = case.load()
        if isinstance(pair, CaseSlices):
            return pair
        return check_case(pair, data) or slice_pair(pair, data)
    except InputError as problem:
        return [str(problem)]


def slice_pair(pair: RawPair, data: DataConfig) -> CaseSlices:
    """The slices of a pair that show enough of the body and a target.

    Raises InputError where a volume cannot be used or no slice is left.
    """
    normalisation = None if data.source == CT else percentile_normalisation(*data.mr_percentiles)
    source = ready_source(pair.source, normalisation)
    grid = SliceGrid.from_image(source.image, source.body, data.pixel_spacing, data.image_size)
    planes = range(grid.n_slices)[:: data.slice_step]
    shown = _on_grid(grid, source.body, planes)
    wanted = np.flatnonzero(shown.mean(axis=(1, 2)) >= max(data.least_body, 1e-9))
    if not len(wanted):
        raise InputError(f"no slice shows {100 * data.least_body:g} % of body; lower data.least_body")

    target, outside = _target(pair.target, source.body, data)
    images = grid.slices(target, [planes[k] for k in wanted], outside)
    empty = np.array([np.ptp(image[shown[k]]) < _FLAT for k, image in zip(wanted, images, strict=True)])
    if empty.all():
        raise InputError(f"the {data.target} has one value all over the body; check that it shows the same patient")
    keep = [planes[k] for k in wanted[~empty]]
    notes = [*pair.notes, *source.notes, *grid.notes]
    if empty.any():
        notes.append(f"{int(empty.sum())} slices without anything in the {data.target} were left out.")
    mask = None if pair.mask is None else sitk.GetArrayViewFromImage(pair.mask) > 0
    return CaseSlices(
        source=grid.slices(sitk.GetArrayViewFromImage(source.image), keep, source.outside),
        target=images[~empty],
        body=shown[wanted[~empty]] if mask is None else _on_grid(grid, mask, keep),
        index=np.array(keep, np.int64),
        spacing=grid.slab_sign * source.image.GetSpacing()[grid.slab_axis],
        notes=notes,
    )


def _target(image: sitk.Image, body: NDArray[np.bool_], data: DataConfig) -> tuple[NDArray[np.floating], float]:
    """The target volume, HU or normalised inside the source's body, and the value beyond it."""
    if data.target == CT:
        return sitk.GetArrayViewFromImage(check_ct(image)[0]), AIR_HU
    return normalise(sitk.GetArrayViewFromImage(image), body, *data.mr_percentiles), -1.0


def _on_grid(grid: SliceGrid, mask: NDArray[np.bool_], planes: Sequence[int]) -> NDArray[np.bool_]:
    return grid.slices(mask, planes, 0.0) >= 0.5
