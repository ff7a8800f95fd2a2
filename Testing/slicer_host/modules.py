"""Scripted modules in the main window: found, loaded, entered, left, reloaded and unloaded as Slicer does it."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import slicer
from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Property, Signal

from .ctk_widgets import stored
from .mrml_widgets import qMRMLWidget
from .pythonqt import invokable, wrap
from .signals import slot_errors


class qSlicerScriptedLoadableModule(QtCore.QObject):
    title = stored(str, "title", "")
    categories = stored("QStringList", "categories", [])
    contributors = stored("QStringList", "contributors", [])
    dependencies = stored("QStringList", "dependencies", [])
    associatedNodeTypes = stored("QStringList", "associatedNodeTypes", [])
    helpText = stored(str, "helpText", "")
    acknowledgementText = stored(str, "acknowledgementText", "")
    icon = stored(QtGui.QIcon, "icon", QtGui.QIcon())
    hidden = stored(bool, "hidden", False)
    index = stored(int, "index", -1)
    widgetRepresentationCreationEnabled = stored(bool, "widgetRepresentationCreationEnabled", True)

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._widget: qSlicerScriptedLoadableModuleWidget | None = None

    name = Property(str, lambda self: self._path.stem)
    path = Property(str, lambda self: str(self._path))

    @invokable
    def widgetRepresentation(self) -> Any:
        if self._widget is None:
            self._widget = self.createNewWidgetRepresentation()
        return self._widget

    @invokable
    def createNewWidgetRepresentation(self) -> Any:
        widget = qSlicerScriptedLoadableModuleWidget(self._path)
        widget.setMRMLScene(slicer.mrmlScene)
        widget.reload()
        return widget

    @invokable
    def mrmlScene(self) -> Any:
        return slicer.mrmlScene


class qSlicerScriptedLoadableModuleWidget(qMRMLWidget):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._python: Any = None
        self._entered = False
        self.setLayout(QtWidgets.QVBoxLayout())

    moduleName = Property(str, lambda self: self._path.stem)
    isEntered = Property(bool, lambda self: self._entered)

    @invokable
    def self(self) -> Any:
        return self._python

    @invokable
    def reload(self) -> None:
        """Makes the Python widget from the module as it now stands in ``sys.modules``, and sets it up."""
        name = f"{self._path.stem}Widget"
        cls = getattr(sys.modules[self._path.stem], name)
        self._python = cls(wrap(self))
        setattr(slicer.modules, name, self._python)
        self._python.setup()

    @invokable
    def enter(self) -> None:
        self._entered = True
        self._call("enter")

    @invokable
    def exit(self) -> None:
        self._entered = False
        self._call("exit")

    def _call(self, method: str) -> None:
        try:
            getattr(self._python, method, lambda: None)()
        except Exception as error:
            slot_errors.append((f"{self._path.stem}Widget.{method}", error))


class qSlicerModuleFactoryManager(QtCore.QObject):
    def __init__(self, manager: "qSlicerModuleManager") -> None:
        super().__init__(manager)
        self._manager = manager

    @invokable
    def loadedModuleNames(self) -> list[str]:
        return list(self._manager.loaded)


class qSlicerModuleManager(QtCore.QObject):
    moduleLoaded = Signal(str)
    moduleAboutToBeUnloaded = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self.loaded: dict[str, qSlicerScriptedLoadableModule] = {}
        self._python: dict[str, Any] = {}
        self._factory = qSlicerModuleFactoryManager(self)

    @invokable
    def factoryManager(self) -> QtCore.QObject:
        return self._factory

    @invokable
    def modulesNames(self) -> list[str]:
        return list(self.loaded)

    @invokable
    def module(self, name: str) -> Any:
        return self.loaded.get(name)

    def load(self, path: Path) -> qSlicerScriptedLoadableModule:
        """Imports the module's file and makes its module object; its panel is made when it is first shown."""
        if str(path.parent) not in sys.path:
            sys.path.insert(0, str(path.parent))
        spec = importlib.util.spec_from_file_location(path.stem, path)
        source = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = source
        spec.loader.exec_module(source)
        module = qSlicerScriptedLoadableModule(path)
        self._python[path.stem] = getattr(source, path.stem)(wrap(module))
        self.loaded[path.stem] = module
        setattr(slicer.modules, path.stem.lower(), wrap(module))
        setattr(slicer.modules, f"{path.stem}Instance", self._python[path.stem])
        self.moduleLoaded.emit(path.stem)
        return module

    def unload_all(self) -> None:
        """What happens to the modules when Slicer ends."""
        for name, module in list(self.loaded.items()):
            self.moduleAboutToBeUnloaded.emit(name)
            if module._widget is not None:
                module._widget.deleteLater()
            for attribute in (name.lower(), f"{name}Widget", f"{name}Instance"):
                if hasattr(slicer.modules, attribute):
                    delattr(slicer.modules, attribute)
        self.loaded.clear()
        self._python.clear()


class qSlicerModuleSelectorToolBar(QtWidgets.QToolBar):
    moduleSelected = Signal(str)

    def __init__(self, manager: qSlicerModuleManager, panel: QtWidgets.QScrollArea) -> None:
        super().__init__()
        self.setObjectName("ModuleSelectorToolBar")
        self._manager, self._panel = manager, panel
        self._selected = ""

    @invokable
    def selectModule(self, name: str) -> None:
        if name == self._selected or (name and name not in self._manager.loaded):
            return
        if self._selected in self._manager.loaded:
            self._manager.loaded[self._selected].widgetRepresentation().exit()
            self._panel.takeWidget()
        self._selected = name
        if name:
            widget = self._manager.loaded[name].widgetRepresentation()
            self._panel.setWidget(widget)
            widget.show()
            widget.enter()
        self.moduleSelected.emit(name)

    selectedModule = Property(str, lambda self: self._selected, selectModule, notify=moduleSelected)


class qSlicerMainWindow(QtWidgets.QMainWindow):
    """The main window: the module's panel on the left, the views in the middle."""

    def __init__(self, manager: qSlicerModuleManager) -> None:
        super().__init__()
        self.setObjectName("qSlicerMainWindow")
        self.setWindowTitle("Stand-in for 3D Slicer")
        panel = QtWidgets.QScrollArea()
        panel.setObjectName("ModulePanel")
        panel.setWidgetResizable(True)
        dock = QtWidgets.QDockWidget("", self)
        dock.setObjectName("PanelDockWidget")
        dock.setWidget(panel)
        dock.setMinimumWidth(430)
        self.addDockWidget(QtCore.Qt.DockWidgetArea.LeftDockWidgetArea, dock)
        self._selector = qSlicerModuleSelectorToolBar(manager, panel)
        self.addToolBar(self._selector)
        self.viewport = QtWidgets.QFrame()
        self.viewport.setObjectName("CentralWidgetLayoutFrame")
        self.setCentralWidget(self.viewport)
        self.resize(1280, 860)

    @invokable
    def moduleSelector(self) -> Any:
        return self._selector


class CoreModule:
    """A loadable module of Slicer's own: only its logic."""

    def __init__(self, name: str, logic: Any) -> None:
        self.name = name
        self._logic = logic

    def logic(self) -> Any:
        return self._logic
