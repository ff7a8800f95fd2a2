"""A child process is heard without waiting and ended with everything it started."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from child_tools import alive, posix_only
from DiffMaSlicerLib.child.process import ChildProcess


def started(folder: Path, code: str) -> ChildProcess:
    child = ChildProcess([sys.executable, "-u", "-c", code], folder, dict(os.environ))
    child.start()
    return child


def wait_for(condition, seconds: float = 60.0):
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)
    return value


def all_lines(child: ChildProcess) -> list[str]:
    lines: list[str] = []

    def more() -> bool:
        ended = not child.running
        found = child.lines()
        lines.extend(found)
        return ended and not found

    wait_for(more)
    return lines


def test_lines_come_when_they_are_complete_and_asking_never_waits(tmp_path):
    child = started(
        tmp_path, "import sys; sys.stdout.write('one\\ntw'); sys.stdout.flush(); sys.stdin.read(); print('o')"
    )
    assert wait_for(child.lines) == ["one"]
    assert child.lines() == [], "the child waits for its standard input, so waiting here would never end"
    child._close_watchdog()
    assert all_lines(child) == ["two"] and child.exit_code == 0


def test_a_last_line_without_newline_bad_utf8_and_a_huge_line_come_through(tmp_path):
    code = "import sys; w = sys.stdout.buffer.write; w(b'\\xff\\n'); w(b'x' * (3 << 20) + b'\\n'); w(b'after\\nlast')"
    lines = all_lines(started(tmp_path, code))
    assert lines[0] == "�" and lines[-2:] == ["after", "last"]
    assert len(lines) == 4 and len(lines[1]) == 1 << 20


def test_many_lines_come_in_order_in_pieces_of_the_limit(tmp_path):
    child = started(tmp_path, "print(*range(5000), sep='\\n')")
    wait_for(lambda: not child.running)
    assert len(child.lines(limit=100)) == 100
    assert [int(line) for line in all_lines(child)] == list(range(100, 5000))


def test_the_tail_of_standard_error_is_kept(tmp_path):
    child = started(tmp_path, "import sys; print(*range(100), sep='\\n', file=sys.stderr)")
    all_lines(child)
    assert child.error_tail(3) == ["97", "98", "99"]


@posix_only
def test_a_child_that_reads_its_lifeline_ends_when_it_is_closed(tmp_path):
    child = started(tmp_path, "import signal, sys; signal.signal(15, signal.SIG_IGN); print('on'); sys.stdin.read()")
    wait_for(child.lines)
    child.terminate()
    wait_for(lambda: not child.running)


@posix_only
def test_a_stubborn_child_and_its_own_children_are_gone_after_kill(tmp_path):
    code = """
import signal, subprocess, sys, time
stubborn = "import os, signal, time; signal.signal(15, lambda *_: print('asked')); print(os.getpid()); time.sleep(99)"
signal.signal(signal.SIGTERM, lambda *_: print("asked"))
subprocess.Popen([sys.executable, "-u", "-c", stubborn])
time.sleep(99)
"""
    child = started(tmp_path, code)
    grandchild = int(wait_for(child.lines)[0])
    child.terminate()
    asked: list[str] = []
    wait_for(lambda: asked.extend(child.lines()) or len(asked) == 2)
    assert child.tree_running and alive(grandchild), "both go on after SIGTERM and do not read the watchdog"
    child.kill()
    wait_for(lambda: not child.running and not alive(grandchild))


@posix_only
def test_a_program_with_a_group_of_its_own_behind_a_launcher_is_ended_too(tmp_path):
    code = """
import subprocess, sys
inner = "import os, time; os.setpgrp(); print(os.getpid(), flush=True); time.sleep(99)"
subprocess.run([sys.executable, "-c", inner])
"""
    child = started(tmp_path, code)
    inner = int(wait_for(child.lines)[0])
    child.heard_from(inner)
    child.kill()
    wait_for(lambda: not child.running and not alive(inner))


@posix_only
def test_a_pid_that_is_not_of_this_child_is_never_signalled(tmp_path):
    stranger, folder = started(tmp_path, "import time; time.sleep(99)"), tmp_path / "other"
    folder.mkdir()
    child = started(folder, "import time; time.sleep(99)")
    child.heard_from(stranger.pid)
    child.kill()
    wait_for(lambda: not child.running)
    assert stranger.running
    stranger.kill()


def test_ending_a_child_that_is_gone_or_never_was_does_nothing(tmp_path):
    child = ChildProcess([sys.executable, "-c", ""], tmp_path, dict(os.environ))
    child.terminate()
    child.kill()
    child.start()
    wait_for(lambda: not child.running)
    child.kill()
    child.terminate()
    child.close()
    assert child.exit_code == 0
