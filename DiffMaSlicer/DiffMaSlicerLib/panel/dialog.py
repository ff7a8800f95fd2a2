"""A window of its own, made from a .ui file."""

from typing import Any

import qt
import slicer


class Dialog:
    """A dialog over Slicer's main window that shows a .ui file; made when it is first opened.

    Args:
        panel: the module's widget.
        name: the file in Resources/UI.
        modal: whether the rest of Slicer waits.
    """

    def __init__(self, panel, name, modal=False):
        self.panel = panel
        self.ui: Any = None
        self._name, self._modal = name, modal
        self._window: Any = None

    def prepare(self):
        """Connect the controls; called once."""

    def open(self):
        """Show the window, in front."""
        if self._window is None:
            content = slicer.util.loadUI(self.panel.resourcePath(f"UI/{self._name}"))
            self._window = qt.QDialog(slicer.util.mainWindow())
            self._window.setObjectName(content.objectName + "Dialog")
            self._window.windowTitle = content.windowTitle
            self._window.setModal(self._modal)
            layout = qt.QVBoxLayout(self._window)
            layout.addWidget(content)
            self.ui = slicer.util.childWidgetVariables(content)
            self.prepare()
        self._window.show()
        self._window.raise_()

    @property
    def shown(self):
        """Whether it is on the screen."""
        return self._window is not None and self._window.isVisible()

    def hide(self):
        """Put it away until it is opened again."""
        if self._window is not None:
            self._window.hide()

    def close(self):
        """Put it away for good."""
        if self._window is not None:
            self._window.hide()
            self._window.deleteLater()
            self._window = self.ui = None
