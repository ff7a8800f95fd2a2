"""A Python that has converted already: ``warm_python.py -m DiffMaCore ...`` is run by a fork of one server.

The server has imported torch and loaded compiled kernels; it has one thread, since a fork has no others. The
process that is started lends its standard streams, folder and variables to the fork, and ends as it ends: by the same
status or signal. SIGTERM is passed on; the fork dies with the process that stands for it.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import tempfile
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any, NoReturn

SOCKET = "DIFFMA_TEST_SOCKET"
"""The variable that names the server's socket."""
WHOLE_HEADS = "DIFFMA_TEST_WHOLE_HEADS"
"""The variable under which commands render heads as they do elsewhere, not coarse ones."""


def run(words: list[str]) -> NoReturn:
    """Have the server run these words of a Python command line; others than DiffMaCore's go to Python itself."""
    if words[:2] != ["-m", "DiffMaCore"]:
        os.execv(sys.executable, [sys.executable, *words])
    with _socket() as server:
        server.connect(os.environ[SOCKET])
        asked = [words[2:], os.getcwd(), dict(os.environ)]  # noqa: PTH109  pathlib takes as long as the rest
        socket.send_fds(server, [json.dumps(asked).encode()], [0, 1, 2])
        child = int(server.recv(64))
        signal.signal(signal.SIGTERM, lambda *_: _signal(child, signal.SIGTERM))
        status = int(server.recv(64))
    if status < 0:
        signal.signal(-status, signal.SIG_DFL) if -status != signal.SIGKILL else None
        os.kill(os.getpid(), -status)
    os._exit(status)


def serve(path: str, bundle: str) -> None:
    """Fork for every process that asks, until standard input ends; ``bundle`` is a quick one."""
    listener = _socket()
    listener.bind(path)
    listener.listen()
    with (
        tempfile.TemporaryDirectory() as folder,
        Path(os.devnull).open("w") as nowhere,
        redirect_stdout(nowhere),
        redirect_stderr(nowhere),
    ):
        _warm_up(Path(folder), bundle)
    while listener in _ready(listener, 0):
        client = listener.accept()[0]
        if not os.fork():
            listener.close()
            _answer(client)
        client.close()
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _warm_up(folder: Path, bundle: str) -> None:
    """Run what the panel runs, once."""
    import numpy as np
    import SimpleITK as sitk
    import torch

    from DiffMaCore.cli.main import main
    from DiffMaCore.imaging import reader
    from Testing import heads  # noqa: F401  which are cleaned once

    torch.set_num_threads(1)
    ct, mr = str(folder / "ct.nii"), str(folder / "mr.nii")
    voxels = np.full((4, 32, 32), -1000, np.int16)
    voxels[:, 8:24, 8:24] = 40
    sitk.WriteImage(sitk.GetImageFromArray(voxels), ct)
    for words in (
        ["info", "--progress", "json"],
        ["convert", ct, mr, "--model", bundle, "--steps", "1", "--samples", "2", "--soft-mask", f"{mr}.mha"],
        ["compare", mr, mr],
        ["export-dicom", mr, str(folder / "series")],
    ):
        if status := main(words):
            raise RuntimeError(f"{words} ended with {status}")
    reader.end()


def _answer(client: socket.socket) -> NoReturn:
    """Run what the client asks for, tell it the process and how that ended, and end with both."""
    message, streams, _, _ = socket.recv_fds(client, 1 << 20, 3)
    child = os.fork()
    if not child:
        client.close()
        words, folder, variables = json.loads(message)
        _become(words, folder, variables, streams)
    with suppress(PermissionError):  # it has done so itself
        os.setpgid(child, child)
    client.send(str(child).encode())
    if client in _ready(client, os.pidfd_open(child)):
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with suppress(BrokenPipeError):
        client.send(str(status).encode())
    os._exit(0)


def _become(words: list[str], folder: str, variables: dict[str, str], streams: list[int]) -> NoReturn:
    with suppress(PermissionError):
        os.setpgid(0, 0)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    sys.argv = ["DiffMaCore", *words]
    from DiffMaCore.cli.main import program
    from DiffMaCore.imaging import phantom
    from Testing.heads import coarse_phantom

    if WHOLE_HEADS not in variables:
        phantom.head_phantom = coarse_phantom  # type: ignore[assignment]
    program()


def _ready(*streams: Any) -> list[Any]:
    """Wait for one of them."""
    return select.select(streams, [], [])[0]


def _signal(process: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(process, number)


def _socket() -> socket.socket:
    return socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)


if __name__ == "__main__":
    serve(*sys.argv[2:]) if sys.argv[1] == "serve" else run(sys.argv[1:])
