"""How controls are bound to the parameter node where Slicer's own binding does not reach."""

from dataclasses import dataclass

import qt
import vtk
from slicer.i18n import tr as _

PARAMETER = "SlicerParameterName"
_FLAGS_ROLE = 255  # Qt.UserRole - 1: the flags of a combo box's item; 0 greys it out


@dataclass(frozen=True)
class Entry:
    """One line of a combo box: the value it stands for, its text, and whether it can be chosen."""

    value: str
    text: str
    tip: str = ""
    enabled: bool = True


class Control:
    """A control that is bound by hand: ``read``, ``write``, and ``changed`` when the user acts."""

    def __init__(self):
        self._callback = None

    def onChanged(self, callback):
        """Call a function when the user changes the value; None calls nothing."""
        self._callback = callback

    def changed(self):
        """The user changed the value."""
        if self._callback is not None:
            self._callback()


class Choices(Control):
    """A combo box bound to a string by its items' data; its items can be filled in at any time.

    A value that none of the items has (a saved scene names a model or a device that is not here) is kept and shown
    as an item of its own, so that nothing is changed silently.

    Args:
        combo: a QComboBox.
        guest: makes the text of such an item from the value.
    """

    def __init__(self, combo, guest=None):
        super().__init__()
        self._combo = combo
        self._guest = guest or (lambda value: _("{value} (not known here)").format(value=value))
        self._entries = ()
        combo.connect("currentIndexChanged(int)", self._onIndexChanged)

    def fill(self, entries):
        """Show these entries; the value that is chosen stays."""
        entries = tuple(entries)
        value = self.read()
        if entries == self._entries and self._find(value) < len(entries):
            return
        self._entries = entries
        blocked = self._combo.blockSignals(True)
        self._combo.clear()
        for index, entry in enumerate(entries):
            self._combo.addItem(entry.text, entry.value)
            self._combo.setItemData(index, entry.tip or entry.text, qt.Qt.ToolTipRole)
            if not entry.enabled:
                self._combo.setItemData(index, 0, _FLAGS_ROLE)
        self.write(value)
        self._combo.blockSignals(blocked)

    def read(self):
        """The value of the item that is chosen."""
        if self._combo.currentIndex < 0:
            return ""
        return self._combo.itemData(self._combo.currentIndex) or ""

    def write(self, value):
        """Choose the item of this value."""
        index = self._find(value)
        while self._combo.count > len(self._entries) and index < len(self._entries):
            self._combo.removeItem(self._combo.count - 1)
        if index < 0:
            index = self._combo.count
            self._combo.addItem(self._guest(value), value)
        self._combo.currentIndex = index

    def _find(self, value):
        values = [self._combo.itemData(index) for index in range(self._combo.count)]
        return values.index(value) if value in values else -1

    def _onIndexChanged(self, index):
        self.changed()


class Either(Control):
    """Two radio buttons bound to a bool: True is the first."""

    def __init__(self, first, second):
        super().__init__()
        self._first, self._second = first, second
        first.connect("toggled(bool)", lambda checked: self.changed())

    def read(self):
        """Whether the first is chosen."""
        return self._first.checked

    def write(self, value):
        """Choose the first or the second."""
        (self._first if value else self._second).checked = True


class Buttons(Control):
    """A row of buttons, of which one is down, bound to a string by the buttons' property ``choice``."""

    def __init__(self, row):
        super().__init__()
        self._value = ""
        self.buttons = {button.property("choice"): button for button in row.findChildren(qt.QPushButton)}
        for value, button in self.buttons.items():
            button.connect("clicked()", lambda value=value: self.choose(value))

    def choose(self, value):
        """Push one of the buttons down, as by a click."""
        self.write(value)
        self.changed()

    def read(self):
        """The value of the button that is down."""
        return self._value

    def write(self, value):
        """Push the button of this value down; a value without a button leaves all up."""
        self._value = value
        for choice, button in self.buttons.items():
            button.checked = choice == value
            font = button.font
            font.setBold(choice == value)  # dark styles hardly show which one is down
            button.setFont(font)


class Binding:
    """Holds controls to a parameter node until it is closed.

    Args:
        parameters: a parameter node wrapper.
        ui: has the controls as attributes; those with the property ``SlicerParameterName`` are bound.
        controls: those that Slicer's own binding cannot do, by the name of their parameter.
    """

    def __init__(self, parameters, ui, controls):
        self._parameters, self._controls = parameters, dict(controls)
        self._writing = False
        widgets = {widget.property(PARAMETER): widget for widget in vars(ui).values()}
        own = {name: widget for name, widget in widgets.items() if name and name not in controls}
        self._tag = parameters.connectParametersToGui(own)
        self._observer = parameters.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda caller, event: self._write())
        self._write()
        for name, control in self._controls.items():
            control.onChanged(lambda name=name, control=control: self._read(name, control))

    def close(self):
        """Let go of controls and parameter node."""
        for control in self._controls.values():
            control.onChanged(None)
        self._parameters.RemoveObserver(self._observer)
        self._parameters.disconnectGui(self._tag)

    def _read(self, name, control):
        if not self._writing:
            self._parameters.setValue(name, control.read())

    def _write(self):
        if self._writing:
            return
        self._writing = True
        try:
            for name, control in self._controls.items():
                control.write(self._parameters.getValue(name))
        finally:
            self._writing = False
