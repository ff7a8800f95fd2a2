"""Label maps of heads: what comes along, how they are cleaned and kept."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from DiffMaCore.errors import InputError
from DiffMaCore.imaging.phantom import Head, bundled_heads, heads_in, load_head
from DiffMaCore.imaging.phantom import splitting as s
from DiffMaCore.imaging.phantom import tissues as t
from DiffMaCore.imaging.phantom.cleaning import clean

ROOT = Path(__file__).resolve().parents[3]


def test_sixteen_heads_come_along_and_the_two_of_the_package_train_nothing() -> None:
    training, bundled = heads_in(ROOT / "Training" / "heads"), heads_in(ROOT / "DiffMaCore" / "data" / "heads")
    assert len(training) == 14 and tuple(bundled) == bundled_heads() and not set(training) & set(bundled)
    for path in (*training.values(), *bundled.values()):
        image = sitk.ReadImage(str(path))
        labels = np.unique(sitk.GetArrayViewFromImage(image))
        assert image.GetSpacing() == pytest.approx((1, 1, 1)) and set(labels) <= {0, *t.SOURCE_LABELS}, path.name
    for folder in ("Training/heads", "DiffMaCore/data/heads"):
        assert "Apache License" in (ROOT / folder / "LICENSE").read_text()
        assert "SynthSeg" in (ROOT / folder / "NOTICE").read_text()


def test_a_loaded_head_is_whole_clean_and_measured(head: Head) -> None:
    assert head.name == "head_12" and len(head.eyes) == 2 and 10 < head.eyes[:, 3].mean() < 14
    solid = head.labels > 0
    assert ndimage.label(solid)[1] == 1
    assert not solid[-1].any() and not solid[:, 0].any() and not solid[:, :, -1].any()
    assert 150 < head.length < 220 and np.isfinite(head.landmarks).all()
    air, count = ndimage.label(head.labels == t.AIR.label)
    assert np.bincount(air.ravel())[1:].max() > 5000 and count < 60
    bone = ndimage.label(np.isin(head.labels, [t.BONE.label, t.DIPLOE.label]), np.ones((3, 3, 3)))[0]
    assert np.bincount(bone.ravel())[1:].min() >= 10


def test_distance_maps_are_signed_and_in_mm(head: Head) -> None:
    brain = np.isin(head.labels, t.BRAIN)
    distance = (head.maps[..., s.TO_BRAIN].astype(float) - s.SIGNED[1]) / s.SIGNED[0]
    assert (distance[brain] < 0).all() and (distance[~brain] > 0).all()
    exact = ndimage.distance_transform_edt(~brain)
    near = (exact > 0) & (exact < 7)
    assert np.abs(distance[near] - (exact[near] - 0.5)).max() < 0.1
    left, right = (np.argwhere(head.labels == t.EYE.label)[:, 2] > head.centre[2]).mean(), 0.5
    assert abs(left - right) < 0.1


def dummy(radius: int = 30) -> np.ndarray:
    """A head on a neck as wide: skin, bone, brain."""
    z, y, x = np.ogrid[-35:36, -35:36, -35:36]
    far = np.sqrt(np.maximum(z, 0) ** 2 + y**2 + x**2)
    labels = np.zeros((71, 71, 71), np.int16)
    for edge, label in ((radius, 511), (radius - 4, 515), (radius - 8, 2)):
        labels[far < edge] = label
    return labels


def test_a_head_can_be_pickled_and_is_kept_in_a_cache(tmp_path: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(dummy()), str(tmp_path / "dummy.nii.gz"))
    head = load_head(tmp_path / "dummy.nii.gz")
    again = pickle.loads(pickle.dumps(head))  # noqa: S301
    first = load_head(tmp_path / "dummy.nii.gz", cache=tmp_path / "kept")
    kept = list((tmp_path / "kept").iterdir())
    stamp = kept[0].stat().st_mtime_ns
    second = load_head(tmp_path / "dummy.nii.gz", cache=tmp_path / "kept")
    assert len(kept) == 1 and kept[0].stat().st_mtime_ns == stamp
    for one in (again, first, second):
        assert (one.name, one.base, one.length) == ("dummy", head.base, head.length)
        assert np.array_equal(one.labels, head.labels) and np.array_equal(one.maps, head.maps)
        assert np.array_equal(one.eyes, head.eyes) and np.array_equal(one.landmarks, head.landmarks, equal_nan=True)


def test_specks_outside_go_pits_in_bone_are_filled_and_a_cavity_stays() -> None:
    source = dummy()
    source[60, 3, 3] = 24
    source[35, 35, 11] = 0  # a pit in the bone
    source[30:40, 30:40, 30:40] = 0  # a cavity
    labels, cut = clean(source)
    assert cut == 0 and labels.shape == (75, 79, 79)
    assert labels[60, 7, 7] == t.OUTSIDE.label
    assert labels[35, 39, 15] == t.BONE.label
    assert (labels == t.AIR.label).sum() == 1000


def test_ragged_slices_at_the_neck_are_cut_off() -> None:
    source = dummy()
    source[:4, :, 36:] = 0
    labels, cut = clean(source)
    assert 4 <= cut <= 6 and (labels[0] > 0).sum() == pytest.approx((labels[10] > 0).sum(), rel=0.1)


def test_a_map_that_is_not_there_or_too_coarse_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no label maps"):
        heads_in(tmp_path)
    with pytest.raises(InputError, match="no head called nobody"):
        load_head("nobody")
    coarse = sitk.Image(20, 20, 20, sitk.sitkUInt16)
    coarse.SetSpacing((2, 2, 2))
    sitk.WriteImage(coarse, str(tmp_path / "coarse.nii.gz"))
    with pytest.raises(InputError, match="has 1 mm"):
        load_head(tmp_path / "coarse.nii.gz")
