"""Models, packages and dialogs of the panel: import, card, folder, download, consent."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from DiffMaSlicerLib.panel.card_dialog import withoutFrontMatter
from DiffMaSlicerLib.panel.model_choice import SIZES, Models
from DiffMaSlicerLib.panel.packages import question, summary

pytest_plugins = ("panel_stage",)

MACHINE = {
    "models": [
        {"name": "demo", "title": "DEMO", "anatomy": "brain", "size": "custom 192x6/2, latent 32", "demo": True},
        {"name": "mine", "title": "Mine", "anatomy": "pelvis", "size": "L/2", "missing": ["vae"], "problem": None},
    ],
    "catalogue": [
        {"name": "hub", "title": "Hub", "anatomy": "brain", "size": "S/4", "state": "downloadable", "hub": "a/b"},
        {
            "name": "paper",
            "title": "Paper",
            "anatomy": "brain",
            "size": "L/2",
            "state": "importable",
            "how": "Import it.",
        },
    ],
}


def test_installed_downloadable_and_importable_models_are_told_apart():
    sizes = {entry.value: entry.text for entry in Models(MACHINE).sizes()}
    assert [sizes[name] for name in ("DEMO", "L/2", "S/4", "XXL/7")] == [
        "DEMO, installed",
        "L/2, installed",
        "S/4, to download",
        "XXL/7, no weights yet",
    ]
    assert set(SIZES) <= set(sizes)
    assert {entry.value: entry.text for entry in Models(MACHINE).sizes("brain")}["L/2"] == "L/2, to import"
    assert [entry.value for entry in Models(MACHINE).models("brain")] == ["demo", "hub", "paper"]


def test_what_is_said_of_a_model_tells_what_to_do():
    models = Models(MACHINE)
    assert models.advice("demo")[1]
    assert "DEMO" in models.advice("demo")[0]
    assert models.advice("paper") == ("Import it.", False)
    assert "vae" in models.advice("mine")[0]
    assert "no weights for pelvis S/2" in models.advice("", "pelvis", "S/2")[0]
    assert models.advice("gone")[1] is False
    assert Models().advice("gone") == ("", True)  # nobody knows yet


def test_the_question_before_an_installation_names_packages_size_and_python():
    result = {
        "python": "3.11.7",
        "path": "/opt/python",
        "chooser": True,
        "size": "about 800 MB",
        "packages": [
            {"name": "torch", "required": ">=2.2", "installed": None, "ok": False},
            {"name": "numba", "required": ">=0.60", "installed": "0.50", "ok": False},
            {"name": "SimpleITK", "required": ">=2.3", "installed": "2.5", "ok": True},
        ],
    }
    text = question(result)
    assert all(word in text for word in ("torch, numba, light-the-torch", "about 800 MB", "/opt/python"))
    assert "SimpleITK" not in text
    assert summary(result).splitlines() == [
        "torch is missing",
        "numba 0.50 is too old, >=0.60 is needed",
        "SimpleITK 2.5",
    ]


def test_a_card_is_shown_without_its_lines_for_machines():
    assert withoutFrontMatter("---\nlicense: mit\n---\n\n# Title\n---\nrest") == "# Title\n---\nrest"


def test_the_card_of_the_chosen_model_is_one_click_away(panel):
    panel.choose(panel.ui.modelMenuButton, "Model card")
    card = panel.widget.model._card
    assert card.shown
    panel.host.wait_until(lambda: "tiny random networks" in card.ui.cardText.plainText, what="the card")
    assert "license:" not in card.ui.cardText.plainText


def test_a_bundle_is_imported_and_chosen(panel, tmp_path, models):
    folder = tmp_path / "another"
    shutil.move(models / "models" / "tiny", folder)
    panel.parameters.model = "demo"
    panel.choose(panel.ui.modelMenuButton, "Import")
    ui = panel.widget.model._import.ui
    assert not ui.importRunButton.enabled
    panel.host.dialogs.answer("folder", str(folder))
    panel.host.click(ui.bundleFolderButton)
    assert ui.bundleEdit.text == str(folder)
    panel.host.click(ui.importRunButton)
    assert not panel.widget.model._import.shown
    panel.host.wait_until(lambda: panel.ui.messageFrame.isVisible(), what="the end of the import")
    assert "installed" in panel.ui.messageText.text
    assert panel.parameters.model == "tiny"
    panel.host.wait_until(lambda: panel.ui.modelBox.currentText == "tiny random networks (for tests)")
    assert panel.ui.applyButton.enabled


def test_an_import_that_fails_says_why(panel, tmp_path):
    (tmp_path / "empty").mkdir()
    panel.choose(panel.ui.modelMenuButton, "Import")
    ui = panel.widget.model._import.ui
    ui.bundleEdit.text = str(tmp_path / "empty")
    panel.host.click(ui.importRunButton)
    panel.host.wait_until(lambda: panel.ui.messageFrame.isVisible(), what="the failure")
    assert panel.ui.messageText.text
    assert panel.parameters.model == "tiny"


def test_the_windows_for_hub_and_authors_files_say_what_they_miss(panel):
    panel.choose(panel.ui.modelMenuButton, "Download another")
    ui = panel.widget.model._import.ui
    assert "OWNER/NAME" in ui.importProblem.text
    ui.hubEdit.text = "somebody/model"
    assert ui.importRunButton.enabled
    ui.importTabs.currentIndex = 1
    assert "both files" in ui.importProblem.text
    ui.denoiserEdit.text = ui.embedderEdit.text = "x.pt"
    assert "name" in ui.importProblem.text
    ui.releasedNameEdit.text = "mine"
    assert ui.importRunButton.enabled
    panel.host.click(ui.importCloseButton)


def test_the_models_folder_can_be_opened_and_moved(panel, tmp_path, models):
    panel.know_machine()
    panel.choose(panel.ui.modelMenuButton, "Open models folder")
    assert Path(panel.host.dialogs.opened_urls[-1].removeprefix("file://")) == models
    panel.host.dialogs.answer("folder", str(tmp_path / "new"))
    panel.choose(panel.ui.modelMenuButton, "Move models folder")
    panel.host.wait_until(lambda: panel.ui.messageFrame.isVisible(), what="the move")
    assert str(tmp_path / "new") in panel.ui.messageText.text
    assert (tmp_path / "new" / "models" / "tiny").is_dir()
    assert panel.widget.logic.settings.models_folder == str(tmp_path / "new")


def test_packages_are_checked_and_nothing_is_installed_without_consent(panel, monkeypatch):
    panel.ui.advancedButton.collapsed = False
    panel.host.process_events()
    panel.host.click(panel.ui.checkPackagesButton)
    panel.host.wait_until(lambda: panel.ui.packagesText.text, what="the check")
    assert "torch" in panel.ui.packagesText.text

    missing = {
        "ok": False,
        "path": "p",
        "size": "1 GB are downloaded.",
        "packages": [{"name": "torch", "installed": None, "ok": False}],
    }
    started = []
    monkeypatch.setattr(panel.widget.logic, "installPackages", lambda: started.append(True))
    panel.host.dialogs.answer("message", "Cancel")
    panel.widget.device.packages._ask(SimpleNamespace(result=missing))
    assert not started
    assert "torch" in panel.host.dialogs.shown[-1].text
    assert "1 GB" in panel.host.dialogs.shown[-1].text


@pytest.mark.parametrize("own", [True, False])
def test_the_interpreter_is_a_setting_of_the_machine_not_of_the_scene(panel, tmp_path, own):
    import slicer

    panel.ui.advancedButton.collapsed = False
    panel.host.process_events()
    python = tmp_path / "python3"
    python.write_text("#!/bin/sh\n")
    panel.host.dialogs.answer("file", str(python))
    panel.host.click(panel.ui.interpreterButton)
    assert panel.ui.interpreterEdit.text == str(python)
    if own:
        panel.host.click(panel.ui.interpreterResetButton)
    assert panel.widget.logic.settings.interpreter == ("" if own else str(python))
    scene = str(tmp_path / "scene.mrml")
    slicer.util.saveScene(scene)
    assert "python3" not in Path(scene).read_text()
