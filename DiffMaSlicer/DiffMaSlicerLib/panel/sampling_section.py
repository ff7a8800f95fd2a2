"""The section Sampling: steps, scheduler, seed and samples, and what they cost on this machine."""

import random

import qt
from slicer.i18n import tr as _

from DiffMaSlicerLib.panel.bindings import Choices, Entry
from DiffMaSlicerLib.panel.section import Section, setIcon, setText


def schedulers():
    """Entries of the list of schedulers."""
    return [
        Entry("dpm++", _("DPM-Solver++"), _("Fast: 15 to 30 steps are enough.")),
        Entry("unipc", _("UniPC"), _("Fast: 10 to 25 steps are enough.")),
        Entry("ddim", _("DDIM"), _("Smooth: 50 to 100 steps.")),
        Entry("ddpm", _("DDPM"), _("As in training: some hundred steps, so the slowest.")),
    ]


class SamplingSection(Section):
    """How the model samples, with an estimate learnt from this machine's runs."""

    def __init__(self, panel):
        super().__init__(panel)
        self._scheduler = Choices(self.ui.schedulerBox)
        self._scheduler.fill(schedulers())
        self._estimated = None
        self.ui.newSeedButton.connect("clicked()", self.onNewSeed)

    def controls(self):
        """Binding of the list of schedulers."""
        return {"scheduler": self._scheduler}

    def update(self):
        """Estimate anew if anything changed that time or memory depends on."""
        parameters = self.parameters
        facts = self.panel.input.facts
        wanted = None
        if facts is not None and parameters.model:
            slices = self.panel.input.slices()
            voxels = facts.size[0] * facts.size[1] * facts.size[2]
            device = self.panel.device.actual()
            wanted = (parameters.model, device, parameters.steps, parameters.samples, slices, voxels)
        free = self.panel.device.freeMemory()
        if (wanted, free) == self._estimated:
            return
        self._estimated = (wanted, free)
        self._show(self.logic.estimate(*wanted) if wanted and wanted[4] else None)

    def forget(self):
        """Estimate anew next time: a run was learnt from."""
        self._estimated = None

    def onNewSeed(self):
        """Take a random seed."""
        if self.parameters is not None:
            self.parameters.seed = random.randrange(2**31)

    def _show(self, estimate):
        tight = estimate is not None and estimate.fits is False
        setIcon(self.ui.estimateIcon, qt.QStyle.SP_MessageBoxWarning if tight else None)
        setText(self.ui.estimateText, estimate.sentence if estimate is not None else "")
