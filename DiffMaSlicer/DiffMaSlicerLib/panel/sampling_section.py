"""The section Sampling: steps, scheduler, seed, samples and decoder, and what they cost on this machine."""

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


def decoders(reason=""):
    """Entries of the list of decoders; a reason tells why the small one cannot be chosen."""
    tip = reason or _("Made for the same latents. Fine detail differs from the full decoder's.")
    return [
        Entry("full", _("Full"), _("The model's own.")),
        Entry("small", _("Small (faster, approximate)"), tip, enabled=not reason),
    ]


class SamplingSection(Section):
    """How the model samples, with an estimate learnt from this machine's runs."""

    def __init__(self, panel):
        super().__init__(panel)
        self._scheduler = Choices(self.ui.schedulerBox)
        self._scheduler.fill(schedulers())
        self._decoder = Choices(self.ui.decoderBox)
        self._decoder.fill(decoders())
        self._decoderTip = self.ui.decoderBox.toolTip
        self._estimated = None
        self.ui.newSeedButton.connect("clicked()", self.onNewSeed)

    def controls(self):
        """Bindings of the lists of schedulers and decoders."""
        return {"scheduler": self._scheduler, "decoder": self._decoder}

    def update(self):
        """Estimate anew if anything changed that time or memory depends on."""
        parameters = self.parameters
        self._offerDecoders()
        facts = self.panel.input.facts
        wanted = None
        if facts is not None and parameters.model:
            slices = self.panel.input.slices()
            voxels = facts.size[0] * facts.size[1] * facts.size[2]
            device = self.panel.device.actual()
            decoder = parameters.decoder
            wanted = (parameters.model, device, parameters.steps, parameters.samples, slices, voxels, decoder)
        free = self.panel.device.freeMemory()
        if (wanted, free) == self._estimated:
            return
        self._estimated = (wanted, free)
        self._show(self.logic.estimate(*wanted) if wanted and wanted[4] else None)

    def problem(self):
        """Why the chosen decoder cannot be used, or nothing."""
        return self._withoutSmall() if self.parameters.decoder == "small" else ""

    def forget(self):
        """Estimate anew next time: a run was learnt from."""
        self._estimated = None

    def onNewSeed(self):
        """Take a random seed."""
        if self.parameters is not None:
            self.parameters.seed = random.randrange(2**31)

    def _offerDecoders(self):
        """The small decoder can be chosen where the model has one; where it was chosen before, it can be left."""
        reason = self._withoutSmall()
        self._decoder.fill(decoders(reason))
        self.ui.decoderBox.enabled = not reason or self.parameters.decoder == "small"
        self.ui.decoderBox.toolTip = reason or self._decoderTip

    def _withoutSmall(self):
        """Why the chosen model has no small decoder to offer; nothing where it has one, or nobody knows yet."""
        models, name = self.panel.model.models, self.parameters.model
        entry = models.named(name)
        if not models.known or not name or (entry is not None and entry.get("small_decoder")):
            return ""
        title = entry["title"] if entry is not None else name
        return _("{title} has no small decoder. Choose the full one, or add one: diffma models complete.").format(
            title=title
        )

    def _show(self, estimate):
        tight = estimate is not None and estimate.fits is False
        setIcon(self.ui.estimateIcon, qt.QStyle.SP_MessageBoxWarning if tight else None)
        setText(self.ui.estimateText, estimate.sentence if estimate is not None else "")
