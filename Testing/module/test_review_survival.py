"""The review stands what happens to its nodes, views and layout, and leaves nothing behind."""

from __future__ import annotations

import zipfile

import pytest

pytest_plugins = ("review_stage",)


def arrangement(stage) -> int:
    return stage.views.layout_node().GetViewArrangement()


def stencils(stage) -> list:
    logics = [stage.views.slice_logic(view) for view in (stage.ct, stage.mr)]
    return [logic.GetBlend().GetStencil() for logic in logics if logic]


def drawn(stage, view) -> list:
    """What we have drawn into the view: lines of text and the ring of the reveal cursor."""
    props = stage.views.renderer(view).GetViewProps()
    found = [props.GetItemAsObject(i) for i in range(props.GetNumberOfItems())]
    words = "CT", "Synthetic MRI"
    texts = [prop for prop in found if prop.IsA("vtkTextActor") and (prop.GetInput() or "").startswith(words)]
    mappers = [prop.GetMapper() for prop in found if prop.IsA("vtkActor2D") and prop not in texts]
    sources = [mapper.GetInputAlgorithm() for mapper in mappers if mapper and mapper.GetNumberOfInputPorts()]
    return texts + [source for source in sources if source and source.IsA("vtkRegularPolygonSource")]


def test_closing_gives_the_users_layout_back_and_takes_everything_away(stage):
    import slicer

    stage.show()
    stage.review.setLayers("reveal")
    assert [len(drawn(stage, view)) for view in (stage.ct, stage.mr)] == [2, 1]
    stage.review.setLayout("with-uncertainty")
    stage.review.setLayers("uncertainty")
    stage.review.setLayers("checkerboard")
    stage.review.close()
    assert arrangement(stage) == slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView
    assert stencils(stage) == [None, None]
    assert [len(drawn(stage, view)) for view in (stage.ct, stage.mr)] == [0, 0]
    assert not stage.legends()
    assert not stage.review.active


def test_closing_can_leave_the_layout_and_closing_twice_is_harmless(shown):
    ours = arrangement(shown)
    shown.review.close(restoreLayout=False)
    shown.review.close()
    assert arrangement(shown) == ours


def test_after_closing_it_can_be_shown_again(shown):
    shown.review.close()
    shown.show("three-planes")
    assert shown.shows(shown.ct) == ("ct", None)


@pytest.mark.parametrize("kind", ["none", "checkerboard", "reveal", "uncertainty"])
def test_closing_the_scene_ends_the_review_and_gives_the_layout_back(shown, kind):
    import slicer

    shown.review.setLayers(kind)
    slicer.mrmlScene.Clear(0)
    assert not shown.review.active
    assert arrangement(shown) == slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView
    assert stencils(shown) in ([], [None, None])
    shown.volumes.clear()
    shown.show()
    assert shown.shows(shown.mr) == ("mr", None)


@pytest.mark.parametrize("role", ["uncertainty", "softmask", "difference"])
def test_deleting_the_volume_of_an_overlay_takes_overlay_and_colour_scale_away(shown, role):
    import slicer

    shown.review.setLayers(role)
    slicer.mrmlScene.RemoveNode(shown.volumes.pop(role))
    assert shown.shows(shown.ct) == ("ct", None)
    assert shown.shows(shown.mr) == ("mr", None)
    assert not shown.legends()
    assert role not in shown.review.availableLayers()


def test_deleting_the_mri_leaves_the_ct_alone_on_the_screen(shown):
    import slicer

    shown.review.setLayers("checkerboard")
    slicer.mrmlScene.RemoveNode(shown.volumes.pop("mr"))
    assert shown.shows(shown.ct) == ("ct", None)
    assert shown.shows(shown.mr) == (None, None)
    assert stencils(shown) == [None, None]


def test_deleting_ct_and_mri_ends_the_review(shown):
    import slicer

    for role in ("ct", "mr"):
        slicer.mrmlScene.RemoveNode(shown.volumes.pop(role))
    assert not shown.review.active
    assert arrangement(shown) == slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView


