"""Check and install the packages that the model needs, with one question before anything is installed."""

import slicer
from slicer.i18n import tr as _

from DiffMaSlicerLib.panel import texts
from DiffMaSlicerLib.panel.job_view import JobView
from DiffMaSlicerLib.panel.section import setText


class Packages:
    """The part of Advanced about packages."""

    def __init__(self, panel):
        self.panel = panel
        self.ui = panel.ui
        self._view = JobView(self.ui.packagesProgress, None, self.ui.packagesCancelButton)
        self.ui.checkPackagesButton.connect("clicked()", self.onCheck)
        self.ui.installPackagesButton.connect("clicked()", self.onInstall)
        setText(self.ui.packagesText, "")

    def onCheck(self):
        """Say what is there and what is missing."""
        self._start(self.panel.logic.checkPackages, self._onChecked)

    def onInstall(self):
        """Look what is missing, ask once, and install it."""
        self._start(self.panel.logic.checkPackages, self._ask)

    def tellMissing(self):
        """Name all that is missing, with the button that installs it."""
        self._start(self.panel.logic.checkPackages, self._tell)

    def cleanup(self):
        """Stop listening; the logic ends the job."""
        self._view.forget()

    def _start(self, start, done):
        if self._view.running:
            return
        with self.panel.messages.reported():
            self._enable(False)
            self._view.follow(start(), lambda job: self._finished(job, done))

    def _finished(self, job, done):
        self._enable(True)
        if job.error is not None:
            setText(self.ui.packagesText, texts.failure(job.error))
            self.panel.messages.failed(job)
        elif job.result is not None:
            done(job)

    def _onChecked(self, job):
        setText(self.ui.packagesText, summary(job.result))

    def _tell(self, job):
        self._onChecked(job)
        names = ", ".join(job.result["missing"])
        if names:
            text = _("The model needs packages that are not installed: {names}.").format(names=names)
            self.panel.messages.warning(text, (_("Install packages..."), self.onInstall))

    def _ask(self, job):
        self._onChecked(job)
        if job.result["ok"]:
            self.panel.messages.info(_("Every package that the model needs is installed."))
            return
        if slicer.util.confirmOkCancelDisplay(question(job.result), windowTitle=_("Install packages")):
            self._start(self.panel.logic.installPackages, self._onInstalled)

    def _onInstalled(self, job):
        self.panel.messages.info(_("The packages are installed."))
        self.onCheck()
        self.panel.refreshMachine()

    def _enable(self, enabled):
        self.ui.checkPackagesButton.enabled = enabled
        self.ui.installPackagesButton.enabled = enabled


def summary(result):
    """What is there and what is missing, a line each."""
    lines = []
    for package in result["packages"]:
        if package["ok"]:
            lines.append(_("{name} {installed}").format(**package))
        elif package["installed"]:
            lines.append(_("{name} {installed} is too old, {required} is needed").format(**package))
        else:
            lines.append(_("{name} is missing").format(**package))
    return "\n".join(lines)


def question(result):
    """The one question before packages are installed: which, how much, and where."""
    names = [package["name"] for package in result["packages"] if not package["ok"]]
    if result.get("chooser"):
        names.append(_("light-the-torch (which chooses PyTorch's build)"))
    return _(
        "The model needs packages that are not installed yet: {names}.\n\n"
        "They are fetched from the Python package index and installed for {python}. {size} "
        "Slicer goes on meanwhile. Install them now?"
    ).format(names=", ".join(names), size=result["size"], python=result["path"])
