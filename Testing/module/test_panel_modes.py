"""Most faithful or sampled: what a model was trained for can be chosen, and the steps belong to the second."""

from __future__ import annotations

import numpy as np
import pytest
from bundle_tools import saying

pytest_plugins = ("panel_stage",)

FAITHFUL, SAMPLED = "Most faithful (one step)", "Sampled"
OF_SAMPLING = ("schedulerBox", "seedBox", "newSeedButton")


@pytest.fixture
def home(models, expecting_bundle):
    """Two more models of the user's: "both" knows both modes, "expected" the mean alone."""
    saying(expecting_bundle, models / "models" / "both", modes=["mean", "sample"])
    saying(expecting_bundle, models / "models" / "expected", modes=["mean"])
    return models


@pytest.fixture
def ready(home, panel):
    """The panel, once the child told of these models."""
    panel.know_machine()
    return panel


def sampling(panel) -> dict[str, bool]:
    return {name: getattr(panel.ui, name).enabled for name in OF_SAMPLING}


def choosable(panel) -> dict[str, bool]:
    """Modes that can be chosen."""
    from PySide6 import QtCore

    model = panel.ui.modeBox.qt_object().model()
    flags = {panel.ui.modeBox.itemData(row): model.flags(model.index(row, 0)) for row in range(model.rowCount())}
    return {mode: bool(flag & QtCore.Qt.ItemFlag.ItemIsEnabled) for mode, flag in flags.items()}


def voxels(node) -> np.ndarray:
    import slicer

    return slicer.util.arrayFromVolume(node).copy()


def test_the_models_own_mode_is_shown_and_the_steps_belong_to_sampled(ready):
    tips = {name: getattr(ready.ui, name).toolTip for name in OF_SAMPLING}
    ready.parameters.model = "both"
    assert ready.ui.modeBox.currentText == FAITHFUL
    assert choosable(ready) == {"mean": True, "sample": True}
    assert not any(sampling(ready).values())
    assert not ready.ui.stepsSlider.isVisible() and not ready.ui.stepsBox.isVisible()
    assert all("for the mode Sampled" in getattr(ready.ui, name).toolTip for name in OF_SAMPLING)
    assert ready.ui.samplesBox.enabled

    ready.ui.samplesBox.value = 2
    assert all(sampling(ready).values()), "samples are drawn for the uncertainty"
    assert ready.ui.stepsSlider.isVisible() and ready.ui.stepsBox.isVisible()
    ready.ui.samplesBox.value = 1
    assert not any(sampling(ready).values())

    ready.pick(ready.ui.modeBox, "sample")
    assert ready.parameters.mode == "sample"
    assert all(sampling(ready).values())
    assert {name: getattr(ready.ui, name).toolTip for name in OF_SAMPLING} == tips
    ready.ui.stepsSlider.value = 1000
    assert ready.parameters.steps == 1000


def test_a_model_that_was_not_trained_for_a_mode_says_so_and_does_the_other(ready):
    ready.parameters.model = "both"
    ready.pick(ready.ui.modeBox, "mean")
    ready.parameters.model = "tiny"
    assert ready.ui.modeBox.currentText == SAMPLED
    assert choosable(ready) == {"mean": False, "sample": True}
    assert "tiny random networks (for tests) was trained to sample only" in ready.ui.modeBox.toolTip
    assert all(sampling(ready).values())
    assert ready.widget.logic.samplingOf(ready.parameters).mode == "sample"
    assert ready.ui.applyButton.enabled

    ready.parameters.model = "both"
    assert ready.ui.modeBox.currentText == FAITHFUL, "the wish holds again"
    assert ready.parameters.mode == "mean"


def test_without_a_wish_each_model_does_what_it_was_made_for(ready):
    shown = {}
    for name in ("both", "tiny", "expected", "both"):
        ready.parameters.model = name
        shown[name] = ready.ui.modeBox.currentText
    assert shown == {"both": FAITHFUL, "tiny": SAMPLED, "expected": FAITHFUL}
    assert ready.parameters.mode == "auto"