def test_the_users_own_layout_hides_what_was_laid_over_and_ours_brings_it_back(shown):
    import slicer

    shown.review.setLayers("uncertainty")
    ours = arrangement(shown)
    shown.views.layout_node().SetViewArrangement(slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView)
    assert not shown.legends()
    shown.views.layout_node().SetViewArrangement(ours)
    assert len(shown.legends()) == 1
    assert shown.shows(shown.mr) == ("mr", "uncertainty")


def test_closing_from_the_users_own_layout_leaves_them_there(shown):
    import slicer

    red = slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView
    shown.views.layout_node().SetViewArrangement(red)
    shown.review.close()
    assert arrangement(shown) == red


def test_a_window_that_the_user_changed_is_kept(shown):
    for role in ("ct", "mr", "uncertainty"):
        shown.volumes[role].GetDisplayNode().SetWindowLevel(123.0, 45.0)
    shown.show()
    for role in ("ct", "mr", "uncertainty"):
        display = shown.volumes[role].GetDisplayNode()
        assert (display.GetWindow(), display.GetLevel()) == (123.0, 45.0)


def test_a_view_node_that_vanishes_is_missed_by_nobody(shown):
    import slicer

    shown.review.setLayers("checkerboard")
    slicer.mrmlScene.RemoveNode(shown.views.slice_node(shown.mr))
    shown.review.setLayers("overlay")
    shown.review.setLayers("reveal")
    shown.review.close()


def test_a_colour_scale_of_the_users_own_is_left_alone(stage):
    import slicer

    theirs = slicer.vtkSlicerColorLogic.AddDefaultColorLegendDisplayNode(stage.load()["uncertainty"])
    theirs.SetTitleText("mine")
    stage.show()
    stage.review.setLayers("uncertainty")
    stage.review.setLayers("none")
    assert stage.legends() == [theirs]
    assert theirs.GetTitleText() == "mine"


def test_a_saved_scene_opens_in_our_layout_and_showing_it_again_finds_windows_colours_and_scale(shown, tmp_path):
    import slicer
    from DiffMaSlicerLib.review.review import prepare

    shown.review.setLayout("with-uncertainty")
    shown.volumes["mr"].GetDisplayNode().SetWindowLevel(123.0, 45.0)
    ours = arrangement(shown)
    assert slicer.util.saveScene(str(tmp_path / "review.mrb"))
    slicer.mrmlScene.Clear(0)
    for table in slicer.util.getNodesByClass("vtkMRMLColorTableNode"):
        if table.GetID().startswith("vtkMRMLColorTableNodeDiffMa"):  # as in a Slicer that was just started
            slicer.mrmlScene.RemoveNode(table)
    prepare()
    with zipfile.ZipFile(tmp_path / "review.mrb") as bundle:
        bundle.extractall(tmp_path)
    slicer.util.loadScene(str(tmp_path / "review" / "review.mrml"))
    slicer.app.processEvents()
    assert arrangement(shown) == ours
    shown.volumes = {role: slicer.util.getNode(role) for role in shown.volumes}
    assert shown.shows(shown.mr) == ("mr", None)
    shown.show("with-uncertainty")
    assert shown.volumes["mr"].GetDisplayNode().GetWindow() == 123.0
    assert shown.volumes["uncertainty"].GetDisplayNode().GetColorNode().GetName() == "DiffMa uncertainty"
    assert len(shown.legends()) == 1
    shown.review.close()
    assert arrangement(shown) == slicer.vtkMRMLLayoutNode.SlicerLayoutInitialView


def test_slicer_does_not_start_in_one_of_our_layouts_without_a_scene(stage):
    import slicer
    from DiffMaSlicerLib.review.review import prepare

    node = stage.views.layout_node()
    prepare()
    assert arrangement(stage) == slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView
    node.SetViewArrangement(87301)
    prepare()
    assert arrangement(stage) == slicer.vtkMRMLLayoutNode.SlicerLayoutInitialView


def test_dicoms_browser_is_no_layout_to_return_to(stage):
    node = stage.views.layout_node()
    node.SetViewArrangement(node.SlicerLayoutDicomBrowserView)
    stage.show()
    stage.review.close()
    assert arrangement(stage) == node.SlicerLayoutInitialView
