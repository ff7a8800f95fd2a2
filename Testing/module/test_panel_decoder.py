"""The choice of the decoder in the panel: offered where the model has a small one, and said where it has not."""

from __future__ import annotations

import shutil

import pytest

pytest_plugins = ("panel_stage",)


@pytest.fixture
def with_small(models, tiny_bundle_with_small_decoder):
    """A second model of the user's, called small, that has a small decoder."""
    shutil.copytree(tiny_bundle_with_small_decoder, models / "models" / "small")
    return models


def test_a_model_without_a_small_decoder_offers_none_and_says_why(panel):
    assert panel.ui.decoderBox.enabled  # nobody knows yet
    panel.know_machine()
    assert not panel.ui.decoderBox.enabled
    assert panel.ui.decoderBox.currentText == "The model's own"
    assert "has no small decoder" in panel.ui.decoderBox.toolTip
    assert "diffma models complete" in panel.ui.decoderBox.toolTip
    assert panel.ui.applyButton.enabled


def test_a_small_decoder_that_a_scene_asks_for_and_the_model_lacks_is_said_and_can_be_left(panel):
    panel.know_machine()
    panel.parameters.decoder = "small"
    assert not panel.ui.applyButton.enabled
    assert "has no small decoder" in panel.ui.applyButton.toolTip
    assert panel.ui.decoderBox.enabled
    panel.pick(panel.ui.decoderBox, "full")
    assert panel.parameters.decoder == "full"
    assert panel.ui.applyButton.enabled and not panel.ui.decoderBox.enabled


def test_a_model_with_one_converts_by_it_and_the_mri_says_so(with_small, panel):
    panel.know_machine()
    panel.parameters.model = "small"
    assert panel.ui.decoderBox.enabled
    assert "approximate" in panel.ui.decoderBox.toolTip
    panel.pick(panel.ui.decoderBox, "small")
    assert panel.parameters.decoder == "small"
    panel.apply()
    panel.finish()
    mr = panel.parameters.outputVolume
    assert mr.GetAttribute("DiffMa.decoder") == "small (approximate)"
    logic = panel.widget.logic
    assert logic.estimate("small", "cpu", decoder="small").runs == 1
    assert logic.estimate("small", "cpu").runs == 0
