"""A label map for a real T1: what the T1 itself says of brain and skull. Registration takes minutes and is not run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from DiffMaCore.errors import InputError
from DiffMaCore.imaging.phantom.tissues import SOURCE_BRAIN
from Training import transfer_labels as tl

SHAPE = (90, 90, 90)


def ball(radius: float, centre: tuple[float, float, float] = (45, 45, 45)) -> np.ndarray:
    z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    return (z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2 < radius**2


@pytest.fixture
def head() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The true label map of a round head, the same as another head's registration carries it, and its T1."""
    true = np.zeros(SHAPE, np.int32)
    for radius, label in ((42, tl.SKIN), (37, tl.BONE), (31, tl.CSF), (29, 3), (25, 2), (7, 4)):
        true[ball(radius)] = label
    looks = {0: 0.0, tl.SKIN: 1.1, tl.BONE: 0.1, tl.CSF: 0.22, 3: 0.62, 2: 1.0, 4: 0.22}
    t1 = np.zeros(SHAPE, np.float32)
    for label, value in looks.items():
        t1[true == label] = value
    rng = np.random.default_rng(0)
    t1 = ndimage.gaussian_filter(t1, 0.5) + rng.normal(0, 0.02, SHAPE).astype(np.float32) * (true > 0)
    carried = ndimage.shift(true, (0, 2, 0), order=0, mode="nearest")
    return true, carried, t1


def agreement(found: np.ndarray, true: np.ndarray, *labels: int) -> float:
    a, b = np.isin(found, labels), np.isin(true, labels)
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def test_the_t1_puts_right_what_registration_left_off(head) -> None:
    true, carried, t1 = head
    brain = np.isin(carried, [*SOURCE_BRAIN, tl.CSF])
    found = tl.by_intensity(carried, t1, brain)
    for labels in ((2, 41), (3, 42), tl.VENTRICLES):
        assert agreement(found, true, *labels) > max(0.9, agreement(carried, true, *labels)), labels
    found = tl.with_skull(found, t1, ball(31))
    assert agreement(found[60:], true[60:], tl.BONE, tl.MARROW) > 0.9, "above the base of the skull"
    assert not found[~ndimage.binary_dilation(true > 0, iterations=2)].any(), "nothing outside the head"


def test_a_removed_face_has_no_labels(head) -> None:
    true, carried, t1 = head
    nose = ball(10, (45, 0, 45)) & ~ball(44)
    carried = np.where(nose, tl.FLESH, carried)
    assert (nose & (t1 > 0.1)).sum() < 0.05 * nose.sum(), "the T1 does not show it"
    found = tl.with_skull(carried, t1, ball(31))
    assert (found[nose] > 0).mean() < 0.2
    assert agreement(found, true, *np.unique(true[true > 0])) > 0.95


def test_parcels_are_the_brain_where_there_are_some(head) -> None:
    _, carried, _ = head
    parcels = np.zeros(SHAPE, np.int32)
    parcels[ball(28)], parcels[ball(24)], parcels[ball(6)] = 1012, 2, 31
    parcels[45:][ball(28)[45:] & ~ball(24)[45:]] = 2030
    found = tl.by_parcels(carried, parcels)
    assert set(np.unique(found[ball(28)])) == {3, 42, 2, 4}
    assert (found[np.isin(carried, SOURCE_BRAIN) & (parcels == 0)] == tl.CSF).all()
    assert (found[(carried == tl.BONE) & (parcels == 0)] == tl.BONE).all()


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no .*t1.nii.gz"):
        tl.transfer(tmp_path / "t1.nii.gz", tmp_path / "labels.nii.gz", tmp_path / "out.nii.gz")
