"""Layouts and slice views: real slices of real volumes, seen in the window."""

import numpy as np
import pytest
import slicer

VIEW = (
    '<item><view class="vtkMRMLSliceNode" singletontag="{0}"><property name="orientation" action="default">{1}'
    '</property><property name="viewlabel" action="default">{0}</property></view></item>'
)
XML = f'<layout type="horizontal">{VIEW.format("Left", "Axial")}{VIEW.format("Right", "Coronal")}</layout>'


@pytest.fixture
def manager(slicer_host):
    slicer_host.process_events()
    return slicer.app.layoutManager()


@pytest.fixture
def volume(manager):
    array = np.zeros((20, 32, 32), np.float32)
    array[:, 8:24, 8:24] = 100
    return slicer.util.addVolumeFromArray(array, name="Cube")


def colours(host, view):
    """The colours in the widget's picture: left part, middle."""
    host.wait_until(lambda: not view.qt_object()._timer.isActive())
    picture = view.qt_object().grab().toImage()
    points = [(5, picture.height() // 2), (picture.width() // 2, picture.height() // 2)]
    return [picture.pixelColor(*point).value() for point in points]


def test_slicer_starts_with_four_views(manager):
    assert set(manager.sliceViewNames()) == {"Red", "Green", "Yellow"}
    assert manager.layout == slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView
    assert manager.sliceWidget("Red").visible
    assert manager.sliceWidget("nosuch") is None


def test_a_layout_of_our_own_makes_its_views(slicer_host, manager):
    node = manager.layoutLogic().GetLayoutNode()
    node.AddLayoutDescription(5000, XML)
    told = []
    manager.connect("layoutChanged(int)", told.append)
    node.SetViewArrangement(5000)
    slicer_host.process_events()
    left, right = manager.sliceWidget("Left"), manager.sliceWidget("Right")
    assert told == [5000]
    assert (left.visible, right.visible, manager.sliceWidget("Red").visible) == (True, True, False)
    assert right.mrmlSliceNode().GetOrientation() == "Coronal"
    assert right.sliceView().width == right.mrmlSliceNode().GetDimensions()[0]
    manager.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView)
    assert left.visible is False


def test_the_slice_is_seen_in_the_window(slicer_host, manager, volume):
    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    volume.GetDisplayNode().SetAutoWindowLevel(False)
    volume.GetDisplayNode().SetWindowLevelMinMax(0, 100)
    edge, middle = colours(slicer_host, manager.sliceWidget("Red").sliceView())
    assert edge == 0
    assert middle > 240


def test_new_voxels_are_seen(slicer_host, manager, volume):
    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    volume.GetDisplayNode().SetAutoWindowLevel(False)
    volume.GetDisplayNode().SetWindowLevelMinMax(0, 100)
    view = manager.sliceWidget("Red").sliceView()
    colours(slicer_host, view)
    slicer.util.arrayFromVolume(volume)[:] = 50
    slicer.util.arrayFromVolumeModified(volume)
    slicer_host.wait_until(lambda: 100 < colours(slicer_host, view)[1] < 160, 5)


def test_logics_of_views_are_known_to_the_application(manager):
    widget = manager.sliceWidget("Green")
    logic = slicer.app.applicationLogic().GetSliceLogic(widget.mrmlSliceNode())
    assert logic is widget.sliceLogic()
    assert widget.mrmlSliceCompositeNode() is logic.GetSliceCompositeNode()
    assert manager.mrmlSliceLogics().GetNumberOfItems() == 3


def test_the_mouse_wheel_scrolls(slicer_host, manager, volume):
    from PySide6 import QtCore, QtGui, QtWidgets

    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    widget = manager.sliceWidget("Red")
    before = widget.mrmlSliceNode().GetSliceOffset()
    view = widget.sliceView().qt_object()
    middle = QtCore.QPointF(view.width() / 2, view.height() / 2)
    wheel = QtGui.QWheelEvent(
        middle,
        view.mapToGlobal(middle),
        QtCore.QPoint(),
        QtCore.QPoint(0, 120),
        QtCore.Qt.MouseButton.NoButton,
        QtCore.Qt.KeyboardModifier.NoModifier,
        QtCore.Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    QtWidgets.QApplication.sendEvent(view, wheel)
    assert widget.mrmlSliceNode().GetSliceOffset() != before


def test_views_survive_the_closing_of_the_scene(slicer_host, manager, volume):
    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    slicer_host.close_scene()
    assert set(manager.sliceViewNames()) == {"Red", "Green", "Yellow"}
    assert colours(slicer_host, manager.sliceWidget("Red").sliceView()) == [0, 0]


@pytest.mark.parametrize("name", ["threeDWidget", "nosuch", "setEnabled"])
def test_the_layout_manager_refuses_what_it_does_not_do(manager, name):
    assert not hasattr(manager, name)


def test_regions_and_segmentations_live_in_the_views(slicer_host, manager, volume):
    roi = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "R")
    roi.SetSize((10, 10, 10))
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "S")
    segmentation.CreateDefaultDisplayNodes()
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    segment = segmentation.GetSegmentation().AddEmptySegment("head")
    mask = (slicer.util.arrayFromVolume(volume) > 0).astype(np.uint8)
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, segmentation, segment, volume)
    found = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, segment, volume)
    slicer_host.process_events()
    assert roi.GetSize()[0] == 10
    np.testing.assert_array_equal(found, mask)
