"""CTK's widgets as far as a module may use them: the properties, slots and signals of the real ones."""

from enum import IntFlag
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


class ctkCollapsibleGroupBox(QtWidgets.QGroupBox):
    collapsedHeight = stored(int, "collapsedHeight", 14)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._hidden: list[QtWidgets.QWidget] = []
        self.setCheckable(True)
        self.setChecked(True)
        self.toggled.connect(self._expand)

    collapsed = Property(bool, lambda self: not self.isChecked(), lambda self, value: self.setChecked(not value))

    def _expand(self, shown: bool) -> None:
        children = [child for child in self.children() if isinstance(child, QtWidgets.QWidget)]
        if not shown:
            self._hidden = [child for child in children if not child.isHidden()]
        for child in self._hidden:
            child.setVisible(shown)


class ctkDoubleSpinBox(QtWidgets.QWidget):
    valueChanged = Signal((float,), (str,))
    decimalsChanged = Signal(int)
    editingFinished = Signal()

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._box = QtWidgets.QDoubleSpinBox(self)
        self.setLayout(QtWidgets.QHBoxLayout())
        self.layout().setContentsMargins(0, 0, 0, 0)
        self.layout().addWidget(self._box)
        self._box.valueChanged.connect(self.valueChanged[float])
        self._box.editingFinished.connect(self.editingFinished)

    @invokable
    def setValue(self, value: float) -> None:
        self._box.setValue(value)

    @invokable
    def setDecimals(self, value: int) -> None:
        self._box.setDecimals(value)

    value = forwarded(float, "_box", "value")
    minimum = forwarded(float, "_box", "minimum")
    maximum = forwarded(float, "_box", "maximum")
    singleStep = forwarded(float, "_box", "singleStep")
    decimals = forwarded(int, "_box", "decimals")
    prefix = forwarded(str, "_box", "prefix")
    suffix = forwarded(str, "_box", "suffix")
    readOnly = forwarded(bool, "_box", "readOnly")


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


class ctkRangeWidget(QtWidgets.QWidget):
    minimumValueChanged = Signal(float)
    maximumValueChanged = Signal(float)
    valuesChanged = Signal(float, float)
    rangeChanged = Signal(float, float)
    tracking = stored(bool, "tracking", True)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._low, self._high = QtWidgets.QDoubleSpinBox(self), QtWidgets.QDoubleSpinBox(self)
        self.setLayout(QtWidgets.QHBoxLayout())
        self.layout().setContentsMargins(0, 0, 0, 0)
        for box in (self._low, self._high):
            self.layout().addWidget(box)
            box.setRange(0.0, 99.0)
        self._high.setValue(99.0)
        self._low.valueChanged.connect(lambda value: self.setValues(value, max(value, self._high.value())))
        self._high.valueChanged.connect(lambda value: self.setValues(min(value, self._low.value()), value))
        self._sent = (0.0, 99.0)

    @invokable
    def setValues(self, low: float, high: float) -> None:
        for box, value in ((self._low, low), (self._high, high)):
            blocked = box.blockSignals(True)
            box.setValue(value)
            box.blockSignals(blocked)
        before, self._sent = self._sent, (self._low.value(), self._high.value())
        for index, signal in enumerate((self.minimumValueChanged, self.maximumValueChanged)):
            if before[index] != self._sent[index]:
                signal.emit(self._sent[index])
        if before != self._sent:
            self.valuesChanged.emit(*self._sent)

    @invokable
    def setRange(self, low: float, high: float) -> None:
        for box in (self._low, self._high):
            blocked = box.blockSignals(True)
            box.setRange(low, high)
            box.blockSignals(blocked)
        self.setValues(self._low.value(), self._high.value())
        self.rangeChanged.emit(low, high)

    @invokable
    def setMinimumValue(self, value: float) -> None:
        self._low.setValue(value)

    @invokable
    def setMaximumValue(self, value: float) -> None:
        self._high.setValue(value)

    @invokable
    def setDecimals(self, value: int) -> None:
        self._low.setDecimals(value)
        self._high.setDecimals(value)

    minimum = Property(
        float, lambda self: self._low.minimum(), lambda self, value: self.setRange(value, self._low.maximum())
    )
    maximum = Property(
        float, lambda self: self._low.maximum(), lambda self, value: self.setRange(self._low.minimum(), value)
    )
    minimumValue = Property(float, lambda self: self._low.value(), setMinimumValue)
    maximumValue = Property(float, lambda self: self._high.value(), setMaximumValue)
    decimals = Property(int, lambda self: self._low.decimals(), setDecimals)
    singleStep = Property(
        float,
        lambda self: self._low.singleStep(),
        lambda self, value: (self._low.setSingleStep(value), self._high.setSingleStep(value)),
    )


