"""The module ``qt``: the classes that PythonQt wraps and that Qt 5.15 and Qt 6 both have."""

import types
from pathlib import Path
from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets

from . import dialogs  # noqa: F401 - answers instead of waiting
from .pythonqt import class_wrapper, method_overrides
from .signals import trampoline
from .ui_loader import QUiLoader

ALLOWED = frozenset((Path(__file__).parent / "qt_classes.txt").read_text().split())


class _Refused:
    """A name that real ``qt`` has and that a module must not use: it exists, and that is all."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, *arguments: Any) -> None:
        raise TypeError(f"The stand-in does not support qt.{self._name}.")


class QtModule(types.ModuleType):
    """``qt``: Qt's classes in one flat name space."""

    def __init__(self) -> None:
        super().__init__("qt")
        self.QUiLoader = class_wrapper(QUiLoader)
        self.Signal = _Refused("Signal")
        self.Slot = _Refused("Slot")
        self.Property = _Refused("Property")

    def __getattr__(self, name: str) -> Any:
        if name in ALLOWED:
            for library in (QtWidgets, QtGui, QtCore):
                if hasattr(library, name):
                    return class_wrapper(getattr(library, name))
        raise AttributeError(f"module 'qt' has no attribute '{name}' (in Qt 5.15 and Qt 6)")


def _single_shot(milliseconds: int, slot: Any) -> None:
    QtCore.QTimer.singleShot(milliseconds, trampoline(slot))


def _refuse_thread(*arguments: Any) -> None:
    raise TypeError("The stand-in refuses to start threads: PythonQt starves them.")


method_overrides[("QTimer", "singleShot")] = _single_shot
method_overrides[("QThread", "start")] = _refuse_thread
