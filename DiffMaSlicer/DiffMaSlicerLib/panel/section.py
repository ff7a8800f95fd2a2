"""What every section of the panel has in common."""

import qt
import slicer


class Section:
    """One part of the panel: it owns some of the ui's widgets and reads the rest through the panel.

    Args:
        panel: the module's widget; gives ``ui``, ``logic``, ``review``, ``parameters``, ``machine`` and ``messages``.
    """

    def __init__(self, panel):
        self.panel = panel
        self.ui = panel.ui
        self.logic = panel.logic
        self.messages = panel.messages

    @property
    def parameters(self):
        """The parameter node, or None while there is none (a scene that closes)."""
        return self.panel.parameters

    def update(self):
        """Called after every change of the parameter node; cheap."""

    def machineChanged(self):
        """Called when the child reported anew which devices and models there are."""

    def sceneClosed(self):
        """Called when the scene begins to close: let go of its nodes."""

    def cleanup(self):
        """Called once, when the panel goes."""


def setIcon(label, standard):
    """Show one of the style's own icons (they follow the theme) in a label, or none."""
    label.visible = standard is not None
    if standard is not None:
        side = label.fontMetrics().height() + 2
        label.setPixmap(slicer.app.style().standardIcon(standard).pixmap(side, side))


def setText(label, text):
    """Show text in a label; an empty label takes no room."""
    label.text = text
    label.visible = bool(text)


def addMenu(button, entries):
    """Give a button a menu; ``entries`` are pairs of a text and what it does. The one before goes."""
    before = button.menu()
    menu = qt.QMenu(button)
    for text, do in entries:
        action = qt.QAction(text, menu)
        action.connect("triggered()", do)
        menu.addAction(action)
    button.setMenu(menu)
    if before is not None:
        before.deleteLater()