class ctkComboBox(QtWidgets.QComboBox):
    defaultText = stored(str, "defaultText", "")
    forceDefault = stored(bool, "forceDefault", False)

    def _set_user_data(self, text: str) -> None:
        self.setCurrentIndex(self.findData(text))

    currentUserDataAsString = Property(str, lambda self: str(self.currentData() or ""), _set_user_data)


class ctkCheckBox(QtWidgets.QCheckBox):
    pass


class ctkPathLineEdit(QtWidgets.QWidget):
    class Filter(IntFlag):
        Dirs = 0x001
        Files = 0x002
        Drives = 0x004
        NoSymLinks = 0x008
        AllEntries = 0x007
        Readable = 0x010
        Writable = 0x020
        Executable = 0x040
        Hidden = 0x100
        System = 0x200
        AllDirs = 0x400
        CaseSensitive = 0x800
        NoDot = 0x2000
        NoDotDot = 0x4000
        NoDotAndDotDot = 0x6000

    currentPathChanged = Signal(str)
    validInputChanged = Signal(bool)
    label = stored(str, "label", "")
    settingKey = stored(str, "settingKey", "")
    nameFilters = stored("QStringList", "nameFilters", [])
    showHistoryButton = stored(bool, "showHistoryButton", True)
    filters = stored(int, "filters", int(Filter.AllEntries | Filter.NoDotAndDotDot))

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._path = ""
        self._combo = QtWidgets.QComboBox(self)
        self._combo.setEditable(True)
        self._browse = QtWidgets.QToolButton(self)
        self._browse.setText("...")
        self.setLayout(QtWidgets.QHBoxLayout())
        self.layout().setContentsMargins(0, 0, 0, 0)
        self.layout().addWidget(self._combo, 1)
        self.layout().addWidget(self._browse)
        self._combo.editTextChanged.connect(self._text_changed)
        self._browse.clicked.connect(self.browse)

    def _text_changed(self, text: str) -> None:
        if text != self._path:
            self._path = text
            self.currentPathChanged.emit(text)

    @invokable
    def setCurrentPath(self, path: str) -> None:
        self._combo.setEditText(path)

    @invokable
    def comboBox(self) -> QtWidgets.QComboBox:
        return self._combo

    @invokable
    def addCurrentPathToHistory(self) -> None:
        if self._path and self._combo.findText(self._path) < 0:
            self._combo.insertItem(0, self._path)

    @invokable
    def browse(self) -> None:
        from .dialogs import dialogs

        path = dialogs.take("folder" if self.property("filters") & self.Filter.Dirs else "file", "Select a path", "")
        if path:
            self.setCurrentPath(str(path))

    currentPath = Property(str, lambda self: self._path, setCurrentPath)
    showBrowseButton = Property(
        bool, lambda self: not self._browse.isHidden(), lambda self, shown: self._browse.setVisible(shown)
    )


class ctkDirectoryButton(QtWidgets.QWidget):
    directoryChanged = Signal(str)
    directorySelected = Signal(str)
    caption = stored(str, "caption", "")

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._directory = ""
        self._button = QtWidgets.QPushButton(self)
        self.setLayout(QtWidgets.QHBoxLayout())
        self.layout().setContentsMargins(0, 0, 0, 0)
        self.layout().addWidget(self._button)
        self._button.clicked.connect(self.browse)

    def _set_directory(self, path: str) -> None:
        self._button.setText(path)
        if path != self._directory:
            self._directory = path
            self.directoryChanged.emit(path)

    @invokable
    def browse(self) -> str:
        from .dialogs import dialogs

        path = str(dialogs.take("folder", self.property("caption"), "") or "")
        if path:
            self._set_directory(path)
            self.directorySelected.emit(path)
        return path

    directory = Property(str, lambda self: self._directory, _set_directory)


class ctkMessageBox(QtWidgets.QMessageBox):
    dontShowAgain = stored(bool, "dontShowAgain", False)
    dontShowAgainVisible = stored(bool, "dontShowAgainVisible", False)
    dontShowAgainSettingsKey = stored(str, "dontShowAgainSettingsKey", "")


class ctkFittedTextBrowser(QtWidgets.QTextBrowser):
    collapsed = stored(bool, "collapsed", True)
    showDetailsText = stored(str, "showDetailsText", "Show details...")
    hideDetailsText = stored(str, "hideDetailsText", "Hide details.")

    @invokable
    def setCollapsibleText(self, text: str) -> None:
        self.setText(text)

    @invokable
    def setCollapsibleHtml(self, text: str) -> None:
        self.setHtml(text)


WIDGETS = {
    cls.__name__: cls
    for cls in (
        ctkCheckBox,
        ctkCollapsibleButton,
        ctkCollapsibleGroupBox,
        ctkComboBox,
        ctkDirectoryButton,
        ctkDoubleSpinBox,
        ctkFittedTextBrowser,
        ctkMessageBox,
        ctkPathLineEdit,
        ctkRangeWidget,
        ctkSliderWidget,
    )
}
