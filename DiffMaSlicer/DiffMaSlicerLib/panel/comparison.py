"""Comparison of the synthetic MRI with a true one: a table and a difference map."""

from typing import Any

import qt
from slicer.i18n import tr as _

from DiffMaSlicerLib.panel import texts
from DiffMaSlicerLib.panel.section import setText


class Comparison:
    """The part of Review about a true MRI of the patient; choosing one compares at once."""

    def __init__(self, panel):
        self.panel = panel
        self.ui = panel.ui
        self._job: Any = None
        ui = self.ui
        ui.trueSelector.connect("nodeActivated(vtkMRMLNode*)", self._onChosen)
        ui.compareButton.connect("clicked()", self.onCompare)
        table = ui.metricsTable
        table.setColumnCount(2)
        table.setHorizontalHeaderLabels([_("Measure"), _("Inside the body")])
        table.horizontalHeader().setSectionResizeMode(qt.QHeaderView.Stretch)
        table.verticalHeader().visible = False

    def update(self, ready):
        """Allow a comparison when there is something to compare."""
        parameters = self.panel.parameters
        self.ui.compareButton.enabled = ready and parameters.trueVolume is not None and self._job is None

    def onCompare(self):
        """Compare the chosen MRI with the result."""
        parameters = self.panel.parameters
        if parameters is None or None in (parameters.outputVolume, parameters.trueVolume) or self.panel.running:
            return
        self.clear()
        with self.panel.messages.reported():
            ct = parameters.outputVolume.GetNodeReference("DiffMa.ct") or parameters.inputVolume
            self._job = self.panel.logic.compare(parameters.outputVolume, parameters.trueVolume, ct, blocking=False)
            self._job.add_listener(self._onNews)
            setText(self.ui.compareText, _("Comparing..."))
            self.panel.update()

    def clear(self):
        """Forget the comparison."""
        if self._job is not None:
            job, self._job = self._job, None
            job.remove_listener(self._onNews)
            job.cancel()
        setText(self.ui.compareText, "")
        self.ui.metricsTable.visible = False

    def _onChosen(self, node):
        self.onCompare()

    def _onNews(self, job, what):
        if what != "done" or job is not self._job:
            return
        self._job = None
        parameters = self.panel.parameters
        if job.error is not None:
            setText(self.ui.compareText, texts.failure(job.error))
        elif job.result is None:
            setText(self.ui.compareText, "")
        else:
            self._show(job.result)
            if parameters is not None and job.differenceNode is not None:
                parameters.differenceVolume = job.differenceNode
                self.panel.reviewSection.show()
        if parameters is not None:
            self.panel.update()

    def _show(self, result):
        rows = [
            (_("SSIM"), f"{result['ssim']:.3f}", _("Structural similarity: 1 is identical.")),
            (
                _("PSNR"),
                _("{value:.1f} dB").format(value=result["psnr_db"]),
                _("Peak signal to noise: higher is nearer."),
            ),
            (
                _("MAE"),
                _("{value:.3f} of 1").format(value=result["mae"]),
                _("Mean absolute error of images normalised to 0 to 1: lower is nearer."),
            ),
        ]
        table = self.ui.metricsTable
        table.setRowCount(len(rows))
        for row, (name, value, tip) in enumerate(rows):
            for column, text in enumerate((name, value)):
                item = qt.QTableWidgetItem(text)
                item.setToolTip(tip)
                table.setItem(row, column, item)
        table.visible = True
        setText(self.ui.compareText, "\n".join([result.get("normalisation", ""), *result.get("notes", ())]).strip())
