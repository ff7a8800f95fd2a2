"""The panel when it is opened: what it chooses, what it says, what it offers."""

from __future__ import annotations

import numpy as np

pytest_plugins = ("panel_stage",)


def texts(combo) -> dict[str, str]:
    return {combo.itemData(row): combo.itemText(row) for row in range(combo.count)}


def enabled(combo, value: str) -> bool:
    from PySide6 import QtCore

    model = combo.qt_object().model()
    row = combo.findData(value)
    return bool(model.flags(model.index(row, 0)) & QtCore.Qt.ItemFlag.ItemIsEnabled)


def test_a_loaded_ct_is_chosen_and_one_click_away_from_its_mri(panel):
    assert panel.ui.inputSelector.currentNode().GetName() == "Head CT"
    assert panel.ui.applyButton.enabled
    assert panel.ui.applyButton.text == "Apply"


def test_it_says_at_once_what_the_ct_is(panel):
    text = panel.ui.inputFacts.text
    assert "40 x 44 x 20" in text
    assert "5 x 5 x 8 mm" in text
    assert "HU" in text


def test_apply_and_the_research_line_are_in_sight_wherever_one_scrolls(panel):
    assert "Research only, not for diagnosis" in panel.ui.noticeLabel.text
    window = panel.widget.parent.window()
    window.resize(1200, 700)
    panel.host.process_events()
    for position in (0, panel.ui.settingsArea.verticalScrollBar().maximum):
        panel.ui.settingsArea.verticalScrollBar().value = position
        panel.host.process_events()
        for widget in (panel.ui.applyButton, panel.ui.noticeLabel):
            assert not widget.visibleRegion().isEmpty()


def test_no_control_is_cut_off_at_the_right_however_narrow_the_panel_is(panel):
    area = panel.ui.settingsArea
    for button in (panel.ui.advancedButton, panel.ui.reviewSectionButton):
        button.collapsed = False
        panel.widget.parent.window().resize(200, 400)
        panel.host.process_events()
        assert area.verticalScrollBar().visible
        assert area.widget().width <= area.viewport().width


def test_without_a_volume_apply_says_what_is_missing(slicer_host, models):
    from panel_stage import Panel

    panel = Panel(slicer_host)
    panel.open()
    assert not panel.ui.applyButton.enabled
    assert "Choose a CT" in panel.ui.applyButton.toolTip


def test_a_ct_loaded_later_is_chosen_too(slicer_host, models):
    from panel_stage import Panel

    panel = Panel(slicer_host)
    panel.open()
    panel.load_ct("Later")
    slicer_host.wait_until(lambda: panel.parameters.inputVolume, what="the input")
    assert panel.ui.applyButton.enabled


def test_a_volume_that_is_no_ct_is_warned_of_with_the_reason(panel):
    node = panel.load(np.random.default_rng(0).integers(100, 900, (6, 20, 20)).astype(np.int16), "MR")
    panel.host.choose(panel.ui.inputSelector, node)
    assert panel.ui.inputIcon.isVisible()
    assert "air" in panel.ui.inputFacts.text


def test_a_ct_under_a_warp_cannot_be_applied_until_the_warp_is_gone(panel):
    import slicer
    import vtk

    warp = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLGridTransformNode", "Warp")
    spline = vtk.vtkThinPlateSplineTransform()
    spline.SetBasisToR()
    points = vtk.vtkPoints()
    for point in ((0, 0, 0), (90, 0, 0), (0, 90, 0), (0, 0, 90), (40, 50, 60)):
        points.InsertNextPoint(*point)
    spline.SetSourceLandmarks(points)
    moved = vtk.vtkPoints()
    moved.DeepCopy(points)
    moved.SetPoint(4, 45, 50, 60)
    spline.SetTargetLandmarks(moved)
    warp.SetAndObserveTransformToParent(spline)
    ct = panel.parameters.inputVolume
    ct.SetAndObserveTransformNodeID(warp.GetID())
    panel.host.wait_until(lambda: not panel.ui.applyButton.enabled, what="the refusal")
    assert "Harden" in panel.ui.applyButton.toolTip
    ct.SetAndObserveTransformNodeID(None)
    panel.host.wait_until(lambda: panel.ui.applyButton.enabled, what="the end of it")


