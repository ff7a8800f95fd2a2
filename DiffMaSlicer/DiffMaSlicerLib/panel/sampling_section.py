"""The section Sampling: mode, steps, scheduler, seed, samples and decoder, and what they cost on this machine."""

import math
import random
from dataclasses import replace

import qt
from slicer.i18n import tr as _

from DiffMaSlicerLib.jobs.modes import MEAN, MODES, SAMPLE, draws_noise, modes_of
from DiffMaSlicerLib.panel.bindings import Choices, Entry
from DiffMaSlicerLib.panel.section import Section, setIcon, setText

_FINE = 50  # steps that the slider tells one by one


def modeEntries(known=MODES, title=""):
    """Entries of the list of modes; those that a model was not trained for cannot be chosen, with the reason."""
    texts = {
        MEAN: (
            _("Most faithful (one step)"),
            _("The expected image: right on average, smooth where the CT leaves open what is there. No noise."),
            _("{title} was trained to sample only."),
        ),
        SAMPLE: (
            _("Sampled"),
            _("One of the images that the MRI might be, with its texture: another one with another seed."),
            _("{title} was not trained to sample."),
        ),
    }
    return [
        Entry(mode, text, tip if mode in known else why.format(title=title), mode in known)
        for mode, (text, tip, why) in texts.items()
    ]


def stepsAt(place):
    """Steps at a place of the slider, 1 to 100: one by one to 50, then in growing strides to 1000."""
    return place if place <= _FINE else round(_FINE * 20 ** ((place - _FINE) / (100 - _FINE)))


def sliderPlace(steps):
    """The place of the slider nearest to so many steps."""
    return steps if steps <= _FINE else min(100, round(_FINE + (100 - _FINE) * math.log(steps / _FINE, 20)))


class ModeChoices(Choices):
    """The list of modes: it shows the wish where the model was trained for it, otherwise what the model does instead.

    The wish stays in the parameter node, so that it holds again for the next model.
    """

    def __init__(self, combo):
        super().__init__(combo)
        self._wish, self._known = "", MODES
        self.offer(MODES)
        combo.connect("activated(int)", self._onIndexChanged)  # also where the wish is what is shown already

    def offer(self, known, title=""):
        """Let the modes be chosen that a model of this title was trained for, its own choice first."""
        wish, self._known = self._wish, known
        blocked = self._combo.blockSignals(True)
        self.fill(modeEntries(known, title))
        self.write(wish)
        self._combo.blockSignals(blocked)

    def write(self, value):
        """Take the wish, and choose the item of what it comes to."""
        self._wish = value
        super().write(value if value in self._known else self._known[0])


def schedulers():
    """Entries of the list of schedulers."""
    return [
        Entry("dpm++", _("DPM-Solver++"), _("The default: 10 to 20 steps are enough.")),
        Entry("unipc", _("UniPC"), _("Fast too: as many steps as DPM-Solver++.")),
        Entry("ddim", _("DDIM"), _("Slower to converge: 50 steps or more.")),
        Entry("ddpm", _("DDPM"), _("The released sampler: about 250 steps, so the slowest.")),
    ]


def decoders(reason=""):
    """Entries of the list of decoders; a reason tells why the small one cannot be chosen."""
    tip = reason or _("Made for the same latents. Fine detail differs from the model's own.")
    return [
        Entry("full", _("The model's own"), _("Where it has one that sees the CT as well, that one.")),
        Entry("small", _("Small (faster, approximate)"), tip, enabled=not reason),
    ]


