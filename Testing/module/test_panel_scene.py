"""What happens to the scene happens to the panel: saved, closed, input deleted, module left, reloaded, Slicer quit."""

from __future__ import annotations

import sys

import pytest
from panel_stage import Panel, alive

pytest_plugins = ("panel_stage",)

WITHOUT_CONTROL = {"uncertaintyVolume", "softMaskVolume", "differenceVolume"}  # results; Review shows them
OTHER = {
    "limitSlices": True,
    "firstSlice": 2,
    "lastSlice": 9,
    "anatomy": "pelvis",
    "modelSize": "XL/7",
    "model": "of another machine",
    "mode": "sample",
    "steps": 77,
    "scheduler": "ddim",
    "seed": 123456789,
    "samples": 5,
    "decoder": "small",
    "makeSoftMask": False,
    "keepPartial": True,
    "device": "cuda:7",
    "layout": "three-planes",
    "layers": "checkerboard",
    "overlayOpacity": 0.25,
    "checkerboardTiles": 12,
    "linkViews": False,
    "batchFromFolder": False,
    "batchLoad": True,
    "batchInput": "/somewhere/in",
    "batchOutput": "/somewhere/out",
    "batchFormat": "mha",
}
NODES = {
    "inputVolume": "vtkMRMLScalarVolumeNode",
    "outputVolume": "vtkMRMLScalarVolumeNode",
    "trueVolume": "vtkMRMLScalarVolumeNode",
    "uncertaintyVolume": "vtkMRMLScalarVolumeNode",
    "softMaskVolume": "vtkMRMLScalarVolumeNode",
    "differenceVolume": "vtkMRMLScalarVolumeNode",
    "roi": "vtkMRMLMarkupsROINode",
    "maskSegmentation": "vtkMRMLSegmentationNode",
}


def controls(panel) -> dict[str, object]:
    """Every control with a parameter's name, of the panel and of the batch window."""
    panel.choose(panel.ui.loadButton, "Several CTs")
    found = {}
    for ui in (panel.ui, panel.widget.batch.ui):
        for widget in vars(ui).values():
            if widget.property("SlicerParameterName"):
                found[widget.property("SlicerParameterName")] = widget
    return found


def shown(name: str, widget) -> object:
    """What a control shows."""
    import qt
    import slicer

    if isinstance(widget, slicer.qMRMLNodeComboBox):
        return widget.currentNode()
    if isinstance(widget, qt.QComboBox):
        return widget.itemData(widget.currentIndex)
    if isinstance(widget, (qt.QCheckBox, qt.QRadioButton)):
        return widget.checked
    if isinstance(widget, qt.QLineEdit):
        return widget.text
    if name == "layout":
        return next((b.property("choice") for b in widget.findChildren(qt.QPushButton) if b.checked), None)
    return widget.value


def test_every_parameter_has_its_control_and_every_control_its_parameter(panel):
    assert set(controls(panel)) == set(panel.parameters.allParameters) - WITHOUT_CONTROL
    assert {*OTHER, *NODES} == set(panel.parameters.allParameters)


@pytest.mark.parametrize("known", [False, True], ids=["at once", "after the child told what is here"])
def test_a_saved_scene_restores_every_control_exactly(panel, tmp_path, known):
    import slicer

    for name, value in OTHER.items():
        panel.parameters.setValue(name, value)
    names = {}
    for name, kind in NODES.items():
        node = slicer.mrmlScene.AddNewNodeByClass(kind, f"saved {name}")
        panel.parameters.setValue(name, node)
        names[name] = node.GetName()
    path = str(tmp_path / "scene.mrml")
    assert slicer.util.saveScene(path)
    panel.host.close_scene()
    assert panel.parameters.steps == 15
    if known:
        panel.know_machine()
    slicer.util.loadScene(path)
    panel.host.process_events()

    p = panel.parameters
    assert {name: p.getValue(name) for name in OTHER} == OTHER
    assert {name: p.getValue(name).GetName() for name in NODES} == names
    visible = {name: shown(name, widget) for name, widget in controls(panel).items()}
    assert {name: value for name, value in visible.items() if name in OTHER} == pytest.approx(OTHER)
    assert {name: value.GetName() for name, value in visible.items() if name in NODES} == {
        name: value for name, value in names.items() if name not in WITHOUT_CONTROL
    }
    assert not panel.ui.applyButton.enabled


