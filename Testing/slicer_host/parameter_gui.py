"""Which widget may show which parameter, and how: the pairs that Slicer's parameter node wrapper knows, no other."""

import enum
import logging
from collections.abc import Callable
from typing import Any

import ctk
import qt
import slicer

from .parameter_types import (
    Choice,
    Decimals,
    Maximum,
    Minimum,
    SingleStep,
    WithinRange,
    is_node_type,
    split_annotations,
)


class Connector:
    """A widget's value: how it is read, written, and which signal tells of its change."""

    def __init__(self, widget: Any, attribute: str, signal: str) -> None:
        self.widget, self.attribute, self.signal = widget, attribute, signal
        self._callback: Callable | None = None

    def read(self) -> Any:
        return getattr(self.widget, self.attribute)

    def write(self, value: Any) -> None:
        setattr(self.widget, self.attribute, value)

    def on_changed(self, callback: Callable | None) -> None:
        """Calls the function at each change; None disconnects."""
        self._callback = callback
        if not self.signal:
            return
        signal = getattr(self.widget, self.signal)
        if callback is None:
            signal.disconnect(self._changed)
        else:
            signal.connect(self._changed)

    def _changed(self) -> None:
        if self._callback:
            self._callback()


class LineConnector(Connector):
    def write(self, value: str) -> None:
        if value != self.widget.text:  # keeps the cursor where the user types
            self.widget.text = value


class IntegerConnector(Connector):
    def read(self) -> int:
        return int(super().read())

    def write(self, value: Any) -> None:
        super().write(int(value))


class ItemConnector(Connector):
    """A combo box whose items are made from the choices."""

    def __init__(self, widget: Any, items: list[tuple[str, Any]]) -> None:
        super().__init__(widget, "currentIndex", "currentIndexChanged")
        self.items = items
        self.widget.clear()
        for text, _ in items:
            self.widget.addItem(text)

    def read(self) -> Any:
        return self.items[self.widget.currentIndex][1]

    def write(self, value: Any) -> None:
        for index, (_, item) in enumerate(self.items):
            if item == value:
                self.widget.currentIndex = index
                return
        raise ValueError(f"Unable to find value {value} in the choices {[item for _, item in self.items]}")


class EnumConnector(ItemConnector):
    def __init__(self, widget: Any, kind: type[enum.Enum]) -> None:
        label = getattr(kind, "label", lambda member: member.name)
        kept = list(kind)[widget.currentIndex]
        super().__init__(widget, [(label(member), member) for member in kind])
        self.write(kept)


class NodeConnector(Connector):
    def __init__(self, widget: Any, kind: type) -> None:
        super().__init__(widget, "currentNode", "currentNodeChanged")
        widget.nodeTypes = (kind().GetClassName(),)

    def read(self) -> Any:
        return self.widget.currentNode()

    def write(self, value: Any) -> None:
        self.widget.setCurrentNode(value)


class PlainTextConnector(Connector):
    def read(self) -> str:
        return self.widget.toPlainText()

    def write(self, value: str) -> None:
        self.widget.setPlainText(value)


def _first(annotations: list, kind: type) -> Any:
    return next((item for item in annotations if isinstance(item, kind)), None)


def _limits(annotations: list) -> tuple[Any, Any]:
    within = _first(annotations, WithinRange)
    if within is not None:
        return within.minimum, within.maximum
    low, high = _first(annotations, Minimum), _first(annotations, Maximum)
    return low.minimum if low else None, high.maximum if high else None


def _checkable(widget: Any) -> Connector:
    if not widget.checkable:
        logging.warning("Making push button checkable for conversion to bool")
        widget.checkable = True
    return Connector(widget, "checked", "toggled")


def _whole(widget: Any, annotations: list) -> Connector:
    low, high = _limits(annotations)
    if isinstance(widget, qt.QSlider) and None in (low, high):
        raise RuntimeError("Cannot have a connection to QSlider where the int type is unbounded.")
    step = _first(annotations, SingleStep)
    if step is not None:
        widget.singleStep = step.value
    widget.setRange(-(2**31) if low is None else low, 2**31 - 1 if high is None else high)
    return Connector(widget, "value", "valueChanged")


def _number(widget: Any, kind: type, annotations: list) -> Connector:
    low, high = _limits(annotations)
    if type(widget) is ctk.ctkSliderWidget and None in (low, high):
        raise RuntimeError("Cannot have a connection to ctkSliderWidget where the float types is unbounded.")
    decimals, step = _first(annotations, Decimals), _first(annotations, SingleStep)
    if kind is int:
        widget.decimals = 0
    elif decimals is not None:
        widget.decimals = decimals.value
    if step is not None:
        widget.singleStep = step.value
    widget.minimum = float("-inf") if low is None else low
    widget.maximum = float("inf") if high is None else high
    connector = IntegerConnector if kind is int else Connector
    return connector(widget, "value", "valueChanged")


def connector(widget: Any, annotated: Any) -> Connector:
    """The connector of a widget and a (possibly annotated) type; a RuntimeError where Slicer has none."""
    kind, annotations = split_annotations(annotated)
    cls = type(widget)
    if kind is bool and cls is qt.QCheckBox:
        return Connector(widget, "checked", "stateChanged")
    if kind is bool and cls is qt.QPushButton:
        return _checkable(widget)
    if kind is int and cls in (qt.QSlider, qt.QSpinBox):
        return _whole(widget, annotations)
    if kind in (int, float) and cls in (qt.QDoubleSpinBox, ctk.ctkSliderWidget):
        return _number(widget, kind, annotations)
    if kind in (int, float, str, bool) and cls is qt.QComboBox:
        choice = _first(annotations, Choice)
        if choice is None:
            raise RuntimeError("A combo box requires the Choice annotation to be used.")
        return ItemConnector(widget, [(str(item), item) for item in choice.choices])
    if isinstance(kind, type) and issubclass(kind, enum.Enum) and cls is qt.QComboBox:
        return EnumConnector(widget, kind)
    if kind is str and cls is qt.QLineEdit:
        return LineConnector(widget, "text", "textChanged")
    if kind is str and cls is qt.QLabel:
        return Connector(widget, "text", "")
    if kind is str and cls is qt.QTextEdit:
        return PlainTextConnector(widget, "", "textChanged")
    if is_node_type(kind) and cls is slicer.qMRMLNodeComboBox:
        return NodeConnector(widget, kind)
    raise RuntimeError(f"Unable to create GUI connector from datatype '{annotated}' to widget type '{cls.__name__}'.")
