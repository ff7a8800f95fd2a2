"""A rendered head: what its CT and MRIs must show."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from DiffMaCore.errors import InputError
from DiffMaCore.imaging.phantom import Head, Phantom, RenderOptions, bundled_heads, head_phantom, render
from DiffMaCore.imaging.phantom import tissues as t
from Testing.imaging.phantom.conftest import SIZE, SPACING

STILL = replace(RenderOptions.plain(), artefacts=True)  # no deformation, but a real scanner


def middle(phantom: Phantom, array: np.ndarray, *tissues: t.Tissue) -> float:
    """Median over voxels that lie well inside the tissues."""
    mask = np.isin(phantom.labels, [tissue.label for tissue in tissues])
    inner = ndimage.binary_erosion(mask)
    return float(np.median(array[inner if inner.sum() > 30 else mask]))


def test_the_same_seed_gives_the_same_arrays_and_another_seed_another_head(head: Head) -> None:
    first, again, other = (render(head, seed, (4.0, 4.0, 8.0), (56, 56, 30)) for seed in (11, 11, 12))
    assert np.array_equal(first.ct, again.ct) and np.array_equal(first.labels, again.labels)
    assert all(np.array_equal(first.mr[name], again.mr[name]) for name in ("t1", "t2", "flair"))
    assert (first.labels != other.labels).mean() > 0.1


def test_arrays_have_the_types_shapes_and_ranges_of_scans(plain: Phantom) -> None:
    arrays = [plain.ct, *plain.mr.values()]
    assert all(array.dtype == np.float32 and array.shape == SIZE[::-1] for array in arrays)
    assert plain.labels.dtype == np.uint8 and plain.body.dtype == plain.brain.dtype == np.bool_
    assert -1024 <= plain.ct.min() < -950 and 1000 < plain.ct.max() <= 3071
    for array in plain.mr.values():
        assert array.min() == 0 and 600 < array.max() <= 1000
    assert not plain.mr["t1"][~ndimage.binary_dilation(plain.body, iterations=2)].any()


def test_contrasts_stand_in_the_order_of_real_scans(plain: Phantom) -> None:
    fluid = (t.CSF, t.VENTRICLE)
    t1, t2, flair, ct = plain.mr["t1"], plain.mr["t2"], plain.mr["flair"], plain.ct
    grey, white = (t.CORTEX, t.DEEP_GREY), (t.WHITE,)
    assert middle(plain, t1, t.FAT) > middle(plain, t1, *white) > middle(plain, t1, *grey) > middle(plain, t1, *fluid)
    assert middle(plain, t2, *fluid) > middle(plain, t2, *grey) > middle(plain, t2, *white)
    assert middle(plain, flair, *grey) > middle(plain, flair, *white) > 3 * middle(plain, flair, *fluid)
    assert middle(plain, ct, *grey) > middle(plain, ct, *white) > middle(plain, ct, *fluid) > middle(plain, ct, t.FAT)
    assert abs(middle(plain, t1, *white) - 700) < 15


def test_ct_numbers_are_those_of_the_table(plain: Phantom) -> None:
    for tissue, tolerance in ((t.WHITE, 1.5), (t.VENTRICLE, 3), (t.MUSCLE, 8), (t.EYE, 6)):
        assert abs(middle(plain, plain.ct, tissue) - tissue.hu) < tolerance, tissue
    assert middle(plain, plain.ct, t.BONE) > 600
    assert np.percentile(plain.ct[plain.labels == t.AIR.label], 10) < -900


def test_what_has_no_label_in_the_map_is_split_off(head: Head, plain: Phantom) -> None:
    found = set(np.unique(plain.labels).tolist())
    wanted = (t.SKIN, t.FAT, t.FIBROUS_FAT, t.MUSCLE, t.DURA, t.AIR, t.TOOTH, t.GLAND, t.CHOROID)
    assert {tissue.label for tissue in wanted} <= found and t.SOFT.label not in found
    fine = render(head, 3, (1.3, 1.3, 2.0), (176, 176, 112), contrasts=("t1",), options=RenderOptions.plain())
    assert {t.LENS.label, t.SCLERA.label, t.OPTIC_NERVE.label, t.CALCIUM.label} <= set(np.unique(fine.labels).tolist())
    depth = ndimage.distance_transform_edt(fine.body, sampling=(2, 1.3, 1.3))
    scalp = fine.labels[(depth > 0.5) & (depth < 1.5) & (np.arange(112) > 75)[:, None, None]]
    assert (scalp[scalp > 0] == t.SKIN.label).mean() > 0.8


def test_the_body_holds_the_air_inside_and_leaves_the_headrest_out(head: Head) -> None:
    rested = [render(head, seed, SPACING, SIZE, contrasts=("t1",), options=STILL) for seed in range(4)]
    sure = [phantom.ct[~ndimage.binary_dilation(phantom.body, iterations=3)] for phantom in rested]
    assert any((values > -700).sum() > 200 for values in sure)  # there is a headrest, and the body is without it
    for phantom in rested:
        assert phantom.body[phantom.labels == t.AIR.label].mean() > 0.9
        assert phantom.body[phantom.brain].all() and 1.0e6 < phantom.brain.sum() * np.prod(SPACING) < 2.0e6
        assert ndimage.label(phantom.body)[1] < 6


def test_partial_volume_fills_the_gap_between_tissues(plain: Phantom) -> None:
    t1 = plain.mr["t1"][plain.brain]
    between = (t1 > 480) & (t1 < 660)  # neither cortex nor white matter
    assert 0.1 < between.mean() < 0.5


def test_the_mr_is_free_of_noise_and_the_ct_is_not(head: Head, plain: Phantom) -> None:
    noisy = render(head, 3, SPACING, SIZE, options=STILL)
    kept = ndimage.binary_erosion(plain.labels == t.VENTRICLE.label) & (noisy.labels == t.VENTRICLE.label)
    spread = {kind: np.percentile(array[kept], (30, 70)) for kind, array in (("t1", noisy.mr["t1"]), ("ct", noisy.ct))}
    assert kept.sum() > 60
    assert np.ptp(spread["t1"]) < 1e-3 and np.ptp(np.percentile(plain.ct[kept], (30, 70))) < 0.3
    assert np.ptp(spread["ct"]) > 0.5


def test_a_noisier_scan_is_of_the_same_head(head: Head) -> None:
    quiet, noisy = (
        render(head, 5, (4.0, 4.0, 8.0), (40, 48, None), contrasts=("t1",), options=RenderOptions(noise=(hu, hu)))
        for hu in (1.0, 20.0)
    )
    assert np.array_equal(quiet.mr["t1"], noisy.mr["t1"]) and np.array_equal(quiet.body, noisy.body)
    added = (noisy.ct - quiet.ct)[quiet.brain]
    assert abs(added.mean()) < 1 and 5 < added.std() < 20


def test_a_picture_in_a_brain_window_shows_all_bone_alike_and_fat_as_air_shows(head: Head) -> None:
    once, window = (render(head, 4, SPACING, SIZE, options=RenderOptions(pictures=share)) for share in (0.0, 1.0))
    assert np.array_equal(once.mr["t1"], window.mr["t1"]) and np.array_equal(once.body, window.body)
    inside, brain = window.ct[window.body], once.brain & (once.ct > 5) & (once.ct < 60)
    assert set(np.unique(inside[(inside < -20) | (inside > 100)])) == {-100.0, 900.0}
    assert (window.ct[~window.body] <= -1000).all()
    assert np.abs(window.ct - once.ct)[brain].max() <= 0.5 * 120 / 255


def test_a_denser_brain_is_denser_with_its_fluid_and_nothing_else_changes(head: Head) -> None:
    plain = RenderOptions.plain()
    living, dead = (
        render(head, 5, (4.0, 4.0, 8.0), (40, 48, None), contrasts=("t1",), options=replace(plain, dense=share))
        for share in (0.0, 1.0)
    )
    np.testing.assert_array_equal(living.mr["t1"], dead.mr["t1"])
    more = dead.ct - living.ct
    by = {
        tissue: float(np.median(more[living.labels == tissue.label]))
        for tissue in (t.WHITE, t.VENTRICLE, t.BONE, t.FAT)
    }
    assert 3 <= by[t.WHITE] <= 26 and abs(by[t.VENTRICLE] - by[t.WHITE]) < 1
    assert by[t.BONE] == by[t.FAT] == 0


def test_grey_and_white_matter_differ_by_what_is_asked_for(head: Head) -> None:
    options = replace(RenderOptions.plain(), grey_white=(2.0, 0.0))
    ct = render(head, 5, (2.0, 2.0, 4.0), (80, 96, None), contrasts=("t1",), options=options)
    cortex, white = (np.median(ct.ct[ct.labels == each.label]) for each in (t.CORTEX, t.WHITE))
    assert 0 < cortex - white < 3


def test_thick_slices_blur_the_ct_and_never_the_mr(head: Head) -> None:
    blurred = []
    for seed in (2, 3):  # a thick slice and a thin one
        sharp, real = (
            render(head, seed, (3.5, 3.5, 1.5), (64, 64, 60), contrasts=("t1",), options=options)
            for options in (RenderOptions.plain(), STILL)
        )
        same = real.body & ndimage.binary_erosion(sharp.body, iterations=2)
        assert np.abs(real.mr["t1"] - sharp.mr["t1"])[same].mean() < 3  # but for fillings of the teeth
        steps = [np.abs(np.diff(np.clip(p.ct, -200, 900), axis=0))[same[1:]].mean() for p in (real, sharp)]
        blurred.append(steps[0] / steps[1])
    assert min(blurred) < 0.75


def test_a_lesion_shows_in_the_ct_and_in_every_mri(head: Head) -> None:
    options = replace(RenderOptions.plain(), lesions=1.0)
    kinds = {t.BLOOD: 25, t.OLD_INFARCT: -10, t.NEW_INFARCT: -4, t.OEDEMA: -4}  # HU beside the brain's mean
    seen = set()
    for seed in (0, 6, 8, 13):  # one with each, found by rendering many
        phantom = render(head, seed, (3.0, 3.0, 6.0), (76, 76, 40), options=options)
        healthy = np.isin(phantom.labels, [t.WHITE.label, t.CORTEX.label])
        for kind, change in kinds.items():
            core = ndimage.binary_erosion(phantom.labels == kind.label)
            if core.sum() < 5 or kind in seen:
                continue
            seen.add(kind)
            shift = np.median(phantom.ct[core]) - np.median(phantom.ct[healthy])
            assert shift * np.sign(change) > 0.7 * abs(change), kind
            for name, least in (("t1", 20), ("t2", 30), ("flair", 30)):
                there, usual = np.median(phantom.mr[name][core]), np.median(phantom.mr[name][healthy])
                assert abs(there - usual) > least or kind is t.BLOOD, (kind, name)
    assert seen == set(kinds)


def test_a_perfect_ct_lies_exactly_over_its_mr(plain: Phantom) -> None:
    bone = np.clip(plain.ct, 300, 900)
    dark = -np.clip(plain.mr["t1"], 100, 500)
    inner = ndimage.binary_erosion(plain.body, iterations=3)
    scores = {
        (dz, dy, dx): np.corrcoef(np.roll(bone, (dz, dy, dx), (0, 1, 2))[inner], dark[inner])[0, 1]
        for dz in (-1, 0, 1)
        for dy in (-1, 0, 1)
        for dx in (-1, 0, 1)
    }
    assert max(scores, key=lambda key: scores[key]) == (0, 0, 0)


def test_images_are_axial_in_patient_coordinates(head: Head, plain: Phantom) -> None:
    image = plain.mr_image("t2")
    assert image.GetSize() == SIZE and image.GetSpacing() == SPACING
    assert image.GetDirection() == (1, 0, 0, 0, 1, 0, 0, 0, 1)
    eyes = np.argwhere(plain.labels == t.EYE.label).mean(0)
    brain = np.argwhere(plain.brain).mean(0)
    assert eyes[0] < brain[0] and eyes[1] < brain[1]  # the eyes are below the brain's middle and in front of it
    with pytest.raises(InputError, match="t1, not flair"):
        render(head, 0, (8.0, 8.0, 10.0), (28, 28, 24), contrasts=("t1",)).mr_image("flair")


def test_a_phantom_is_one_of_the_bundled_heads_by_its_seed() -> None:
    grid = ((6.0, 6.0, 8.0), (38, 38, 27))
    assert bundled_heads() == ("head_06", "head_12")
    assert {head_phantom(seed, *grid).head for seed in (0, 1)} == set(bundled_heads())
    assert head_phantom(0, *grid, head="head_12").head == "head_12"
    with pytest.raises(InputError, match="head_06, head_12"):
        head_phantom(0, *grid, head="head_99")


def test_an_empty_grid_and_an_unknown_contrast_are_refused(head: Head) -> None:
    with pytest.raises(InputError, match="is empty"):
        render(head, 0, SPACING, (0, 64, 27))
    with pytest.raises(InputError, match="is empty"):
        render(head, 0, (0.0, 1.0, 1.0), SIZE)
    with pytest.raises(InputError, match="no contrast pd"):
        render(head, 0, SPACING, SIZE, contrasts=("t1", "pd"))