def test_samples_of_a_model_that_cannot_sample_are_refused_and_can_be_left(ready):
    ready.parameters.model, ready.parameters.samples = "expected", 4
    assert choosable(ready) == {"mean": True, "sample": False}
    assert not ready.ui.applyButton.enabled
    assert "Set Samples to 1" in ready.ui.applyButton.toolTip
    ready.ui.samplesBox.value = 1
    assert ready.ui.applyButton.enabled
    assert not ready.ui.samplesBox.enabled
    assert "was not trained to sample" in ready.ui.samplesBox.toolTip


def test_the_most_faithful_image_has_no_seed_and_samples_only_add_the_uncertainty(ready):
    ready.parameters.model = "both"
    ready.ui.softMaskBox.checked = False
    ready.apply()
    ready.finish()
    mr = ready.parameters.outputVolume
    facts = {name: mr.GetAttribute(f"DiffMa.{name}") for name in ("mode", "steps", "scheduler", "seed", "samples")}
    assert facts == {"mode": "mean", "steps": "1", "scheduler": None, "seed": None, "samples": "1"}
    faithful, told = voxels(mr), voxels(ready.parameters.uncertaintyVolume)
    assert told.max() > 0 and mr.GetAttribute("DiffMa.uncertaintyOf") == "decoder"

    ready.ui.samplesBox.value, ready.ui.seedBox.value = 2, 5
    ready.apply()
    ready.finish()
    assert (mr.GetAttribute("DiffMa.mode"), mr.GetAttribute("DiffMa.seed")) == ("mean", "5")
    assert np.allclose(voxels(mr), faithful, atol=1e-3), "the image stays the most faithful one"
    sampled = voxels(ready.parameters.uncertaintyVolume)
    assert sampled.max() > 0 and not np.allclose(sampled, told)

    ready.ui.samplesBox.value = 1
    ready.pick(ready.ui.modeBox, "sample")
    ready.apply()
    ready.finish()
    assert mr.GetAttribute("DiffMa.mode") == "sample" and ready.parameters.uncertaintyVolume is None
    assert np.abs(voxels(mr) - faithful).max() > 1

    runs = {mode: ready.widget.logic.estimate("both", "cpu", mode=mode).runs for mode in ("mean", "sample")}
    assert runs == {"mean": 1, "sample": 2}, "one step is estimated by its like"


def test_what_the_result_says_of_its_agreement_with_the_ct_and_of_the_training_stands_under_it(ready):
    from DiffMaSlicerLib.mrml.provenance import write_provenance

    words = "CSF agrees by 0.87, skull by 0.88: the MR follows the CT"
    warning = "Outside of what the model was trained on: metal 9 ml (training 0 to 6)."
    assert not ready.ui.agreementText.isVisible()
    result = ready.load_ct("Result")
    facts = {"model": "tiny", "agreement_words": words, "training_words": warning}
    write_provenance(result, facts, ct=ready.parameters.inputVolume)
    ready.parameters.outputVolume = result
    ready.ui.reviewSectionButton.collapsed = False
    assert ready.ui.agreementText.isVisible()
    assert ready.ui.agreementText.text == words
    assert "without a true MRI" in ready.ui.agreementText.toolTip
    assert ready.ui.trainingText.isVisible() and ready.ui.trainingText.text == warning

    ready.apply()
    assert not ready.ui.agreementText.isVisible(), "the image that it was about is being replaced"
    assert not ready.ui.trainingText.isVisible()
    ready.finish()
    assert ready.ui.agreementText.text == (result.GetAttribute("DiffMa.agreement") or "")
    assert ready.ui.agreementText.text != words
    assert result.GetAttribute("DiffMa.training").startswith("not known") and not ready.ui.trainingText.isVisible()
