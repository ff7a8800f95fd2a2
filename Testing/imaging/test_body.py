"""The body mask."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from DiffMaCore.imaging.body import body_mask, with_outline
from DiffMaCore.imaging.reading import read_volume


def head_on_a_table(slices: int = 24, size: int = 160) -> tuple[np.ndarray, np.ndarray]:
    """HU and truth (1.5 x 1.5 x 3 mm): a round head with an air-filled sinus, a couch shell and a tube."""
    _, y, x = np.indices((slices, size, size)).astype(float)
    radius = np.hypot(y - 70, x - 80)
    head = radius < 55
    hu = np.where(head, 40.0, -1000.0)
    hu[np.hypot(y - 45, x - 80) < 9] = -990  # sinus
    hu[:, 140:142, 10:150] = 200  # couch
    hu[np.hypot(y - 20, x - 20) < 4] = 100  # tube
    return hu.astype(np.float32), head


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def test_the_head_is_found_whole_without_couch_and_tube() -> None:
    hu, head = head_on_a_table()
    mask = body_mask(hu, (3.0, 1.5, 1.5))
    assert overlap(mask, head) > 0.98
    assert mask[:, 45, 80].all()
    assert not mask[:, 141].any() and not mask[:, 20, 20].any()


def test_planes_along_another_axis_are_filled_too() -> None:
    hu, head = head_on_a_table()
    turned = body_mask(np.ascontiguousarray(hu.transpose(2, 0, 1)), (1.5, 3.0, 1.5), axis=1)
    assert overlap(turned, head.transpose(2, 0, 1)) > 0.98


def test_nothing_but_air_gives_an_empty_mask() -> None:
    assert not body_mask(np.full((5, 40, 40), -1000, np.float32), (3.0, 1.0, 1.0)).any()


def test_a_single_slice_has_a_body() -> None:
    hu, head = head_on_a_table(slices=1)
    assert overlap(body_mask(hu, (3.0, 1.5, 1.5)), head) > 0.98


def test_a_volume_of_fine_voxels_has_a_body() -> None:
    hu, _ = head_on_a_table(slices=40, size=160)
    big = np.repeat(np.repeat(hu, 3, axis=1), 3, axis=2)
    assert body_mask(big, (3.0, 0.5, 0.5))[20, 210, 240]


def test_the_real_head_has_its_size_and_loses_its_headrest(shared: Path) -> None:
    image = read_volume(shared / "data" / "head_ct_detilted_1x1x2mm.nii.gz").image
    mask = body_mask(sitk.GetArrayViewFromImage(image), image.GetSpacing()[::-1])
    width = np.ptp(np.flatnonzero(mask[40:70].any(axis=(0, 1)))) + 1
    assert 140 < width < 195
    assert mask[55, 110, 125]


def test_the_outline_adds_what_is_partly_air_within_reach_and_in_the_plane_alone() -> None:
    hu = np.full((3, 9, 11), -1000, np.float32)
    hu[1, 3:6, 4:7] = 40
    hu[1, 3:6, 7:9] = -600  # half skin, and what lies behind it
    hu[1, 6, 4:7] = -950
    hu[2] = -600
    body = hu > -300
    added = with_outline(body, hu, (0, 1, 1)) & ~body
    assert np.argwhere(added).tolist() == [[1, 3, 7], [1, 4, 7], [1, 5, 7]]
    assert (with_outline(body, hu, (0, 1, 2)) & ~body).sum() == 6
