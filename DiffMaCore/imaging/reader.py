"""Untrusted files are read in a child process, which may die of them: that is one sentence, and the next file is read.

Native readers crash, hang and allocate on damaged files. The child has a limit of processor time and of memory, writes
nothing anywhere, and imports no torch; what it answers is JSON and voxels, never a pickle. It starts at the first file,
or ahead of it (:func:`start`), serves this process until the end, and is started anew after it died.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import SimpleITK as sitk

import DiffMaCore
from DiffMaCore import errors
from DiffMaCore.errors import InputError, OutOfMemory

_LEAST_SECONDS, _SECONDS_PER_MB = 5.0, 2.0  # of computing: ten times what the slowest coding takes
_WAITING = 10.0  # times as long in all: drives and busy machines make a reader wait
_CHILD = "import sys; sys.path[:] = sys.argv[1:]; from DiffMaCore.imaging.reader_child import serve; serve()"

log = logging.getLogger(__name__)


def start() -> None:
    """Let the reader start during other work, so that the first file need not wait for it."""
    with _lock:
        _running()


def ask(what: str, path: str | Path, **arguments: Any) -> dict[str, Any]:
    """What the reader answers about ``path``; an image comes as a ``sitk.Image`` under "image".

    Raises:
        InputError: the reader's own, or that the file made it crash or took too long.
        OutOfMemory: the memory was not enough.
    """
    path = Path(path)
    seconds = _LEAST_SECONDS + _SECONDS_PER_MB * _bytes_at(path) / 1e6
    # the reader may have started elsewhere; the path stays as it was given, for messages of it
    folder = None if path.is_absolute() else str(Path.cwd())
    request = {"what": what, "path": str(path), "folder": folder, "seconds": seconds, **arguments}
    request["memory"] = psutil.virtual_memory().available
    with _lock:
        child = _running()
        timer = threading.Timer(_WAITING * seconds, child.kill)
        timer.start()
        try:
            answer, image = _exchange(child, request)
        except (EOFError, OSError):
            code = child.wait()
            if code == 1:  # an error of Python's before it served: no file's fault
                raise RuntimeError("the reading process cannot start; repair this installation of Python") from None
            overdue = timer.finished.is_set()
            raise InputError(f"{path} {_death(code, overdue)}") from None
        except BaseException:
            child.kill()  # its answer is still to come, and would be taken for the next file's
            raise
        finally:
            timer.cancel()
    if "error" in answer:
        log.info("%s", answer.get("trace", ""))
        if answer["error"] == "OutOfMemory":
            raise OutOfMemory(f"the memory was not enough to read {path}", "close other programs, or crop the volume")
        raise getattr(errors, answer["error"])(answer["message"])
    return answer if image is None else {**answer, "image": image}


_lock = threading.Lock()
_children: dict[int, subprocess.Popen[bytes]] = {}  # by process: one that was forked starts its own


def _running() -> subprocess.Popen[bytes]:
    child = _children.get(os.getpid())
    if child is None or child.poll() is not None:
        places = [str(Path(DiffMaCore.__file__).resolve().parents[1]), *sys.path]
        child = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _CHILD, *places],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pipesize=1 << 20,
        )
        _children[os.getpid()] = child
    return child


@atexit.register
def end() -> None:
    """End the reader, until it is asked again: nothing is left of this process if it is killed afterwards."""
    child = _children.pop(os.getpid(), None)
    if child is not None:
        child.kill()
        child.wait()


def _exchange(child: subprocess.Popen[bytes], request: dict[str, Any]) -> tuple[dict[str, Any], sitk.Image | None]:
    assert child.stdin is not None and child.stdout is not None
    child.stdin.write(json.dumps(request).encode() + b"\n")
    child.stdin.flush()
    line = child.stdout.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    answer = json.loads(line)
    described = answer.pop("image", None)
    if described is None:
        return answer, None
    voxels = np.empty(described["size"][::-1], np.dtype(described["type"]))
    if child.stdout.readinto(voxels.reshape(-1).view(np.uint8).data) != voxels.nbytes:  # type: ignore[attr-defined]
        raise EOFError
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing(described["spacing"])
    image.SetOrigin(described["origin"])
    image.SetDirection(described["direction"])
    for key, value in described["metadata"].items():
        image.SetMetaData(key, value)
    return answer, image


def _death(code: int, overdue: bool) -> str:
    if code == -getattr(signal, "SIGXCPU", 0):
        return "takes far too long to read, so it is damaged; copy or export it again"
    if overdue:  # no computing: it waited
        return "was not read in time; try again when its drive answers and this machine is less busy, or copy it"
    return f"makes its reader crash (exit status {code}), so it is damaged; copy or export it again"


def _bytes_at(path: Path) -> int:
    """Of a file, of all files below a folder, and for one slice of its neighbours."""
    try:
        if path.is_dir():
            return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        if path.suffix.lower() in (".txt", ".nhdr", ".mhd") or "." not in path.name or path.suffix.lower() == ".dcm":
            return sum(file.stat().st_size for file in path.parent.iterdir() if file.is_file())
        return path.stat().st_size
    except OSError:
        return 0
