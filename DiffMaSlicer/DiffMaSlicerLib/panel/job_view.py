"""A job in the panel: its progress bar, its words, its log."""

from typing import Any

from DiffMaSlicerLib.panel import texts
from DiffMaSlicerLib.panel.section import setText

_BAR = 1000


class JobView:
    """Shows one job at a time in a progress bar and a label, and says when it is over.

    Args:
        bar: a QProgressBar; seen only while a job runs.
        label: a QLabel for the words, or None.
        button: a button that cancels, seen only while a job runs, or None.
    """

    def __init__(self, bar, label=None, button=None):
        self._bar, self._label, self._button = bar, label, button
        self._done = None
        self._other = None
        self.job: Any = None
        if button is not None:
            button.connect("clicked()", self.cancel)

    @property
    def running(self):
        """Whether a job is on."""
        return self.job is not None and not self.job.finished

    def follow(self, job, done=None, other=None):
        """Show a job until it is over.

        Args:
            job: a ``Job``; the one shown before is forgotten (not cancelled).
            done: called with the job when it is over.
            other: called with (job, what) at every other news of it.
        """
        self.forget()
        self.job, self._done, self._other = job, done, other
        self._showParts(True)
        job.add_listener(self._onNews)
        if job.finished:
            self._onNews(job, "done")
        else:
            self._show(job)

    def cancel(self):
        """Ask the job to end."""
        if self.running:
            self.job.cancel()

    def forget(self):
        """Stop listening."""
        if self.job is not None:
            self.job.remove_listener(self._onNews)
        self.job = self._done = self._other = None
        self._showParts(False)

    def _onNews(self, job, what):
        if job is not self.job:
            return
        if what == "done":
            done = self._done
            self.forget()
            if done:
                done(job)
            return
        if what != "log":
            self._show(job)
        if self._other:
            self._other(job, what)

    def _show(self, job):
        if job.fraction is None:
            self._bar.setRange(0, 0)
        else:
            self._bar.setRange(0, _BAR)
            self._bar.value = round(job.fraction * _BAR)
        if self._label is not None:
            setText(self._label, texts.progress(job))

    def _showParts(self, visible):
        for part in (self._bar, self._label, self._button):
            if part is not None:
                part.visible = visible
