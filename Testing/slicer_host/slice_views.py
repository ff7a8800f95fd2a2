"""Slice views: real slice logics and displayable managers drawn off-screen, the picture shown in a Qt widget."""

import weakref
from collections.abc import Callable
from typing import Any, ClassVar

import shiboken6
import slicer
from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Property, Signal
from vtkmodules.vtkCommonCore import vtkCommand
from vtkmodules.vtkInteractionStyle import vtkInteractorStyleUser
from vtkmodules.vtkRenderingCore import (
    vtkActor2D,
    vtkImageMapper,
    vtkRenderer,
    vtkRenderWindow,
    vtkRenderWindowInteractor,
)
from vtkmodules.vtkRenderingUI import vtkGenericRenderWindowInteractor

from .mrml_widgets import qMRMLWidget
from .pictures import picture_of
from .pythonqt import invokable

DISPLAYABLE_MANAGERS = (
    "vtkMRMLVolumeGlyphSliceDisplayableManager",
    "vtkMRMLModelSliceDisplayableManager",
    "vtkMRMLCrosshairDisplayableManager",
    "vtkMRMLOrientationMarkerDisplayableManager",
    "vtkMRMLRulerDisplayableManager",
    "vtkMRMLScalarBarDisplayableManager",
    "vtkMRMLColorLegendDisplayableManager",
    "vtkMRMLMarkupsDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager2D",
    "vtkMRMLTransformsDisplayableManager2D",
)


def displayable_manager_factory(application_logic: Any) -> Any:
    """The factory with the managers that Slicer registers for slice views."""
    factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
    factory.SetMRMLApplicationLogic(application_logic)
    for name in DISPLAYABLE_MANAGERS:
        if not factory.IsDisplayableManagerRegistered(name):
            factory.RegisterDisplayableManager(name)
    return factory


class Observers:
    """VTK observers that call a Qt object's method while it lives, and are taken away together."""

    def __init__(self, owner: QtCore.QObject) -> None:
        self._owner = weakref.ref(owner)
        self._tags: list[tuple[Any, int]] = []

    def add(self, vtk_object: Any, event: Any, method: Callable) -> None:
        owner = self._owner

        def call(caller: Any, name: str) -> None:
            alive = owner()
            if alive is not None and shiboken6.isValid(alive):
                method(alive)

        self._tags.append((vtk_object, vtk_object.AddObserver(event, call)))

    def clear(self) -> None:
        for vtk_object, tag in self._tags:
            vtk_object.RemoveObserver(tag)
        self._tags.clear()