class SamplingSection(Section):
    """How the model samples, with an estimate learnt from this machine's runs."""

    def __init__(self, panel):
        super().__init__(panel)
        self._mode = ModeChoices(self.ui.modeBox)
        self._scheduler = Choices(self.ui.schedulerBox)
        self._scheduler.fill(schedulers())
        self._decoder = Choices(self.ui.decoderBox)
        self._decoder.fill(decoders())
        ui = self.ui
        self._steps = (ui.stepsLabel, ui.stepsSlider, ui.stepsBox)
        self._noise = (ui.schedulerBox, ui.seedBox, ui.newSeedButton)
        self._labels = (ui.schedulerLabel, ui.seedLabel)
        changing = (*self._noise, ui.modeBox, ui.samplesBox, ui.decoderBox)
        self._tips = {widget.name: widget.toolTip for widget in changing}
        self._estimated = None
        self.ui.newSeedButton.connect("clicked()", self.onNewSeed)
        self.ui.stepsSlider.connect("valueChanged(int)", self._onStepsSlider)

    def controls(self):
        """Bindings of the lists of modes, schedulers and decoders."""
        return {"mode": self._mode, "scheduler": self._scheduler, "decoder": self._decoder}

    def update(self):
        """Offer what the model can do, and estimate anew if anything changed that time or memory depends on."""
        parameters = self.parameters
        blocked = self.ui.stepsSlider.blockSignals(True)
        self.ui.stepsSlider.value = sliderPlace(parameters.steps)
        self.ui.stepsSlider.blockSignals(blocked)
        self._offerModes()
        self._offerDecoders()
        facts = self.panel.input.facts
        wanted = None
        if facts is not None and parameters.model:
            slices = self.panel.input.slices()
            voxels = facts.size[0] * facts.size[1] * facts.size[2]
            options = replace(
                self.logic.samplingOf(parameters), device=self.panel.device.actual(), mode=self._mode.read()
            )
            wanted = options, slices, voxels
        free = self.panel.device.freeMemory()
        if (wanted, free) == self._estimated:
            return
        self._estimated = (wanted, free)
        if wanted and wanted[1]:
            self._show(self.logic.estimate(slices=wanted[1], voxels=wanted[2], **vars(wanted[0])))
        else:
            self._show(None)

    def problem(self):
        """Why what is chosen here cannot be used, or nothing."""
        small = self._withoutSmall() if self.parameters.decoder == "small" else ""
        return small or (self._withoutSamples() if self.parameters.samples > 1 else "")

    def forget(self):
        """Estimate anew next time: a run was learnt from."""
        self._estimated = None

    def onNewSeed(self):
        """Take a random seed."""
        if self.parameters is not None:
            self.parameters.seed = random.randrange(2**31)

    def _onStepsSlider(self, place):
        if self.parameters is not None:
            self.parameters.steps = stepsAt(place)

    def _offerModes(self):
        """Modes that the model was trained for, and of the rest what belongs to the mode."""
        known, title = self._modes()
        self._mode.offer(known, title)
        reasons = [entry.tip for entry in modeEntries(known, title) if not entry.enabled]
        self._allow(self.ui.modeBox, True, "".join(reasons))
        samples = self.parameters.samples
        without = self._withoutSamples()
        self._allow(self.ui.samplesBox, not without or samples > 1, without)
        noise = draws_noise(self._mode.read(), samples)
        reason = _(
            "The most faithful image needs no noise and one step. This is for the mode Sampled, and for two samples or"
            " more, which give the uncertainty of samples."
        )
        for widget in self._noise:
            self._allow(widget, noise, "" if noise else reason)
        for label in self._labels:
            label.enabled = noise
        for part in self._steps:
            part.visible = noise

    def _modes(self):
        """What the chosen model was trained for, its own choice first, and its title; all while nobody knows."""
        entry = self.panel.model.models.named(self.parameters.model)
        if entry is None or entry["state"] != "installed":
            return MODES, ""
        return modes_of(entry), entry["title"]

    def _withoutSamples(self):
        """Why the chosen model cannot draw samples, or nothing."""
        known, title = self._modes()
        return "" if SAMPLE in known else _("{title} was not trained to sample. Set Samples to 1.").format(title=title)

    def _allow(self, widget, enabled, reason):
        widget.enabled = enabled
        widget.toolTip = reason or self._tips[widget.name]

    def _offerDecoders(self):
        """The small decoder can be chosen where the model has one; where it was chosen before, it can be left."""
        reason = self._withoutSmall()
        self._decoder.fill(decoders(reason))
        self._allow(self.ui.decoderBox, not reason or self.parameters.decoder == "small", reason)

    def _withoutSmall(self):
        """Why the chosen model has no small decoder to offer; nothing where it has one, or nobody knows yet."""
        models, name = self.panel.model.models, self.parameters.model
        entry = models.named(name)
        if not models.known or not name or (entry is not None and entry.get("small_decoder")):
            return ""
        title = entry["title"] if entry is not None else name
        return _("{title} has no small decoder. Choose the model's own, or add one: diffma models complete.").format(
            title=title
        )

    def _show(self, estimate):
        tight = estimate is not None and estimate.enough_memory is False
        setIcon(self.ui.estimateIcon, qt.QStyle.SP_MessageBoxWarning if tight else None)
        setText(self.ui.estimateText, estimate.sentence if estimate is not None else "")
