"""Arguments of ``diffma`` in, one command run and its exit status out; errors become one sentence."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import traceback
from contextlib import nullcontext, redirect_stdout, suppress
from types import FrameType
from typing import NoReturn

from DiffMaCore import __version__
from DiffMaCore.cli import watchdog
from DiffMaCore.cli.commands import COMMANDS, add_commands, rank
from DiffMaCore.errors import explain
from DiffMaCore.progress import JsonReporter, Reporter, TerminalReporter

CANCELLED = 130
UNREAD = 141  # as a shell tells of SIGPIPE

DESCRIPTION = """\
DiffMa turns a CT volume into a synthetic MRI, in the CT's own geometry, on any machine.
Research only: synthetic images are not for diagnosis or treatment planning."""

EPILOG = """\
examples:
  diffma demo                                   a phantom, converted, with a side-by-side picture
  diffma convert head_ct.nii.gz head_mr.nii.gz  a volume, with the bundled demo model
  diffma convert DICOM_FOLDER mr.nrrd --model brain --samples 5
  diffma info                                   devices, back ends, and why one is unavailable"""


def build_parser() -> argparse.ArgumentParser:
    """The whole command line; importing it imports no torch."""
    parser = argparse.ArgumentParser(
        prog="diffma", description=DESCRIPTION, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"diffma {__version__}")
    # each module registers its commands; they are shown in this order
    from DiffMaCore.cli import convert, check, demo, info, models  # noqa: I001, F401
    from DiffMaCore.cli import benchmark, training, evaluate  # noqa: F401

    add_commands(parser, COMMANDS)
    return parser


def main(argv: list[str] | None = None, parser: argparse.ArgumentParser | None = None) -> int:
    """Run one command; returns the exit status (0 done, 1 some volumes failed, 2 error, 130 cancelled).

    ``parser`` is of a program other than ``diffma`` whose commands set ``run`` as ours do.
    """
    words = sys.argv[1:] if argv is None else argv
    parser = parser or build_parser()
    args = parser.parse_args(words)
    args.words = [*parser.prog.split(), *words]
    signal.signal(signal.SIGTERM, _cancel)
    if args.parent_watchdog:
        watchdog.hold()
    logging.basicConfig(level=logging.INFO if args.verbose else logging.WARNING, format="%(message)s")
    args.reporter = _reporter(args)
    try:
        args.reporter.hello(pid=os.getpid(), version=__version__)
        with redirect_stdout(sys.stderr) if args.progress == "json" else nullcontext():
            return args.run(args)
    except (Exception, KeyboardInterrupt) as error:
        return _failed(error, args)
    finally:
        args.reporter.close()


def _reporter(args: argparse.Namespace) -> Reporter:
    """The reporter that the options ask for; of several processes that train together one talks."""
    if rank() != 0:
        return Reporter()
    return JsonReporter(getattr(args, "previews", None)) if args.progress == "json" else TerminalReporter()


def program(parser: argparse.ArgumentParser | None = None) -> NoReturn:
    """``diffma`` as a program: :func:`main`, and then the end without a delay.

    Python would first take the modules of torch and diffusers apart piece by piece, which takes over a second.
    """
    # threads that wait leave the core to others: twice as fast while another program is busy, and no slower alone
    for name, value in (("OMP_WAIT_POLICY", "PASSIVE"), ("KMP_BLOCKTIME", "0")):
        os.environ.setdefault(name, value)
    try:
        status = main(parser=parser)
    except BrokenPipeError:  # whoever read, such as `head`, has seen enough
        status = UNREAD
    logging.shutdown()
    with suppress(BrokenPipeError):
        sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _failed(error: BaseException, args: argparse.Namespace) -> int:
    """Tell what went wrong to whoever listens; returns the exit status."""
    failure = explain(error)
    if rank("LOCAL_RANK") and not failure.trace and failure.kind != "OutOfMemory":
        return CANCELLED if failure.kind == "Cancelled" else 2  # the first process of this machine says the same
    if failure.trace and args.progress == "bar" and failure.kind == "Unexpected":
        raise error
    if failure.trace or args.verbose:
        traceback.print_exception(error)
    if args.progress == "json" and rank() == 0:
        package = {"package": failure.package} if failure.package else {}
        args.reporter.error(failure.message, failure.kind, **package)
    else:
        print(f"diffma: {failure.message}", file=sys.stderr)
    if failure.kind != "Cancelled":
        return 2
    if args.parent_watchdog:
        watchdog.end_children()
    return CANCELLED


def _cancel(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    program()
