"""Let a fault meet commands at any moment, run them again, and see whether anything is lost, half-made or left over.

    python -m Testing.faults.trials --trials 300 --seed 1 [--fault full] [--only denoiser]

kill    the process is killed: at a step of its file system calls, or after a random time, in turns
full    the disk has no room left from a step on
rights  nothing can be written any more from a step on
worker  a process of Dask's is killed after a random time; the command goes on with another (--only worker)

Every trial runs a command in a fork of this process; then the fault is mended and the command is run again. The folder
must then be, file by file, what a run without a fault makes of it. Disks that fill up and lost rights take root on
Linux, and must end in one sentence. ``Testing.bundles.killing`` kills what is done with bundles.
"""

from __future__ import annotations

import argparse
import ctypes
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from Testing.faults.commands import COMMANDS, Command, Files, Stage, half_made
from Testing.faults.forked import Ended

_DISK = 256 << 20
_CAPABILITIES = 0x20080522  # version 3 of capget(2)


class Kill:
    """The process is killed."""

    statuses: tuple[int, ...] = (
        0,
        -signal.SIGKILL,
    )  # runs differ: a kill may come too late

    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    def run(self, command: Command, rng: random.Random, number: int, whole: Ended) -> Ended:
        """One run in which it happens."""
        if number % 2:
            return self.stage.run(command, kill_after=rng.uniform(0, whole.seconds))
        return self.stage.run(command, at=rng.randint(1, whole.steps))

    def mend(self) -> None:
        """Before the command is run again."""


class Full(Kill):
    """The disk fills up."""

    statuses = (0, 1, 2)

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self._filler = stage.root / "filler"

    def run(self, command: Command, rng: random.Random, number: int, whole: Ended) -> Ended:
        return self.stage.run(command, at=rng.randint(1, whole.steps), act=self._fill)

    def _fill(self) -> None:
        with self._filler.open("wb", buffering=0) as out:
            for size in (1 << 20, 1 << 12):
                try:
                    while out.write(bytes(size)) == size:
                        pass
                except OSError:
                    continue

    def mend(self) -> None:
        self._filler.unlink(missing_ok=True)


class Rights(Kill):
    """The right to write is lost."""

    statuses = (0, 1, 2)

    def run(self, command: Command, rng: random.Random, number: int, whole: Ended) -> Ended:
        return self.stage.run(command, _become_ordinary, at=rng.randint(1, whole.steps), act=self._lose)

    def _lose(self) -> None:
        for path in (self.stage.place, *self.stage.place.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)

    def mend(self) -> None:
        for path in (self.stage.place, *self.stage.place.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)


class Worker(Kill):
    """A worker is killed; of one that has not come up yet Dask gives up, which is a sentence."""

    statuses = (0, 2)

    def run(self, command: Command, rng: random.Random, number: int, whole: Ended) -> Ended:
        return self.stage.run(command, kill_after=rng.uniform(0, whole.seconds), victim=_worker_of)


def _worker_of(process: int) -> int | None:
    with suppress(psutil.NoSuchProcess):
        for child in psutil.Process(process).children():
            if "spawn_main" in " ".join(child.cmdline()):
                return child.pid
    return None


def _become_ordinary() -> None:
    """Give up root's right to write whatever the permissions say."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_CAPABILITIES, 0)
    if libc.capset(header, (ctypes.c_uint32 * 6)()):
        raise OSError(ctypes.get_errno(), "capset")


FAULTS: dict[str, type[Kill]] = {"kill": Kill, "full": Full, "rights": Rights, "worker": Worker}


def meet(faults: list[Kill], command: Command, count: int, seed: int, tell: Callable[[str], None]) -> list[str]:
    """Let each fault happen ``count`` times to a command; what went wrong, if anything did."""
    stage = faults[0].stage
    stage.set(command.before)
    before = stage.files()
    whole = stage.run(command)
    assert whole.status == 0 and "will be ignored" not in whole.said, whole.said  # a library's warning of its own files
    after = stage.files()
    wrong = []
    for fault in faults:
        wrong += _meet(fault, command, count, seed, tell, before, whole, after)
    return wrong


def _meet(
    fault: Kill,
    command: Command,
    count: int,
    seed: int,
    tell: Callable[[str], None],
    before: Files,
    whole: Ended,
    after: Files,
) -> list[str]:
    stage, rng = fault.stage, random.Random(f"{type(fault).__name__} {command.name} {seed}")
    wrong = []
    for number in range(count):
        stage.set(command.before)
        problems, met = [], None
        try:
            met = fault.run(command, rng, number, whole)
            if met.status not in fault.statuses or "Traceback" in met.said:
                problems.append(f"ended with {met.status}: {met.said}")
            fault.mend()
            problems += half_made(stage.files(), before, after)
            again = stage.run(command)
            if again.status:
                problems.append(f"could not be repeated: {again.said}")
            now = stage.files()
            problems += [f"{name} is left over" for name in now if name not in after]
            problems += [f"{name} is another one" for name in after if now.get(name) != after[name]]
        except (OSError, ValueError, TimeoutError) as error:
            problems.append(repr(error))
        finally:
            fault.mend()
        for problem in problems:
            where = (
                f"after {met.steps} of {whole.steps} steps, {met.seconds:.2f} of {whole.seconds:.2f} s" if met else ""
            )
            wrong.append(f"{command.name}, {type(fault).__name__}, trial {number}, {where}: {problem}")
            tell(wrong[-1])
    return wrong


@contextmanager
def small_disk() -> Iterator[Path]:
    """A folder on a disk of its own; any folder where none can be mounted."""
    with tempfile.TemporaryDirectory() as folder:
        mount = ["mount", "-t", "tmpfs", "-o", f"size={_DISK}", "tmpfs", folder]
        mounted = sys.platform == "linux" and not subprocess.run(mount, check=False, capture_output=True).returncode
        try:
            yield Path(folder)
        finally:
            if mounted:
                subprocess.run(["umount", "-l", folder], check=True)


def main() -> None:
    """As the module says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=300, help="of all commands and faults together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fault", choices=FAULTS, nargs="+", default=["kill"])
    parser.add_argument("--only", default="", help="commands whose names hold one of these words, parted by commas")
    args = parser.parse_args()

    def is_meant(name: str) -> bool:
        return any(word in name for word in args.only.split(","))

    commands = [command for command in COMMANDS if is_meant(command.name)]
    each = -(-args.trials // (len(commands) * len(args.fault)))
    problems, trials = 0, each * len(args.fault)

    def tell(line: str) -> None:
        print(line, flush=True)

    with small_disk() as folder:
        stage = Stage(folder)
        faults = [FAULTS[name](stage) for name in args.fault]
        for command in commands:
            began, found = time.monotonic(), meet(faults, command, each, args.seed, tell)
            problems += len(found)
            tell(f"{command.name}: {trials} trials, {len(found)} problems, {time.monotonic() - began:.0f} s")
    tell(f"{problems} problems in {trials * len(commands)} trials")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
