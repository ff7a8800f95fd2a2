"""``--parent-watchdog``: nothing outlives the program that started it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import SimpleITK as sitk

from Testing.images import head_like_ct

LIMIT_SECONDS = 10.0  # the command itself gives up after 1 s; the rest is for a busy machine


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return True


def _wait_gone(pid: int) -> None:
    began = time.monotonic()
    while _is_alive(pid):
        assert time.monotonic() - began < LIMIT_SECONDS, f"process {pid} is still there"
        time.sleep(0.05)


def _start(code: str) -> subprocess.Popen[str]:
    """A process that holds the watchdog and has one child, whose id ``code`` prints when a signal may come."""
    preamble = (
        "import signal, subprocess, sys, time; from DiffMaCore.cli import watchdog;"
        "signal.signal(signal.SIGTERM, signal.default_int_handler); watchdog.hold();"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(300)'], stdin=subprocess.DEVNULL)\n"
    )
    command = [sys.executable, "-c", preamble + code]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.mark.skipif(os.name == "nt", reason="the child's child is looked up as POSIX does")
@pytest.mark.parametrize("deaf", [False, True])
def test_when_the_line_is_let_go_the_process_and_its_children_end(deaf: bool) -> None:
    code = "print(child.pid, flush=True); time.sleep(300)"
    if deaf:
        code = f"signal.signal(signal.SIGTERM, lambda *_: None); {code}"
    else:
        code = f"try: {code}\nexcept KeyboardInterrupt: watchdog.end_children(); sys.exit(130)"
    process = _start(code)
    assert process.stdin and process.stdout
    grandchild = int(process.stdout.readline())
    assert _is_alive(grandchild)
    process.stdin.close()
    assert process.wait(LIMIT_SECONDS) == (-signal.SIGKILL if deaf else 130)
    _wait_gone(grandchild)


@pytest.mark.skipif(os.name == "nt", reason="the conversion is looked up as POSIX does")
def test_a_conversion_ends_when_the_program_that_started_it_is_killed(tiny_bundle: Path, tmp_path: Path) -> None:
    ct = tmp_path / "ct.nii"
    sitk.WriteImage(head_like_ct(), str(ct))
    log = tmp_path / "log"
    command = [sys.executable, "-m", "DiffMaCore", "convert", str(ct), str(tmp_path / "mr.nii")]
    command += ["--model", str(tiny_bundle), "--steps", "1000", "--batch-size", "1", "--device", "cpu"]
    command += ["--progress", "json", "--parent-watchdog"]
    code = (
        "import subprocess, sys, time; log = open(sys.argv[1], 'w');"
        "subprocess.Popen(sys.argv[2:], stdin=subprocess.PIPE, stdout=log, stderr=log); time.sleep(300)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(log), *command])
    began = time.monotonic()
    while '"progress"' not in (log.read_text() if log.exists() else ""):
        assert time.monotonic() - began < 120
        time.sleep(0.05)
    pid = json.loads(log.read_text().splitlines()[0])["pid"]
    parent.kill()
    parent.wait()
    _wait_gone(pid)
    assert json.loads(log.read_text().splitlines()[-1])["kind"] == "Cancelled"
    assert not (tmp_path / "mr.nii").exists()


def test_a_command_that_is_done_does_not_wait_for_its_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "DiffMaCore", "models", "path", "--parent-watchdog", "--progress", "json"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.wait(30) == 0
    assert process.stdin and process.stdout
    hello, result = [json.loads(line) for line in process.stdout]
    assert hello["event"] == "hello" and Path(result["models"]).name == "models"
    process.stdin.close()
