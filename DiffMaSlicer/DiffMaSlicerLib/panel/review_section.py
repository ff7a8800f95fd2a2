"""The section Review: layouts, layers, links and the DICOM export."""

import qt
import slicer
from slicer.i18n import tr as _

from DiffMaSlicerLib.panel.bindings import Buttons, Choices, Entry
from DiffMaSlicerLib.panel.comparison import Comparison
from DiffMaSlicerLib.panel.section import Section

_FADED = ("overlay", "uncertainty", "softmask", "difference")
_TILED = ("checkerboard",)


class ReviewSection(Section):
    """Steers the review from the parameter node: what is set is what is shown."""

    def __init__(self, panel):
        super().__init__(panel)
        self.review = panel.review
        self._layout = Buttons(self.ui.layoutChoice)
        self._layers = Choices(self.ui.layersBox)
        self._applied = self._ct = None
        self._export = None
        self.comparison = Comparison(panel)
        for choice in self.review.layoutNames():
            button = self._layout.buttons[choice.name]
            button.text = choice.title
            button.toolTip = f"{choice.tooltip} ({choice.shortcut})"
            button.connect("clicked()", self._onAsked)
        self.ui.layersBox.connect("activated(int)", self._onAsked)
        self._fillLayers()
        self.ui.exportDicomButton.connect("clicked()", self.onExport)

    def controls(self):
        """Bindings of layouts and layers."""
        return {"layout": self._layout, "layers": self._layers}

    def shortcuts(self):
        """Key and action of every layout and layer."""
        chosen = [(choice, self._chooseLayout) for choice in self.review.layoutNames()]
        chosen += [(choice, self._chooseLayers) for choice in self.review.layerNames()]
        return [(choice.shortcut, lambda choose=choose, name=choice.name: choose(name)) for choice, choose in chosen]

    def show(self):
        """Put the result beside its CT."""
        parameters = self.parameters
        mr = parameters.outputVolume
        ct = (mr.GetNodeReference("DiffMa.ct") if mr is not None else None) or parameters.inputVolume
        if ct is not None and mr is not None:
            self._show(
                ct,
                mr,
                uncertaintyNode=parameters.uncertaintyVolume,
                softMaskNode=parameters.softMaskVolume,
                differenceNode=parameters.differenceVolume,
            )

    def prepare(self):
        """Show the CT with a place for the MRI beside it; views take a moment to be made, which is best spent now.

        Returns:
            Whether anything had to be done.
        """
        ct = self.parameters.inputVolume
        if self.review.active and ct.GetID() == self._ct:
            return False
        self._show(ct, self.parameters.outputVolume)
        return True

    def currentSlice(self, ct):
        """The slice of a CT that the axial views stand on, which is the first to be made; None if they show no such."""
        return self.review.currentSlice() if self.review.active and ct.GetID() == self._ct else None

    def jumpInto(self, slices):
        """Show the first of these slices, unless the axial views stand on one of them."""
        if slices and self.review.active and self.review.currentSlice() not in slices:
            self.review.jumpToSlice(slices[0])

    def putAway(self):
        """Give the user's own layout back."""
        self.review.close()
        self._ct = None

    def update(self):
        """Bring the review to what the parameter node says."""
        parameters = self.parameters
        self._fillLayers()
        self._showParts(parameters.layers)
        ready = parameters.outputVolume is not None and not self.panel.running
        self.ui.reviewSectionButton.visible = parameters.outputVolume is not None
        self.ui.exportDicomButton.enabled = ready and self._export is None
        self.comparison.update(ready)
        if self.review.active:
            self._apply()

    def sceneClosed(self):
        """Take the review away."""
        self._applied = None
        self.comparison.clear()
        self.putAway()

    def cleanup(self):
        """Take the review away, and stop listening."""
        self.comparison.clear()
        self.putAway()

    def onExport(self):
        """Ask for a folder and write the derived series."""
        folder = qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), _("Folder for the DICOM series"))
        if folder and self.parameters is not None and self.parameters.outputVolume is not None:
            with self.messages.reported():
                self._export = self.logic.exportDicom(self.parameters.outputVolume, folder, blocking=False)
                self._export.add_listener(self._onExport)
                self.update()

    def _onExport(self, job, what):
        if what != "done":
            return
        self._export = None
        if job.error is not None:
            self.messages.failed(job)
        elif job.result is not None:
            text = _("The derived series ({files} files) is in {folder}.").format(**_counted(job.result))
            if job.result.get("anonymous"):
                text += " " + _("The CT's own DICOM files were not found, so it holds no patient.")
            self.messages.info(text)
        if self.parameters is not None:
            self.update()

    def _show(self, ct, mr, **others):
        layout = self._known(self.parameters.layout, self.review.layoutNames(), "side-by-side")
        with self.messages.reported():
            self.review.show(ct, mr, layout=layout, **others)
            self._ct = ct.GetID()
            self._applied = self.parameters.layout
            self._apply()
        self.update()

    def _apply(self):
        parameters = self.parameters
        if parameters.layout != self._applied:
            self._applied = parameters.layout
            self.review.setLayout(self._known(parameters.layout, self.review.layoutNames(), "side-by-side"))
        layers = self._known(parameters.layers, self.review.layerNames(), "none")
        self.review.setLayers(layers, opacity=parameters.overlayOpacity, tiles=parameters.checkerboardTiles)
        self.review.setLinked(parameters.linkViews)

    def _chooseLayout(self, name):
        if self.parameters is not None:
            self.parameters.layout = name
            self._onAsked()

    def _chooseLayers(self, name):
        if self.parameters is not None:
            self.parameters.layers = name
            self._onAsked()

    def _onAsked(self, *ignored):
        """The user wants to see something: nothing is on show of a scene just loaded, or a layout of their own is."""
        if self.parameters is None:
            return
        if not self.review.active:
            self.show()
        elif not self.review.onScreen:
            self.review.setLayout(self._known(self.parameters.layout, self.review.layoutNames(), "side-by-side"))

    def _fillLayers(self):
        available = self.review.availableLayers() if self.review.active else None
        self._layers.fill(
            Entry(
                choice.name,
                f"{choice.title} ({choice.shortcut})",
                choice.tooltip,
                available is None or choice.name in available,
            )
            for choice in self.review.layerNames()
        )

    def _showParts(self, layers):
        for part in (self.ui.fadeLabel, self.ui.fadeSlider):
            part.visible = layers in _FADED
        for part in (self.ui.tilesLabel, self.ui.tilesBox):
            part.visible = layers in _TILED

    @staticmethod
    def _known(name, choices, default):
        return name if name in [choice.name for choice in choices] else default


def _counted(result):
    files = result.get("files", 0)
    return {**result, "files": files if isinstance(files, int) else len(files)}
