"""Checking and installing the packages of the interpreter that runs the model; never in the Slicer process."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from DiffMaSlicerLib.child import packages
from DiffMaSlicerLib.child.interpreter import Interpreter
from DiffMaSlicerLib.jobs.child_job import ChildJob
from DiffMaSlicerLib.jobs.job import JobError
from DiffMaSlicerLib.jobs.machine import CommandJob


class CheckPackages(CommandJob):
    """Asks which packages are there; the result is a dict with python, path, packages, ok, missing, size and chooser.

    Each entry of packages has name, required, installed (None if it is not) and ok; missing are names, size is a
    sentence, chooser says whether the package that chooses PyTorch's build is installed as well.
    """

    def __init__(self, interpreter: Interpreter, requirements: Path) -> None:
        super().__init__(interpreter, _("Check packages"), ["packages", "--requirements", str(requirements)])

    def work(self) -> Generator[object, None, Any]:
        facts: dict[str, Any] = yield from super().work()
        missing = [entry["name"] for entry in facts.get("packages", []) if not entry.get("ok")]
        chooser = packages.CHOOSES and not set(missing).isdisjoint(packages.TORCH)
        size = packages.size_sentence(missing)
        return {**facts, "missing": missing, "size": size, "path": self.interpreter.path, "chooser": chooser}


class InstallPackages(ChildJob):
    """Installs what is missing with pip, into the chosen interpreter; every line of pip's stands in the log.

    The result is that of ``CheckPackages`` afterwards. Cancelled, pip leaves what it had finished.
    """

    def __init__(self, interpreter: Interpreter, requirements: Path) -> None:
        super().__init__(_("Install packages"), interpreter)
        self._requirements = requirements

    def work(self) -> Generator[object, None, Any]:
        self.stage = _("checking packages")
        before = yield from CheckPackages(self.interpreter, self._requirements).steps()
        if set(before["missing"]) & set(packages.TORCH):
            self.stage = _("choosing and installing PyTorch")
            for command in packages.torch_commands(self.interpreter.path, self._requirements):
                yield from self.run_process(command, speaks=False)
                if self._exit_code() != 0:
                    self.warn(_("No PyTorch build could be chosen for this GPU: pip takes its default build."))
                    break
        self.stage = _("installing packages")
        yield from self.run_process(packages.install_command(self.interpreter.path, self._requirements), speaks=False)
        if self._exit_code() != 0:
            last = next((line for line in reversed(self.log) if "error" in line.lower()), _("see the log"))
            remedy = _("Check the network and proxy (pip reads HTTPS_PROXY), then try again.")
            cause = _("pip could not install the packages ({reason})").format(reason=last.strip())
            raise JobError(cause, "Packages", remedy)
        self.stage = _("checking packages")
        after = yield from CheckPackages(self.interpreter, self._requirements).steps()
        if not after.get("ok"):
            cause = _("these packages are still missing: {names}").format(names=", ".join(after["missing"]))
            raise JobError(cause, "MissingPackage", _("Read the log for pip's reason."))
        return after
