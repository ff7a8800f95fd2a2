"""Loads the real .ui files: Qt's own loader, the stand-in's classes for CTK's and qMRML's, connections checked."""

import xml.etree.ElementTree as ElementTree

from PySide6 import QtCore, QtUiTools, QtWidgets

from . import signals
from .pythonqt import invokable, wrap
from .values import to_qt

widget_classes: dict[str, type[QtWidgets.QWidget]] = {}  # what a .ui may name besides Qt's own widgets


class _Factory(QtUiTools.QUiLoader):
    def createWidget(
        self, class_name: str, parent: QtWidgets.QWidget | None = None, name: str = ""
    ) -> QtWidgets.QWidget:
        if class_name in widget_classes:
            widget = widget_classes[class_name](parent)
            widget.setObjectName(name)
            return widget
        return super().createWidget(class_name, parent, name)


class QUiLoader(QtCore.QObject):
    """Refuses what a real Slicer could not load: unknown classes, unknown signals or slots, Qt 6's scoped enums."""

    @invokable
    def load(self, device: QtCore.QIODevice, parent: QtWidgets.QWidget | None = None) -> QtWidgets.QWidget:
        root = ElementTree.fromstring(bytes(device.readAll().data()))
        factory = _Factory()
        _refuse_unknown(root, set(factory.availableWidgets()) | set(widget_classes))
        connections = root.find("connections")
        if connections is not None:
            root.remove(connections)
        buffer = QtCore.QBuffer()
        buffer.setData(ElementTree.tostring(root))
        buffer.open(QtCore.QIODevice.OpenModeFlag.ReadOnly)
        widget = factory.load(buffer, parent)
        if widget is None:
            raise RuntimeError(f"Qt could not load the .ui file: {factory.errorString()}")
        for connection in connections if connections is not None else ():
            _connect(widget, {item.tag: item.text or "" for item in connection})
        return widget


def _refuse_unknown(root: ElementTree.Element, known: set[str]) -> None:
    for element in root.iter("widget"):
        if element.get("class") not in known:
            raise RuntimeError(f"The .ui file uses {element.get('class')}, which the stand-in does not have.")
    for element in [*root.iter("enum"), *root.iter("set")]:
        if any(value.count("::") > 1 for value in (element.text or "").split("|")):
            raise RuntimeError(f"The .ui file writes the enum {element.text}, which Qt 5 cannot read.")


def _connect(root: QtWidgets.QWidget, connection: dict[str, str]) -> None:
    def find(name: str) -> QtCore.QObject:
        found = root if root.objectName() == name else root.findChild(QtCore.QObject, name)
        if found is None:
            raise RuntimeError(f"The .ui file connects {name}, which it does not have.")
        return found

    sender, receiver = find(connection["sender"]), find(connection["receiver"])
    slot = getattr(wrap(receiver), connection["slot"].split("(")[0])
    if not signals.connect(sender, connection["signal"], lambda *arguments: slot(*map(to_qt, arguments))):
        raise RuntimeError(f"The .ui file connects {connection['signal']}, which {connection['sender']} does not have.")
