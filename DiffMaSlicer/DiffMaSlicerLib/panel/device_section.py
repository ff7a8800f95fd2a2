"""The section Device: where the model runs, and by which Python."""

from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from DiffMaSlicerLib.panel import texts
from DiffMaSlicerLib.panel.bindings import Choices, Entry
from DiffMaSlicerLib.panel.packages import Packages
from DiffMaSlicerLib.panel.section import Section, setIcon, setText

AUTO = "auto"


class DeviceSection(Section):
    """Lists the devices that the child found; the child is asked when the panel is first shown, and by Refresh."""

    def __init__(self, panel):
        super().__init__(panel)
        self._devices = Choices(self.ui.deviceBox, self._guest)
        self._job: Any = None
        self._problem = ""
        self.packages = Packages(panel)
        self.ui.refreshButton.connect("clicked()", self.refresh)
        self.ui.interpreterButton.connect("clicked()", self.onChooseInterpreter)
        self.ui.interpreterResetButton.connect("clicked()", lambda: self._setInterpreter(""))
        self._showInterpreter()
        self._fill()

    def controls(self):
        """Binding of the list of devices."""
        return {"device": self._devices}

    def refresh(self):
        """Ask the child what there is."""
        self._stop()  # its answer would be of another interpreter or another set of models
        with self.messages.reported():
            self._job = self.logic.machine()
            self._job.add_listener(self._onMachine)
            self._show()

    def update(self):
        """Say what the chosen device is."""
        self._show()

    def actual(self):
        """The device that will be used: what "auto" stands for is known once the child has reported."""
        chosen = self.parameters.device
        machine = self.panel.machine
        return machine.get("default_device", chosen) if chosen == AUTO and machine else chosen

    def freeMemory(self):
        """Free bytes of the chosen device, or None where nobody knows."""
        entry = self._entry(self.actual())
        return entry.get("free_bytes") if entry else None

    def problem(self):
        """Why the chosen device cannot be used, or nothing."""
        chosen = self.parameters.device
        if self.panel.machine is None or chosen == AUTO:
            return ""
        entry = self._entry(chosen)
        if entry is None:
            return _("The device {name} is not on this machine. Choose another.").format(name=chosen)
        if not entry["available"]:
            return _("{title} cannot be used: {reason}.").format(**entry)
        return ""

    def cleanup(self):
        """Stop what is on."""
        self.packages.cleanup()
        self._stop()

    def _stop(self):
        if self._job is not None:
            job, self._job = self._job, None
            job.remove_listener(self._onMachine)
            job.cancel()

    def onChooseInterpreter(self):
        """Ask for another Python."""
        path = qt.QFileDialog.getOpenFileName(
            slicer.util.mainWindow(), _("Python that runs the model"), self.logic.settings.interpreter, ""
        )
        if path:
            self._setInterpreter(path)

    def _setInterpreter(self, path):
        self.logic.settings.interpreter = path
        self._showInterpreter()
        self.panel.refreshMachine()

    def _showInterpreter(self):
        path = self.logic.settings.interpreter
        self.ui.interpreterEdit.text = path or _("Slicer's own Python")
        self.ui.interpreterResetButton.enabled = bool(path)

    def _onMachine(self, job, what):
        if what != "done" or job is not self._job:
            return
        self._job = None
        self._problem = texts.failure(job.error) if job.error is not None else ""
        if job.error is not None and job.error.kind == "MissingPackage":
            self.packages.tellMissing()
        if job.result is not None:
            self.panel.setMachine(job.result)
        self._show()

    def machineChanged(self):
        """List the devices."""
        self._fill()

    def _fill(self):
        machine = self.panel.machine
        entries = [Entry(AUTO, _("Fastest"))]
        if machine is None:
            entries.append(Entry("cpu", _("CPU")))
        else:
            best = self._entry(machine.get("default_device", ""))
            if best is not None:
                entries = [Entry(AUTO, _("Fastest: {title}").format(title=best["title"]))]
            entries += [
                Entry(entry["name"], _device(entry), entry["reason"] or _device(entry), entry["available"])
                for entry in machine["devices"]
            ]
        self._devices.fill(entries)

    def _entry(self, name):
        devices = (self.panel.machine or {}).get("devices", ())
        same = [entry for entry in devices if entry["name"] == name]
        return (same or [entry for entry in devices if entry["name"].split(":")[0] == name] or [None])[0]

    def _guest(self, name):
        if self.panel.machine is None:
            return name
        return _("{name} (not on this machine)").format(name=name)

    def _show(self):
        if self._job is not None:
            text, icon = _("Asking which devices there are..."), None
        else:
            text = self._problem or (self.problem() if self.parameters is not None else "")
            icon = qt.QStyle.SP_MessageBoxWarning if text else None
            entry = self._entry(self.actual()) if self.parameters is not None and not text else None
            text = text or (_device(entry) + "." if entry is not None else "")
        setIcon(self.ui.deviceIcon, icon)
        setText(self.ui.deviceState, text)
        self.ui.refreshButton.enabled = self._job is None


def _device(entry):
    if not entry["available"]:
        return _("{title}: {reason}").format(**entry)
    if entry.get("free_bytes"):
        return _("{title}, {free} free").format(title=entry["title"], free=texts.memory(entry["free_bytes"]))
    return entry["title"]
