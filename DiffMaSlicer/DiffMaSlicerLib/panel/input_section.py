"""The section Input: which CT, what it is, and which part of it."""

from typing import Any

import qt
import slicer
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin

from DiffMaSlicerLib.mrml.facts import NAN_NOTE
from DiffMaSlicerLib.panel import loading
from DiffMaSlicerLib.panel.section import Section, addMenu, setIcon, setText

_CHECK_DELAY = 400  # ms; whoever scrolls through the list of volumes starts no child for each
_ADOPT_DELAY = 200  # ms; a reader adds a volume to the scene before it has filled it


class InputSection(Section, VTKObservationMixin):
    """Says at once what a chosen volume is, and a little later what the child found in it.

    Attributes:
        facts: the logic's ``VolumeFacts`` of the chosen volume, or None.
    """

    def __init__(self, panel):
        super().__init__(panel)
        VTKObservationMixin.__init__(self)
        self.facts = None
        self._described = self._checked = self._allowed = None
        self._check: Any = None
        self._refusal = ""
        self._timer = self._makeTimer(_CHECK_DELAY, self._startCheck)
        self._adopt = self._makeTimer(_ADOPT_DELAY, self.chooseLikely)
        self._again = self._makeTimer(_ADOPT_DELAY, panel.update)
        ways = (
            (_("From a file..."), self._load(loading.loadFile)),
            (_("From a folder with DICOM files..."), self._load(loading.loadDicomFolder)),
            (_("By the DICOM module"), loading.openDicomModule),
            (_("Sample CT"), self.onSample),
            (_("Several CTs (batch)..."), lambda: panel.batch.open()),
        )
        addMenu(self.ui.loadButton, ways)
        self.ui.sampleButton.connect("clicked()", self.onSample)
        self.ui.convertAnywayButton.connect("clicked()", self.onConvertAnyway)

    def update(self):
        """Describe the chosen volume if it is another one, or its voxels are others."""
        parameters = self.parameters
        node = parameters.inputVolume
        image = node.GetImageData() if node else None
        state = (node.GetID(), image.GetMTime() if image else 0, node.GetTransformNodeID()) if node else None
        self.ui.sampleButton.visible = node is None  # the menu beside it has it, too
        if state != self._described:
            self._described = state
            self.messages.clear()
            self._watch(node)
            self.facts = self.logic.describe(node) if node else None
            self._show()
        if node and image and (state, parameters.model) != self._checked:
            self._timer.start()
        for box in (self.ui.firstSliceBox, self.ui.lastSliceBox):
            box.enabled = parameters.limitSlices

    def slices(self):
        """How many slices would be converted; 0 while there is no volume."""
        parameters = self.parameters
        if self.facts is None:
            return 0
        count = self.facts.slices
        if not parameters.limitSlices:
            return count
        last = parameters.lastSlice if parameters.lastSlice >= 0 else count - 1
        return max(0, min(last, count - 1) - parameters.firstSlice + 1)

    def problem(self):
        """Why the input cannot be converted as it is set, or nothing."""
        if self.parameters.inputVolume is None:
            return _("Choose a CT volume first.")
        if self.facts is None or self.facts.dimension_problem or not self.facts.slices:
            return (self.facts.dimension_problem or self.facts.problem) if self.facts else _("Choose another volume.")
        if self.facts.transform_problem:
            return self.facts.transform_problem
        if not self.slices():
            return _("No slice lies between the first and the last that are chosen.")
        return self.refusal()

    def refusal(self):
        """Why the volume should not be converted although it could be, or nothing; see ``onConvertAnyway``."""
        return self._refusal if self._described != self._allowed else ""

    def doubtful(self):
        """Whether the volume is refused only because it hardly looks like a CT, so that it can be converted anyway."""
        return bool(self.refusal()) and self.facts is not None and (self.facts.doubtful or not self.facts.problem)

    def onConvertAnyway(self):
        """Convert a volume that does not look like a CT in HU; holds until another one is chosen."""
        self._allowed = self._described
        self.panel.update()

    def choose(self, node):
        """Take a volume as the input."""
        if node is not None and self.parameters is not None:
            self.parameters.inputVolume = node

    def chooseLikely(self):
        """Take the most likely volume as the input if none is chosen."""
        parameters = self.parameters
        if parameters is not None and parameters.inputVolume is None and not self.panel.running:
            self.choose(loading.likelyInput())

    def chooseLater(self):
        """The same, once what is being loaded is there."""
        self._adopt.start()

    def onSample(self):
        """Load the sample CT, or make a phantom where there is no network."""
        from DiffMaSlicerLib.sample_data import loadSampleCT

        with self.messages.reported():
            node, sentence = loadSampleCT(self.logic)
            self.choose(node)
            self.panel.reviewSection.putAway()
            slicer.util.setSliceViewerLayers(background=node, fit=True)
            self.messages.info(sentence)

    def sceneClosed(self):
        """Forget the volume."""
        self._watch(None)
        self._stopCheck()
        self.facts = self._described = self._checked = self._allowed = None
        self._show()

    def cleanup(self):
        """Stop what is on."""
        self._watch(None)
        self._stopCheck()

    def _watch(self, node):
        """Look again when the volume gets other voxels or another place, such as by a transform that is hardened."""
        self.removeObservers()
        if node is not None:
            for event in (node.TransformModifiedEvent, node.ImageDataModifiedEvent):
                self.addObserver(node, event, lambda caller, event: self._again.start())

    def _load(self, how):
        def load():
            with self.messages.reported():
                self.choose(how(slicer.util.mainWindow()))

        return load

    def _show(self, found=None):
        """Write what is known; what the child found in all voxels stands for what was seen at first sight."""
        facts = self.facts
        lines = []
        self._refusal = ""
        if facts is not None:
            self._refusal = (found or {}).get("problem") or facts.problem
            warnings = [facts.problem, *facts.notes]
            if found is not None:
                warnings = [found.get("problem") or facts.problem]
                warnings += [note for note in facts.notes if note != NAN_NOTE]
                warnings += [*found.get("notes", ()), *found.get("anatomy_notes", ())]
            warnings = list(dict.fromkeys(line[:1].upper() + line[1:] for line in warnings if line))
            lines = [facts.sentence, *warnings]
            setIcon(self.ui.inputIcon, qt.QStyle.SP_MessageBoxWarning if warnings else qt.QStyle.SP_DialogApplyButton)
        else:
            setIcon(self.ui.inputIcon, None)
        setText(self.ui.inputFacts, "\n".join(lines))

    def _startCheck(self):
        """Ask the child what it sees: it knows bodies and the model's anatomy, which takes it some seconds."""
        parameters = self.parameters
        if parameters is None or parameters.inputVolume is None or self.panel.running:
            return
        self._stopCheck()
        self._checked = (self._described, parameters.model)
        self._check = self.logic.check(parameters.inputVolume, parameters.model)
        self._check.add_listener(self._onCheck)

    def _onCheck(self, job, what):
        if what != "done" or job is not self._check:
            return
        self._check = None
        if job.result and self.facts is not None:
            self._show(job.result)
            self.panel.update()

    def _makeTimer(self, interval, action):
        timer = qt.QTimer(self.ui.mainContents)
        timer.setSingleShot(True)
        timer.setInterval(interval)
        timer.connect("timeout()", action)
        return timer

    def _stopCheck(self):
        for timer in (self._timer, self._adopt, self._again):
            timer.stop()
        if self._check is not None:
            check, self._check = self._check, None
            check.remove_listener(self._onCheck)
            check.cancel()
