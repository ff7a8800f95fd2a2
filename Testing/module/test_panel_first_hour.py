"""The panel as a new user meets it: few controls, reasons beside the button, the first slice where one looks."""

from __future__ import annotations

import numpy as np
import pytest
from panel_stage import Panel

pytest_plugins = ("panel_stage",)


def mr_values() -> np.ndarray:
    return np.random.default_rng(0).integers(100, 900, (6, 20, 20)).astype(np.int16)


@pytest.mark.parametrize("loaded", [True, False])
def test_at_most_ten_controls_are_in_sight_before_anything_is_opened(slicer_host, models, loaded):
    import ctk
    import qt
    import slicer

    panel = Panel(slicer_host)
    if loaded:
        panel.load_ct()
    panel.open()
    panel.know_machine()
    kinds = (qt.QPushButton, qt.QCheckBox, qt.QComboBox, qt.QSpinBox, qt.QSlider, slicer.qMRMLNodeComboBox)
    sections = (ctk.ctkCollapsibleButton,)
    seen = [w.name for w in vars(panel.ui).values() if isinstance(w, (*kinds, *sections)) and w.isVisible()]
    assert {"inputSelector", "sizeBox", "modeBox", "applyButton"} <= set(seen)
    assert len(seen) <= 10, seen


def test_a_title_too_long_for_its_list_ends_in_dots_and_is_told_by_the_tooltip(panel):
    panel.know_machine()
    panel.parameters.model = "demo"
    title = panel.ui.modelBox.currentText
    assert title.startswith("DEMO head CT to MR T1") and panel.ui.modelBox.toolTip == title
    box = panel.ui.modelBox.qt_object()
    box.setFixedWidth(box.fontMetrics().horizontalAdvance(title) // 2)
    clipped = box.grab().toImage()
    panel.ui.modelBox.elideMode = 0  # to the left
    assert box.grab().toImage() != clipped


def test_an_mr_is_not_chosen_before_a_ct_and_is_not_given_in_hu(slicer_host, models):
    panel = Panel(slicer_host)
    mr = panel.load(mr_values(), "MR")
    panel.load_ct("CT")
    panel.open()
    assert panel.parameters.inputVolume.GetName() == "CT"
    panel.host.choose(panel.ui.inputSelector, mr)
    assert "HU" not in panel.ui.inputFacts.text.splitlines()[0]


def test_why_apply_is_grey_stands_beside_it_and_a_volume_that_is_no_ct_can_be_converted_anyway(panel):
    ui = panel.ui
    assert ui.applyButton.enabled and not ui.reasonText.isVisible() and not ui.convertAnywayButton.isVisible()
    mr = panel.load(mr_values(), "MR")
    panel.host.choose(ui.inputSelector, mr)
    assert not ui.applyButton.enabled
    assert ui.reasonText.isVisible() and "CT in HU" in ui.reasonText.text
    panel.host.click(ui.convertAnywayButton)
    assert ui.applyButton.enabled and not ui.reasonText.isVisible()
    panel.host.choose(ui.inputSelector, panel.load(mr_values(), "Another MR"))
    assert not ui.applyButton.enabled, "each volume is asked for anew"
    panel.host.choose(ui.inputSelector, None)
    assert "Choose a CT" in ui.reasonText.text and not ui.convertAnywayButton.isVisible()


def test_an_old_error_goes_when_another_volume_is_chosen(panel):
    panel.widget.messages.error("the disk is full")
    panel.host.choose(panel.ui.inputSelector, panel.load_ct("Second"))
    assert not panel.ui.messageFrame.isVisible()


def test_on_a_first_run_the_slice_that_is_made_first_is_the_one_on_view(slicer_host, models):
    import slicer

    panel = Panel(slicer_host)
    ct = panel.load_ct(shape=(20, 44, 40))
    air = slicer.util.arrayFromVolume(ct).copy()
    air[:6] = -1000  # the body's middle is not the volume's, where views stand at first
    slicer.util.updateVolumeFromArray(ct, air)
    panel.open()
    panel.parameters.model, panel.parameters.steps = "tiny", 2
    panel.apply()
    job = panel.widget.run._view.job
    mr = panel.first_slice()
    panel.host.wait_until(lambda: panel.widget.review.currentSlice() in job.finishedSlices, what="the jump")
    assert job.finishedSlices[0] > 10
    assert slicer.util.arrayFromVolume(mr)[panel.widget.review.currentSlice()].std() > 0
    panel.finish()


def test_the_steps_slider_tells_steps_to_fifty_one_by_one_and_reaches_a_thousand(panel):
    from DiffMaSlicerLib.panel.sampling_section import sliderPlace, stepsAt

    places = [stepsAt(place) for place in range(1, 101)]
    assert places[:50] == list(range(1, 51)) and places[-1] == 1000
    assert places == sorted(set(places))
    assert all(sliderPlace(steps) == place for place, steps in enumerate(places, start=1))
    panel.parameters.mode = "sample"
    panel.ui.stepsSlider.value = 100
    assert panel.parameters.steps == panel.ui.stepsBox.value == 1000
    panel.ui.stepsBox.value = 33
    assert panel.ui.stepsSlider.value == 33


def test_where_a_batch_takes_its_volumes_from_is_saved_with_the_scene(panel, tmp_path):
    import slicer

    panel.choose(panel.ui.loadButton, "Several CTs")
    ui = panel.widget.batch.ui
    ui.loadedRadio.checked = True
    ui.batchLoadBox.checked = True
    scene = str(tmp_path / "scene.mrml")
    slicer.util.saveScene(scene)
    panel.parameters.batchFromFolder, panel.parameters.batchLoad = True, False
    assert ui.folderRadio.checked and not ui.batchLoadBox.checked
    slicer.mrmlScene.Clear(0)
    slicer.util.loadScene(scene)
    assert not panel.parameters.batchFromFolder and panel.parameters.batchLoad
