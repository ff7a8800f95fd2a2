"""The window Batch: several CTs with the model loaded once, and how each of them fares."""

from dataclasses import replace
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from DiffMaSlicerLib.panel import texts
from DiffMaSlicerLib.panel.bindings import Binding, Choices, Either, Entry
from DiffMaSlicerLib.panel.dialog import Dialog
from DiffMaSlicerLib.panel.job_view import JobView

_NAME, _STATE = range(2)


def formats():
    """Entries of the list of formats."""
    return [
        Entry("nii.gz", _("NIfTI (.nii.gz)")),
        Entry("nrrd", _("NRRD (.nrrd)")),
        Entry("mha", _("MetaImage (.mha)")),
        Entry("dicom", _("DICOM, a derived series each")),
    ]


class BatchDialog(Dialog):
    """Converts a folder, or the volumes ticked in a list, with the panel's settings."""

    def __init__(self, panel):
        super().__init__(panel, "Batch.ui")
        self._view: Any = None
        self._binding: Any = None
        self._bound: Any = None
        self._nodes = []

    @property
    def running(self):
        """Whether a batch is on."""
        return self._view is not None and self._view.running

    def prepare(self):
        """Connect the controls."""
        ui = self.ui
        self._view = JobView(ui.batchProgress)
        self._format = Choices(ui.batchFormatBox)
        self._format.fill(formats())
        self._source = Either(ui.folderRadio, ui.loadedRadio)
        ui.batchTable.setColumnCount(2)
        ui.batchTable.setHorizontalHeaderLabels([_("Volume"), _("State")])
        ui.batchTable.horizontalHeader().setSectionResizeMode(qt.QHeaderView.Stretch)
        ui.batchTable.verticalHeader().visible = False
        ui.batchInputButton.connect("clicked()", lambda: self._folder(ui.batchInputEdit))
        ui.batchOutputButton.connect("clicked()", lambda: self._folder(ui.batchOutputEdit))
        ui.folderRadio.connect("toggled(bool)", self._onSource)
        ui.batchTable.connect("itemChanged(QTableWidgetItem*)", self._onTicked)
        ui.batchRunButton.connect("clicked()", self.onRun)
        ui.batchCloseButton.connect("clicked()", self.hide)

    def open(self):
        """Show the window with the present volumes."""
        super().open()
        if not self.running:
            self._list()
        self.update()

    def update(self):
        """Bind the controls to the parameter node of the scene, and say what the button does."""
        if self.ui is None:
            return
        self._bind()
        ui = self.ui
        folder = ui.folderRadio.checked
        for part in (ui.batchInputLabel, ui.batchInputEdit, ui.batchInputButton):
            part.visible = folder
        ui.batchLoadBox.enabled = not self.running
        reason = self.problem()
        ui.batchRunButton.text = _("Cancel") if self.running else _("Convert all")
        ui.batchRunButton.enabled = self.running or not reason
        ui.batchRunButton.toolTip = reason
        if not self.running and reason:
            ui.batchProgressText.text = reason

    def problem(self):
        """Why the batch cannot begin, or nothing."""
        parameters = self.panel.parameters
        if parameters is None:
            return _("There is no scene.")
        if self.panel.run.running:
            return _("A conversion is running.")
        if self.ui.folderRadio.checked:
            if not parameters.batchInput.strip():
                return _("Choose the folder with the CTs.")
        elif not self._ticked():
            return _("Tick at least one volume.")
        if not parameters.batchOutput.strip():
            return _("Choose the folder for the results.")
        return self.panel.model.problem() or self.panel.sampling.problem() or self.panel.device.problem()

    def onRun(self):
        """Convert all, or cancel."""
        if self.running:
            self._view.cancel()
            return
        parameters = self.panel.parameters
        inputs = parameters.batchInput.strip() if self.ui.folderRadio.checked else self._ticked()
        try:
            job = self.panel.logic.convertBatch(
                inputs,
                parameters.batchOutput.strip(),
                format=parameters.batchFormat,
                load=parameters.batchLoad,
                **vars(replace(self.panel.logic.samplingOf(parameters), uncertainty=False)),
                blocking=False,
            )
        except (RuntimeError, ValueError, OSError) as error:
            self.ui.batchProgressText.text = str(error)
            return
        self._nodes = [] if self.ui.folderRadio.checked else [node.GetID() for node in inputs]
        if self._nodes:  # the rows are those of the batch, each with its own volume
            self._fill([(node.GetName(), "") for node in inputs], ticks=True)
        self._view.follow(job, self._onDone, self._onNews)
        self._onNews(job, "progress")
        self.panel.update()

    def machineChanged(self):
        """Nothing here depends on the machine alone."""

    def sceneClosed(self):
        """Let go of the scene's volumes; a batch that runs is ended by the logic."""
        self._unbind()
        if self.ui is not None:
            self._view.forget()
            self.ui.batchTable.setRowCount(0)

    def cleanup(self):
        """Put the window away for good."""
        self._unbind()
        if self._view is not None:
            self._view.forget()
        self.close()

    def _bind(self):
        parameters = self.panel.parameters
        if parameters is self._bound or parameters is None:
            return
        self._unbind()
        self._bound = parameters
        self._binding = Binding(parameters, self.ui, {"batchFormat": self._format, "batchFromFolder": self._source})

    def _unbind(self):
        if self._bound is not None:
            self._binding.close()
            self._bound = self._binding = None

    def _onSource(self, folder):
        if not self.running:
            self._list()
        self.update()

    def _list(self):
        """List the volumes of the scene, or nothing for a folder, which the child reads."""
        rows = []
        if not self.ui.folderRadio.checked:
            nodes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
            describe = self.panel.logic.describe
            rows = [(node.GetName(), describe(node).problem, node) for node in nodes if _listed(node)]
        self._nodes = [node.GetID() for name, state, node in rows]
        self._fill([(name, state) for name, state, node in rows], ticks=bool(rows))

    def _fill(self, rows, ticks=False):
        table = self.ui.batchTable
        blocked = table.blockSignals(True)
        table.setRowCount(len(rows))
        for row, cells in enumerate(rows):
            for column, text in enumerate(cells):
                item = table.item(row, column)
                if item is None or ticks:
                    item = qt.QTableWidgetItem(text)
                    if ticks and column == _NAME:
                        item.setCheckState(qt.Qt.Unchecked if cells[_STATE] else qt.Qt.Checked)
                    table.setItem(row, column, item)
                elif item.text() != text:
                    item.setText(text)
                item.setToolTip(text)
        table.blockSignals(blocked)

    def _ticked(self):
        table = self.ui.batchTable
        found = []
        for row, nodeID in enumerate(self._nodes):
            item = table.item(row, _NAME)
            node = slicer.mrmlScene.GetNodeByID(nodeID)
            if item is not None and node is not None and int(item.checkState()) == int(qt.Qt.Checked):
                found.append(node)
        return found

    def _onTicked(self, item):
        self.update()

    def _onNews(self, job, what):
        if what == "log":
            return
        if job.items:  # until then the rows stay as they are, with their ticks
            self._fill([(item.name, _state(item)) for item in job.items])
        self.ui.batchProgressText.text = texts.progress(job)

    def _onDone(self, job):
        self._onNews(job, "progress")
        if job.error is not None:
            text = texts.failure(job.error)
        elif job.state.value == "cancelled":
            text = _("Cancelled. Volumes that were finished are in the output folder.")
        else:
            failed = sum(item.state == "failed" for item in job.items)
            text = _("{done} converted, {failed} failed, in {time}.").format(
                done=len(job.items) - failed, failed=failed, time=texts.duration(job.elapsed)
            )
        self.panel.update()
        self.ui.batchProgressText.text = text

    def _folder(self, edit):
        path = qt.QFileDialog.getExistingDirectory(self._window, _("Choose a folder"), edit.text)
        if path:
            edit.text = path


def _listed(node):
    return (
        node.GetImageData() is not None
        and not node.IsA("vtkMRMLLabelMapVolumeNode")
        and not node.GetHideFromEditors()
        and node.GetAttribute("DiffMa.synthetic") is None
    )


def _state(item):
    words = {"waiting": _("waiting"), "running": _("running"), "done": _("done"), "failed": _("failed")}
    word = words.get(item.state, item.state)
    return f"{word}: {item.reason}" if item.reason else word
