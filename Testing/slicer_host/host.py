"""The stand-in as a whole: installs ``qt``, ``ctk`` and ``slicer``, and starts and ends a Slicer for each test."""

import os
import shutil
import sys
import tempfile
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import shiboken6
import slicer
from PySide6 import QtCore

from . import ctk_widgets, mrml_widgets, signals, ui_loader
from .dialogs import Dialogs, dialogs
from .pythonqt import Wrapper, class_wrapper, wrap
from .qt_module import QtModule

LOGICS = {  # Slicer's own modules: name and class of the logic
    "Volumes": "vtkSlicerVolumesLogic",
    "Segmentations": "vtkSlicerSegmentationsModuleLogic",
    "SubjectHierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "Markups": "vtkSlicerMarkupsLogic",
    "Colors": "vtkSlicerColorLogic",
    "CropVolume": "vtkSlicerCropVolumeLogic",
    "Transforms": "vtkSlicerTransformLogic",
    "Tables": "vtkSlicerTablesLogic",
}


def install() -> None:
    """Puts ``qt``, ``ctk`` and Slicer's own parts of ``slicer`` into ``sys.modules``; once a process."""
    if "qt" in sys.modules:
        return
    for name in slicer.util.__all__:  # slicer-core exports them flat, Slicer does not
        if hasattr(slicer, name):
            delattr(slicer, name)
    sys.modules["qt"] = QtModule()
    sys.modules["ctk"] = _module("ctk", ctk_widgets.WIDGETS)
    ui_loader.widget_classes.update(ctk_widgets.WIDGETS | mrml_widgets.WIDGETS)
    from . import i18n, modules, parameter_node

    for cls in (*mrml_widgets.WIDGETS.values(), modules.qSlicerScriptedLoadableModule):
        setattr(slicer, cls.__name__, class_wrapper(cls))
    slicer.qSlicerScriptedLoadableModuleWidget = class_wrapper(modules.qSlicerScriptedLoadableModuleWidget)
    parts = {"i18n": i18n, "parameterNodeWrapper": parameter_node.module(), "modules": types.ModuleType("modules")}
    for name, part in parts.items():
        sys.modules[f"slicer.{name}"] = part
        setattr(slicer, name, part)
    from . import application, sample_data, scripted_module

    sys.modules["SampleData"] = sample_data.module()
    sys.modules["slicer.ScriptedLoadableModule"] = slicer.ScriptedLoadableModule = scripted_module.module()
    QtCore.QSettings.setDefaultFormat(QtCore.QSettings.Format.IniFormat)
    _keep_settings_in(Path(tempfile.gettempdir()) / "slicer-host-no-session")
    slicer.app = wrap(application.qSlicerApplication())


def _keep_settings_in(folder: Path) -> None:
    ini, user = QtCore.QSettings.Format.IniFormat, QtCore.QSettings.Scope.UserScope
    QtCore.QSettings.setPath(ini, user, str(folder))


def _module(name: str, classes: dict[str, type]) -> types.ModuleType:
    made = types.ModuleType(name)
    for key, cls in classes.items():
        setattr(made, key, class_wrapper(cls))
    return made


