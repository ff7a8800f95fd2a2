"""One child process: started with a watchdog, heard through files, ended with everything it started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

_CHUNK = 1 << 16
_LONGEST_LINE = 1 << 20
_TAIL = 1 << 14
_END = 0.05  # seconds


class ChildProcess:
    """A program whose standard output is read line by line without ever waiting for it.

    Output goes into files of ``folder``, since reading a file never blocks on any operating system. Standard input is a
    pipe that nobody writes to: its end tells the child that we are gone (``--parent-watchdog``).

    Args:
        command: program and arguments.
        folder: private folder that exists; also the working directory.
        environment: all of the child's environment variables.
    """

    def __init__(self, command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
        self.command = [str(word) for word in command]
        self.folder = Path(folder)
        self._told_pid: int | None = None
        self._environment = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: BinaryIO | None = None
        self._rest = b""
        self._skipping = False
        self._gone: set[int] = set()

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
        options: dict[str, Any] = {"start_new_session": True}
        if sys.platform == "win32":
            flags = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
            flags |= subprocess.BELOW_NORMAL_PRIORITY_CLASS  # elsewhere the watchdog gives way by itself
            options = {"creationflags": flags}
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

    def heard_from(self, pid: int | None) -> None:
        """``pid`` is what ``hello`` says: another than ``self.pid`` behind a launcher, with a group of its own.

        On POSIX systems it counts only if it is in the session that we made for the child.
        """
        if pid is None or self._process is None or pid == self._process.pid:
            return
        if os.name == "nt":
            self._told_pid = pid
            return
        with contextlib.suppress(OSError):
            if os.getsid(pid) == self._process.pid and os.getpgid(pid) == pid:
                self._told_pid = pid

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
        return os.name != "nt" and any([self._signal_group(pid, 0) for pid in self._groups()])

    def lines(self, limit: int = 200) -> list[str]:
        """At most ``limit`` complete lines that have not been returned before; [] where there are none now.

        What is no UTF-8 comes with replacement characters; a line beyond 1 MiB is cut there.
        """
        if self._reader is None:
            return []
        ended = not self.running
        found: list[bytes] = []
        while len(found) < limit:
            line, newline, rest = self._rest.partition(b"\n")
            if newline:
                self._rest = rest
            else:
                chunk = self._reader.read(_CHUNK)
                self._rest += chunk
                if chunk and (b"\n" in chunk or len(self._rest) <= _LONGEST_LINE):
                    continue
                if not chunk and not (ended and line):
                    break
                self._rest = b""
            if not self._skipping:
                found.append((line if newline else line + chunk)[:_LONGEST_LINE])
            self._skipping = not newline and bool(chunk)
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
        """Ask the whole tree to end: the watchdog is closed, POSIX systems also send SIGTERM. Returns at once."""
        if self._process is None:
            return
        self._close_watchdog()
        if os.name != "nt":
            for pid in self._groups():
                self._signal_group(pid, signal.SIGTERM)

    def kill(self) -> None:
        """End the whole tree the hard way. Returns nearly at once."""
        if self._process is None:
            return
        if os.name == "nt":
            self._taskkill()
        else:
            for pid in self._groups():
                self._signal_group(pid, signal.SIGKILL)
        if self.running:
            with contextlib.suppress(OSError):
                self._process.kill()
        self._close_watchdog()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END)  # else it stays listed as defunct until another is started

    def close(self) -> None:
        """Let go of the files; the process itself is left as it is."""
        self._close_watchdog()
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _close_watchdog(self) -> None:
        if self._process is not None and self._process.stdin is not None and not self._process.stdin.closed:
            with contextlib.suppress(OSError):
                self._process.stdin.close()

    def _groups(self) -> list[int]:
        """Process groups that may still have members."""
        pids = [self._process.pid if self._process else None, self._told_pid]
        return [pid for pid in pids if pid is not None and pid not in self._gone]

    def _signal_group(self, pid: int, number: int) -> bool:
        """Signal a group; whether it is there. One that is gone is never signalled again: its number is reused."""
        try:
            os.killpg(pid, number)
        except OSError:
            self._gone.add(pid)
        return pid not in self._gone

    def _taskkill(self) -> None:
        for pid in {self.pid, self._told_pid} - {None, os.getpid()}:
            if sys.platform == "win32" and self.running:
                with contextlib.suppress(OSError):
                    subprocess.Popen(
                        ["taskkill", "/F", "/T", "/PID", str(pid)],
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.DEVNULL,
                        stderr=subprocess.DEVNULL,
                        creationflags=subprocess.CREATE_NO_WINDOW,
                    )
