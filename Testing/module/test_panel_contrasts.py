"""Models of one family, which differ in their contrast alone: one row in the list of models, and contrasts by name."""

from __future__ import annotations

import pytest
from bundle_tools import saying
from DiffMaSlicerLib.panel.model_choice import Models

pytest_plugins = ("panel_stage",)


def model(name: str, target: str, family: str = "head", **more) -> dict:
    entry = {"name": name, "title": f"Head CT to {target}", "anatomy": "brain", "size": "B/2", "family": family}
    return {**entry, "target_modality": target, **more}


HEADS = [model("head", "MR T1"), model("head-flair", "MR FLAIR"), model("head-t2", "MR T2")]
OTHERS = [model("lone", "MR T1", family=""), model("pelvis", "MR T2", family="head", anatomy="pelvis")]


def rows(models: Models, chosen: str = "") -> list[str]:
    return [entry.value for entry in models.models(chosen=chosen)]


def test_a_family_is_one_row_that_stands_for_the_chosen_contrast():
    models = Models({"models": HEADS + OTHERS})
    assert rows(models) == ["head", "lone", "pelvis"]
    assert rows(models, "head-t2") == ["head-t2", "lone", "pelvis"]
    assert rows(models, "pelvis") == ["head-t2", "lone", "pelvis"], "another model keeps the contrast where it can"


def test_contrasts_are_named_in_the_usual_order():
    models = Models({"models": HEADS + OTHERS})
    named = [(entry.text, entry.value) for entry in models.contrasts("head-t2")]
    assert named == [("T1", "head"), ("T2", "head-t2"), ("FLAIR", "head-flair")]
    assert models.contrasts("lone") == models.contrasts("pelvis") == models.contrasts("gone") == []


def test_two_models_of_one_contrast_are_told_apart():
    models = Models({"models": [*HEADS, model("copy", "MR T1", title="Mine")]})
    texts = [entry.text for entry in models.contrasts("head")]
    assert texts == ["T1, Head CT to MR T1", "T1, Mine", "T2", "FLAIR"]


@pytest.fixture
def heads(models, tiny_bundle):
    """Three models of the user's, of one family."""
    for name, target in (("head", "MR T1"), ("head-flair", "MR FLAIR"), ("head-t2", "MR T2")):
        saying(tiny_bundle, models / "models" / name, family="head", target_modality=target)
    return models


def test_choosing_a_contrast_chooses_its_model_and_makes_a_volume_of_its_own(heads, panel):
    panel.know_machine()
    assert not panel.ui.contrastBox.isVisible()
    assert not panel.ui.contrastLabel.isVisible()
    listed = [panel.ui.modelBox.itemData(row) for row in range(panel.ui.modelBox.count)]
    assert [name for name in listed if name.startswith("head")] == ["head"]

    panel.pick(panel.ui.modelBox, "head")
    box = panel.ui.contrastBox
    assert box.isVisible()
    assert [box.itemText(row) for row in range(box.count)] == ["T1", "T2", "FLAIR"]
    assert box.currentText == "T1"
    panel.apply()
    panel.finish()
    first = panel.parameters.outputVolume
    assert first.GetAttribute("DiffMa.targetModality") == "MR T1"

    panel.pick(box, "head-t2")
    assert panel.parameters.model == "head-t2"
    assert panel.ui.modelBox.currentText == "head-t2 of tiny networks"
    assert panel.ui.modelBox.count == len(listed)
    panel.apply()
    panel.finish()
    second = panel.parameters.outputVolume
    assert second is not first
    assert second.GetAttribute("DiffMa.targetModality") == "MR T2"
    assert second.GetAttribute("DiffMa.model") == "head-t2"

    panel.parameters.model = "tiny"
    assert not box.isVisible()