class Host:
    """One running stand-in: a fresh scene, main window, settings and temporary folder."""

    dialogs: Dialogs = dialogs

    def __init__(self) -> None:
        install()
        from . import application, modules
        from .layout_manager import qSlicerLayoutManager
        from .subject_hierarchy import SubjectHierarchy

        self.folder = Path(tempfile.mkdtemp(prefix="slicer-host-"))
        _keep_settings_in(self.folder / "settings")
        QtCore.QSettings().clear()
        dialogs.clear()
        signals.slot_errors.clear()
        slicer.mrmlScene = slicer.vtkMRMLScene()
        crosshair = slicer.vtkMRMLCrosshairNode()
        crosshair.SetCrosshairName("default")
        slicer.mrmlScene.AddNode(crosshair)
        self.application_logic = slicer.vtkSlicerApplicationLogic()
        self.layout_manager: Any = None
        self.io_manager = application.qSlicerCoreIOManager()
        self.module_manager = modules.qSlicerModuleManager()
        self.app = slicer.app.qt_object()
        self.app.session = self
        self.application_logic.SetHomeDirectory(str(self.folder))
        self.application_logic.SetShareDirectory("share")
        (self.folder / "share" / "ColorFiles").mkdir(parents=True)  # else the colour logic complains
        self.application_logic.SetMRMLScene(slicer.mrmlScene)
        self._logics = {name: getattr(slicer, cls)() for name, cls in LOGICS.items()}
        for name, logic in self._logics.items():
            logic.SetMRMLApplicationLogic(self.application_logic)
            logic.SetMRMLScene(slicer.mrmlScene)
            self.application_logic.SetModuleLogic(name, logic)
            setattr(slicer.modules, name.lower(), modules.CoreModule(name, logic))
        self.subject_hierarchy = SubjectHierarchy(slicer.mrmlScene)
        self.main_window = modules.qSlicerMainWindow(self.module_manager)
        self.layout_manager = qSlicerLayoutManager(self.main_window.viewport, self.application_logic)
        self.main_window.show()
        self.process_events()

    def load_module(self, path: str | Path, select: bool = True) -> Any:
        """Loads a scripted module's file; returns its Python widget (its module object with ``select=False``)."""
        module = self.module_manager.load(Path(path).resolve())
        if not select:
            return wrap(module)
        self.select_module(Path(path).stem)
        return module.widgetRepresentation().self()

    def select_module(self, name: str) -> None:
        """Goes to the module as a user does; ``""`` leaves every module."""
        self.main_window.moduleSelector().selectModule(name)
        self.process_events()

    def start_up(self) -> None:
        """Slicer's start is completed."""
        self.app.startupCompleted.emit()
        self.process_events()

    def process_events(self) -> None:
        self.app.processEvents()

    def wait_until(self, predicate: Callable[[], Any], timeout: float = 240.0, what: str = "") -> Any:
        """Runs the event loop until the predicate is true and returns its value; TimeoutError after ``timeout`` s."""
        loop = QtCore.QEventLoop()
        found: list[Any] = []
        failure: list[BaseException] = []
        end = time.monotonic() + timeout

        def look() -> None:
            try:
                value = predicate()
            except BaseException as error:
                failure.append(error)
                value = True
            if value:
                found.append(value)
            if value or time.monotonic() > end:
                loop.quit()

        timer = QtCore.QTimer()
        timer.setInterval(5)
        timer.timeout.connect(look)
        timer.start()
        loop.exec()
        timer.stop()
        if failure:
            raise failure[0]
        if not found:
            raise TimeoutError(f"Waited {timeout:g} s in vain for {what or predicate}.")
        return found[0]

    def click(self, widget: Wrapper) -> None:
        """Clicks a button with the mouse, from within the event loop."""
        target = widget.qt_object()
        self.process_events()
        if not target.isVisible() or not target.isEnabled():
            raise AssertionError(f"{target.objectName() or widget} cannot be clicked: it is hidden or disabled.")
        from PySide6.QtTest import QTest

        done: list[bool] = []

        def press() -> None:
            middle = QtCore.QPoint(min(10, target.width() // 2), min(10, target.height() // 2))
            QTest.mouseClick(target, QtCore.Qt.MouseButton.LeftButton, pos=middle)
            done.append(True)

        QtCore.QTimer.singleShot(0, press)
        self.wait_until(lambda: done, 60, f"the click on {target.objectName()}")

    def choose(self, selector: Wrapper, item: Any) -> None:
        """Chooses in a node selector: a node, None, or an item's text such as ``"Create new Volume"``."""
        target = selector.qt_object()
        text = item if isinstance(item, str) else item.GetName() if item is not None else target.property("noneDisplay")
        target.user_chooses(text)
        self.process_events()

    def take_errors(self) -> list[signals.SlotError]:
        """The errors raised in slots so far (Slicer only prints them); the test then answers for them."""
        errors = list(signals.slot_errors)
        signals.slot_errors.clear()
        return errors

    def close_scene(self) -> None:
        """File > Close scene."""
        slicer.mrmlScene.Clear(0)
        self.process_events()

    def quit(self) -> None:
        """Ends Slicer: aboutToQuit, then every module is unloaded."""
        QtCore.QTimer.singleShot(0, self.app.quit)
        self.app.exec()
        self.select_module("")
        self.module_manager.unload_all()
        self.process_events()

    def screenshot(self, path: str | Path) -> Path:
        """The main window as a picture."""
        self.process_events()
        self.main_window.grab().save(str(path))
        return Path(path)

    def end(self) -> list[str]:
        """Takes this Slicer away and says what the test left unanswered or unraised."""
        self.select_module("")
        self.module_manager.unload_all()
        problems = [f"a slot raised: {name}: {error!r}" for name, error in signals.slot_errors]
        problems += [f"a dialog had no answer: {text}" for text in dialogs.unanswered]
        problems += [f"no dialog asked for the {kind} answer" for kind in dialogs.waiting]
        signals.disconnect_all(self.app)
        self.layout_manager.end()
        for window in self.app.topLevelWidgets():
            if shiboken6.isValid(window):
                window.close()
                window.deleteLater()
        self.app.sendPostedEvents(None, QtCore.QEvent.Type.DeferredDelete.value)
        self.process_events()
        self.subject_hierarchy.end()
        slicer.mrmlScene.Clear(1)
        for name in list(vars(slicer.modules)):
            if not name.startswith("__"):
                delattr(slicer.modules, name)
        self._logics.clear()
        self.app.session = None
        shutil.rmtree(self.folder, ignore_errors=True)
        return problems
