"""Apply, Cancel, progress, the log, and what is said at the end."""

import qt
import slicer
from slicer.i18n import tr as _

from DiffMaSlicerLib.panel import texts
from DiffMaSlicerLib.panel.job_view import JobView
from DiffMaSlicerLib.panel.section import Section, setText

CT_ROLE, TARGET = "DiffMa.ct", "DiffMa.targetModality"
AGREEMENT, TRAINING = "DiffMa.agreement", "DiffMa.training"
OUTSIDE = "Outside"  # how the line on the training begins that warns


class RunSection(Section):
    """Starts and cancels a conversion, and tells how it goes."""

    def __init__(self, panel):
        super().__init__(panel)
        ui = self.ui
        self._view = JobView(ui.progressBar, ui.progressText)
        self._logged = 0
        self._shown = self._cancelling = self._prepared = False
        ui.logButton.visible = False  # until something stands in it
        ui.applyButton.connect("clicked()", self.onApply)
        ui.copyLogButton.connect("clicked()", self.onCopyLog)
        self.update()

    @property
    def running(self):
        """Whether a conversion is on."""
        return self._view.running

    def update(self):
        """Say by the button what it does, or why it cannot, how well the result follows its CT, and what warns."""
        self._showAgreement()
        reason = "" if self.running else self.panel.problem()
        setText(self.ui.reasonText, reason)
        self.ui.convertAnywayButton.visible = bool(reason) and self.panel.input.doubtful()
        button = self.ui.applyButton
        if self.running:
            button.text = _("Cancelling...") if self._cancelling else _("Cancel")
            button.toolTip = _("Stop the conversion ({key}).").format(key=self.panel.shortcuts.text("apply"))
            button.enabled = not self._cancelling
            return
        button.text = _("Apply")
        button.enabled = not reason
        button.toolTip = reason or _("Make the synthetic MRI ({key}). Slices appear as they are finished.").format(
            key=self.panel.shortcuts.text("apply")
        )

    def onApply(self):
        """Apply, or Cancel."""
        if self.running:
            self._cancelling = True
            self._view.job.cancel(keep_partial=self.parameters.keepPartial if self.parameters else None)
            self.update()
        elif not self.panel.problem():
            self._start()

    def onCopyLog(self):
        """Put the log on the clipboard."""
        slicer.app.clipboard().setText(self.ui.logText.toPlainText())

    def sceneClosed(self):
        """Forget the run; the logic ends it."""
        self._view.forget()
        self._cancelling = False
        self.messages.clear()

    def cleanup(self):
        """Stop listening; the logic ends the run."""
        self._view.forget()

    def _start(self):
        parameters = self.parameters
        if self._isAnothers(parameters.outputVolume):
            parameters.outputVolume = None
        self.messages.clear()
        self.ui.logText.clear()
        self._logged, self._shown, self._cancelling, self._prepared = 0, False, False, False
        with self.messages.reported():
            start = self.panel.reviewSection.currentSlice(parameters.inputVolume)
            job = self.logic.convertFromParameters(parameters, start)
            self._view.follow(job, self._onDone, self._onNews)
            qt.QTimer.singleShot(0, self._prepare)  # by itself: each piece of work stays short
        self.panel.update()

    def _isAnothers(self, output):
        """Whether a volume is the MRI of another CT or in another contrast, which is not overwritten."""
        if output is None:
            return False
        if output.GetNodeReference(CT_ROLE) not in (None, self.parameters.inputVolume):
            return True
        made, wanted = output.GetAttribute(TARGET), self.panel.model.target()
        return bool(made and wanted) and made != wanted

    def _showAgreement(self):
        result = self.parameters.outputVolume if self.parameters is not None and not self.running else None
        agreement, training = (
            (result.GetAttribute(name) if result is not None else "") or "" for name in (AGREEMENT, TRAINING)
        )
        setText(self.ui.agreementText, agreement)
        setText(self.ui.trainingText, training if training.startswith(OUTSIDE) else "")

    def _prepare(self):
        if self.running and self.parameters is not None and self.parameters.inputVolume is not None:
            self._prepared = self.panel.reviewSection.prepare()

    def _onNews(self, job, what):
        if what == "log":
            self._log(job)
        elif what == "slice" and not self._shown and job.outputNode is not None:
            self._shown = True
            qt.QTimer.singleShot(0, lambda: self._showFirst(job))  # by itself, too

    def _showFirst(self, job):
        if job is self._view.job and not job.finished and job.outputNode is not None:
            self.panel.showResult(job)
            self.panel.reviewSection.jumpInto(job.finishedSlices)

    def _onDone(self, job):
        self._log(job)
        self._cancelling = False
        self.panel.sampling.forget()
        if job.error is not None:
            self.messages.failed(job)
            if job.error.kind == "MissingPackage":
                self.panel.device.packages.tellMissing()
        elif job.state.value == "cancelled":
            kept = job.outputNode is not None and slicer.mrmlScene.IsNodePresent(job.outputNode)
            self.messages.info(
                _("Cancelled. The slices made so far are kept, marked as partial.")
                if kept
                else _("Cancelled. Nothing was kept.")
            )
            if kept:
                self.panel.showResult(job)
        else:
            self.panel.showResult(job)
            self._sayDone(job)
            self.ui.settingsArea.ensureWidgetVisible(self.ui.reviewSectionContents)
        if self._prepared and self.parameters is not None and self.parameters.outputVolume is None:
            self.panel.reviewSection.putAway()
        self.panel.update()

    def _sayDone(self, job):
        name = job.outputNode.GetName() if job.outputNode is not None else ""
        done = _("{name} is ready, after {time}.").format(name=name, time=texts.duration(job.elapsed))
        if job.warnings:
            self.messages.warning("\n".join([done, *job.warnings]))
        else:
            self.messages.info(done)

    def _log(self, job):
        lines = job.log[self._logged :]
        self._logged += len(lines)
        if lines:
            self.ui.logButton.visible = True
            self.ui.logText.appendPlainText("\n".join(lines))
