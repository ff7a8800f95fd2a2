"""The module's widget: puts the sections together and holds them to the parameter node."""

from typing import Any

import slicer
import vtk
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleWidget
from slicer.util import VTKObservationMixin

from DiffMaSlicerLib.logic import DiffMaSlicerLogic
from DiffMaSlicerLib.panel.batch_dialog import BatchDialog
from DiffMaSlicerLib.panel.bindings import Binding
from DiffMaSlicerLib.panel.device_section import DeviceSection
from DiffMaSlicerLib.panel.input_section import InputSection
from DiffMaSlicerLib.panel.messages import Messages
from DiffMaSlicerLib.panel.model_section import ModelSection
from DiffMaSlicerLib.panel.review_section import ReviewSection
from DiffMaSlicerLib.panel.run_section import RunSection
from DiffMaSlicerLib.panel.sampling_section import SamplingSection
from DiffMaSlicerLib.panel.shortcuts import APPLY, Shortcuts
from DiffMaSlicerLib.review.review import Review


class DiffMaSlicerWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel.

    Attributes:
        ui: the controls by name.
        logic: a ``DiffMaSlicerLogic``.
        review: what shows CT and MRI beside each other.
        parameters: the scene's parameter node, or None while a scene closes.
        machine: what the child reported of devices and models, or None until it did.
    """

    def __init__(self, parent=None):
        self.logic: Any = None
        self.review: Any = None
        self.ui: Any = None
        self.parameters: Any = None
        self.machine = None
        self._uiWidget: Any = None
        self._binding: Any = None
        self._entered = self._updating = self._closed = self._asked = self._unseen = False
        super().__init__(parent)  # without a parent it calls setup

    def setup(self):
        """Make the panel; called when the module is first shown, and by Reload."""
        ScriptedLoadableModuleWidget.setup(self)
        self._uiWidget = slicer.util.loadUI(self.resourcePath("UI/DiffMaSlicer.ui"))
        self.layout.addWidget(self._uiWidget)
        self.ui = slicer.util.childWidgetVariables(self._uiWidget)
        self._uiWidget.setMRMLScene(slicer.mrmlScene)

        self.logic = DiffMaSlicerLogic()
        self.review = Review()
        self.messages = Messages(self.ui)
        self.shortcuts = Shortcuts()
        self.input = InputSection(self)
        self.model = ModelSection(self)
        self.device = DeviceSection(self)
        self.sampling = SamplingSection(self)
        self.reviewSection = ReviewSection(self)
        self.run = RunSection(self)
        self.batch = BatchDialog(self)
        self.sections = (self.input, self.model, self.device, self.sampling, self.reviewSection, self.run, self.batch)

        for button in (self.ui.advancedButton, self.ui.reviewSectionButton, self.ui.logButton):
            button.connect("contentsCollapsed(bool)", self._fitWidth)
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self._onSceneStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self._onSceneEndClose)
        self.addObserver(scene, scene.EndImportEvent, self._onSceneImported)
        self.addObserver(scene, scene.NodeAddedEvent, self._onNodeAdded)
        self.addObserver(scene, scene.NodeAboutToBeRemovedEvent, self._onNodeLeaving)
        self.initializeParameterNode()
        if getattr(self.parent, "isEntered", False):  # Reload does not say that the module is shown
            self.enter()

    def cleanup(self):
        """Let go of everything; called when Slicer quits and by Reload, there perhaps twice."""
        if self._closed or self.ui is None:
            return
        self._closed = True
        self.exit()
        self.removeObservers()
        self.setParameterNode(None)
        for section in self.sections:
            section.cleanup()
        self.logic.cleanup()
        self._uiWidget.setMRMLScene(None)

    def enter(self):
        """The module is shown."""
        if self._closed:
            return
        self._entered = True
        self.initializeParameterNode()
        if self._unseen:
            self._unseen = False
            self.reviewSection.show()
        self.shortcuts.on([(APPLY, self.run.onApply), *self.reviewSection.shortcuts()])
        if not self._asked:
            self._asked = True
            self.refreshMachine()

    def exit(self):
        """Another module is shown; what runs goes on."""
        self._entered = False
        if self.ui is not None:
            self.shortcuts.off()
            self._disconnect()

    @property
    def running(self):
        """Whether a conversion or a batch is on."""
        return self.run.running or self.batch.running

    def problem(self):
        """Why Apply cannot be pressed, or nothing."""
        if self.parameters is None:
            return _("There is no scene.")
        if self.batch.running:
            return _("A batch is running.")
        sections = (self.input, self.model, self.sampling, self.device)
        return next((reason for section in sections if (reason := section.problem())), "")

    def update(self):
        """Bring every section to the parameter node."""
        if self._updating or self.parameters is None:
            return
        self._updating = True
        try:
            for section in self.sections:
                section.update()
            self._fitWidth()
        finally:
            self._updating = False

    def _fitWidth(self, _collapsed=None):
        """Nothing is cut off at the right: the settings scroll up and down alone."""
        area = self.ui.settingsArea
        area.minimumWidth = area.widget().minimumSizeHint.width() + area.verticalScrollBar().sizeHint.width()

    def refreshMachine(self):
        """Ask the child which devices and models there are."""
        self.device.refresh()

    def setMachine(self, machine):
        """Take what the child reported."""
        self.machine = machine
        for section in self.sections:
            section.machineChanged()
        self.update()

    def showResult(self, job):
        """Note a conversion's volumes and put them beside the CT, now or when the module is shown again."""
        parameters = self.parameters
        if parameters is None:
            return
        with slicer.util.NodeModify(parameters):
            parameters.outputVolume = job.outputNode
            parameters.uncertaintyVolume = job.uncertaintyNode
            parameters.softMaskVolume = job.softMaskNode
            parameters.differenceVolume = None
        self._unseen = not self._entered
        self.ui.reviewSectionButton.collapsed = False
        if self._entered:
            self.reviewSection.show()

    def initializeParameterNode(self):
        """Take the scene's parameter node, and choose a CT if none is chosen."""
        self.setParameterNode(self.logic.getParameterNode())
        self.input.chooseLikely()

    def setParameterNode(self, parameters):
        """Hold the panel to a parameter node, or to none."""
        self._disconnect()
        self.parameters = parameters
        if parameters is None:
            return
        controls = {}
        for section in (self.model, self.device, self.sampling, self.reviewSection):
            controls.update(section.controls())
        self._binding = Binding(parameters, self.ui, controls)
        self.addObserver(parameters.parameterNode, vtk.vtkCommand.ModifiedEvent, self._onModified)
        self.update()

    def _disconnect(self):
        if self._binding is not None:
            self._binding.close()
            self._binding = None
            self.removeObserver(self.parameters.parameterNode, vtk.vtkCommand.ModifiedEvent, self._onModified)

    def _onModified(self, caller, event):
        self.update()

    def _onSceneStartClose(self, caller, event):
        self._unseen = False
        self.setParameterNode(None)
        for section in self.sections:
            section.sceneClosed()

    def _onSceneEndClose(self, caller, event):
        if self._entered:
            self.initializeParameterNode()

    def _onSceneImported(self, caller, event):
        if self._entered:
            self.initializeParameterNode()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _onNodeAdded(self, caller, event, node):
        if (
            self._entered
            and node is not None
            and node.IsA("vtkMRMLScalarVolumeNode")
            and not caller.IsBatchProcessing()
        ):
            self.input.chooseLater()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _onNodeLeaving(self, caller, event, node):
        """Let go of a node before it is gone: its selector would go on to the next one, from the result to the CT."""
        if self.parameters is None or node is None:
            return
        for name in self.parameters.allParameters:
            if self.parameters.getValue(name) is node:
                self.parameters.setValue(name, None)
