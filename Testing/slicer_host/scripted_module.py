"""The four base classes of ``slicer.ScriptedLoadableModule``, with the public behaviour of Slicer's own."""

import importlib
import types
import unittest
from pathlib import Path
from typing import Any

import qt
import slicer

NODE_CLASS = "vtkMRMLScriptedModuleNode"


class ScriptedLoadableModule:
    def __init__(self, parent: Any) -> None:
        self.parent = parent
        self.moduleName = type(self).__name__
        parent.title = ""
        parent.categories = []
        parent.dependencies = []
        parent.contributors = []
        parent.helpText = ""
        parent.acknowledgementText = ""
        for extension in (".svg", ".png"):
            icon = Path(self.resourcePath(f"Icons/{self.moduleName}{extension}"))
            if icon.is_file():
                parent.icon = qt.QIcon(str(icon))
                break
        if not hasattr(slicer, "selfTests"):
            slicer.selfTests = {}
        slicer.selfTests[self.moduleName] = self.runTest

    def resourcePath(self, filename: str) -> str:
        return str(Path(self.parent.path).parent / "Resources" / filename)

    def getDefaultModuleDocumentationLink(self, docPage: str | None = None) -> str:
        return f'<p>For more information, see the <a href="{docPage or ""}">online documentation</a>.</p>'

    def runTest(self, msec: int = 100, **kwargs: Any) -> None:
        module = importlib.import_module(type(self).__module__)
        case = getattr(module, f"{self.moduleName}Test")()
        case.messageDelay = msec
        case.runTest(**kwargs)


class ScriptedLoadableModuleWidget:
    def __init__(self, parent: Any = None) -> None:
        super().__init__()
        self.moduleName = type(self).__name__.removesuffix("Widget")
        self.developerMode = slicer.util.settingsValue("Developer/DeveloperMode", False, converter=slicer.util.toBool)
        self.parent = parent
        if not parent:
            self.parent = slicer.qMRMLWidget()
            self.parent.setLayout(qt.QVBoxLayout())
            self.parent.setMRMLScene(slicer.mrmlScene)
        self.layout = self.parent.layout()
        if not parent:
            self.setup()
            self.parent.show()
        manager = slicer.app.moduleManager()
        manager.connect("moduleAboutToBeUnloaded(QString)", self._onModuleAboutToBeUnloaded)

    def resourcePath(self, filename: str) -> str:
        return str(Path(slicer.util.modulePath(self.moduleName)).parent / "Resources" / filename)

    def setup(self) -> None:
        self.setupDeveloperSection()

    def setupDeveloperSection(self) -> None:
        if not self.developerMode:
            return
        self.reloadButton = qt.QPushButton("Reload")
        self.reloadButton.connect("clicked()", self.onReload)
        self.layout.addWidget(self.reloadButton)

    def cleanup(self) -> None:
        pass

    def _onModuleAboutToBeUnloaded(self, moduleName: str) -> None:
        if moduleName == self.moduleName:
            self.cleanup()
            manager = slicer.app.moduleManager()
            manager.disconnect("moduleAboutToBeUnloaded(QString)", self._onModuleAboutToBeUnloaded)

    def onReload(self) -> None:
        slicer.util.reloadScriptedModule(self.moduleName)

    def onTest(self, **kwargs: Any) -> None:
        with slicer.util.tryWithErrorDisplay("Test failed."):
            slicer.selfTests[self.moduleName](msec=0, **kwargs)

    def onReloadAndTest(self, **kwargs: Any) -> None:
        self.onReload()
        self.onTest(**kwargs)


class ScriptedLoadableModuleLogic:
    def __init__(self, parent: Any = None) -> None:
        super().__init__()
        self.moduleName = type(self).__name__.removesuffix("Logic")
        self.isSingletonParameterNode = True

    def getParameterNode(self) -> Any:
        if self.isSingletonParameterNode:
            node = slicer.mrmlScene.GetSingletonNode(self.moduleName, NODE_CLASS)
            if node is not None:
                node.SetAttribute("ModuleName", self.moduleName)  # closing the scene takes it away
                return node
        else:
            nodes = self.getAllParameterNodes()
            if nodes:
                return nodes[0]
        return slicer.mrmlScene.AddNode(self.createParameterNode())

    def getAllParameterNodes(self) -> list:
        nodes = slicer.util.getNodesByClass(NODE_CLASS)
        return [node for node in nodes if node.GetAttribute("ModuleName") == self.moduleName]

    def createParameterNode(self) -> Any:
        node = slicer.mrmlScene.CreateNodeByClass(NODE_CLASS)
        node.UnRegister(None)
        if self.isSingletonParameterNode:
            node.SetSingletonTag(self.moduleName)
        node.SetAttribute("ModuleName", self.moduleName)
        node.SetName(slicer.mrmlScene.GenerateUniqueName(self.moduleName))
        return node


class ScriptedLoadableModuleTest(unittest.TestCase):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.messageDelay = 0
        self.moduleTestNames = [name for name in dir(self) if "test" in name and callable(getattr(self, name))]

    def delayDisplay(self, message: str, requestedDelay: int | None = None, msec: int | None = None) -> None:
        slicer.util.delayDisplay(message, 0)

    def runTest(self) -> None:
        self.setUpClass()
        for name in self.moduleTestNames:
            self.setUp()
            getattr(self, name)()
            self.tearDown()
        self.tearDownClass()


def module() -> types.ModuleType:
    """The module as ``slicer.ScriptedLoadableModule``."""
    made = types.ModuleType("slicer.ScriptedLoadableModule")
    for cls in (
        ScriptedLoadableModule,
        ScriptedLoadableModuleWidget,
        ScriptedLoadableModuleLogic,
        ScriptedLoadableModuleTest,
    ):
        setattr(made, cls.__name__, cls)
    made.__all__ = [name for name in vars(made) if name.startswith("Scripted")]  # type: ignore[attr-defined]
    return made
