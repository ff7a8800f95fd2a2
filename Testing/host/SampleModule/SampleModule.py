"""A small scripted module as the host's tests load it."""

from typing import Annotated

import slicer
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import Choice, WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin


@parameterNodeWrapper
class SampleParameters:
    inputVolume: slicer.vtkMRMLScalarVolumeNode
    steps: Annotated[int, WithinRange(1, 1000)] = 20
    scheduler: Annotated[str, Choice(["dpm++", "ddim"])] = "dpm++"
    fine: bool = True
    note: str = ""


class SampleModule(ScriptedLoadableModule):
    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("Sample module")
        parent.categories = ["Testing"]


class SampleModuleWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.calls = []

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        ui = slicer.util.loadUI(self.resourcePath("UI/SampleModule.ui"))
        self.layout.addWidget(ui)
        self.ui = slicer.util.childWidgetVariables(ui)
        ui.setMRMLScene(slicer.mrmlScene)
        self.parameters = SampleParameters(SampleModuleLogic().getParameterNode())
        self.tag = self.parameters.connectGui(self.ui)
        self.ui.applyButton.connect("clicked()", self.onApply)

    def enter(self):
        self.calls.append("enter")

    def exit(self):
        self.calls.append("exit")

    def cleanup(self):
        self.calls.append("cleanup")
        self.parameters.disconnectGui(self.tag)

    def onApply(self):
        self.calls.append("apply")
        self.ui.applyButton.text = "Done"


class SampleModuleLogic(ScriptedLoadableModuleLogic):
    pass


class SampleModuleTest(ScriptedLoadableModuleTest):
    pass