def test_a_model_and_a_device_that_are_not_here_are_said(panel):
    panel.know_machine()
    panel.parameters.model = "of another machine"
    assert "of another machine" in panel.ui.modelBox.currentText
    assert "not on this machine" in panel.ui.modelState.text
    panel.parameters.model = "tiny"
    panel.parameters.device = "cuda:7"
    assert "not on this machine" in panel.ui.deviceBox.currentText
    assert "cuda:7" in panel.ui.applyButton.toolTip
    panel.parameters.device = "cpu"
    assert panel.ui.applyButton.enabled
    assert panel.ui.deviceBox.findData("cuda:7") < 0


def test_closing_the_scene_during_a_run_ends_it_and_a_new_one_can_begin(panel):
    panel.parameters.steps = 1000
    panel.apply()
    panel.first_slice()
    child = panel.pid()
    panel.host.close_scene()
    panel.host.wait_until(lambda: not alive(child), what="the child's end")
    assert panel.volumes == []
    assert not panel.widget.running
    assert not panel.widget.review.active
    assert panel.ui.applyButton.text == "Apply"
    panel.load_ct("New")
    panel.host.wait_until(lambda: panel.parameters.inputVolume, what="the input")
    assert panel.ui.applyButton.enabled


def test_a_run_goes_on_while_another_module_is_shown_and_its_result_waits(panel):
    panel.apply()
    panel.host.select_module("")
    panel.finish()
    assert "overlay" not in panel.widget.review.availableLayers()
    panel.host.select_module("DiffMaSlicer")
    assert panel.parameters.outputVolume.GetAttribute("DiffMa.synthetic") == "1"
    assert panel.ui.outputSelector.currentNode() is panel.parameters.outputVolume
    assert "overlay" in panel.widget.review.availableLayers()


def test_deleting_the_input_during_a_run_ends_it(panel):
    import slicer

    panel.load_ct("Other")
    panel.host.wait_until(lambda: not panel.widget.input._adopt.active, what="the look at what was loaded")
    panel.parameters.steps = 1000
    panel.apply()
    child = panel.pid()
    slicer.mrmlScene.RemoveNode(panel.parameters.inputVolume)
    panel.finish()
    panel.host.wait_until(lambda: not alive(child), what="the child's end")
    assert panel.parameters.inputVolume is None
    assert panel.volumes == ["Other"]
    assert not panel.ui.applyButton.enabled


def test_deleting_the_result_does_not_put_another_volume_in_its_place(panel):
    import slicer

    panel.parameters.outputVolume = result = panel.load_ct("Result")
    slicer.mrmlScene.RemoveNode(result)
    assert panel.parameters.outputVolume is None
    assert panel.ui.outputSelector.currentNode() is None


def test_reloading_during_a_run_ends_it_and_takes_all_code_anew(panel):
    import slicer

    old, library = panel.widget, sys.modules["DiffMaSlicerLib.panel.widget"]
    panel.parameters.steps = 1000
    panel.apply()
    child = panel.pid()
    slicer.util.reloadScriptedModule("DiffMaSlicer")
    panel.host.process_events()
    panel.host.wait_until(lambda: not alive(child), what="the child's end")
    panel.widget = slicer.modules.DiffMaSlicerWidget
    assert panel.widget is not old
    assert sys.modules["DiffMaSlicerLib.panel.widget"] is not library
    assert not old.Observations
    assert panel.parameters.steps == 1000
    panel.load_ct("After")  # old observers would fail here
    panel.host.process_events()
    panel.parameters.steps = 2
    assert panel.ui.stepsSlider.value == 2
    assert panel.ui.applyButton.enabled
    assert panel.widget.shortcuts._shortcuts


def test_quitting_during_a_run_leaves_no_child(panel):
    panel.parameters.steps = 1000
    panel.apply()
    child = panel.pid()
    panel.host.quit()
    panel.host.wait_until(lambda: not alive(child), what="the child's end")


def test_leaving_and_coming_back_many_times_adds_nothing(slicer_host, models):
    panel = Panel(slicer_host)
    panel.load_ct()
    panel.open()
    import qt

    def count() -> int:
        return len(slicer_host.main_window.findChildren(qt.QShortcut.qt_class))

    before = count()
    for _ in range(3):
        slicer_host.select_module("")
        slicer_host.select_module("DiffMaSlicer")
    slicer_host.process_events()
    assert count() == before
