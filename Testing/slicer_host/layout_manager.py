"""The layout manager: real vtkMRMLLayoutLogic, the layout's XML laid out in Qt, a slice widget for each slice node."""

import xml.etree.ElementTree as ElementTree
from typing import Any

import slicer
from PySide6 import QtCore, QtWidgets
from PySide6.QtCore import Property, Signal
from vtkmodules.vtkCommonCore import vtkCollection, vtkCommand

from .pythonqt import invokable
from .slice_views import Observers, displayable_manager_factory, qMRMLSliceWidget


class qSlicerLayoutManager(QtCore.QObject):
    """Slice views only: a 3D, table or plot view of a layout is an empty frame and is not counted."""

    layoutChanged = Signal(int)

    def __init__(self, viewport: QtWidgets.QFrame, application_logic: Any) -> None:
        super().__init__()
        self._viewport, self._application_logic = viewport, application_logic
        self._factory = displayable_manager_factory(application_logic)
        self._widgets: dict[str, qMRMLSliceWidget] = {}  # slice node ID: widget
        self._logics = vtkCollection()
        self._shown = ""
        self._matching = False
        self._page: QtWidgets.QWidget | None = None
        QtWidgets.QVBoxLayout(viewport).setContentsMargins(0, 0, 0, 0)
        self._store = QtWidgets.QWidget(viewport)  # holds the widgets of views that the layout does not show
        self._store.hide()
        application_logic.SetSliceLogics(self._logics)
        self._logic = slicer.vtkMRMLLayoutLogic()
        self._logic.SetMRMLApplicationLogic(application_logic)
        self._logic.SetMRMLScene(slicer.mrmlScene)
        self._node = self._logic.GetLayoutNode()
        self._observers = Observers(self)
        events = slicer.vtkMRMLScene
        self._observers.add(self._node, vtkCommand.ModifiedEvent, qSlicerLayoutManager._update)
        for event in (events.NodeAddedEvent, events.NodeRemovedEvent, events.EndBatchProcessEvent):
            self._observers.add(slicer.mrmlScene, event, qSlicerLayoutManager._match_slice_nodes)
        self._node.SetViewArrangement(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
        self._match_slice_nodes()
        self._update()

    def _match_slice_nodes(self) -> None:
        """A widget and a logic for each slice node of the scene, none for others."""
        if slicer.mrmlScene.IsBatchProcessing() or self._matching:
            return
        self._matching = True  # a new slice logic adds nodes of its own
        try:
            self._make_and_drop_widgets()
        finally:
            self._matching = False
        if not self._shown:
            self._update()

    def _make_and_drop_widgets(self) -> None:
        nodes = {node.GetID(): node for node in slicer.util.getNodesByClass("vtkMRMLSliceNode")}
        for node_id, widget in list(self._widgets.items()):
            if nodes.get(node_id) is not widget.mrmlSliceNode():
                self._logics.RemoveItem(widget.sliceLogic())
                widget.end()
                widget.setParent(None)
                widget.deleteLater()
                del self._widgets[node_id]
                self._shown = ""
        for node_id, node in nodes.items():
            if node_id not in self._widgets:
                logic = slicer.vtkMRMLSliceLogic()
                logic.SetMRMLApplicationLogic(self._application_logic)
                self._logics.AddItem(logic)
                self._widgets[node_id] = qMRMLSliceWidget(node, logic, self._factory, self._store)

    def _update(self) -> None:
        description = self._node.GetCurrentLayoutDescription()
        if slicer.mrmlScene.IsBatchProcessing() or not description or description == self._shown:
            return
        self._shown = description
        for widget in self._widgets.values():
            widget.setParent(self._store)
        if self._page is not None:
            self._page.setParent(None)
            self._page.deleteLater()
        self._page = self._built(ElementTree.fromstring(description))
        self._viewport.layout().addWidget(self._page)
        self._page.show()
        self.layoutChanged.emit(self._node.GetViewArrangement())

    def _built(self, element: ElementTree.Element) -> QtWidgets.QWidget:
        if element.tag == "view":
            return self._view(element)
        kind = element.get("type", "vertical")
        page = QtWidgets.QTabWidget() if kind == "tab" else QtWidgets.QWidget()
        if kind not in ("vertical", "horizontal", "tab", "grid"):
            raise ValueError(f"Slicer's layouts are vertical, horizontal, grid or tab, not {kind}.")
        layout = None
        if kind != "tab":
            layout = {
                "vertical": QtWidgets.QVBoxLayout,
                "horizontal": QtWidgets.QHBoxLayout,
                "grid": QtWidgets.QGridLayout,
            }[kind](page)
            layout.setContentsMargins(0, 0, 0, 0)
            layout.setSpacing(2)
        for item in element.findall("item"):
            child = self._built(item[0])
            if isinstance(layout, QtWidgets.QGridLayout):
                layout.addWidget(child, int(item.get("row", 0)), int(item.get("column", 0)))
            elif layout is not None:
                layout.addWidget(child, 1)
            else:
                page.addTab(child, item.get("name", ""))
        return page

    def _view(self, element: ElementTree.Element) -> QtWidgets.QWidget:
        tag, cls = element.get("singletontag", ""), element.get("class", "")
        node = slicer.mrmlScene.GetSingletonNode(tag, cls)
        if cls == "vtkMRMLSliceNode" and node is not None:
            if node.GetID() not in self._widgets:
                self._match_slice_nodes()
            widget = self._widgets[node.GetID()]
            widget.show()
            return widget
        frame = QtWidgets.QLabel(cls.removeprefix("vtkMRML"))
        frame.setStyleSheet("background: #4d4d6b; color: white")
        return frame

    layout = Property(
        int,
        lambda self: self._node.GetViewArrangement(),
        lambda self, value: self._node.SetViewArrangement(value),
        notify=layoutChanged,
    )
    threeDViewCount = Property(int, lambda self: 0)
    tableViewCount = Property(int, lambda self: 0)
    plotViewCount = Property(int, lambda self: 0)

    @invokable
    def setLayout(self, value: int) -> None:
        self._node.SetViewArrangement(value)

    @invokable
    def layoutLogic(self) -> Any:
        return self._logic

    @invokable
    def mrmlScene(self) -> Any:
        return slicer.mrmlScene

    @invokable
    def sliceViewNames(self) -> list[str]:
        return [widget.mrmlSliceNode().GetLayoutName() for widget in self._widgets.values()]

    @invokable
    def sliceWidget(self, name: str) -> Any:
        for widget in self._widgets.values():
            if widget.mrmlSliceNode().GetLayoutName() == name:
                return widget
        return None

    @invokable
    def viewWidget(self, node: Any) -> Any:
        return self._widgets.get(node.GetID())

    @invokable
    def mrmlSliceLogics(self) -> Any:
        return self._logics

    @invokable
    def resetSliceViews(self) -> None:
        for widget in self._widgets.values():
            widget.fitSliceToBackground()

    @invokable
    def resetThreeDViews(self) -> None:
        pass

    @invokable
    def setRenderPaused(self, pause: bool) -> None:
        for widget in self._widgets.values():
            widget.sliceView().setRenderPaused(pause)

    @invokable
    def pauseRender(self) -> None:
        self.setRenderPaused(True)

    @invokable
    def resumeRender(self) -> None:
        self.setRenderPaused(False)

    def end(self) -> None:
        """Takes the views away before the scene is."""
        self._observers.clear()
        for widget in self._widgets.values():
            widget.end()
        self._widgets.clear()
        self._logics.RemoveAllItems()
        self._logic.SetMRMLScene(None)
