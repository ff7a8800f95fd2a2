"""Those of CTK's widgets that the module uses: the properties, slots and signals of the real ones."""

from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Property, Signal

from .pythonqt import invokable

HEADER = 22  # pixels of a collapsible button's own head


def stored(kind: Any, name: str, default: Any) -> Property:
    """A Qt property that only keeps its value."""
    attribute = f"_stored_{name}"
    return Property(
        kind, lambda self: getattr(self, attribute, default), lambda self, value: setattr(self, attribute, value)
    )


def forwarded(kind: Any, part: str, name: str, write: bool = True) -> Property:
    """A Qt property that is one of an inner widget's (``part`` names the attribute that holds it)."""

    def read(self: Any) -> Any:
        return getattr(self, part).property(name)

    def set_value(self: Any, value: Any) -> None:
        getattr(self, part).setProperty(name, value)

    return Property(kind, read, set_value) if write else Property(kind, read)


class ctkCollapsibleButton(QtWidgets.QAbstractButton):
    """Hides its child widgets while it is collapsed; a child that somebody hid stays hidden when it is opened."""

    contentsCollapsed = Signal(bool)
    collapsedHeight = stored(int, "collapsedHeight", 14)
    contentsFrameShape = stored(int, "contentsFrameShape", 0)
    contentsLineWidth = stored(int, "contentsLineWidth", 1)
    flat = stored(bool, "flat", False)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._forcing = False
        self.setCheckable(True)
        self.setChecked(True)
        self.setContentsMargins(0, HEADER, 0, 0)
        self.setSizePolicy(QtWidgets.QSizePolicy.Policy.Minimum, QtWidgets.QSizePolicy.Policy.Preferred)
        self.toggled.connect(self._collapse_unless)

    collapsed = Property(
        bool,
        lambda self: not self.isChecked(),
        lambda self, value: self.setChecked(not value),
        notify=contentsCollapsed,
    )

    def _children(self) -> list[QtWidgets.QWidget]:
        return [child for child in self.children() if isinstance(child, QtWidgets.QWidget)]

    def _collapse_unless(self, shown: bool) -> None:
        self.setMaximumHeight(16777215 if shown else self.sizeHint().height())
        for child in self._children():
            self._show_or_hide(child)
        self.updateGeometry()
        self.contentsCollapsed.emit(not shown)

    def _show_or_hide(self, child: QtWidgets.QWidget) -> None:
        if not self.testAttribute(QtCore.Qt.WidgetAttribute.WA_WState_Created):
            return
        wanted = child.property("visibilityToParent") is not False
        self._forcing = True
        child.setVisible(wanted and self.isChecked())
        if wanted:  # so that Qt does not take it for somebody's own wish
            child.setAttribute(QtCore.Qt.WidgetAttribute.WA_WState_ExplicitShowHide, False)
        self._forcing = False

    def _adopt(self, child: QtWidgets.QWidget) -> None:
        if child.testAttribute(QtCore.Qt.WidgetAttribute.WA_WState_ExplicitShowHide) and child.isHidden():
            child.setProperty("visibilityToParent", False)
        child.installEventFilter(self)
        self._show_or_hide(child)

    def childEvent(self, event: QtCore.QChildEvent) -> None:
        if event.type() == QtCore.QEvent.Type.ChildPolished and event.child().isWidgetType():
            self._adopt(event.child())
        super().childEvent(event)

    def eventFilter(self, child: QtCore.QObject, event: QtCore.QEvent) -> bool:
        if not self._forcing and event.type() == QtCore.QEvent.Type.ShowToParent:
            child.setProperty("visibilityToParent", True)
            self._show_or_hide(child)
        elif not self._forcing and event.type() == QtCore.QEvent.Type.HideToParent:
            child.setProperty("visibilityToParent", False)
        return False

    def setVisible(self, visible: bool) -> None:
        self._forcing = True
        super().setVisible(visible)
        self._forcing = False
        for child in self._children():
            self._show_or_hide(child)

    def hitButton(self, position: QtCore.QPoint) -> bool:
        return position.y() < HEADER

    def _with_head(self, inner: QtCore.QSize) -> QtCore.QSize:
        head = QtCore.QSize(120, HEADER + self.property("collapsedHeight"))
        return inner.expandedTo(head) if self.isChecked() else head

    def sizeHint(self) -> QtCore.QSize:
        return self._with_head(self.layout().totalSizeHint() if self.layout() else QtCore.QSize())

    def minimumSizeHint(self) -> QtCore.QSize:
        return self._with_head(self.layout().totalMinimumSize() if self.layout() else QtCore.QSize())

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:
        option = QtWidgets.QStyleOptionButton()
        option.initFrom(self)
        option.rect = QtCore.QRect(0, 0, self.width(), HEADER)
        option.text = ("▾ " if self.isChecked() else "▸ ") + self.text()
        painter = QtGui.QPainter(self)
        self.style().drawControl(QtWidgets.QStyle.ControlElement.CE_PushButton, option, painter, self)
        painter.end()


