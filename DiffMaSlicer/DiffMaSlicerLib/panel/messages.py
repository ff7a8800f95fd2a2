"""The panel's message: what went wrong or well, with its remedy and at most one button that does it."""

import logging
from contextlib import contextmanager

import qt

from DiffMaSlicerLib.panel.section import setIcon
from DiffMaSlicerLib.panel.texts import failure


class Messages:
    """Shows one message at a time under Apply; it never interrupts."""

    def __init__(self, ui):
        self.ui = ui
        self._action = None
        ui.messageCloseButton.connect("clicked()", self.clear)
        ui.messageActionButton.connect("clicked()", self._act)

    def info(self, text, action=None):
        """Say that something is done."""
        self._show(qt.QStyle.SP_MessageBoxInformation, text, action)

    def warning(self, text, action=None):
        """Say that something may be wrong."""
        self._show(qt.QStyle.SP_MessageBoxWarning, text, action)

    def error(self, text, action=None):
        """Say that something failed.

        Args:
            text: cause and remedy.
            action: (what the button says, what it does), or None.
        """
        self._show(qt.QStyle.SP_MessageBoxCritical, text, action)

    def failed(self, job, action=None):
        """Say why a job failed."""
        self.error(failure(job.error), action)

    def clear(self):
        """Show nothing."""
        self._action = None
        self.ui.messageFrame.visible = False
        self.ui.messageText.text = ""

    @contextmanager
    def reported(self):
        """Show what is raised inside instead of letting it go to the console only."""
        try:
            yield
        except Exception as error:
            if not isinstance(error, (RuntimeError, ValueError, OSError)):
                logging.exception("DiffMa: unexpected error in the panel")
            self.error(str(error) or type(error).__name__)

    def _show(self, icon, text, action):
        self._action = action[1] if action else None
        self.ui.messageText.text = text
        setIcon(self.ui.messageIcon, icon)
        self.ui.messageActionButton.visible = action is not None
        if action:
            self.ui.messageActionButton.text = action[0]
        self.ui.messageFrame.visible = True

    def _act(self):
        action = self._action
        self.clear()
        if action:
            action()
