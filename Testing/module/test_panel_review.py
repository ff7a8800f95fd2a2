"""Review, comparison, export and batch of the panel, by clicks."""

from __future__ import annotations

import numpy as np
import pytest

pytest_plugins = ("panel_stage",)


@pytest.fixture
def reviewed(panel):
    """A panel with a synthetic MRI beside its CT."""
    import slicer

    ct = panel.parameters.inputVolume
    mr = panel.load((slicer.util.arrayFromVolume(ct) / 3 + 400).astype(np.float32), "Synthetic")
    for name, value in {"synthetic": "1", "model": "tiny", "notice": "Research only"}.items():
        mr.SetAttribute(f"DiffMa.{name}", value)
    mr.SetNodeReferenceID("DiffMa.ct", ct.GetID())
    panel.parameters.outputVolume = mr
    panel.ui.reviewSectionButton.collapsed = False
    panel.host.click(panel.ui.layoutAxialButton)
    return panel


def arrangement() -> int:
    import slicer

    return slicer.app.layoutManager().layout


def test_a_click_on_a_layout_shows_it(reviewed):
    assert reviewed.widget.review.active
    side_by_side = arrangement()
    reviewed.host.click(reviewed.ui.layoutPlanesButton)
    assert reviewed.parameters.layout == "three-planes"
    assert arrangement() != side_by_side
    assert reviewed.ui.layoutPlanesButton.checked
    assert not reviewed.ui.layoutAxialButton.checked


def test_a_click_on_the_chosen_layout_returns_from_the_users_own(reviewed):
    import slicer

    side_by_side = arrangement()
    slicer.app.layoutManager().setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
    reviewed.host.click(reviewed.ui.layoutAxialButton)
    assert arrangement() == side_by_side


def test_layers_fade_and_tiles_reach_the_review(reviewed):
    reviewed.pick(reviewed.ui.layersBox, "overlay")
    assert reviewed.widget.review.layers == "overlay"
    assert reviewed.ui.fadeSlider.isVisible()
    assert not reviewed.ui.tilesBox.isVisible()
    reviewed.ui.fadeSlider.value = 0.9
    assert reviewed.widget.review._opacity == 0.9
    reviewed.pick(reviewed.ui.layersBox, "checkerboard")
    assert reviewed.ui.tilesBox.isVisible()
    reviewed.ui.tilesBox.value = 4
    assert reviewed.widget.review._tiles == 4
    reviewed.host.click(reviewed.ui.linkBox)
    assert reviewed.widget.review._linked is False


def test_layouts_and_layers_have_keys_which_their_tooltips_tell(reviewed):
    from PySide6 import QtCore
    from PySide6.QtTest import QTest

    window = reviewed.host.main_window
    window.activateWindow()
    assert "Alt+2" in reviewed.ui.layoutPlanesButton.toolTip
    QTest.keyClick(window, QtCore.Qt.Key.Key_2, QtCore.Qt.KeyboardModifier.AltModifier)
    assert reviewed.parameters.layout == "three-planes"
    QTest.keyClick(window, QtCore.Qt.Key.Key_4, QtCore.Qt.KeyboardModifier.AltModifier)
    assert reviewed.parameters.layers == "overlay"


def test_choosing_the_true_mri_gives_a_table_and_a_difference_map(reviewed):
    import slicer

    values = slicer.util.arrayFromVolume(reviewed.parameters.outputVolume)
    true = reviewed.load((values * 2 + np.random.default_rng(0).normal(0, 5, values.shape)).astype(np.float32), "True")
    reviewed.host.choose(reviewed.ui.trueSelector, true)
    table = reviewed.ui.metricsTable
    reviewed.host.wait_until(lambda: table.isVisible(), what="the comparison")
    rows = {table.item(row, 0).text(): table.item(row, 1).text() for row in range(table.rowCount)}
    assert set(rows) == {"SSIM", "PSNR", "MAE"}
    assert 0.5 < float(rows["SSIM"]) <= 1
    assert "percentile" in reviewed.ui.compareText.text
    assert reviewed.parameters.differenceVolume is not None
    assert "difference" in reviewed.widget.review.availableLayers()


def test_a_true_mri_that_lies_elsewhere_is_said(reviewed):
    true = reviewed.load(np.ones((4, 5, 6), np.float32), "Elsewhere")
    true.SetOrigin(900, 900, 900)
    reviewed.host.choose(reviewed.ui.trueSelector, true)
    text = reviewed.ui.compareText
    reviewed.host.wait_until(lambda: text.text and "Comparing" not in text.text, what="the comparison")
    assert not reviewed.ui.metricsTable.isVisible()


def test_the_dicom_export_writes_a_derived_series(reviewed, tmp_path):
    reviewed.host.dialogs.answer("folder", str(tmp_path / "series"))
    reviewed.host.click(reviewed.ui.exportDicomButton)
    reviewed.host.wait_until(lambda: reviewed.ui.messageFrame.isVisible(), what="the export")
    assert "20 files" in reviewed.ui.messageText.text
    assert len(list((tmp_path / "series").iterdir())) == 20


def test_a_batch_of_loaded_volumes_lists_the_state_of_each(panel, tmp_path):
    panel.load(np.full((4, 8, 8), 5, np.int16), "No CT")
    panel.load_ct("Second", seed=1)
    panel.choose(panel.ui.loadButton, "Several CTs")
    ui = panel.widget.batch.ui
    panel.host.click(ui.loadedRadio)
    assert not ui.batchRunButton.enabled
    panel.host.dialogs.answer("folder", str(tmp_path / "out"))
    panel.host.click(ui.batchOutputButton)
    assert panel.parameters.batchOutput == str(tmp_path / "out")
    assert [node.GetName() for node in panel.widget.batch._ticked()] == ["Head CT", "Second"]
    panel.pick(ui.batchFormatBox, "mha")
    panel.host.click(ui.batchRunButton)
    assert ui.batchRunButton.text == "Cancel"
    assert not panel.ui.applyButton.enabled
    panel.finish()
    assert "2 converted, 0 failed" in ui.batchProgressText.text
    assert [ui.batchTable.item(row, 1).text() for row in range(ui.batchTable.rowCount)] == ["done", "done"]
    assert len(list((tmp_path / "out").rglob("*.mha"))) == 2
    assert [node.GetName() for node in panel.widget.batch._ticked()] == ["Head CT", "Second"]
    assert panel.ui.applyButton.enabled


def test_a_batch_can_be_cancelled_and_its_window_closed_meanwhile(panel, tmp_path):
    panel.choose(panel.ui.loadButton, "Several CTs")
    ui = panel.widget.batch.ui
    ui.batchInputEdit.text = str(tmp_path)
    ui.batchOutputEdit.text = str(tmp_path / "out")
    panel.host.click(ui.batchRunButton)
    panel.host.click(ui.batchCloseButton)
    assert panel.widget.batch.running
    panel.choose(panel.ui.loadButton, "Several CTs")
    if panel.widget.batch.running:
        panel.host.click(ui.batchRunButton)
    panel.finish()
    assert ui.batchRunButton.text == "Convert all"