def test_the_child_adds_what_it_sees_of_the_anatomy(panel):
    node = panel.load(np.full((6, 20, 20), -1000, np.int16), "Air")
    panel.host.choose(panel.ui.inputSelector, node)
    before = panel.ui.inputFacts.text
    panel.host.wait_until(lambda: panel.ui.inputFacts.text != before, what="the child's word")


def test_sizes_tell_what_is_installed_and_what_could_be(panel):
    panel.know_machine()
    sizes = texts(panel.ui.sizeBox)
    fifteen = {f"{size}/{patch}" for size in ("S", "B", "L", "XL", "XXL") for patch in (2, 4, 7)}
    assert fifteen <= set(sizes)
    assert "DEMO" in sizes
    assert sizes["DEMO"].endswith("installed")
    states = {text.partition(", ")[2] for value, text in sizes.items() if value}
    assert states <= {"installed", "to import", "to download", "no weights yet"}


def test_a_size_without_weights_says_how_to_get_them_and_cannot_be_applied(panel):
    panel.know_machine()
    names = {entry["name"] for entry in panel.widget.model.models.all}
    empty = next(value for value, text in texts(panel.ui.sizeBox).items() if text.endswith("to import"))
    panel.pick(panel.ui.sizeBox, empty)
    assert panel.parameters.model not in ("tiny", "demo")
    assert panel.parameters.model in names | {""}
    assert not panel.ui.applyButton.enabled and "not on this machine yet" in panel.ui.reasonText.text
    assert "two files" in panel.ui.modelState.text and "href=" in panel.ui.modelState.text
    assert panel.ui.modelState.openExternalLinks, "a click on the link opens it"
    panel.host.click(panel.ui.modelActionButton)
    files = panel.widget.model._import.ui
    assert files.importTabs.currentIndex == 1 and files.releasedAnatomyBox.currentText == "brain"
    assert files.releasedNameEdit.text == panel.parameters.model
    panel.host.click(files.importCloseButton)
    panel.pick(panel.ui.sizeBox, "DEMO")
    assert panel.parameters.model == "demo"
    assert panel.ui.applyButton.enabled


def test_devices_have_names_and_free_memory_or_the_reason_why_not(panel):
    panel.know_machine()
    devices = texts(panel.ui.deviceBox)
    assert "free" in devices["cpu"]
    assert enabled(panel.ui.deviceBox, "cpu")
    for entry in panel.widget.machine["devices"]:
        if not entry["available"]:
            assert entry["reason"] in devices[entry["name"]]
            assert not enabled(panel.ui.deviceBox, entry["name"])


def test_a_range_of_slices_that_holds_none_is_said(panel):
    panel.ui.limitSlicesBox.checked = True
    panel.ui.firstSliceBox.value = 5
    panel.ui.lastSliceBox.value = 2
    assert not panel.ui.applyButton.enabled
    assert "No slice" in panel.ui.applyButton.toolTip


def test_every_control_has_a_tooltip(panel):
    import qt

    kinds = (qt.QPushButton, qt.QCheckBox, qt.QComboBox, qt.QSpinBox, qt.QLineEdit)
    inside = {"qt_spinbox_lineedit"}  # parts of Qt's own controls
    assert {w.name for w in vars(panel.ui).values() if type(w) in kinds and not w.toolTip} - inside == set()


def test_one_click_makes_a_phantom_where_there_is_no_network(slicer_host, models, monkeypatch):
    from panel_stage import Panel

    panel = Panel(slicer_host)
    panel.open()

    def no_network():
        raise RuntimeError("no network")

    monkeypatch.setattr("DiffMaSlicerLib.sample_data.loadHeadCT", no_network)
    panel.host.click(panel.ui.sampleButton)
    panel.host.wait_until(lambda: panel.parameters.inputVolume, what="the phantom")
    assert "phantom" in panel.ui.messageText.text
    assert panel.ui.applyButton.enabled


def test_a_file_is_loaded_and_chosen(panel, tmp_path):
    import SimpleITK as sitk

    path = tmp_path / "from_file.nrrd"
    sitk.WriteImage(sitk.Image(8, 8, 8, sitk.sitkInt16), str(path))
    panel.host.dialogs.answer("file", str(path))
    panel.ui.loadButton.menu().actions()[0].trigger()
    assert panel.parameters.inputVolume.GetName() == "from_file"
    panel.host.dialogs.answer("file", "")
    panel.ui.loadButton.menu().actions()[0].trigger()
    assert panel.parameters.inputVolume.GetName() == "from_file"