class ctkSliderWidget(QtWidgets.QWidget):
    """Slider and spin box; while the slider is held with ``tracking`` off only ``valueIsChanging`` is sent."""

    valueChanged = Signal(float)
    valueIsChanging = Signal(float)
    decimalsChanged = Signal(int)
    tracking = stored(bool, "tracking", True)
    pageStep = stored(float, "pageStep", 10.0)
    tickInterval = stored(float, "tickInterval", 0.0)
    popupSlider = stored(bool, "popupSlider", False)
    invertedAppearance = stored(bool, "invertedAppearance", False)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._slider = QtWidgets.QSlider(QtCore.Qt.Orientation.Horizontal, self)
        self._box = QtWidgets.QDoubleSpinBox(self)
        self.setLayout(QtWidgets.QHBoxLayout())
        self.layout().setContentsMargins(0, 0, 0, 0)
        self.layout().addWidget(self._slider)
        self.layout().addWidget(self._box)
        self._box.setMaximum(100.0)
        self._rescale()
        self._box.valueChanged.connect(self._box_changed)
        self._slider.valueChanged.connect(self._slider_changed)
        self._slider.sliderReleased.connect(lambda: self._slider_changed(self._slider.value()))

    def _rescale(self) -> None:
        """The slider counts single steps."""
        step = self._box.singleStep() or 1.0
        blocked = self._slider.blockSignals(True)
        self._slider.setRange(round(self._box.minimum() / step), round(self._box.maximum() / step))
        self._slider.setValue(round(self._box.value() / step))
        self._slider.blockSignals(blocked)

    def _box_changed(self, value: float) -> None:
        self._rescale()
        self.valueIsChanging.emit(value)
        self.valueChanged.emit(value)

    def _slider_changed(self, position: int) -> None:
        value = position * (self._box.singleStep() or 1.0)
        if self._slider.isSliderDown() and not self.property("tracking"):
            self.valueIsChanging.emit(value)
        else:
            self._box.setValue(value)

    def _limit(name: str) -> Property:  # type: ignore[misc]
        def write(self: Any, value: float) -> None:
            self._box.setProperty(name, value)
            self._rescale()

        return Property(float, lambda self: self._box.property(name), write)

    value = forwarded(float, "_box", "value")
    minimum = _limit("minimum")
    maximum = _limit("maximum")
    singleStep = _limit("singleStep")
    decimals = forwarded(int, "_box", "decimals")
    prefix = forwarded(str, "_box", "prefix")
    suffix = forwarded(str, "_box", "suffix")
    spinBoxVisible = Property(
        bool, lambda self: not self._box.isHidden(), lambda self, shown: self._box.setVisible(shown)
    )

    @invokable
    def setValue(self, value: float) -> None:
        self._box.setValue(value)

    @invokable
    def setDecimals(self, value: int) -> None:
        self._box.setDecimals(value)

    @invokable
    def reset(self) -> None:
        self._box.setValue(self._box.minimum())


class ctkMessageBox(QtWidgets.QMessageBox):
    dontShowAgain = stored(bool, "dontShowAgain", False)
    dontShowAgainVisible = stored(bool, "dontShowAgainVisible", False)
    dontShowAgainSettingsKey = stored(str, "dontShowAgainSettingsKey", "")


class ctkComboBox(QtWidgets.QComboBox):
    """A combo box that can end a text with dots where it is too narrow for it."""

    elideMode = stored(QtCore.Qt.TextElideMode, "elideMode", QtCore.Qt.TextElideMode.ElideNone)

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:
        style, option = QtWidgets.QStyle, QtWidgets.QStyleOptionComboBox()
        self.initStyleOption(option)
        field = style.SubControl.SC_ComboBoxEditField
        room = self.style().subControlRect(style.ComplexControl.CC_ComboBox, option, field, self).width()
        text = self.fontMetrics().elidedText(self.currentText(), self.elideMode, room - 2)
        option.currentText = text  # type: ignore[attr-defined]
        painter = QtWidgets.QStylePainter(self)
        painter.drawComplexControl(style.ComplexControl.CC_ComboBox, option)
        painter.drawControl(style.ControlElement.CE_ComboBoxLabel, option)


WIDGETS = {cls.__name__: cls for cls in (ctkCollapsibleButton, ctkComboBox, ctkMessageBox, ctkSliderWidget)}
