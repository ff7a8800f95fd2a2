"""What the child says about this machine and its models: devices, free memory, installed and other models."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from slicer.i18n import tr as _

from DiffMaSlicerLib.child.interpreter import Interpreter
from DiffMaSlicerLib.jobs.child_job import ChildJob


class CommandJob(ChildJob):
    """One command of DiffMaCore that needs nothing of the scene; its result is the command's."""

    def __init__(self, interpreter: Interpreter, title: str, arguments: list[str]) -> None:
        super().__init__(title, interpreter)
        self._arguments = arguments

    def work(self) -> Generator[object, None, Any]:
        return (yield from self.child(self._arguments))


class MachineJob(CommandJob):
    """Asks for devices, models, catalogue, schedulers and packages; the result is ``diffma info``'s dict."""

    def __init__(self, interpreter: Interpreter) -> None:
        super().__init__(interpreter, _("Ask what this machine can run"), ["info"])

    @property
    def devices(self) -> list[dict[str, Any]]:
        """One entry a device; [] before it is done."""
        return list((self.result or {}).get("devices") or [])


def free_bytes(facts: dict[str, Any] | None, device: str) -> int | None:
    """Free memory of a device as it was when the machine was asked; None where that is not known."""
    name = device_name(facts, device)
    for entry in (facts or {}).get("devices") or []:
        if device_key(str(entry.get("name"))) == device_key(name):
            return entry.get("free_bytes")
    return None


def device_name(facts: dict[str, Any] | None, device: str) -> str:
    """The device that "auto" takes on this machine; any other name as it is."""
    return str((facts or {}).get("default_device") or "cpu") if device == "auto" else device


def device_key(device: str) -> str:
    """One name for "cuda" and "cuda:0"."""
    return "cuda:0" if device == "cuda" else device
