"""The window that installs a model: a bundle, the authors' files, or one of a model hub."""

import qt
from slicer.i18n import tr as _

from DiffMaSlicerLib.panel.dialog import Dialog
from DiffMaSlicerLib.panel.section import setText

_BUNDLE, _RELEASED, _HUB = range(3)
_ANATOMIES = ("brain", "pelvis")


class ImportDialog(Dialog):
    """Asks what to install.

    Args:
        panel: the module's widget.
        install: called with a function that starts the job.
    """

    def __init__(self, panel, install):
        super().__init__(panel, "ImportWeights.ui", modal=True)
        self._install = install

    def prepare(self):
        """Connect the controls."""
        ui = self.ui
        for anatomy in _ANATOMIES:
            ui.releasedAnatomyBox.addItem(anatomy)
        ui.bundleFolderButton.connect("clicked()", lambda: self._folder(ui.bundleEdit))
        ui.bundleZipButton.connect("clicked()", lambda: self._file(ui.bundleEdit, _("Bundles") + " (*.zip)"))
        weights = _("Weights") + " (*.pt *.pth *.bin)"
        ui.denoiserButton.connect("clicked()", lambda: self._file(ui.denoiserEdit, weights))
        ui.embedderButton.connect("clicked()", lambda: self._file(ui.embedderEdit, weights))
        ui.vaeButton.connect("clicked()", lambda: self._folder(ui.vaeEdit))
        ui.encoderButton.connect("clicked()", lambda: self._folder(ui.encoderEdit))
        for edit in (ui.bundleEdit, ui.denoiserEdit, ui.embedderEdit, ui.releasedNameEdit, ui.hubEdit):
            edit.connect("textChanged(QString)", self._onEdited)
        ui.importTabs.connect("currentChanged(int)", self._onEdited)
        ui.importRunButton.connect("clicked()", self.onRun)
        ui.importCloseButton.connect("clicked()", self.hide)
        self._onEdited()

    def openBundle(self):
        """Open where bundles and the authors' files are asked for."""
        self._openAt(_BUNDLE)

    def openReleased(self, entry):
        """Open where the authors' files are asked for, those of a model of the catalogue."""
        self._openAt(_RELEASED)
        self.ui.releasedAnatomyBox.currentText = entry["anatomy"]
        self.ui.releasedNameEdit.text = entry["name"]

    def openHub(self):
        """Open where the id of a model hub is asked for."""
        self._openAt(_HUB)

    def onRun(self):
        """Start what is asked for and go away; the panel shows how it goes."""
        ui, logic = self.ui, self.panel.logic
        tab = ui.importTabs.currentIndex
        if tab == _BUNDLE:
            path = ui.bundleEdit.text
            start = lambda: logic.importBundle(path)  # noqa: E731
        elif tab == _HUB:
            hub = ui.hubEdit.text.strip()
            start = lambda: logic.downloadModel(hub)  # noqa: E731
        else:
            files = (ui.denoiserEdit.text, ui.embedderEdit.text, ui.releasedAnatomyBox.currentText)
            parts = {
                "name": ui.releasedNameEdit.text.strip(),
                "vae": ui.vaeEdit.text,
                "imageEncoder": ui.encoderEdit.text,
            }
            start = lambda: logic.importReleased(*files, **{k: v for k, v in parts.items() if v})  # noqa: E731
        self.hide()
        self._install(start)

    def _openAt(self, tab):
        self.open()
        self.ui.importTabs.currentIndex = tab

    def _missing(self):
        ui = self.ui
        tab = ui.importTabs.currentIndex
        if tab == _BUNDLE:
            return "" if ui.bundleEdit.text else _("Choose a folder or a zip file.")
        if tab == _HUB:
            return "" if ui.hubEdit.text.strip().count("/") == 1 else _("Write the id as OWNER/NAME.")
        if not (ui.denoiserEdit.text and ui.embedderEdit.text):
            return _("Choose both files, of the same anatomy.")
        return "" if ui.releasedNameEdit.text.strip() else _("Give the model a name.")

    def _onEdited(self, *ignored):
        missing = self._missing()
        setText(self.ui.importProblem, missing)
        self.ui.importRunButton.enabled = not missing

    def _file(self, edit, filters):
        path = qt.QFileDialog.getOpenFileName(self._window, _("Choose a file"), edit.text, filters)
        if path:
            edit.text = path

    def _folder(self, edit):
        path = qt.QFileDialog.getExistingDirectory(self._window, _("Choose a folder"), edit.text)
        if path:
            edit.text = path
