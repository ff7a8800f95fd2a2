"""``diffma packages``: are the packages that DiffMa needs installed in this Python?"""

from __future__ import annotations

import argparse
from pathlib import Path

from DiffMaCore.cli.reporting import add_progress_option, answer


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "packages",
        help="compare the installed packages with a requirements file",
        description="Compare this Python's packages with a requirements file; none of them is imported.",
    )
    parser.add_argument(
        "--requirements", type=Path, metavar="FILE", help="as pip reads it (default: what DiffMaCore itself needs)"
    )
    add_progress_option(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Tell what is installed; returns 0 whether or not something is missing."""
    from DiffMaCore.packages import check_packages

    facts = check_packages(args.requirements)
    lines = [f"Python {facts['python']} ({facts['executable']})"]
    for package in facts["packages"]:
        has = package["installed"] or "not installed"
        needs = "" if package["ok"] else f"; needs {package['required'] or 'any version'}"
        lines.append(f"  {package['name']:<20} {has}{needs}")
    answer(args, facts, "\n".join(lines))
    return 0
