"""The review's layouts: what Slicer is told, and what the user reads of them."""

from __future__ import annotations

import pytest

pytest_plugins = ("review_stage",)


@pytest.fixture
def layouts(slicer_host):
    from DiffMaSlicerLib.review import layouts

    return layouts


def test_every_layout_is_understood_by_the_layout_node_and_takes_no_number_of_slicers_own(layouts):
    import slicer

    node = slicer.vtkMRMLLayoutNode()
    layouts.register(node)
    numbers = [layout.identifier for layout in layouts.layouts().values()]
    assert len(set(numbers)) == len(numbers)
    assert min(numbers) > node.SlicerLayoutUserView
    for layout in layouts.layouts().values():
        parsed = node.ParseLayout(node.GetLayoutDescription(layout.identifier))
        assert parsed.GetName() == "layout"
        assert len(layout.views) == node.GetLayoutDescription(layout.identifier).count("<view ")


def test_registering_again_is_harmless(layouts):
    import slicer

    node = slicer.vtkMRMLLayoutNode()
    layouts.register(node)
    before = [node.GetLayoutDescription(layout.identifier) for layout in layouts.layouts().values()]
    layouts.register(node)
    assert [node.GetLayoutDescription(layout.identifier) for layout in layouts.layouts().values()] == before


def test_the_views_are_ours_alone_each_with_its_own_name_label_and_colour(layouts):
    views = layouts.all_views()
    assert len(views) == 7
    for of in ("tag", "label", "color"):
        assert len({getattr(view, of) for view in views}) == len(views)
    assert all(view.tag.startswith("DiffMa") for view in views)


def test_three_planes_stand_in_two_rows_of_the_same_planes(layouts):
    above, below = layouts.layouts()["three-planes"].rows
    assert [view.plane for view in above] == [view.plane for view in below] == ["Axial", "Coronal", "Sagittal"]
    assert {view.role for view in above} == {"ct"}
    assert {view.role for view in below} == {"mr"}


def test_layouts_and_layers_have_titles_tooltips_and_shortcuts_of_their_own(stage):
    names = [choice.name for choice in stage.review.layoutNames()]
    choices = stage.review.layoutNames() + stage.review.layerNames()
    assert names == [
        "side-by-side",
        "three-planes",
        "with-uncertainty",
    ]
    assert all(choice.title and choice.tooltip for choice in choices)
    assert len({choice.shortcut for choice in choices}) == len(choices)


@pytest.mark.parametrize("method", ["setLayout", "setLayers"])
def test_an_unknown_name_is_refused_with_those_there_are(stage, method):
    with pytest.raises(ValueError, match="choose one of"):
        getattr(stage.review, method)("nonsense")
