"""What is laid over the review's views: pictures of the real views, looked at where it matters."""

from __future__ import annotations

import numpy as np
import pytest

pytest_plugins = ("review_stage",)


def saturation(color) -> int:
    """How far a colour is from grey."""
    return max(color) - min(color)


def test_the_overlay_fades_from_ct_to_mri(shown):
    alone = np.array(shown.color(shown.ct, shown.LESION)), np.array(shown.color(shown.mr, shown.LESION))
    for opacity in (0.0, 0.5, 1.0):
        shown.review.setLayers("overlay", opacity=opacity)
        expected = (1 - opacity) * alone[0] + opacity * alone[1]
        np.testing.assert_allclose(shown.color(shown.ct, shown.LESION), expected, atol=3)
    assert shown.shows(shown.mr) == ("mr", None)
    assert "100 %" in shown.review.labels[shown.ct]


def test_the_checkerboard_takes_its_tiles_from_ct_and_mri_in_turns(shown):
    shown.review.setLinked(False)  # no crosshair in the pictures
    ct, mr = shown.picture(shown.ct), shown.picture(shown.mr)
    shown.review.setLayers("checkerboard", tiles=8)
    mixed = shown.picture(shown.ct)
    side = shown.SIZE[0] // 8
    differ = np.abs(ct - mr).max(axis=2) > 0
    differ[:40] = False  # labels
    rows, columns = np.nonzero(differ)
    odd = (rows // side + columns // side) % 2 == 1
    assert odd.any()
    assert not odd.all()
    np.testing.assert_array_equal(mixed[rows[odd], columns[odd]], mr[rows[odd], columns[odd]])
    np.testing.assert_array_equal(mixed[rows[~odd], columns[~odd]], ct[rows[~odd], columns[~odd]])


def test_more_tiles_are_smaller_tiles(shown):
    def changes() -> int:
        line = shown.picture(shown.ct)[shown.SIZE[1] // 2, :, 0]
        return int((np.diff(line) != 0).sum())

    shown.review.setLayers("checkerboard", tiles=4)
    few = changes()
    shown.review.setLayers("checkerboard", tiles=24)
    assert changes() > few


def test_the_checkerboard_fits_the_view_after_a_resize(shown):
    shown.review.setLayers("checkerboard", tiles=6)
    picture = shown.picture(shown.ct, (300, 420))
    assert picture[230:330].max() > 0


def test_reveal_shows_the_mri_under_the_cursor_and_the_ct_around_it(shown):
    ct, mr = shown.color(shown.ct, shown.LESION), shown.color(shown.mr, shown.LESION)
    shown.review.setLayers("reveal")
    crosshair = shown.views.crosshair_node()
    crosshair.SetCursorPositionRAS(shown.LESION)
    assert shown.color(shown.ct, shown.LESION) == mr
    crosshair.SetCursorPositionRAS((-55, 40, 3))
    assert shown.color(shown.ct, shown.LESION) == ct
    assert shown.shows(shown.mr) == ("mr", None)


def test_the_disc_follows_the_mouse_in_whichever_view_it_is(shown):
    shown.review.setLayers("reveal")
    mr = shown.color(shown.mr, shown.LESION)
    for view in (shown.ct, shown.mr):
        shown.point(shown.ct, (-55, 40, 3))
        assert shown.color(shown.ct, shown.LESION) != mr
        shown.point(view, shown.LESION)
        assert shown.color(shown.ct, shown.LESION) == mr


def test_reveal_stays_at_its_point_when_the_view_is_zoomed(shown):
    shown.review.setLayers("reveal")
    shown.views.crosshair_node().SetCursorPositionRAS(shown.LESION)
    mr = shown.color(shown.mr, shown.LESION)
    node = shown.views.slice_node(shown.ct)
    node.SetFieldOfView(*[size / 1.5 for size in node.GetFieldOfView()[:2]], node.GetFieldOfView()[2])
    assert shown.color(shown.ct, shown.LESION) == mr


def test_no_layer_leaves_the_ct_exactly_as_it_was(shown):
    before = shown.picture(shown.ct)
    for kind in ("overlay", "checkerboard", "reveal", "softmask"):
        shown.review.setLayers(kind)
        assert (shown.picture(shown.ct) != before).any()
        shown.review.setLayers("none")
        np.testing.assert_array_equal(shown.picture(shown.ct), before)
    assert not shown.legends()


@pytest.mark.parametrize(("kind", "role"), [("uncertainty", "mr"), ("softmask", "ct"), ("difference", "mr")])
def test_a_colour_overlay_colours_what_it_means_and_leaves_the_rest_grey(shown, kind, role):
    shown.review.setLayers(kind, opacity=0.6)
    view = getattr(shown, role)
    assert shown.shows(view) == (role, kind)
    assert saturation(shown.color(view, shown.LESION)) > 30
    assert saturation(shown.color(view, shown.AIR)) < 5
    other = shown.mr if view is shown.ct else shown.ct
    assert saturation(shown.color(other, shown.BRAIN)) == 0


def test_a_difference_is_red_where_the_synthetic_is_brighter_blue_where_darker_and_nothing_where_they_agree(shown):
    shown.review.setLayers("difference", opacity=0.8)
    lesion, skull = shown.color(shown.mr, shown.LESION), shown.color(shown.mr, shown.SKULL)
    assert lesion[0] > lesion[2] + 30
    assert skull[2] > skull[0] + 30
    assert saturation(shown.color(shown.mr, shown.BRAIN)) < 5


def test_the_colour_scale_has_a_title_numbers_and_its_place_in_the_overlays_views_only(shown):
    plain = shown.picture(shown.mr)
    shown.review.setLayers("uncertainty")
    (legend,) = shown.legends()
    assert "MRI units" in legend.GetTitleText()
    assert legend.GetNumberOfLabels() >= 3
    assert [legend.GetNthViewNodeID(i) for i in range(legend.GetNumberOfViewNodeIDs())] == [
        shown.views.slice_node(shown.mr).GetID()
    ]
    scale = (slice(60, 150), slice(205, 236))  # right of the head
    assert plain[scale].max() == 0
    assert (np.ptp(shown.picture(shown.mr)[scale], axis=2) > 60).any()


def test_the_scale_of_the_difference_is_symmetric_and_that_of_the_soft_mask_goes_from_0_to_1(shown):
    def ends(role):
        display = shown.volumes[role].GetDisplayNode()
        return display.GetWindowLevelMin(), display.GetWindowLevelMax()

    low, high = ends("difference")
    assert low == pytest.approx(-high)
    assert ends("softmask") == pytest.approx((0, 1))
    assert ends("uncertainty")[0] == pytest.approx(0)


def test_the_view_of_the_uncertainty_has_its_colour_scale_without_any_layer(shown):
    shown.review.setLayout("with-uncertainty")
    assert len(shown.legends()) == 1
    assert saturation(shown.color(shown.sd, shown.LESION)) > 60
    shown.review.setLayout("side-by-side")
    assert not shown.legends()


def test_layers_whose_volumes_are_missing_are_not_offered_and_show_nothing(stage):
    stage.load(without=("uncertainty", "softmask", "difference"))
    stage.show()
    assert stage.review.availableLayers() == ["none", "overlay", "checkerboard", "reveal"]
    stage.review.setLayers("uncertainty")
    assert stage.shows(stage.mr) == ("mr", None)
    assert not stage.legends()


def test_layers_follow_into_all_planes(shown):
    shown.review.setLayout("three-planes")
    shown.review.setLayers("softmask")
    from DiffMaSlicerLib.review import layouts

    for view in layouts.layouts()["three-planes"].views:
        assert shown.shows(view) == (view.role, "softmask" if view.role == "ct" else None)
