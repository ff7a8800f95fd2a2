"""``--parent-watchdog``: the end of standard input in, the end of this process and its children out.

Standard input is the line: the parent holds its other end, and it closes however the parent dies.
"""

from __future__ import annotations

import _thread
import os
import signal
import subprocess
import sys
import threading
import time

GRACE_SECONDS = 1.0
"""How long a command may clean up after itself before it is ended."""

_GIVES_WAY = 10  # niceness: the window of the program that started us stays lively


def hold() -> None:
    """Watch standard input from now on; at its end the command is cancelled, then ended with its children.

    It is cancelled as SIGTERM cancels it (Windows: as Ctrl-C does).
    """
    if os.name == "posix":
        if os.getpgrp() != os.getpid():
            os.setpgrp()  # children join this group, so that all can be ended as one
        os.nice(_GIVES_WAY)
    threading.Thread(target=_watch, name="parent-watchdog", daemon=True).start()


def end_children() -> None:
    """Ask what this process has started to end; the process itself goes on."""
    if os.name == "posix" and os.getpgrp() == os.getpid():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.killpg(os.getpid(), signal.SIGTERM)


def _watch() -> None:
    # not sys.stdin: a thread that waits in its buffer upsets the interpreter's exit
    try:
        while os.read(0, 4096):
            pass
    except OSError:
        pass
    if os.name == "posix":
        main = threading.main_thread().ident
        assert main is not None
        signal.pthread_kill(main, signal.SIGTERM)  # also wakes it from a wait, unlike interrupt_main
    else:
        _thread.interrupt_main()
    time.sleep(GRACE_SECONDS)
    _end()


def _end() -> None:
    """End this process and all that it has started, at once."""
    if os.name == "posix":
        os.killpg(os.getpgrp(), signal.SIGKILL)
    elif sys.platform == "win32":
        command = ["taskkill", "/F", "/T", "/PID", str(os.getpid())]
        subprocess.run(command, capture_output=True, creationflags=subprocess.CREATE_NO_WINDOW, check=False)
    os._exit(1)
