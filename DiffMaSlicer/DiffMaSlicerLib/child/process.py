"""One child process: started with a lifeline, heard through files, ended with everything it started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

_CHUNK = 1 << 16
_LONGEST_LINE = 1 << 20
_TAIL = 1 << 14


class ChildProcess:
    """A program whose standard output is read line by line without ever waiting for it.

    Output goes into files of ``folder``, since reading a file never blocks on any system. Standard input is a
    pipe that nobody writes to: its end tells the child that we are gone (``--lifeline``).

    Args:
        command: program and arguments.
        folder: private folder that exists; also the working directory.
        environment: all of the child's environment variables.
    """

    def __init__(self, command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
        self.command = [str(word) for word in command]
        self.folder = Path(folder)
        self.told_pid: int | None = None  # what ``hello`` says: differs behind a launcher
        self._environment = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: BinaryIO | None = None
        self._rest = b""
        self._skipping = False
        self._group_gone = False

    @property
    def _output(self) -> Path:
        return self.folder / "stdout.txt"

    @property
    def _errors(self) -> Path:
        return self.folder / "stderr.txt"

    def start(self) -> None:
        """Start the program.

        Raises:
            OSError: it cannot be started (missing, not executable, no such folder).
        """
        options: dict[str, object] = {"start_new_session": True}
        if os.name == "nt":
            options = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
        with self._output.open("wb") as output, self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=errors,
                cwd=self.folder,
                env=self._environment,
                **options,
            )
        self._reader = self._output.open("rb")

    @property
    def pid(self) -> int | None:
        """Of the program as started; None before."""
        return self._process.pid if self._process else None

    @property
    def running(self) -> bool:
        """Whether the program as started is still there."""
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """None while it runs; below 0 where a signal ended it."""
        return self._process.poll() if self._process else None

    @property
    def tree_running(self) -> bool:
        """Whether the program or anything it started is still there (on Windows: the program)."""
        if self.running:
            return True
        if os.name == "nt" or self._process is None or self._group_gone:
            return False
        try:
            os.killpg(self._process.pid, 0)
        except OSError:
            self._group_gone = True
        return not self._group_gone

    def lines(self, limit: int = 200) -> list[str]:
        """At most ``limit`` complete lines that have not been returned before; [] where there are none now.

        What is no UTF-8 comes with replacement characters; a line beyond 1 MiB is cut there.
        """
        if self._reader is None:
            return []
        ended = not self.running
        while self._rest.count(b"\n") < limit:
            chunk = self._reader.read(_CHUNK)
            if not chunk:
                break
            self._rest += chunk
            if len(self._rest) > _LONGEST_LINE:
                break
        *found, rest = self._rest.split(b"\n", limit)
        if len(rest) > _LONGEST_LINE and b"\n" not in rest:
            found, rest = [*found, *([] if self._skipping else [rest[:_LONGEST_LINE]])], b""
            self._skipping = True
        elif self._skipping and found:
            found, self._skipping = found[1:], False
        if ended and rest and not self._reader.peek(1) and b"\n" not in rest:  # type: ignore[attr-defined]
            found, rest = [*found, rest], b""
        self._rest = rest
        return [line.decode("utf-8", "replace").rstrip("\r") for line in found]

    def error_tail(self, lines: int = 20) -> list[str]:
        """The last lines of standard error."""
        try:
            with self._errors.open("rb") as stream:
                stream.seek(max(0, self._errors.stat().st_size - _TAIL))
                text = stream.read(_TAIL).decode("utf-8", "replace")
        except OSError:
            return []
        return [line for line in text.splitlines() if line.strip()][-lines:]

    def terminate(self) -> None:
        """Ask the whole tree to end: the lifeline is closed, POSIX systems also send SIGTERM. Returns at once."""
        if self._process is None:
            return
        self._close_lifeline()
        if os.name != "nt":
            self._signal_group(signal.SIGTERM)

    def kill(self) -> None:
        """End the whole tree the hard way. Returns at once."""
        if self._process is None:
            return
        if os.name == "nt":
            self._taskkill()
        else:
            if self.running and self.told_pid and self.told_pid not in (self._process.pid, os.getpid()):
                with contextlib.suppress(OSError):
                    os.kill(self.told_pid, signal.SIGKILL)
            self._signal_group(signal.SIGKILL)
        if self.running:
            with contextlib.suppress(OSError):
                self._process.kill()
        self._close_lifeline()

    def close(self) -> None:
        """Let go of the files; the process itself is left as it is."""
        self._close_lifeline()
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _close_lifeline(self) -> None:
        if self._process is not None and self._process.stdin is not None and not self._process.stdin.closed:
            with contextlib.suppress(OSError):
                self._process.stdin.close()

    def _signal_group(self, number: int) -> None:
        # once the group is gone its number may belong to strangers
        if self._process is not None and self.tree_running:
            with contextlib.suppress(OSError):
                os.killpg(self._process.pid, number)

    def _taskkill(self) -> None:
        for pid in {self.pid, self.told_pid} - {None, os.getpid()}:
            if self.running:
                with contextlib.suppress(OSError):
                    subprocess.Popen(
                        ["taskkill", "/F", "/T", "/PID", str(pid)],
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.DEVNULL,
                        stderr=subprocess.DEVNULL,
                        creationflags=subprocess.CREATE_NO_WINDOW,
                    )
