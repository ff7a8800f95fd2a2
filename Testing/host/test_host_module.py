"""A scripted module lives in the stand-in as it lives in Slicer."""

from pathlib import Path

import pytest
import slicer

MODULE = Path(__file__).parent / "SampleModule" / "SampleModule.py"


@pytest.fixture
def widget(slicer_host):
    return slicer_host.load_module(MODULE)


def test_the_panel_is_set_up_and_entered(widget):
    assert widget.calls == ["enter"]
    assert slicer.util.selectedModule() == "SampleModule"
    assert slicer.util.getModuleWidget("SampleModule") is widget
    assert slicer.modules.samplemodule.title == "Sample module"


def test_leaving_the_module_exits_it(slicer_host, widget):
    slicer_host.select_module("")
    assert widget.calls == ["enter", "exit"]


def test_a_click_reaches_the_slot(slicer_host, widget):
    slicer_host.click(widget.ui.applyButton)
    assert widget.ui.applyButton.text == "Done"


def test_a_hidden_or_disabled_button_cannot_be_clicked(slicer_host, widget):
    widget.ui.applyButton.enabled = False
    with pytest.raises(AssertionError, match="disabled"):
        slicer_host.click(widget.ui.applyButton)


def test_reload_cleans_up_and_makes_the_panel_anew(slicer_host, widget):
    slicer.util.reloadScriptedModule("SampleModule")
    assert widget.calls[-1] == "cleanup"
    assert slicer.modules.SampleModuleWidget is not widget
    slicer_host.click(slicer.modules.SampleModuleWidget.ui.applyButton)


def test_quitting_tells_of_it_and_cleans_up(slicer_host, widget):
    told = []
    slicer.app.connect("aboutToQuit()", lambda: told.append(True))
    slicer_host.quit()
    assert told == [True]
    assert widget.calls[-1] == "cleanup"


def test_an_error_in_a_slot_is_kept_for_the_test(slicer_host, widget):
    widget.ui.fine.connect("toggled(bool)", lambda checked: 1 / 0)
    widget.ui.fine.click()
    assert isinstance(slicer_host.take_errors()[0][1], ZeroDivisionError)


def test_a_volume_and_the_scene_are_saved_and_loaded(slicer_host, tmp_path):
    import numpy as np

    node = slicer.util.addVolumeFromArray(np.arange(24, dtype=np.int16).reshape(2, 3, 4), name="CT")
    assert slicer.util.saveNode(node, str(tmp_path / "CT.nrrd"))
    assert slicer.util.saveScene(str(tmp_path / "scene.mrml"))
    slicer_host.close_scene()
    loaded = slicer.util.loadVolume(str(tmp_path / "CT.nrrd"))
    assert slicer.util.arrayFromVolume(loaded).tolist() == np.arange(24).reshape(2, 3, 4).tolist()
    slicer_host.close_scene()
    slicer.util.loadScene(str(tmp_path / "scene.mrml"))
    assert slicer.util.getNode("CT").GetImageData().GetDimensions() == (4, 3, 2)
