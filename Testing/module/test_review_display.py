"""Windows and levels: what each image is first shown with."""

from __future__ import annotations

import numpy as np
import pytest

pytest_plugins = ("review_stage",)


def window(volume) -> tuple[float, float]:
    display = volume.GetDisplayNode()
    return display.GetWindow(), display.GetLevel()


def test_a_head_gets_a_window_that_tells_brain_from_bone(shown):
    assert window(shown.volumes["ct"]) == (350, 40)


def test_a_trunk_gets_the_soft_tissue_window(stage):
    stage.load()["ct"].SetSpacing(4.5, 4.0, 6.0)
    stage.show()
    assert window(stage.volumes["ct"]) == (400, 40)


def test_a_volume_without_a_body_is_shown_all_the_same(stage):
    import slicer

    slicer.util.updateVolumeFromArray(stage.load()["ct"], np.full((4, 8, 8), -1000.0, np.float32))
    stage.show()
    assert window(stage.volumes["ct"]) == (400, 40)


def test_the_mri_is_shown_by_its_values_inside_the_body(stage):
    import slicer

    outlier = stage.head()["mr"]
    outlier[0, 0, 0] = 1e6  # outside of the head
    slicer.util.updateVolumeFromArray(stage.load()["mr"], outlier)
    stage.show()
    display = stage.volumes["mr"].GetDisplayNode()
    assert display.GetWindowLevelMin() == pytest.approx(50, abs=1)
    assert display.GetWindowLevelMax() == pytest.approx(1000, abs=1)


def test_the_window_of_an_mri_still_in_the_making_is_set_anew_when_it_is_done(stage):
    import slicer

    whole = stage.head()["mr"]
    part = np.zeros_like(whole)
    stage.load()
    slicer.util.updateVolumeFromArray(stage.volumes["mr"], part)
    stage.show()
    part[9:11] = whole[9:11] / 2
    slicer.util.updateVolumeFromArray(stage.volumes["mr"], part)
    stage.show()
    assert stage.volumes["mr"].GetDisplayNode().GetWindowLevelMax() == pytest.approx(500, abs=1)
    slicer.util.updateVolumeFromArray(stage.volumes["mr"], whole)
    stage.show()
    assert stage.volumes["mr"].GetDisplayNode().GetWindowLevelMax() == pytest.approx(1000, abs=1)


def test_nans_are_no_obstacle(stage):
    import slicer

    holed = stage.head()["mr"]
    holed[:, 40:50, 40:50] = np.nan
    slicer.util.updateVolumeFromArray(stage.load()["mr"], holed)
    stage.show()
    assert np.isfinite(window(stage.volumes["mr"])).all()


def test_a_ct_is_needed(stage):
    with pytest.raises(ValueError, match="choose one"):
        stage.review.show(None, None)
