"""A job whose work is done by a child process: started, listened to, explained where it fails, ended for sure."""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection, Generator, Sequence
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from DiffMaSlicerLib.child import failures
from DiffMaSlicerLib.child.events import Event, parse
from DiffMaSlicerLib.child.interpreter import Interpreter
from DiffMaSlicerLib.child.process import ChildProcess
from DiffMaSlicerLib.jobs.job import FREE_SPACE, WAIT, Job, JobCancelled, JobError

HELLO_SECONDS = 120.0
"""How long a child may take until its first word: a cold disk and a virus scanner are slow."""

_TERM_SECONDS, _KILL_SECONDS = 1.0, 0.8


class ChildJob(Job):
    """Runs commands of DiffMaCore. A subclass writes ``work``, which calls ``yield from self.child([...])``.

    Attributes:
        process: the child that runs, or the last that ran; None before.
    """

    def __init__(self, title: str, interpreter: Interpreter) -> None:
        super().__init__(title)
        self.interpreter = interpreter
        self.process: ChildProcess | None = None
        self._folder: Path | None = None
        self._answered = False
        self._results: list[dict[str, Any]] = []
        self._failure: failures.Failure | None = None

    def work(self) -> Generator[object, None, Any]:
        """Like ``Job.steps``, with a private folder that is removed in the end."""
        raise NotImplementedError

    def steps(self) -> Generator[object, None, Any]:
        try:
            return (yield from self.work())
        finally:
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def folder(self) -> Path:
        """A private folder, made when it is first asked for and removed when the job ends.

        Raises:
            JobError: the disk is full or the temporary folder cannot be written.
        """
        if self._folder is None:
            try:
                self._folder = self.interpreter.private_folder()
            except OSError as error:
                cause = _("no temporary folder could be made ({reason})").format(reason=error.strerror)
                raise JobError(cause, "OutputError", FREE_SPACE) from None
        return self._folder

    def on_event(self, event: Event) -> Generator[object, None, Any] | None:
        """An event of the child, for a subclass: it may return a generator with work that takes longer."""
        return None

    def on_error(self, event: Event) -> None:
        """The child failed; a batch overrides it, where one volume's failure does not end the run."""
        self._failure = failures.reported(event.text("message"), event.text("kind"))

    def child(self, arguments: Sequence[str], statuses: Collection[int] = (0,)) -> Generator[object, None, Any]:
        """Run one command of DiffMaCore to its end; returns its result (the last, should there be several).

        ``statuses`` are the exit statuses with which the result counts.

        Raises:
            JobError: with cause and remedy, whatever goes wrong.
        """
        yield from self.run_process(self.interpreter.command(arguments))
        if self._failure is not None:
            raise _job_error(self._failure)
        if not self._results or self._exit_code() not in statuses:
            raise _job_error(self._unexplained())
        return self._results[-1]

    def run_process(self, command: Sequence[str], *, speaks: bool = True) -> Generator[object, None, Any]:
        """Run ``command`` to its end and hear all it says; what it means is the caller's to judge.

        Args:
            speaks: whether it says hello and events; otherwise every line goes into the log.
        """
        self._results, self._failure, self._answered = [], None, not speaks
        self.process = ChildProcess(command, self.folder, self.interpreter.environment)
        try:
            self.process.start()
        except OSError as error:
            raise _job_error(failures.not_started(self.interpreter.path, error)) from None
        try:
            yield from self._listen(self.process, speaks)
        except (JobCancelled, JobError):
            yield from self._wind_down(self.process)
            raise
        finally:
            self.process.kill()
            for line in self.process.error_tail():
                self.say(line)
            self.process.close()

    def _listen(self, process: ChildProcess, speaks: bool) -> Generator[object, None, Any]:
        began = time.monotonic()
        while True:
            ended = not process.running
            lines = process.lines()
            for line in lines:
                event = parse(line) if speaks else None
                if event is None:
                    self.say(line)
                elif (handled := self._heard(event)) is not None:
                    yield from handled
                yield None
            if lines:
                self.tell("progress")
                continue
            if ended:
                return
            if not self._answered and time.monotonic() - began > HELLO_SECONDS:
                raise _job_error(failures.silent(self.interpreter.path, HELLO_SECONDS))
            self.idle()
            yield WAIT

    def idle(self) -> None:
        """Called while the child has nothing new to say; for a subclass."""

    def _heard(self, event: Event) -> Generator[object, None, Any] | None:
        if event.name == "hello":
            self._answered = True
            if self.process is not None:
                self.process.heard_from(event.count("pid"))
        elif event.name == "stage":
            name = event.text("stage")
            self.stage, self.detail, self.eta = stages().get(name, name), "", None
            self.fraction = 0.0 if event.count("total") else None
            self.say(f"{name} ...")
        elif event.name == "progress":
            step, total = event.count("step"), event.count("total")
            self.fraction = min(1.0, step / total) if step is not None and total else None
            self.eta = event.number("eta")
            if event.text("unit") == "bytes" and step is not None and total:
                self.detail = _("{done:.0f} of {all:.0f} MB").format(done=step / 1e6, all=total / 1e6)
        elif event.name == "note":
            self.say(event.text("message"))
        elif event.name == "warning":
            self.warn(event.text("message"))
        elif event.name == "result":
            self._results.append(dict(event.facts))
        elif event.name == "error":
            self.say(f"error: {event.text('message')}")
            self.on_error(event)
        return self.on_event(event)

    def _wind_down(self, process: ChildProcess) -> Generator[object, None, Any]:
        """End the child's tree: kindly at first, then the hard way; at most two seconds."""
        process.terminate()
        for seconds, harder in ((_TERM_SECONDS, True), (_KILL_SECONDS, False)):
            end = time.monotonic() + seconds
            while process.tree_running and time.monotonic() < end:
                yield WAIT
            if harder:
                process.kill()

    def _exit_code(self) -> int:
        code = self.process.exit_code if self.process else None
        return -1 if code is None else code

    def _unexplained(self) -> failures.Failure:
        assert self.process is not None
        return failures.ended(self._exit_code(), self.process.error_tail(), self._answered, self.interpreter.path)


def stages() -> dict[str, str]:
    """The child's words for what it does, in the user's language."""
    return {
        "checking": _("checking"),
        "comparing": _("comparing"),
        "comparing with the CT": _("comparing with the CT"),
        "completing": _("completing"),
        "converting": _("converting"),
        "downloading": _("downloading"),
        "importing weights": _("importing weights"),
        "loading": _("loading"),
        "loading model": _("loading model"),
        "looking at this machine": _("looking at this machine"),
        "measuring": _("measuring"),
        "preparing": _("preparing"),
        "reading": _("reading"),
        "rendering a head": _("rendering a head"),
        "synthesising": _("synthesising"),
        "writing": _("writing"),
    }


def _job_error(failure: failures.Failure) -> JobError:
    return JobError(failure.message, failure.kind, failure.remedy)
