"""Keyboard shortcuts that live only while the module is shown."""

import qt
import slicer

APPLY = "Ctrl+Return"


class Shortcuts:
    """Keys of the panel. They belong to the main window, since the views have the focus as often as the panel."""

    def __init__(self):
        self._shortcuts = []

    def text(self, name):
        """The key of an action, as the system writes it."""
        return qt.QKeySequence({"apply": APPLY}[name]).toString(qt.QKeySequence.NativeText)

    def on(self, actions):
        """Listen to keys.

        Args:
            actions: pairs of a key, such as "Alt+1", and a function.
        """
        self.off()
        window = slicer.util.mainWindow()
        if window is None:
            return
        for key, action in actions:
            shortcut = qt.QShortcut(window)
            shortcut.setKey(qt.QKeySequence(key))
            shortcut.connect("activated()", action)
            self._shortcuts.append(shortcut)

    def off(self):
        """Listen to none."""
        for shortcut in self._shortcuts:
            shortcut.setEnabled(False)
            shortcut.setParent(None)
            shortcut.deleteLater()
        self._shortcuts = []
