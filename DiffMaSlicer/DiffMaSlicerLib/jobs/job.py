"""A job: long work as a generator that is polled in small time budgets, and the runner that polls."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator
from enum import Enum
from typing import Any

from slicer.i18n import tr as _

WAIT = object()
"""What a job's generator yields when there is nothing to do yet; None means that it could go on at once."""

POLL_MILLISECONDS = 40
POLL_BUDGET = 0.03
_LOG_LINES = 5000

FREE_SPACE = _("Free some space, or choose another temporary folder in Slicer's settings.")

_logger = logging.getLogger(__name__)


class JobState(Enum):
    """Where a job stands."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"
    FAILED = "failed"


class JobError(RuntimeError):
    """Why a job failed.

    Args:
        message: one sentence with the cause.
        kind: InputError, ModelError, BackendError, OutputError, OutOfMemory, MissingPackage, Interpreter,
            Killed, Unexpected ...
        remedy: one sentence on what to do about it; empty where the message says it.
    """

    def __init__(self, message: str, kind: str = "Unexpected", remedy: str = "") -> None:
        self.message, self.kind, self.remedy = message, kind, remedy
        super().__init__(f"{message.rstrip('.')}. {remedy}" if remedy else message)


class JobCancelled(Exception):
    """Thrown into a job's generator by ``cancel``; it may still yield to wind down, then lets it pass."""


Listener = Callable[["Job", str], None]