class qMRMLSliceView(QtWidgets.QWidget):
    """The picture of one slice; mouse events go to VTK's interactor."""

    def __init__(self, logic: Any, factory: Any, parent: QtWidgets.QWidget) -> None:
        super().__init__(parent)
        self.setMouseTracking(True)
        self.setMinimumSize(40, 40)
        self._logic = logic
        self._node = logic.GetSliceNode()
        self._paused = 0
        self._picture = QtGui.QPixmap()
        self._timer = QtCore.QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self.forceRender)
        self._window = vtkRenderWindow()
        self._window.SetOffScreenRendering(True)
        self._window.SetMultiSamples(0)
        self._renderer = vtkRenderer()
        self._window.AddRenderer(self._renderer)
        self._window.SetSize(100, 100)
        self._interactor = vtkGenericRenderWindowInteractor()
        self._interactor.SetRenderWindow(self._window)
        self._interactor.SetInteractorStyle(vtkInteractorStyleUser())
        self._interactor.Initialize()
        mapper = vtkImageMapper()
        mapper.SetColorWindow(255)
        mapper.SetColorLevel(127.5)
        mapper.SetInputConnection(logic.GetImageDataConnection())
        self._mapper = mapper
        self._image = vtkActor2D()
        self._image.SetMapper(mapper)
        self._image.GetProperty().SetDisplayLocationToBackground()
        self._image.SetVisibility(False)
        self._renderer.AddViewProp(self._image)
        self._group = factory.InstantiateDisplayableManagers(self._renderer)
        self._group.SetMRMLDisplayableNode(self._node)
        self._style = slicer.vtkMRMLSliceViewInteractorStyle()
        self._style.SetDisplayableManagers(self._group)
        self._style.SetSliceLogic(logic)
        self._style.SetInteractor(self._interactor)
        logic.SetDisplayableManagerGroup(self._group)
        self._observers = Observers(self)
        self._observers.add(logic, vtkCommand.ModifiedEvent, qMRMLSliceView._image_changed)
        self._observers.add(self._node, vtkCommand.ModifiedEvent, qMRMLSliceView.scheduleRender)
        self._observers.add(self._group, vtkCommand.UpdateEvent, qMRMLSliceView.scheduleRender)
        self._image_changed()

    def _image_changed(self) -> None:
        connection = self._logic.GetImageDataConnection()
        self._image.SetVisibility(connection is not None)
        if connection is not None:
            self._mapper.SetInputConnection(connection)
        self.scheduleRender()

    @invokable
    def scheduleRender(self) -> None:
        if not self._paused and not self._timer.isActive():
            self._timer.start(15)

    @invokable
    def forceRender(self) -> None:
        if self._paused or self._window is None or not self._node.GetScene():
            return
        if not self.isVisible():
            self._window.Render()
            return
        self._picture = self._grabbed()
        self.update()

    def _grabbed(self) -> QtGui.QPixmap:
        pixels = picture_of(self._window)
        height, width, _ = pixels.shape
        return QtGui.QPixmap.fromImage(
            QtGui.QImage(pixels.data, width, height, 3 * width, QtGui.QImage.Format.Format_RGB888).copy()
        )

    @invokable
    def setRenderPaused(self, pause: bool) -> int:
        self._paused = max(0, self._paused + (1 if pause else -1))
        if not self._paused:
            self.scheduleRender()
        return self._paused

    @invokable
    def pauseRender(self) -> int:
        return self.setRenderPaused(True)

    @invokable
    def resumeRender(self) -> int:
        return self.setRenderPaused(False)

    @invokable
    def renderWindow(self) -> Any:
        return self._window

    @invokable
    def interactor(self) -> vtkRenderWindowInteractor:
        return self._interactor

    @invokable
    def interactorObserver(self) -> Any:
        return self._style

    @invokable
    def mrmlSliceNode(self) -> Any:
        return self._node

    @invokable
    def displayableManagerByClassName(self, name: str) -> Any:
        return self._group.GetDisplayableManagerByClassName(name)

    @invokable
    def convertXYZToRAS(self, xyz: list[float]) -> list[float]:
        return list(self._node.GetXYToRAS().MultiplyPoint((*xyz, 1.0))[:3])

    @invokable
    def convertRASToXYZ(self, ras: list[float]) -> list[float]:
        matrix = type(self._node.GetXYToRAS())()
        matrix.DeepCopy(self._node.GetXYToRAS())
        matrix.Invert()
        return list(matrix.MultiplyPoint((*ras, 1.0))[:3])

    def resizeEvent(self, event: QtGui.QResizeEvent) -> None:
        width, height = max(1, self.width()), max(1, self.height())
        self._window.SetSize(width, height)
        self._interactor.UpdateSize(width, height)
        self._logic.ResizeSliceNode(width, height)
        self.scheduleRender()

    def showEvent(self, event: QtGui.QShowEvent) -> None:
        self.scheduleRender()

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:
        painter = QtGui.QPainter(self)
        painter.fillRect(self.rect(), QtCore.Qt.GlobalColor.black)
        painter.drawPixmap(0, 0, self._picture)
        painter.end()

    def _to_vtk(self, event: Any, name: str) -> None:
        modifiers = event.modifiers()
        control = bool(modifiers & QtCore.Qt.KeyboardModifier.ControlModifier)
        shift = bool(modifiers & QtCore.Qt.KeyboardModifier.ShiftModifier)
        point = event.position().toPoint()
        self._interactor.SetEventInformationFlipY(point.x(), point.y(), control, shift)
        self._interactor.InvokeEvent(name)

    def mouseMoveEvent(self, event: QtGui.QMouseEvent) -> None:
        self._to_vtk(event, "MouseMoveEvent")

    def mousePressEvent(self, event: QtGui.QMouseEvent) -> None:
        self._to_vtk(event, f"{event.button().name}PressEvent")

    def mouseReleaseEvent(self, event: QtGui.QMouseEvent) -> None:
        self._to_vtk(event, f"{event.button().name}ReleaseEvent")

    def wheelEvent(self, event: QtGui.QWheelEvent) -> None:
        self._to_vtk(event, "MouseWheelForwardEvent" if event.angleDelta().y() > 0 else "MouseWheelBackwardEvent")

    def enterEvent(self, event: QtGui.QEnterEvent) -> None:
        self._interactor.InvokeEvent("EnterEvent")

    def leaveEvent(self, event: QtCore.QEvent) -> None:
        self._interactor.InvokeEvent("LeaveEvent")

    def end(self) -> None:
        """Lets go of VTK before Qt deletes the widget."""
        self._timer.stop()
        self._observers.clear()
        self._style.SetInteractor(None)
        self._style.SetDisplayableManagers(None)
        self._logic.SetDisplayableManagerGroup(None)
        self._group.SetMRMLDisplayableNode(None)
        self._window.Finalize()
        self._window = None


