"""The review's views: what they show, how they lie, and that they move together."""

from __future__ import annotations

import numpy as np
import pytest

pytest_plugins = ("review_stage",)

MARGIN = 1.08  # a fitted view beside the volume: room for its line of text


def test_side_by_side_shows_ct_and_mri_of_the_same_slice_in_the_same_place(shown):
    assert shown.shows(shown.ct) == ("ct", None)
    assert shown.shows(shown.mr) == ("mr", None)
    shown.resize(shown.ct)
    shown.resize(shown.mr)
    matrices = [shown.views.slice_node(view).GetXYToRAS() for view in (shown.ct, shown.mr)]
    np.testing.assert_allclose(*[[m.GetElement(r, c) for r in range(4) for c in range(4)] for m in matrices])


def test_three_planes_show_each_plane_of_both(shown):
    shown.review.setLayout("three-planes")
    from DiffMaSlicerLib.review import layouts

    for view in layouts.layouts()["three-planes"].views:
        assert shown.shows(view) == (view.role, None)
        assert shown.views.slice_node(view).GetOrientation() == view.plane


def test_with_uncertainty_adds_a_third_view_of_the_standard_deviation(shown):
    shown.review.setLayout("with-uncertainty")
    assert [shown.shows(view)[0] for view in (shown.ct, shown.mr, shown.sd)] == ["ct", "mr", "uncertainty"]


def test_without_an_uncertainty_map_its_view_says_how_to_get_one(stage):
    stage.load(without=("uncertainty",))
    stage.show("with-uncertainty")
    assert stage.shows(stage.sd) == (None, None)
    assert "more than one sample" in stage.review.labels[stage.sd]


@pytest.mark.parametrize("fact", [("model", "demo"), ("modelTitle", "DEMO head CT to T2")], ids=["T1", "T2"])
def test_every_view_of_a_synthetic_image_says_research_only_and_names_the_demo(stage, fact):
    name, value = fact
    stage.load()["mr"].SetAttribute(f"DiffMa.{name}", value)
    stage.show("with-uncertainty")
    labels = stage.review.labels
    assert labels[stage.ct] == "CT"
    for view in (stage.mr, stage.sd):
        assert "research only" in labels[view]
        assert "DEMO" in labels[view]


def test_the_label_stands_at_the_top_of_the_picture(shown):
    top = shown.picture(shown.mr)[:20].max(axis=2)
    assert (top > 200).sum() > 50


def test_mri_and_ct_differ_but_have_the_same_outline(shown):
    ct, mr = shown.picture(shown.ct)[40:], shown.picture(shown.mr)[40:]
    assert np.abs(ct - mr).mean() > 5
    inside = ct.max(axis=2) > 0
    assert (mr.max(axis=2) > 0)[~inside].sum() < 0.01 * inside.size  # but for the crosshair, nothing outside


def test_scrolling_one_view_scrolls_the_other_of_its_plane(shown):
    shown.scroll(shown.ct, 9.0)
    assert shown.views.slice_node(shown.mr).GetSliceOffset() == pytest.approx(9.0)


def test_zoom_and_panning_are_linked_too(shown):
    import slicer

    node = shown.views.slice_node(shown.mr)
    logic = shown.views.slice_logic(shown.mr)
    logic.StartSliceNodeInteraction(slicer.vtkMRMLSliceNode.FieldOfViewFlag | slicer.vtkMRMLSliceNode.XYZOriginFlag)
    wide, tall, deep = node.GetFieldOfView()
    node.SetFieldOfView(wide / 2, tall / 2, deep)
    node.SetXYZOrigin(7, -5, 0)
    logic.EndSliceNodeInteraction()
    other = shown.views.slice_node(shown.ct)
    assert other.GetFieldOfView()[0] == pytest.approx(wide / 2)
    assert tuple(other.GetXYZOrigin()) == (7, -5, 0)


def test_unlinked_views_move_alone(shown):
    shown.review.setLinked(False)
    before = shown.views.slice_node(shown.mr).GetSliceOffset()
    shown.scroll(shown.ct, 21.0)
    assert shown.views.slice_node(shown.mr).GetSliceOffset() == before
    shown.review.setLinked(True)
    shown.scroll(shown.ct, 15.0)
    assert shown.views.slice_node(shown.mr).GetSliceOffset() == pytest.approx(15.0)


def test_choosing_a_volume_in_one_view_does_not_put_it_into_the_others(shown):
    import slicer

    logic = shown.views.slice_logic(shown.ct)
    logic.StartSliceCompositeNodeInteraction(slicer.vtkMRMLSliceCompositeNode.BackgroundVolumeFlag)
    shown.views.composite_node(shown.ct).SetBackgroundVolumeID(shown.volumes["softmask"].GetID())
    logic.EndSliceCompositeNodeInteraction()
    assert shown.shows(shown.mr) == ("mr", None)


def test_a_label_does_not_speak_of_a_volume_that_is_no_longer_shown(shown):
    views = shown.views
    before = shown.review.labels[shown.mr]
    views.composite_node(shown.mr).SetBackgroundVolumeID(shown.volumes["ct"].GetID())
    assert shown.review.labels[shown.mr] == "ct"
    views.composite_node(shown.mr).SetBackgroundVolumeID(shown.volumes["mr"].GetID())
    assert shown.review.labels[shown.mr] == before


