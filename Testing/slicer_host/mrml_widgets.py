"""qMRML's panel widgets on a real MRML scene: the widget that hands its scene on, and the node selector."""

import weakref
from collections.abc import Callable
from typing import Any, ClassVar

import shiboken6
import slicer
from PySide6 import QtCore, QtWidgets
from PySide6.QtCore import Property, Signal
from vtkmodules.util.misc import calldata_type
from vtkmodules.util.vtkConstants import VTK_OBJECT
from vtkmodules.vtkCommonCore import vtkCommand

from .ctk_widgets import stored
from .pythonqt import invokable

NODE = int(QtCore.Qt.ItemDataRole.UserRole)
ACTION = NODE + 1


class qMRMLWidget(QtWidgets.QWidget):
    mrmlSceneChanged = Signal(object)
    host_signals: ClassVar = {"mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged(PyObject)"}

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._scene: Any = None

    @invokable
    def mrmlScene(self) -> Any:
        return self._scene

    @invokable
    def setMRMLScene(self, scene: Any) -> None:
        if scene is not self._scene:
            self._scene = scene
            self.mrmlSceneChanged.emit(scene)


class qMRMLNodeComboBox(QtWidgets.QWidget):
    """Follows the scene; like the real one it tells of a change when the shown text changes."""

    currentNodeChanged = Signal((object,), (bool,))
    currentNodeIDChanged = Signal(str)
    nodeActivated = Signal(object)
    nodeAdded = Signal(object)
    nodeAddedByUser = Signal(object)
    nodeAddedByUserAction = Signal(object)
    nodeAboutToBeRemoved = Signal(object)
    currentNodeRenamed = Signal(str)
    nodeAboutToBeEdited = Signal(object)
    host_signals: ClassVar = {
        f"{name}(vtkMRMLNode*)": f"{name}(PyObject)"
        for name in (
            "currentNodeChanged",
            "nodeActivated",
            "nodeAdded",
            "nodeAddedByUser",
            "nodeAddedByUserAction",
            "nodeAboutToBeRemoved",
            "nodeAboutToBeEdited",
        )
    }
    selectNodeUponCreation = stored(bool, "selectNodeUponCreation", True)
    baseName = stored(str, "baseName", "")

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._scene: Any = None
        self._settings: dict[str, Any] = {
            "nodeTypes": [],
            "hideChildNodeTypes": [],
            "showHidden": False,
            "showChildNodeTypes": True,
            "noneEnabled": False,
            "noneDisplay": "None",
            "addEnabled": True,
            "removeEnabled": True,
            "editEnabled": False,
            "renameEnabled": False,
        }
        self._attributes: list[tuple[str, str, str | None]] = []
        self._labels: dict[str, str] = {}
        self._requested = ""
        self._observed: dict[str, tuple[Any, int]] = {}  # node ID: node, observer
        self._scene_observers: list[int] = []
        self._filling = False
        self._combo = QtWidgets.QComboBox(self)
        self.setLayout(QtWidgets.QHBoxLayout())
        self.layout().setContentsMargins(0, 0, 0, 0)
        self.layout().addWidget(self._combo)
        self._combo.currentTextChanged.connect(self._text_changed)
        self._combo.activated.connect(self._activated)
        self.setEnabled(False)

    def _setting(kind: Any, name: str) -> Property:  # type: ignore[misc]
        def write(self: Any, value: Any) -> None:
            self._settings[name] = value
            self._refill()

        return Property(kind, lambda self: self._settings[name], write)

    nodeTypes = _setting("QStringList", "nodeTypes")
    hideChildNodeTypes = _setting("QStringList", "hideChildNodeTypes")
    showHidden = _setting(bool, "showHidden")
    showChildNodeTypes = _setting(bool, "showChildNodeTypes")
    noneEnabled = _setting(bool, "noneEnabled")
    noneDisplay = _setting(str, "noneDisplay")
    addEnabled = _setting(bool, "addEnabled")
    removeEnabled = _setting(bool, "removeEnabled")
    editEnabled = _setting(bool, "editEnabled")
    renameEnabled = _setting(bool, "renameEnabled")

    @invokable
    def mrmlScene(self) -> Any:
        return self._scene

    @invokable
    def setMRMLScene(self, scene: Any) -> None:
        if scene is self._scene:
            return
        self._stop_observing()
        self._scene = scene
        self.setEnabled(scene is not None)
        if scene is not None:
            owner = weakref.ref(self)
            for event, action in (
                (slicer.vtkMRMLScene.NodeAddedEvent, qMRMLNodeComboBox._node_added),
                (slicer.vtkMRMLScene.NodeAboutToBeRemovedEvent, qMRMLNodeComboBox._node_leaves),
                (slicer.vtkMRMLScene.NodeRemovedEvent, qMRMLNodeComboBox._node_removed),
            ):
                self._scene_observers.append(scene.AddObserver(event, _calling(owner, action)))
        self._filling = True
        self._fill()
        if self._requested:
            self.setCurrentNodeID(self._requested)
        elif not self._settings["noneEnabled"] and self._node_rows():
            self._combo.setCurrentIndex(self._node_rows()[0])
        else:
            self._select_none()
        self._filling = False
        if self.currentNode() is not None:
            self._text_changed()
        self._requested = ""

    def _stop_observing(self) -> None:
        for tag in self._scene_observers:
            self._scene.RemoveObserver(tag)
        for node, tag in self._observed.values():
            node.RemoveObserver(tag)
        self._scene_observers, self._observed = [], {}

    def _offers(self, node: Any) -> bool:
        types = self._settings["nodeTypes"]
        family = self._settings["showChildNodeTypes"]
        if not any(node.IsA(kind) if family else node.GetClassName() == kind for kind in types):
            return False
        if any(node.IsA(kind) for kind in self._settings["hideChildNodeTypes"]):
            return False
        if node.GetHideFromEditors() and not self._settings["showHidden"]:
            return False
        for kind, name, value in self._attributes:
            found = node.GetAttribute(name)
            if node.IsA(kind) and (found is None or (value is not None and found != value)):
                return False
        return True

    def _label(self, node_type: str) -> str:
        known = self._labels.get(node_type) or self._scene.GetTypeDisplayNameByClassName(node_type)
        return known or "node"

    def _extra_items(self) -> list[tuple[str, str]]:
        settings, types = self._settings, self._settings["nodeTypes"]
        if self._scene is None:
            return []
        label = self._label(types[0]) if len(types) == 1 else "node"
        items = []
        if settings["renameEnabled"]:
            items.append((f"Rename current {label}", "rename"))
        if settings["editEnabled"]:
            items.append((f"Edit current {label}", "edit"))
        if settings["addEnabled"]:
            items += [(f"Create new {self._label(kind)}", f"create {kind}") for kind in types]
        if settings["removeEnabled"]:
            items.append((f"Delete current {label}", "delete"))
        return items

    def _fill(self) -> None:
        """The items anew: None, the nodes in the scene's order, the actions."""
        self._combo.clear()
        if self._settings["noneEnabled"]:
            self._combo.addItem(self._settings["noneDisplay"])
        for text, action in self._extra_items():
            self._combo.addItem(text)
            self._combo.setItemData(self._combo.count() - 1, action, ACTION)
        self._combo.setCurrentIndex(0 if self._settings["noneEnabled"] else -1)
        if self._scene is not None:
            for index in range(self._scene.GetNumberOfNodes()):
                self._take(self._scene.GetNthNode(index))

    def _refill(self) -> None:
        if self._scene is None:
            return
        before = self.currentNodeID
        self._filling = True
        self._fill()
        row = self._row(before)
        self._combo.setCurrentIndex(row if row >= 0 else 0 if self._settings["noneEnabled"] else -1)
        self._filling = False
        if self.currentNodeID != before:
            self._text_changed()

    def _node_rows(self) -> list[int]:
        return [row for row in range(self._combo.count()) if self._combo.itemData(row, NODE)]

    def _row(self, node_id: str) -> int:
        return next((row for row in self._node_rows() if self._combo.itemData(row, NODE) == node_id), -1)

    def _take(self, node: Any) -> None:
        """Watches a node of the scene and shows it where the filters let it."""
        if not any(node.IsA(kind) for kind in self._settings["nodeTypes"]):
            return
        if node.GetID() not in self._observed:
            changed = _calling(weakref.ref(self), qMRMLNodeComboBox._node_changed, node.GetID())
            self._observed[node.GetID()] = (node, node.AddObserver(vtkCommand.ModifiedEvent, changed))
        if self._offers(node) and self._row(node.GetID()) < 0:
            row = len(self._node_rows()) + bool(self._settings["noneEnabled"])
            blank = self._combo.count() == 0
            kept = self._combo.currentIndex()
            self._combo.insertItem(row, node.GetName() or "", node.GetID())
            if kept < 0 and not blank:
                self._combo.setCurrentIndex(-1)
            self.nodeAdded.emit(node)

    def _node_added(self, node: Any) -> None:
        self._take(node)

    def _node_leaves(self, node: Any) -> None:
        if self._row(node.GetID()) >= 0:
            self.nodeAboutToBeRemoved.emit(node)

    def _node_removed(self, node: Any) -> None:
        node_id = node.GetID()
        watched = self._observed.pop(node_id, None)
        if watched is not None:
            watched[0].RemoveObserver(watched[1])
        row = self._row(node_id)
        if row >= 0:
            self._combo.removeItem(row)
            if self.currentNode() is None:
                self._select_none()

    def _node_changed(self, node_id: str) -> None:
        node = self._scene.GetNodeByID(node_id) if self._scene is not None else None
        if node is None:
            return
        row = self._row(node_id)
        if row < 0:
            self._take(node)
        elif not self._offers(node):
            self._combo.removeItem(row)
            if self.currentNode() is None:
                self._select_none()
        elif self._combo.itemText(row) != node.GetName():
            self._combo.setItemText(row, node.GetName())

    def _select_none(self) -> None:
        self._combo.setCurrentIndex(0 if self._settings["noneEnabled"] else -1)

    def _text_changed(self, text: str = "") -> None:
        if self._filling:
            return
        node, row = self.currentNode(), self._combo.currentIndex()
        if node is None and row != (0 if self._settings["noneEnabled"] else -1):
            rows = self._node_rows()
            if rows:
                self._combo.setCurrentIndex(rows[-1])
                return
        self.currentNodeChanged[object].emit(node)
        self.currentNodeChanged[bool].emit(node is not None)
        self.currentNodeIDChanged.emit(node.GetID() if node is not None else "")

    def _activated(self, row: int) -> None:
        """The user chose an item: a node, None or an action."""
        action = self._combo.itemData(row, ACTION)
        if action is None:
            self.nodeActivated.emit(self.currentNode())

    @invokable
    def currentNode(self) -> Any:
        node_id = self._combo.currentData(NODE)
        return self._scene.GetNodeByID(node_id) if node_id and self._scene is not None else None

    @invokable
    def setCurrentNode(self, node: Any) -> None:
        self.setCurrentNodeID(node.GetID() if node is not None else "")

    @invokable
    def setCurrentNodeID(self, node_id: str | None) -> None:
        if self._scene is None:
            self._requested = node_id or ""
        row = self._row(node_id or "")
        if row >= 0:
            self._combo.setCurrentIndex(row)
        else:
            self._select_none()

    def _current_id(self) -> str:
        node = self.currentNode()
        return node.GetID() if node is not None else ""

    currentNodeID = Property(str, _current_id, setCurrentNodeID, notify=currentNodeIDChanged)

    @invokable
    def setCurrentNodeIndex(self, index: int) -> None:
        rows = self._node_rows()
        self._combo.setCurrentIndex(rows[index] if 0 <= index < len(rows) else -1)

    @invokable
    def nodeCount(self) -> int:
        return len(self._node_rows())

    @invokable
    def nodeFromIndex(self, index: int) -> Any:
        rows = self._node_rows()
        return self._scene.GetNodeByID(self._combo.itemData(rows[index], NODE)) if 0 <= index < len(rows) else None

    @invokable
    def addAttribute(self, node_type: str, name: str, value: str | None = None) -> None:
        self._attributes.append((node_type, name, value))
        self._refill()

    @invokable
    def removeAttribute(self, node_type: str, name: str) -> None:
        self._attributes = [item for item in self._attributes if item[:2] != (node_type, name)]
        self._refill()

    @invokable
    def setNodeTypeLabel(self, label: str, node_type: str) -> None:
        self._labels[node_type] = label
        self._refill()

    @invokable
    def nodeTypeLabel(self, node_type: str) -> str:
        return self._label(node_type)

    @invokable
    def addNode(self, node_type: str = "") -> Any:
        node_type = node_type or self._settings["nodeTypes"][0]
        if node_type not in self._settings["nodeTypes"]:
            return None
        node = self._scene.CreateNodeByClass(node_type)
        node.UnRegister(None)
        for kind, name, value in self._attributes:
            if node.IsA(kind):
                node.SetAttribute(name, value or "")
        node.SetName(self._scene.GenerateUniqueName(self.property("baseName") or node.GetNodeTagName()))
        node = self._scene.AddNode(node)
        if self.property("selectNodeUponCreation"):
            self.setCurrentNode(node)
        self.nodeAddedByUser.emit(node)
        return node

    @invokable
    def removeCurrentNode(self) -> None:
        self._scene.RemoveNode(self.currentNode())

    def user_chooses(self, text: str) -> None:
        """What a click on the item of that text does (for tests)."""
        row = self._combo.findText(text)
        if row < 0 or not self.isEnabled():
            items = [self._combo.itemText(index) for index in range(self._combo.count())]
            raise AssertionError(f"The selector {self.objectName()} offers {items}, not {text!r} (or is disabled).")
        action = self._combo.itemData(row, ACTION)
        if action is None:
            self._combo.setCurrentIndex(row)
            self._activated(row)
        elif action.startswith("create "):
            node = self.addNode(action.split()[1])
            self.setCurrentNode(node)
            self.nodeAddedByUserAction.emit(node)
        elif action == "delete":
            self.removeCurrentNode()
        else:
            raise AssertionError(f"The stand-in does not do {text!r}.")


def _calling(owner: "weakref.ref[qMRMLNodeComboBox]", method: Callable, *fixed: Any) -> Callable:
    """A VTK observer that calls the widget's method as long as the widget lives."""

    def call(caller: Any, event: str, data: Any = None) -> None:
        widget = owner()
        if widget is not None and shiboken6.isValid(widget):
            method(widget, *(fixed or (data,)))

    return call if fixed else calldata_type(VTK_OBJECT)(call)


WIDGETS = {cls.__name__: cls for cls in (qMRMLWidget, qMRMLNodeComboBox)}