class qMRMLSliceControllerWidget(QtWidgets.QFrame):
    """The bar above a slice view: its colour, its label and the slider of the slice offset."""

    def __init__(self, logic: Any, parent: QtWidgets.QWidget) -> None:
        super().__init__(parent)
        self._logic = logic
        self._label, self._slider = QtWidgets.QLabel(self), QtWidgets.QSlider(QtCore.Qt.Orientation.Horizontal, self)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(4, 1, 4, 1)
        layout.addWidget(self._label)
        layout.addWidget(self._slider, 1)
        self._slider.valueChanged.connect(self._slid)
        self._observers = Observers(self)
        self._observers.add(logic.GetSliceNode(), vtkCommand.ModifiedEvent, qMRMLSliceControllerWidget._show)
        self._observers.add(logic, vtkCommand.ModifiedEvent, qMRMLSliceControllerWidget._show)
        self._show()

    def _range(self) -> tuple[float, float, float]:
        bounds, spacing = [0.0] * 6, self._logic.GetLowestVolumeSliceSpacing()
        self._logic.GetLowestVolumeSliceBounds(bounds)
        return bounds[4], bounds[5], abs(spacing[2]) or 1.0

    def _show(self) -> None:
        node = self._logic.GetSliceNode()
        low, high, step = self._range()
        red, green, blue = (round(255 * part) for part in node.GetLayoutColor())
        self.setStyleSheet(f"background: rgb({red}, {green}, {blue}); color: black")
        self._label.setText(f"{node.GetLayoutLabel()}  {node.GetSliceOffset():.1f} mm")
        blocked = self._slider.blockSignals(True)
        self._slider.setRange(0, max(0, round((high - low) / step) - 1))
        self._slider.setValue(round((node.GetSliceOffset() - low) / step - 0.5))
        self._slider.blockSignals(blocked)

    def _slid(self, position: int) -> None:
        low, _, step = self._range()
        self._logic.StartSliceOffsetInteraction()
        self._logic.SetSliceOffset(low + (position + 0.5) * step)
        self._logic.EndSliceOffsetInteraction()

    @invokable
    def setSliceLink(self, linked: bool) -> None:
        self._logic.GetSliceCompositeNode().SetLinkedControl(linked)

    @invokable
    def fitSliceToBackground(self) -> None:
        self._logic.FitSliceToBackground()

    def end(self) -> None:
        self._observers.clear()


class qMRMLSliceWidget(qMRMLWidget):
    nodeAboutToBeEdited = Signal(object)
    host_signals: ClassVar = {
        **qMRMLWidget.host_signals,
        "nodeAboutToBeEdited(vtkMRMLNode*)": "nodeAboutToBeEdited(PyObject)",
    }

    def __init__(self, node: Any, logic: Any, factory: Any, parent: QtWidgets.QWidget) -> None:
        super().__init__(parent)
        self.setObjectName(f"qMRMLSliceWidget{node.GetLayoutName()}")
        self._node, self._logic = node, logic
        self._logic.SetSliceNode(node)  # first, so that the logic names its nodes after the view
        self._logic.SetMRMLScene(node.GetScene())
        self._controller = qMRMLSliceControllerWidget(self._logic, self)
        self._view = qMRMLSliceView(self._logic, factory, self)
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(self._controller)
        layout.addWidget(self._view, 1)
        self.setMRMLScene(node.GetScene())

    sliceViewName = Property(str, lambda self: self._node.GetLayoutName())
    sliceViewLabel = Property(str, lambda self: self._node.GetLayoutLabel())
    sliceOrientation = Property(
        str, lambda self: self._node.GetOrientation(), lambda self, value: self._node.SetOrientation(value)
    )

    @invokable
    def sliceController(self) -> QtWidgets.QWidget:
        return self._controller

    @invokable
    def sliceView(self) -> QtWidgets.QWidget:
        return self._view

    @invokable
    def sliceLogic(self) -> Any:
        return self._logic

    @invokable
    def mrmlSliceNode(self) -> Any:
        return self._node

    @invokable
    def mrmlSliceCompositeNode(self) -> Any:
        return self._logic.GetSliceCompositeNode()

    @invokable
    def interactorStyle(self) -> Any:
        return self._view.interactorObserver()

    @invokable
    def fitSliceToBackground(self) -> None:
        self._logic.FitSliceToBackground()

    def end(self) -> None:
        self._controller.end()
        self._view.end()
        self._logic.SetMRMLScene(None)