class Job:
    """Work that is advanced by ``poll`` and never blocks longer than one of its small steps.

    A subclass writes ``steps``: a generator that yields None (go on when time allows) or ``WAIT``, raises
    ``JobError``, and returns the result.

    Attributes:
        title: what it does, for people.
        stage, detail: words on what goes on, such as "synthesising" and "slice 12 of 37".
        fraction: 0 to 1; None where it is not known.
        eta: seconds still to go; None where it is not known.
        error: a ``JobError`` once it failed.
        warnings: what may spoil the result.
        log: everything the child and the job said, one line each.
        result: what ``steps`` returned once it is done.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self.state = JobState.WAITING
        self.stage, self.detail = "", ""
        self.fraction: float | None = None
        self.eta: float | None = None
        self.error: JobError | None = None
        self.warnings: list[str] = []
        self.log: list[str] = []
        self.result: Any = None
        self.keep_partial = False
        self._listeners: list[Listener] = []
        self._generator: Generator[object, None, Any] | None = None
        self._began = self._ended = 0.0
        self._polling = self._cancel_asked = self._cancel_thrown = False

    def steps(self) -> Generator[object, None, Any]:
        """The work; see the class."""
        raise NotImplementedError

    @property
    def finished(self) -> bool:
        """Whether it is over, one way or another."""
        return self.state in (JobState.DONE, JobState.CANCELLED, JobState.FAILED)

    @property
    def elapsed(self) -> float:
        """Seconds it has run."""
        if not self._began:
            return 0.0
        return (self._ended or time.monotonic()) - self._began

    def add_listener(self, listener: Listener) -> None:
        """``listener(job, what)`` is called with what in "progress", "slice", "log", "done"."""
        self._listeners.append(listener)

    def remove_listener(self, listener: Listener) -> None:
        """Never call ``listener`` again; unknown ones are ignored."""
        self._listeners = [known for known in self._listeners if known != listener]

    def start(self) -> None:
        """Begin; the work itself is done by ``poll``."""
        if self.state is JobState.WAITING:
            self.state, self._began = JobState.RUNNING, time.monotonic()
            self._generator = iter(self.steps())
            self.tell("progress")

    def poll(self, budget: float = POLL_BUDGET) -> bool:
        """Advance the work for about ``budget`` seconds; returns whether it is finished."""
        if self._polling or self.state is not JobState.RUNNING:
            return self.finished
        self._polling = True
        end = time.monotonic() + budget
        try:
            while self._advance() is not WAIT and time.monotonic() < end:
                pass
        except StopIteration as stop:
            self.result = stop.value
            self._finish(JobState.DONE)
        except JobCancelled:
            self._finish(JobState.CANCELLED)
        except JobError as error:
            self.error = error
            self._finish(JobState.FAILED)
        except Exception as error:
            _logger.exception("%s failed", self.title)
            self.error = JobError(f"{type(error).__name__}: {error}", "Unexpected", _("Copy the log and report it."))
            self._finish(JobState.FAILED)
        finally:
            self._polling = False
        return self.finished

    def cancel(self, keep_partial: bool | None = None) -> None:
        """Ask it to end; returns at once, ``finished`` follows within two seconds of polling.

        Args:
            keep_partial: whether what is finished is kept; None leaves it as the job was asked for.
        """
        if keep_partial is not None:
            self.keep_partial = keep_partial
        if self.state is JobState.WAITING:
            self._finish(JobState.CANCELLED)
        elif self.state is JobState.RUNNING:
            self._cancel_asked = True
            self.poll(0.0)

    def abort(self) -> None:
        """End it now, without winding down: for a scene that closes or a program that quits."""
        if self.finished:
            return
        if self._generator is not None and not self._polling:
            self._generator.close()  # type: ignore[attr-defined]
            self._finish(JobState.CANCELLED)
        else:
            self.cancel(keep_partial=False)

    def say(self, line: str) -> None:
        """Add a line to the log."""
        if len(self.log) < _LOG_LINES:
            self.log.append(line)
            self.tell("log")

    def warn(self, message: str) -> None:
        """Add a warning, which also stands in the log."""
        if message not in self.warnings:
            self.warnings.append(message)
        self.say(f"warning: {message}")

    def tell(self, what: str) -> None:
        """Call the listeners; one that fails is reported and does not stop the work."""
        for listener in list(self._listeners):
            try:
                listener(self, what)
            except Exception:
                _logger.exception("a listener of %s failed", self.title)

    def _advance(self) -> object:
        assert self._generator is not None
        if self._cancel_asked and not self._cancel_thrown:
            self._cancel_thrown = True
            return self._generator.throw(JobCancelled())  # type: ignore[attr-defined]
        return next(self._generator)

    def _finish(self, state: JobState) -> None:
        self.state, self._ended, self._generator = state, time.monotonic(), None
        self.eta = None
        if state is JobState.DONE:
            self.fraction = 1.0
        self.tell("progress")
        self.tell("done")


class JobRunner:
    """Polls running jobs from the event loop, with one timer that runs only while there are any."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self._timer: Any = None

    def start(self, job: Job) -> None:
        """Start ``job``; a timer of the event loop polls it. Needs Qt."""
        self._add(job)
        if self._timer is None:
            import qt

            self._timer = qt.QTimer()
            self._timer.setInterval(POLL_MILLISECONDS)
            self._timer.connect("timeout()", self.poll)
        self._timer.start()

    def wait(self, job: Job, timeout: float | None = None) -> bool:
        """Start ``job`` if need be and return when it is over; returns False after ``timeout`` seconds.

        Needs no Qt; where there is an application, its events are processed meanwhile.
        """
        self._add(job)
        end = None if timeout is None else time.monotonic() + timeout
        while not job.poll():
            if end is not None and time.monotonic() >= end:
                return False
            _process_events()
            time.sleep(0.005)
        self._forget_finished()
        return True

    def poll(self) -> None:
        """Advance every running job once."""
        for job in list(self.jobs):
            job.poll(POLL_BUDGET / len(self.jobs) if len(self.jobs) > 1 else POLL_BUDGET)
        self._forget_finished()

    def cancel_all(self) -> None:
        """Ask every job to end; they wind down as they are polled."""
        for job in list(self.jobs):
            job.cancel()

    def abort_all(self) -> None:
        """End every job now."""
        for job in list(self.jobs):
            job.abort()
        self._forget_finished()

    def close(self) -> None:
        """End every job now and let go of the timer."""
        self.abort_all()
        if self._timer is not None:
            self._timer.stop()
            self._timer.disconnect("timeout()", self.poll)
            self._timer = None

    def _add(self, job: Job) -> None:
        if job not in self.jobs and not job.finished:
            self.jobs.append(job)
        job.start()

    def _forget_finished(self) -> None:
        self.jobs = [job for job in self.jobs if not job.finished]
        if not self.jobs and self._timer is not None:
            self._timer.stop()


def _process_events() -> None:
    import slicer

    application = getattr(slicer, "app", None)
    if application is not None:
        application.processEvents()
