"""Apply, progress, slices, Cancel, failures: driven by clicks, with the real child process."""

from __future__ import annotations

import numpy as np
from panel_stage import alive

pytest_plugins = ("panel_stage",)


def voxels(node) -> np.ndarray:
    import slicer

    return slicer.util.arrayFromVolume(node).copy()


def on_view(name: str) -> str:
    """Name of the volume that a slice view shows."""
    import slicer

    logic = slicer.app.layoutManager().sliceWidget(name).sliceLogic()
    return logic.GetBackgroundLayer().GetVolumeNode().GetName()


def test_one_click_gives_the_mri_beside_the_ct_slice_by_slice(panel):
    import slicer

    panel.know_machine()
    panel.parameters.steps = 50
    seen = set()
    panel.apply()
    assert panel.ui.applyButton.text == "Cancel"
    assert panel.ui.progressBar.isVisible()

    mr = panel.first_slice()
    assert panel.widget.running
    assert (on_view("DiffMaCTAxial"), on_view("DiffMaMRAxial")) == ("Head CT", mr.GetName())
    made = (voxels(mr) != voxels(mr).min()).any(axis=(1, 2)).sum()
    assert 0 < made < 20
    panel.host.wait_until(lambda: seen.add(panel.ui.progressText.text) or not panel.widget.running)
    assert any("slice" in text and "of 20" in text for text in seen)

    assert "is ready" in panel.finish()
    assert panel.parameters.outputVolume is mr
    assert mr.GetAttribute("DiffMa.synthetic") == "1"
    assert mr.GetAttribute("DiffMa.model") == "tiny"
    assert panel.ui.applyButton.text == "Apply"
    assert not panel.ui.progressBar.isVisible()
    assert "softmask" in panel.widget.review.availableLayers()

    panel.ui.logButton.collapsed = False
    panel.host.process_events()
    panel.host.click(panel.ui.copyLogButton)
    log = slicer.app.clipboard().text()
    assert log.strip()
    assert "Head CT" not in log


def test_the_slice_on_the_screen_is_made_first(panel):
    panel.parameters.samples = 1
    panel.apply()
    panel.finish()
    panel.widget.review.jumpToSlice(17)
    panel.apply()
    job = panel.widget.run._view.job
    panel.host.wait_until(lambda: job.slices, what="the slices")
    assert 17 in job.slices[:4]
    panel.finish()


def test_a_part_that_is_not_on_the_screen_is_jumped_to(panel):
    panel.ui.limitSlicesBox.checked = True
    panel.ui.firstSliceBox.value, panel.ui.lastSliceBox.value = 2, 4
    panel.apply()
    job = panel.widget.run._view.job
    panel.finish()
    assert sorted(job.slices) == [2, 3, 4]
    assert panel.widget.review.currentSlice() in (2, 3, 4)


def test_applied_again_it_fills_the_same_volume_and_another_ct_gets_its_own(panel):
    panel.ui.softMaskBox.checked = False
    panel.apply()
    panel.finish()
    first, before = panel.parameters.outputVolume, panel.volumes
    values = voxels(first)
    panel.ui.seedBox.value = 7
    panel.ui.samplesBox.value = 2
    panel.apply()
    panel.finish()
    assert panel.parameters.outputVolume is first
    assert len(panel.volumes) == len(before) + 1
    assert panel.parameters.uncertaintyVolume is not None
    assert "uncertainty" in panel.widget.review.availableLayers()
    assert (voxels(first) != values).any()

    panel.ui.samplesBox.value = 1
    panel.apply()
    panel.finish()
    assert panel.parameters.uncertaintyVolume is None
    assert panel.volumes == before, "the uncertainty of a result that is gone went with it"

    panel.host.choose(panel.ui.inputSelector, panel.load_ct("Second", seed=1))
    panel.apply()
    panel.finish()
    assert panel.parameters.outputVolume is not first
    assert first.GetNodeReference("DiffMa.ct").GetName() == "Head CT"


def test_cancel_ends_the_child_and_leaves_nothing(panel):
    import slicer

    panel.parameters.steps = 1000
    before, layout = panel.volumes, slicer.app.layoutManager().layout
    panel.apply()
    panel.host.process_events()
    assert on_view("DiffMaCTAxial") == "Head CT"
    assert slicer.app.layoutManager().layout != layout
    panel.first_slice()
    child = panel.pid()
    panel.apply()
    assert "Nothing was kept" in panel.finish()
    panel.host.wait_until(lambda: not alive(child), what="the child's end")
    assert panel.volumes == before
    assert panel.parameters.outputVolume is None
    assert panel.ui.applyButton.text == "Apply"
    assert slicer.app.layoutManager().layout == layout


def test_cancel_keeps_the_slices_if_asked_to(panel):
    panel.parameters.steps = 1000
    panel.ui.advancedButton.collapsed = False
    panel.host.click(panel.ui.keepPartialBox)
    panel.apply()
    panel.first_slice()
    panel.apply()
    assert "are kept" in panel.finish()
    assert "of 20" in panel.parameters.outputVolume.GetAttribute("DiffMa.partial")


def test_a_failed_run_says_cause_and_remedy_and_the_next_begins_afresh(panel, models):
    weights = next((models / "models" / "tiny" / "denoiser").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:1000])
    panel.apply()
    said = panel.finish()
    assert "denoiser" in said
    assert panel.volumes == ["Head CT"]
    assert panel.ui.applyButton.text == "Apply"
    panel.widget.setMachine(None)  # which may have found the damage meanwhile, and then says it beside Apply
    panel.apply()
    assert not panel.ui.messageFrame.isVisible()


def test_an_interpreter_that_is_none_is_said(panel, tmp_path):
    panel.widget.logic.settings.interpreter = str(tmp_path / "no_python")
    panel.apply()
    assert "no_python" in panel.finish()
    assert panel.ui.messageIcon.isVisible()


def test_apply_has_a_key_that_lives_while_the_module_is_shown(panel):
    from PySide6 import QtCore
    from PySide6.QtTest import QTest

    window = panel.host.main_window
    window.activateWindow()

    def press() -> None:
        QTest.keyClick(window, QtCore.Qt.Key.Key_Return, QtCore.Qt.KeyboardModifier.ControlModifier)
        panel.host.process_events()

    panel.host.select_module("")
    press()
    assert not panel.widget.running
    panel.host.select_module("DiffMaSlicer")
    press()
    assert panel.widget.running
