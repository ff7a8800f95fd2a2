"""``slicer.app``: what qSlicerApplication offers and a module may use, on a real QApplication."""

import sys
import tempfile
from pathlib import Path
from typing import Any, ClassVar

import slicer
from PySide6 import QtCore, QtWidgets
from PySide6.QtCore import Property, Signal

from .pythonqt import invokable


class qSlicerApplication(QtWidgets.QApplication):
    startupCompleted = Signal()
    mrmlSceneChanged = Signal(object)
    renderPaused = Signal(bool)
    host_signals: ClassVar = {"mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged(PyObject)"}

    def __init__(self) -> None:
        super().__init__(["DiffMaTests"])
        self.setOrganizationName("DiffMaTests")
        self.setApplicationName("Slicer")
        self.setQuitOnLastWindowClosed(False)  # the application outlives each test's windows
        self.session: Any = None  # the parts of the running test's Slicer, set by the host
        self.testing = False

    slicerHome = Property(str, lambda self: str(Path(sys.prefix)))
    temporaryPath = Property(str, lambda self: str(self.session.folder if self.session else tempfile.gettempdir()))
    cachePath = Property(str, lambda self: str(Path(self.property("temporaryPath")) / "cache"))
    slicerUserSettingsFilePath = Property(str, lambda self: QtCore.QSettings().fileName())
    slicerRevisionUserSettingsFilePath = Property(str, lambda self: QtCore.QSettings().fileName())
    revision = Property(str, lambda self: "31053")
    repositoryRevision = Property(str, lambda self: "")
    releaseType = Property(str, lambda self: "Stable")
    majorVersion = Property(int, lambda self: 5)
    minorVersion = Property(int, lambda self: 13)
    os = Property(str, lambda self: {"win32": "win", "darwin": "macosx"}.get(sys.platform, "linux"))
    isInstalled = Property(bool, lambda self: True)

    @invokable
    def mrmlScene(self) -> Any:
        return slicer.mrmlScene

    @invokable
    def applicationLogic(self) -> Any:
        return self.session.application_logic

    @invokable
    def layoutManager(self) -> Any:
        return self.session.layout_manager

    @invokable
    def moduleManager(self) -> Any:
        return self.session.module_manager

    @invokable
    def coreIOManager(self) -> Any:
        return self.session.io_manager

    @invokable
    def ioManager(self) -> Any:
        return self.session.io_manager

    @invokable
    def userSettings(self) -> QtCore.QSettings:
        return QtCore.QSettings()

    @invokable
    def settings(self) -> QtCore.QSettings:
        return QtCore.QSettings()

    @invokable
    def revisionUserSettings(self) -> QtCore.QSettings:
        return QtCore.QSettings()

    @invokable
    def startupEnvironment(self) -> Any:
        return _Environment()

    @invokable
    def testingEnabled(self) -> bool:
        return self.testing

    @invokable
    def translate(self, context: str, text: str) -> str:
        return text

    @invokable
    def pauseRender(self) -> None:
        self.setRenderPaused(True)

    @invokable
    def resumeRender(self) -> None:
        self.setRenderPaused(False)

    @invokable
    def setRenderPaused(self, pause: bool) -> None:
        if self.session.layout_manager is not None:
            self.session.layout_manager.setRenderPaused(pause)


class _Environment(QtCore.QProcessEnvironment):
    """The environment that the test was started with."""

    def __init__(self) -> None:
        super().__init__(QtCore.QProcessEnvironment.systemEnvironment())


class qSlicerCoreIOManager(QtCore.QObject):
    """Reads what ``slicer.util.loadVolume`` and ``loadScene`` read, and saves the scene and single nodes."""

    @invokable
    def fileType(self, path: str) -> str:
        return "SceneFile" if str(path).endswith((".mrml", ".mrb")) else "VolumeFile"

    @invokable
    def fileWriterFileType(self, node: Any, extension: str = "") -> str:
        return "SegmentationFile" if node.IsA("vtkMRMLSegmentationNode") else "VolumeFile"

    @invokable
    def loadNodes(self, kind: str, properties: dict, loaded: Any = None, messages: Any = None) -> bool:
        path = properties["fileName"]
        if kind == "SceneFile":
            slicer.mrmlScene.SetURL(path)
            return bool(slicer.mrmlScene.Connect() if properties.get("clear") else slicer.mrmlScene.Import())
        if kind != "VolumeFile":
            raise NotImplementedError(f"The stand-in does not load files of the type {kind}.")
        name = properties.get("name") or Path(path).name.split(".")[0]
        options = 1 if properties.get("labelmap") else 0
        options += 2 if properties.get("center") else 0
        options += 8 if properties.get("singleFile") else 0
        logic = slicer.modules.volumes.logic()
        node = logic.AddArchetypeVolume(path, name, options)
        if node is None:
            return False
        node.SetDisplayVisibility(True) if properties.get("show", True) else None
        if loaded is not None:
            loaded.AddItem(node)
        if properties.get("show", True):
            selection = slicer.app.applicationLogic().GetSelectionNode()
            selection.SetActiveVolumeID(node.GetID())
            slicer.app.applicationLogic().PropagateVolumeSelection()
        return True

    @invokable
    def saveNodes(self, kind: str, properties: dict, messages: Any = None) -> bool:
        path = properties["fileName"]
        if kind == "SceneFile":
            return bool(slicer.mrmlScene.WriteToMRB(path) if path.endswith(".mrb") else slicer.mrmlScene.Commit(path))
        node = slicer.mrmlScene.GetNodeByID(properties["nodeID"])
        if node.GetStorageNode() is None:
            node.AddDefaultStorageNode(path)
        node.GetStorageNode().SetFileName(path)
        return bool(node.GetStorageNode().WriteData(node))
