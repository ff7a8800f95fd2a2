"""What this machine remembers for all scenes: the interpreter, the models' folder, and consent.

None of it is part of a scene, since a scene from somewhere else must not choose what is executed.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import slicer

from DiffMaSlicerLib.child.interpreter import Interpreter, core_folder, default_interpreter, environment

_GROUP = "DiffMaSlicer/"
_LIBRARY = Path(__file__).resolve().parent


class Settings:
    """Kept in Slicer's settings where there is Qt, otherwise for as long as this object lives.

    Args:
        store: with ``value(key, default)`` and ``setValue(key, value)``; None takes Slicer's settings.
    """

    def __init__(self, store: Any = None) -> None:
        self._store = store if store is not None else _slicer_settings()

    @property
    def interpreter(self) -> str:
        """Path of the Python that runs the model; "" means Slicer's own."""
        return str(self._store.value(_GROUP + "interpreter", "") or "")

    @interpreter.setter
    def interpreter(self, path: str) -> None:
        self._store.setValue(_GROUP + "interpreter", str(path or ""))

    @property
    def models_folder(self) -> str:
        """Folder of the models if the user moved it; "" is where DiffMaCore keeps them."""
        return str(self._store.value(_GROUP + "modelsFolder", "") or "")

    @models_folder.setter
    def models_folder(self, path: str) -> None:
        self._store.setValue(_GROUP + "modelsFolder", str(path or ""))

    @property
    def consent(self) -> bool:
        """Whether the user agreed to the installation of packages."""
        return str(self._store.value(_GROUP + "consent", "")) == "yes"

    @consent.setter
    def consent(self, given: bool) -> None:
        self._store.setValue(_GROUP + "consent", "yes" if given else "")

    @property
    def interpreter_path(self) -> str:
        """Path of the Python that is in fact used."""
        return self.interpreter or default_interpreter()

    def make_interpreter(self) -> Interpreter:
        """The interpreter with its environment, ready to be started.

        Raises:
            FileNotFoundError: the extension is incomplete.
        """
        own = not self.interpreter or Path(self.interpreter) == Path(default_interpreter())
        clean = dict(os.environ) if own else _startup_environment()
        variables = environment(own, core_folder(_LIBRARY), os.environ, clean, self.models_folder)
        return Interpreter(self.interpreter_path, variables, _temporary_folder())

    @staticmethod
    def data_folder() -> Path:
        """Where this machine's measured times are kept: beside Slicer's settings."""
        settings = getattr(getattr(slicer, "app", None), "slicerUserSettingsFilePath", None)
        if settings:
            return Path(str(settings)).parent
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "DiffMaSlicer"


class _Memory(dict):
    """A store without Qt."""

    def value(self, key: str, default: Any = None) -> Any:
        return self.get(key, default)

    def setValue(self, key: str, value: Any) -> None:
        self[key] = value


def _slicer_settings() -> Any:
    try:
        import qt
    except ImportError:
        return _Memory()
    return qt.QSettings()


def _startup_environment() -> dict[str, str]:
    """This process's environment as it was before Slicer's launcher."""
    if getattr(slicer, "app", None) is None:
        return dict(os.environ)
    return dict(slicer.util.startupEnvironment())


def _temporary_folder() -> str | None:
    application = getattr(slicer, "app", None)
    return str(application.temporaryPath) if application is not None else None
