"""The section Model: which model converts, and how to get others."""

from pathlib import Path

import qt
import slicer
from slicer.i18n import tr as _

from DiffMaSlicerLib.panel.bindings import Choices
from DiffMaSlicerLib.panel.card_dialog import CardDialog
from DiffMaSlicerLib.panel.import_dialog import ImportDialog
from DiffMaSlicerLib.panel.job_view import JobView
from DiffMaSlicerLib.panel.model_choice import Models
from DiffMaSlicerLib.panel.section import Section, addMenu, setIcon, setText


class ModelSection(Section):
    """The lists that lead to a model and its contrast, and the ways to import, download and move models."""

    def __init__(self, panel):
        super().__init__(panel)
        ui = self.ui
        self.models = Models()
        self._boxes = {
            "anatomy": Choices(ui.anatomyBox),
            "modelSize": Choices(ui.sizeBox),
            "model": Choices(ui.modelBox, self._guest),
        }
        self._contrasts = Choices(ui.contrastBox)
        self._import = ImportDialog(panel, self._install)
        self._card = CardDialog(panel)
        self._view = JobView(ui.modelProgress, ui.modelProgressText, ui.modelCancelButton)
        ui.anatomyBox.connect("activated(int)", self._onFilter)
        ui.sizeBox.connect("activated(int)", self._onFilter)
        ui.contrastBox.connect("activated(int)", self._onContrast)
        self._tip = ui.modelBox.toolTip
        ui.modelActionButton.connect("clicked()", self.onGet)
        self._fillMenu()
        self._fill()

    def controls(self):
        """Bindings of the three lists."""
        return self._boxes

    def update(self):
        """Show what the chosen model is, or how to get it."""
        self._fill()
        parameters = self.parameters
        text, ready = self.models.advice(parameters.model, parameters.anatomy, parameters.modelSize)
        setIcon(self.ui.modelIcon, None if ready else qt.QStyle.SP_MessageBoxInformation)
        entry = self.models.named(parameters.model) or {}
        link = _("their page") if entry.get("link") else ""
        setText(self.ui.modelState, f'{text} <a href="{entry["link"]}">{link}</a>' if link else text)
        self.ui.modelBox.toolTip = entry.get("title") or self._tip  # titles are longer than the list is wide
        words = {"downloadable": _("Download"), "importable": _("Choose their files...")}
        self.ui.modelActionButton.text = words.get(entry.get("state", ""), "")
        self.ui.modelActionButton.visible = entry.get("state") in words
        self.ui.modelActionButton.enabled = not self._view.running

    def machineChanged(self):
        """Take the models that the child tells of."""
        self.models = Models(self.panel.machine)
        self._fillMenu()

    def target(self):
        """The chosen model's target, such as "MR T1", or nothing where nobody knows."""
        return (self.models.named(self.parameters.model) or {}).get("target_modality", "")

    def problem(self):
        """Why the chosen model cannot convert, or nothing."""
        parameters = self.parameters
        text, ready = self.models.advice(parameters.model, parameters.anatomy, parameters.modelSize)
        if not parameters.model:
            return text or _("Choose a model.")
        if (self.models.named(parameters.model) or {}).get("state", "installed") != "installed":
            return _("This model is not on this machine yet.")  # how to get it stands under the model
        return "" if ready else text

    def cleanup(self):
        """Close the dialogs."""
        self._view.forget()
        self._import.close()
        self._card.close()

    def onCard(self):
        """Show the model's card, or for a model that is not installed what there is to know."""
        if self.parameters is None or not self.parameters.model:
            return
        entry = self.models.named(self.parameters.model)
        if entry is not None and entry["state"] != "installed":
            self._card.show(entry["title"], f"# {entry['title']}\n\n{entry.get('how', '')}")
            return
        self._card.load(self.parameters.model)

    def onGet(self):
        """Get the chosen model, which is not installed: by a download, or from files that the user has."""
        entry = self.models.named(self.parameters.model) if self.parameters is not None else None
        if entry is not None and entry["state"] == "downloadable":
            self.onDownload(entry)
        elif entry is not None:
            self._import.openReleased(entry)

    def onDownload(self, entry):
        """Download a model of the catalogue, after a question."""
        text = _("Download {title} from {hub}?").format(title=entry["title"], hub=entry["hub"])
        if slicer.util.confirmOkCancelDisplay(text, windowTitle=_("Download a model")):
            self._install(lambda: self.logic.downloadModel(entry["hub"]))

    def onOpenFolder(self):
        """Show the models' folder in the system's file browser."""
        folder = Path((self.panel.machine or {}).get("home", ""))
        with self.messages.reported():
            folder.mkdir(parents=True, exist_ok=True)
            qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(folder)))

    def onMoveFolder(self):
        """Ask for another folder and move the models there."""
        folder = qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), _("New folder for the models"))
        if folder:
            self._install(lambda: self.logic.moveModels(folder))

    def _fillMenu(self):
        """What can be done with models: those that can be downloaded are named."""
        entries = [(_("Model card"), self.onCard), (_("Import weights..."), self._import.openBundle)]
        for entry in self.models.all:
            if entry["state"] == "downloadable":
                text = _("Download {title}...").format(title=entry["title"])
                entries.append((text, lambda entry=entry: self.onDownload(entry)))  # type: ignore[misc]
        entries.append((_("Download another..."), self._import.openHub))
        entries += [(_("Open models folder"), self.onOpenFolder), (_("Move models folder..."), self.onMoveFolder)]
        addMenu(self.ui.modelMenuButton, entries)

    def _install(self, start):
        """Follow a job that changes what is installed; the model that it brought is chosen."""
        if self._view.running:
            self.messages.warning(_("Another model is being installed. Wait for it, or cancel it."))
            return
        with self.messages.reported():
            self._view.follow(start(), self._onInstalled)
            self.update()

    def _onInstalled(self, job):
        if job.error is not None:
            self.messages.failed(job)
        elif job.result is not None:
            name = job.result.get("name") if isinstance(job.result, dict) else None
            if name and self.parameters is not None:
                self.parameters.anatomy, self.parameters.modelSize, self.parameters.model = "", "", name
                self.messages.info(_("The model {name} is installed.").format(name=name))
            elif isinstance(job.result, dict) and job.result.get("home"):
                self.messages.info(_("Models are now kept in {folder}.").format(folder=job.result["home"]))
        self.panel.refreshMachine()
        if self.parameters is not None:
            self.update()

    def _onFilter(self, index):
        """The user narrowed the list: take the first model in it if the present one is not."""
        parameters = self.parameters
        if parameters is None:
            return
        names = [entry["name"] for entry in self.models.matching(parameters.anatomy, parameters.modelSize)]
        if parameters.model not in names:
            parameters.model = names[0] if names else ""

    def _onContrast(self, index):
        """The user chose another contrast: that is another model of the family."""
        if self.parameters is not None:
            self.parameters.model = self._contrasts.read()

    def _fill(self):
        parameters = self.parameters
        anatomy = parameters.anatomy if parameters else ""
        size = parameters.modelSize if parameters else ""
        self._boxes["anatomy"].fill(self.models.anatomies())
        self._boxes["modelSize"].fill(self.models.sizes(anatomy))
        name = parameters.model if parameters else ""
        self._boxes["model"].fill(self.models.models(anatomy, size, name))
        contrasts = self.models.contrasts(name)
        for part in (self.ui.contrastLabel, self.ui.contrastBox):
            part.visible = bool(contrasts)
        if contrasts:
            self._contrasts.fill(contrasts)
            self._contrasts.write(name)

    def _guest(self, name):
        if not name:
            return _("No model fits")
        entry = self.models.named(name)
        if entry is not None:
            return entry["title"]
        return _("{name} (not on this machine)").format(name=name) if self.models.known else name
