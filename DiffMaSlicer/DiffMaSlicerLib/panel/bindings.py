"""How controls are bound to the parameter node where Slicer's own binding does not reach."""

from dataclasses import dataclass

import qt
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import GuiConnector

PARAMETER = "SlicerParameterName"
_FLAGS_ROLE = 255  # Qt.UserRole - 1: the flags of a combo box's item; 0 greys it out


@dataclass(frozen=True)
class Entry:
    """One line of a combo box: the value it stands for, its text, and whether it can be chosen."""

    value: str
    text: str
    tip: str = ""
    enabled: bool = True


class Choices(GuiConnector):
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

    @staticmethod
    def canRepresent(widget, datatype):
        """Never taken by itself; the panel names it."""
        return False

    @staticmethod
    def create(widget, datatype):
        """Never taken by itself; the panel names it."""
        return None

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

    def widget(self):
        """The combo box."""
        return self._combo

    def _find(self, value):
        values = [self._combo.itemData(index) for index in range(self._combo.count)]
        return values.index(value) if value in values else -1

    def _connect(self):
        self._combo.connect("currentIndexChanged(int)", self._onIndexChanged)

    def _disconnect(self):
        self._combo.disconnect("currentIndexChanged(int)", self._onIndexChanged)

    def _onIndexChanged(self, index):
        self.changed()


class Buttons(GuiConnector):
    """A row of buttons, of which one is down, bound to a string by the buttons' property ``choice``."""

    def __init__(self, row):
        super().__init__()
        self._row = row
        self._value = ""
        self.buttons = {button.property("choice"): button for button in row.findChildren(qt.QPushButton)}
        for value, button in self.buttons.items():
            button.connect("clicked()", lambda value=value: self.choose(value))

    @staticmethod
    def canRepresent(widget, datatype):
        """Never taken by itself; the panel names it."""
        return False

    @staticmethod
    def create(widget, datatype):
        """Never taken by itself; the panel names it."""
        return None

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

    def widget(self):
        """The widget that holds the buttons."""
        return self._row

    def _connect(self):
        pass  # the buttons are connected for good; ``changed`` asks whether anybody listens

    def _disconnect(self):
        pass


def bound(ui, connectors):
    """Which control holds which field of the parameter node: name to widget, or to one of ``connectors``."""
    widgets = {}
    for widget in vars(ui).values():
        name = widget.property(PARAMETER)
        if name:
            widgets[name] = connectors.get(name, widget)
    return widgets
