"""Dialogs that would wait for a person: the test says beforehand what the person answers."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from PySide6 import QtGui, QtWidgets

from .pythonqt import Wrapper, class_wrapper, method_overrides
from .values import EnumValue

Reply = Any


class UnansweredDialog(AssertionError):
    """A dialog came up for which the test had no answer."""


@dataclass
class Shown:
    """One dialog that came up: what kind, its title, its text and the answer it got."""

    kind: str
    title: str
    text: str
    reply: Reply


class Dialogs:
    """The answers to come and the dialogs that were shown."""

    def __init__(self) -> None:
        self.shown: list[Shown] = []
        self.opened_urls: list[str] = []
        self.unanswered: list[str] = []
        self._replies: deque[tuple[str, Reply]] = deque()

    def answer(self, kind: str, reply: Reply) -> None:
        """Queues the answer to the next dialog.

        ``kind`` is ``"message"`` (the reply is a button's name, ``"Yes"``, or the text of an added button), ``"file"``,
        ``"files"``, ``"folder"`` or ``"save"`` (a path, a list of paths, or ``""`` for Cancel), ``"input"`` (what a
        QInputDialog gives, None for Cancel), or ``"dialog"`` (any other: the reply is called with the shown dialog).
        A reply may also be a function: it is called with the dialog, or with its title and text where Qt shows it.
        """
        self._replies.append((kind, reply))

    @property
    def waiting(self) -> list[str]:
        """The kinds of the answers that no dialog has asked for yet."""
        return [kind for kind, _ in self._replies]

    def take(self, kind: str, title: str, text: str) -> Reply:
        """The queued answer to a dialog of this kind; there must be one."""
        if not self._replies or self._replies[0][0] != kind:
            self.unanswered.append(f"{kind}: {title}: {text}")
            expected = f" (the next answer is for a {self._replies[0][0]} dialog)" if self._replies else ""
            raise UnansweredDialog(
                f"No answer to the {kind} dialog {title!r}, {text!r}{expected}: use dialogs.answer()."
            )
        reply = self._replies.popleft()[1]
        self.shown.append(Shown(kind, title, text, reply))
        return reply

    def clear(self) -> None:
        self.__init__()  # type: ignore[misc]


dialogs = Dialogs()


def _run(dialog: Wrapper) -> int:
    """Shows a modal dialog, lets the answer act on it, and gives its result code."""
    qt_dialog = dialog.qt_object()
    if isinstance(qt_dialog, QtWidgets.QMessageBox):
        return _run_message(dialog, qt_dialog)
    kind = "file" if isinstance(qt_dialog, QtWidgets.QFileDialog) else "dialog"
    reply = dialogs.take(kind, qt_dialog.windowTitle(), "")
    qt_dialog.show()
    QtWidgets.QApplication.processEvents()
    if callable(reply):
        reply(dialog)
    elif kind == "file" and reply:
        for path in [reply] if isinstance(reply, str) else reply:
            qt_dialog.selectFile(str(path))
        qt_dialog.setResult(QtWidgets.QDialog.DialogCode.Accepted.value)
    result = qt_dialog.result()
    qt_dialog.hide()
    return result


def _run_message(dialog: Wrapper, box: QtWidgets.QMessageBox) -> int:
    reply = dialogs.take("message", box.windowTitle().strip(), box.text())
    if callable(reply):
        reply = reply(dialog)
    if box.standardButtons() == QtWidgets.QMessageBox.StandardButton.NoButton and not box.buttons():
        box.setStandardButtons(QtWidgets.QMessageBox.StandardButton.Ok)
    wanted = QtWidgets.QMessageBox.StandardButton.__members__.get(reply)
    button = box.button(wanted) if wanted is not None else None
    for other in box.buttons():
        if button is None and other.text().replace("&", "") == reply:
            button = other
    if button is None:
        names = [other.text().replace("&", "") for other in box.buttons()]
        raise UnansweredDialog(f"The message box has the buttons {names}, not {reply!r}.")
    box.show()
    button.click()
    standard = box.standardButton(button)
    return int(standard.value) if wanted is not None else box.result()


def _message(buttons: str) -> Callable:
    def show(parent: Wrapper | None, title: str, text: str, *rest: int) -> int:
        box = class_wrapper(QtWidgets.QMessageBox)()
        box.windowTitle, box.text = title, text
        standard = getattr(QtWidgets.QMessageBox.StandardButton, buttons)
        box.setStandardButtons(rest[0] if rest else EnumValue(standard))
        return _run(box)

    return show


def _path(kind: str) -> Callable:
    def show(parent: Wrapper | None = None, caption: str = "", directory: str = "", *rest: Any) -> Any:
        reply = dialogs.take(kind, caption, str(rest[0]) if rest else "")
        if callable(reply):
            reply = reply(caption, directory)
        return tuple(map(str, reply)) if kind == "files" else str(reply or "")

    return show


def _input(cancelled: Any) -> Callable:
    def show(parent: Wrapper | None, title: str, label: str, *rest: Any) -> Any:
        reply = dialogs.take("input", title, label)
        return cancelled if reply is None else reply

    return show


def _open_url(url: Wrapper) -> bool:
    dialogs.opened_urls.append(url.toString())
    return True


def _refuse_menu(*arguments: Any) -> None:
    raise UnansweredDialog("A pop-up menu would wait for a person: trigger its action in the test instead.")


method_overrides.update(
    {
        ("QDialog", "exec"): _run,
        ("QMessageBox", "question"): _message("Yes"),
        ("QMessageBox", "information"): _message("Ok"),
        ("QMessageBox", "warning"): _message("Ok"),
        ("QMessageBox", "critical"): _message("Ok"),
        ("QFileDialog", "getOpenFileName"): _path("file"),
        ("QFileDialog", "getOpenFileNames"): _path("files"),
        ("QFileDialog", "getExistingDirectory"): _path("folder"),
        ("QFileDialog", "getSaveFileName"): _path("save"),
        ("QInputDialog", "getText"): _input(""),
        ("QInputDialog", "getInt"): _input(0),
        ("QInputDialog", "getItem"): _input(""),
        (QtGui.QDesktopServices.__name__, "openUrl"): _open_url,
        ("QMenu", "exec"): _refuse_menu,
    }
)
