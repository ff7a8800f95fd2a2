"""What a real T1 of a head adds to its renderings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from DiffMaCore.errors import InputError
from DiffMaCore.imaging.phantom import Head, RenderOptions, has_t1, load_head, render
from DiffMaCore.imaging.phantom import tissues as t
from DiffMaCore.imaging.phantom.detail import detail_of
from DiffMaCore.imaging.phantom.signal import signal_table
from Testing.imaging.phantom.conftest import SIZE, SPACING
from Testing.imaging.phantom.test_heads import dummy


def t1_of(labels: np.ndarray) -> np.ndarray:
    """What the labels give, in a scanner's own units."""
    return 12 + 0.3 * signal_table(("t1",))[0][labels]


def test_a_t1_that_shows_what_the_labels_say_has_no_detail_whatever_its_units(head: Head) -> None:
    t1 = t1_of(head.labels)
    assert np.abs(detail_of(head.labels, t1)).max() <= 1  # rounding
    spot = np.zeros(head.labels.shape, bool)
    spot[100:110, 100:110] = True
    more = detail_of(head.labels, t1 + np.where(spot, 0.3 * 50, 0))
    assert (
        np.abs(more[spot & (head.labels > 0)] - 50).max() <= 1 and np.abs(more[~spot | (head.labels == 0)]).max() <= 1
    )
    unknown = detail_of(head.labels, np.where(spot, 0, t1))
    assert not unknown[spot].any(), "0 is not known, and adds nothing"


@pytest.mark.parametrize("seed", [1, 2, 3])  # as it is, and twice mirrored
def test_detail_goes_with_the_head_into_its_t1_alone(head: Head, seed: int) -> None:
    marked = np.where(head.labels == t.VENTRICLE.label, 100, 0).astype(np.int16)
    options = replace(RenderOptions(), artefacts=False, lesions=0.0, anatomy=False)
    plain = render(head, seed, SPACING, SIZE, options=options)
    detailed = render(replace(head, detail=marked), seed, SPACING, SIZE, options=options)
    assert np.array_equal(plain.ct, detailed.ct) and np.array_equal(plain.mr["t2"], detailed.mr["t2"])
    more = detailed.mr["t1"] - plain.mr["t1"]
    inside = plain.labels == t.VENTRICLE.label
    deep, near = ndimage.binary_erosion(inside), ndimage.binary_dilation(inside, iterations=2)
    assert deep.sum() > 50 and np.abs(more[deep] - 100).mean() < 10
    assert np.abs(more[~near]).mean() < 0.2  # horns thinner than a voxel


def test_the_t1_beside_a_label_map_is_read_with_it(tmp_path: Path) -> None:
    labels = dummy()
    labels[40:50, 40:45, 30:40] = 4
    path = tmp_path / "dummy.nii.gz"
    sitk.WriteImage(sitk.GetImageFromArray(labels), str(path))
    bare = load_head(path, cache=tmp_path / "kept")
    assert not has_t1(path) and not bare.detail.size
    t1 = np.where(labels == 2, 160, np.where(labels == 4, 40, 0)).astype(np.uint8)
    t1[20:25, 30:40, 30:40] = 200
    (tmp_path / "t1").mkdir()
    sitk.WriteImage(sitk.GetImageFromArray(t1), str(tmp_path / "t1" / "dummy.nii.gz"))
    full = load_head(path, cache=tmp_path / "kept")
    assert has_t1(path) and full.detail.shape == full.labels.shape
    assert np.array_equal(load_head(path, cache=tmp_path / "kept").detail, full.detail)
    bright = np.zeros(full.labels.shape, bool)
    bright[20:25, 34:44, 34:44] = True  # four voxels of air were put around the sides
    assert (full.detail[bright] > 100).all() and not full.detail[10:20].any()
    sitk.WriteImage(sitk.GetImageFromArray(t1[1:]), str(tmp_path / "t1" / "dummy.nii.gz"))
    with pytest.raises(InputError, match="has another grid than its label map"):
        load_head(path)
    sitk.WriteImage(sitk.GetImageFromArray(255 - t1), str(tmp_path / "t1" / "dummy.nii.gz"))
    with pytest.raises(InputError, match=r"dummy\.nii\.gz is not brighter in white matter than in the ventricles"):
        load_head(path)