def test_the_users_own_views_are_neither_filled_nor_moved(stage):
    import slicer

    red = slicer.mrmlScene.GetSingletonNode("Red", "vtkMRMLSliceNode")
    before = red.GetSliceOffset(), red.GetFieldOfView()
    composite = slicer.vtkMRMLSliceLogic.GetSliceCompositeNode(red)
    stage.show()
    stage.scroll(stage.ct, 12.0)
    assert (red.GetSliceOffset(), red.GetFieldOfView()) == before
    assert composite.GetBackgroundVolumeID() is None


@pytest.mark.parametrize("layout", ["side-by-side", "three-planes"])
def test_views_of_an_oblique_ct_lie_along_its_slices(stage, layout):
    stage.show(layout, tilt=17.0)
    normal = [stage.views.slice_node(stage.ct).GetSliceToRAS().GetElement(row, 2) for row in range(3)]
    tilt = np.radians(17.0)
    assert np.abs(np.dot(normal, (0, -np.sin(tilt), np.cos(tilt)))) == pytest.approx(1.0, abs=1e-6)


def test_the_whole_ct_is_seen_and_fills_the_view(shown):
    shown.resize(shown.ct)
    wide, tall, _ = shown.views.slice_node(shown.ct).GetFieldOfView()
    extents = shown.SHAPE[2] * shown.SPACING[0], shown.SHAPE[1] * shown.SPACING[1]
    assert wide >= extents[0] - 1e-6
    assert tall >= extents[1] - 1e-6
    assert min(wide / extents[0], tall / extents[1]) == pytest.approx(MARGIN)


def test_a_view_that_was_not_moved_yet_is_fitted_again_when_its_window_is_resized(shown):
    shown.resize(shown.ct, (600, 150))
    assert shown.views.slice_node(shown.ct).GetFieldOfView()[1] == pytest.approx(
        MARGIN * shown.SHAPE[1] * shown.SPACING[1]
    )
    shown.resize(shown.ct, (150, 600))
    assert shown.views.slice_node(shown.ct).GetFieldOfView()[0] == pytest.approx(
        MARGIN * shown.SHAPE[2] * shown.SPACING[0]
    )


def test_another_layout_keeps_the_slice_where_the_user_scrolled_to(shown):
    shown.scroll(shown.ct, 15.0)
    shown.review.setLayout("with-uncertainty")
    for view in (shown.ct, shown.mr, shown.sd):
        assert shown.views.slice_node(view).GetSliceOffset() == pytest.approx(15.0)


@pytest.mark.parametrize("layout", ["side-by-side", "with-uncertainty"])
def test_the_slider_of_a_new_view_does_not_move_the_views_to_its_zero(stage, layout):
    import slicer

    stage.show()
    slicer.app.processEvents()
    if layout != "side-by-side":
        stage.scroll(stage.mr, 15.0)
    else:
        stage.review.close()
        stage.show()
    stage.review.setLayout(layout)
    newest = stage.sd if layout == "with-uncertainty" else stage.ct
    before = stage.views.slice_node(newest).GetSliceOffset()
    assert before != 0.0
    stage.scroll(newest, 0.0)  # what Slicer has queued since the slider was made
    slicer.app.processEvents()
    for view in (stage.ct, stage.mr):
        assert stage.views.slice_node(view).GetSliceOffset() == pytest.approx(before)


def test_showing_again_with_more_volumes_keeps_the_slice_and_the_layers(shown):
    shown.review.setLayers("overlay", opacity=0.3)
    shown.scroll(shown.ct, 15.0)
    shown.show()
    assert shown.views.slice_node(shown.ct).GetSliceOffset() == pytest.approx(15.0)
    assert shown.shows(shown.ct) == ("ct", "mr")


def test_the_crosshair_is_shown_while_the_views_are_linked_and_given_back_at_the_end(shown):
    crosshair = shown.views.crosshair_node()
    assert crosshair.GetCrosshairMode() != crosshair.NoCrosshair
    shown.review.close()
    assert crosshair.GetCrosshairMode() == crosshair.NoCrosshair


def test_shift_and_the_mouse_bring_all_planes_of_both_images_to_the_point_and_leave_the_users_views(shown):
    import slicer
    from DiffMaSlicerLib.review.layouts import CT, MR, View

    red = slicer.mrmlScene.GetSingletonNode("Red", "vtkMRMLSliceNode").GetSliceOffset()
    shown.review.setLayout("three-planes")
    shown.resize(shown.ct)
    shown.point(shown.ct, shown.LESION, shift=True)
    for role in (CT, MR):
        for axis, plane in enumerate(("Sagittal", "Coronal")):
            place = shown.views.slice_node(View(role, plane)).GetSliceToRAS().GetElement(axis, 3)
            assert place == pytest.approx(shown.LESION[axis], abs=1)
    assert slicer.mrmlScene.GetSingletonNode("Red", "vtkMRMLSliceNode").GetSliceOffset() == red
