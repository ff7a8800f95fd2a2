"""Entry point of ``diffma``: parses arguments, runs one command, turns errors into one sentence."""

from __future__ import annotations

import argparse
import importlib
import logging
import signal
import sys
from types import FrameType

from DiffMaCore import __version__
from DiffMaCore.errors import DiffMaError

COMMANDS = ("convert", "demo", "info", "summary", "models", "import_released", "benchmark")
CANCELLED = 130

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
    parser.set_defaults(verbose=False)
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in COMMANDS:
        importlib.import_module(f"DiffMaCore.cli.{name}").add_parser(subparsers)
    for command in subparsers.choices.values():
        command.add_argument("--verbose", action="store_true", help="log what is chosen and why, and show tracebacks")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit status (0 done, 1 some volumes failed, 2 error, 130 cancelled)."""
    args = build_parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO if args.verbose else logging.WARNING, format="%(message)s")
    signal.signal(signal.SIGTERM, _cancel)
    try:
        return args.run(args)
    except KeyboardInterrupt:
        print("diffma: cancelled; nothing half-written was left behind", file=sys.stderr)
        return CANCELLED
    except DiffMaError as error:
        if args.verbose:
            logging.exception("the error came from here")
        print(f"diffma: {error}", file=sys.stderr)
        return 2


def _cancel(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
