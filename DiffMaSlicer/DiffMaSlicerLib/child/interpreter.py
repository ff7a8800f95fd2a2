"""Which Python runs the model, and with which environment."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from slicer.i18n import tr as _

_SETS_PYTHON = (
    "PYTHONHOME",
    "PYTHONPATH",
    "PYTHONSTARTUP",
    "PYTHONEXECUTABLE",
    "PYTHONPYCACHEPREFIX",
    "PYTHONNOUSERSITE",
    "VIRTUAL_ENV",
    "__PYVENV_LAUNCHER__",
)


@dataclass(frozen=True)
class Interpreter:
    """A Python that runs the model, as a child.

    Args:
        path: of the program.
        environment: all of its environment variables.
        temporary: folder in which private folders are made; None is the system's.
    """

    path: str
    environment: Mapping[str, str] = field(repr=False)
    temporary: str | None = None

    def command(self, arguments: Sequence[str]) -> list[str]:
        """The command line of ``python -m DiffMaCore`` that speaks to a program and ends with us."""
        return [self.path, "-m", "DiffMaCore", *map(str, arguments), "--progress", "json", "--parent-watchdog"]

    def private_folder(self) -> Path:
        """A new folder that only this user can read."""
        parent = self.temporary if self.temporary and Path(self.temporary).is_dir() else None
        return Path(tempfile.mkdtemp(prefix="DiffMa-", dir=parent))


def default_interpreter() -> str:
    """Slicer's own Python; in plain Python that one."""
    folder = Path(sys.executable or "").parent
    name = "PythonSlicer.exe" if os.name == "nt" else "PythonSlicer"
    for candidate in (folder / name, folder / "bin" / name, folder.parent / "bin" / name):
        if candidate.is_file():
            return str(candidate)
    return shutil.which("PythonSlicer") or sys.executable


def core_folder(library: Path) -> Path:
    """The folder that holds the package DiffMaCore: beside the module in an extension, above it in the sources.

    Raises:
        FileNotFoundError: it is in neither.
    """
    for folder in (library.parent, library.parent.parent):
        if (folder / "DiffMaCore" / "__init__.py").is_file():
            return folder
    problem = _("DiffMaCore is neither in {folder} nor above it; install the extension again")
    raise FileNotFoundError(problem.format(folder=library.parent))


def environment(
    own: bool, core: Path, current: Mapping[str, str], clean: Mapping[str, str], models_home: str = ""
) -> dict[str, str]:
    """Environment variables of the child.

    Args:
        own: whether the interpreter is Slicer's own, which needs what Slicer's launcher has set.
        core: folder that holds DiffMaCore; comes first on the child's path.
        current: this process's variables.
        clean: the same without those of Slicer's launcher: other interpreters must not load Slicer's libraries.
        models_home: where the models are if the user moved them.
    """
    variables = dict(current if own else clean)
    if not own:
        for name in _SETS_PYTHON:
            variables.pop(name, None)
    path = [str(core), *filter(None, variables.get("PYTHONPATH", "").split(os.pathsep))]
    variables["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(path))
    variables["PYTHONUNBUFFERED"] = "1"
    variables["PYTHONIOENCODING"] = "utf-8"
    if models_home:
        variables["DIFFMA_HOME"] = models_home
    return variables
