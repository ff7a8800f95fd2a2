"""A CT that holds what a model was not trained on is flagged, in words; a plain head is not."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
import SimpleITK as sitk

from DiffMaCore.bundles.config import read_config
from DiffMaCore.bundles.store import resolve
from DiffMaCore.imaging.phantom import Phantom, RenderOptions, bundled_head, render
from DiffMaCore.imaging.training_range import FEATURES, NOT_KNOWN, WITHIN, features, outside, ranges, training_words
from Testing.heads import HEAD
from Testing.unseen import KINDS, unseen

DEMO = read_config(resolve("demo")).trained_on


@lru_cache(maxsize=2)
def _head(seed: int) -> Phantom:
    options = RenderOptions(lesions=0, artefacts=False)
    return render(bundled_head(HEAD), seed, (2.8, 2.8, 3.0), (80, 80, None), contrasts=("t1",), options=options)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_plain_head_is_within_the_demos_training(seed: int) -> None:
    assert training_words(_head(seed).ct_image(), DEMO) == (WITHIN, False)


@pytest.mark.parametrize("kind", KINDS)
def test_what_no_training_head_holds_is_found(kind: str) -> None:
    seed = 2 if kind == "a brain denser by 32 HU" else 1  # near the edge: scanners of the training are up to 16 HU off
    words, warns = training_words(unseen(kind, _head(seed), 0), DEMO)
    assert warns and words.startswith("Outside of what the model was trained on: ")


@pytest.mark.parametrize(
    ("kind", "feature"),
    [
        ("a clip in the brain", "metal_near_brain"),
        ("contrast agent", "vessels"),
        ("air in the brain", "air"),
        ("a bleed over 150 ml", "bright"),
        ("bone of twice the density", "bone"),
        ("upside down", "above"),
        ("front to back", "behind"),
        ("a narrow field of view", "depth"),
    ],
)
def test_the_feature_is_the_one_that_is_wrong(kind: str, feature: str) -> None:
    assert feature in [found.feature for found in outside(unseen(kind, _head(1), 0), DEMO)]


def test_the_sentence_tells_the_feature_its_value_and_the_trainings_range() -> None:
    dense = _head(1).ct_image()
    known = {"brain": (0.0, 10.0), "soft": (0.0, 100.0), "noise": (-2.0, 0.0)}
    values = features(dense)
    words, warns = training_words(dense, known)
    assert warns
    assert f"the brain (median) {values['brain']:.3g} HU (training 0 to 10)" in words
    assert f"noise {values['noise']:.3g} HU (training 0 to 0)" in words and "soft tissue" not in words
    furthest = [found.feature for found in outside(dense, known)]
    assert furthest == ["brain", "noise"]
    assert "1 more." in training_words(dense, {**known, "length": (0.0, 1.0), "width": (0.0, 1.0)})[0]


def test_a_volume_without_a_skull_has_no_brain_in_it() -> None:
    ball = np.full((40, 40, 40), -1000, np.int16)
    ball[10:30, 10:30, 10:30] = 40
    image = sitk.GetImageFromArray(ball)
    image.SetSpacing((4, 4, 4))
    assert "space" not in features(image)
    assert [found.feature for found in outside(image, {"space": (800.0, 2000.0)})] == ["space"]


def test_neither_orientation_nor_the_order_of_axes_changes_what_is_measured() -> None:
    image = _head(1).ct_image()
    plain = features(image)
    for code in ("RAS", "SPL", "AIR"):
        turned = features(sitk.DICOMOrient(image, code))
        assert turned.keys() == plain.keys()
        assert [turned[name] for name in plain] == pytest.approx(list(plain.values()), rel=0.05, abs=2)


def test_finer_voxels_change_little() -> None:
    image = _head(1).ct_image()
    fine = sitk.Resample(image, [160, 160, image.GetSize()[2]], sitk.Transform(), sitk.sitkLinear,
                         [c - 0.7 * (i < 2) for i, c in enumerate(image.GetOrigin())], (1.4, 1.4, 3.0))  # fmt: skip
    assert training_words(fine, DEMO) == (WITHIN, False)


def test_a_range_leaves_the_outermost_out_and_is_widened() -> None:
    measured = [{"brain": float(value)} for value in range(100, 301)]
    measured[0]["air"] = 1.0
    (low, high), *others = ranges([*measured, {"brain": 5000.0}]).values()
    assert not others, "hardly any of them has it"
    assert 70 < low < 80 and 320 < high < 335
    assert ranges([{"brain": 30.0}] * 9) == {"brain": (28.0, 32.0)}


def test_a_model_that_tells_nothing_of_its_training_is_said_to() -> None:
    assert training_words(_head(1).ct_image(), {}) == (NOT_KNOWN, False)


def test_the_demo_tells_the_range_of_every_feature() -> None:
    assert DEMO.keys() == FEATURES.keys()
