"""The procedural head phantom."""

from __future__ import annotations

import numpy as np
import pytest

from DiffMaCore.errors import InputError
from DiffMaCore.phantom import Phantom, head_phantom, tissues

SPACING, SIZE = (3.6, 3.6, 8.0), (64, 64, 27)


@pytest.fixture(scope="module")
def plain() -> Phantom:
    return head_phantom(7, SPACING, SIZE, lesions=False, artefacts=False)


def test_the_same_seed_gives_the_same_head_and_another_seed_another(plain):
    again = head_phantom(7, SPACING, SIZE, lesions=False, artefacts=False)
    other = head_phantom(8, SPACING, SIZE, lesions=False, artefacts=False)
    assert np.array_equal(again.ct, plain.ct) and np.array_equal(again.mr, plain.mr)
    assert np.array_equal(again.labels, plain.labels)
    assert np.abs(other.ct - plain.ct).mean() > 10


def test_values_have_the_types_sizes_and_ranges_of_scans(plain):
    assert plain.ct.dtype == plain.mr.dtype == np.float32 and plain.labels.dtype == np.uint8
    assert plain.ct.shape == plain.mr.shape == plain.labels.shape == SIZE[::-1]
    assert -1024 <= plain.ct.min() < -900 and 700 < plain.ct.max() <= 3071
    assert plain.mr.min() >= 0 and 700 < plain.mr.max() < 1500
    assert np.isfinite(plain.ct).all() and np.isfinite(plain.mr).all()


def _mean(phantom: Phantom, array: np.ndarray, tissue: tissues.Tissue) -> float:
    return float(np.median(array[phantom.labels == tissue.label]))


def test_tissues_stand_in_the_order_of_a_ct_and_of_a_t1(plain):
    ct = {t: _mean(plain, plain.ct, t) for t in (tissues.CSF, tissues.WHITE, tissues.GREY, tissues.BONE, tissues.FAT)}
    mr = {t: _mean(plain, plain.mr, t) for t in ct}
    assert ct[tissues.FAT] < ct[tissues.CSF] < ct[tissues.WHITE] < ct[tissues.GREY] < ct[tissues.BONE]
    assert mr[tissues.BONE] < mr[tissues.CSF] < mr[tissues.GREY] < mr[tissues.WHITE] < mr[tissues.FAT]


def test_a_head_holds_every_tissue_and_lies_inside_the_grid():
    found: set[int] = set()
    for seed in range(3):
        phantom = head_phantom(seed, SPACING, SIZE, artefacts=False)
        found |= set(np.unique(phantom.labels).tolist())
        edge = np.concatenate([phantom.body[:, 0].ravel(), phantom.body[:, :, 0].ravel(), phantom.body[-1].ravel()])
        assert edge.mean() < 0.08  # now and then a nose or a vertex is cut, as in real scans
        assert 0.15 < phantom.body.mean() < 0.6
    needed = (
        tissues.SKIN,
        tissues.FAT,
        tissues.MUSCLE,
        tissues.BONE,
        tissues.MARROW,
        tissues.CSF,
        tissues.GREY,
        tissues.WHITE,
        tissues.DEEP_GREY,
        tissues.VITREOUS,
        tissues.AIR,
        tissues.TOOTH,
    )
    assert {t.label for t in needed} <= found


def test_the_head_keeps_its_size_in_mm_when_the_grid_is_finer(plain):
    fine = head_phantom(7, (2.4, 2.4, 8.0), (96, 96, 27), lesions=False, artefacts=False)
    volume = plain.body.sum() * np.prod(SPACING) / 1e6
    assert fine.body.sum() * 2.4 * 2.4 * 8.0 / 1e6 == pytest.approx(volume, rel=0.25)
    assert 2.0 < volume < 7.0  # litres


def test_images_carry_spacing_and_patient_coordinates(plain):
    image = plain.ct_image()
    assert image.GetSpacing() == SPACING and image.GetSize() == SIZE
    centre = image.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in SIZE])
    assert np.allclose(centre, 0)
    assert plain.mr_image().GetSpacing() == SPACING
    assert plain.label_image().GetSize() == SIZE
    # eyes lie in front (small y) and the vertex is the last slice
    eyes = np.argwhere(plain.labels == tissues.VITREOUS.label)
    assert eyes[:, 1].mean() < np.argwhere(plain.body)[:, 1].mean()
    assert plain.body[0].sum() > plain.body[-1].sum()


def test_artefacts_change_the_ct_but_the_head_stays_recognisable(plain):
    rough = head_phantom(7, SPACING, SIZE, lesions=False, artefacts=True)
    inside = rough.body & plain.body
    assert inside.sum() > 0.3 * plain.body.sum()
    assert np.corrcoef(rough.ct[inside], plain.ct[inside])[0, 1] > 0.6


def test_an_empty_grid_is_refused():
    with pytest.raises(InputError, match="at least 2 voxels"):
        head_phantom(0, SPACING, (0, 64, 27))
    with pytest.raises(InputError, match="positive spacing"):
        head_phantom(0, (0.0, 1.0, 1.0), SIZE)
