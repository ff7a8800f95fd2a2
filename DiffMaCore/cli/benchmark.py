"""``diffma benchmark``: how fast this machine is, by comparisons within one process."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from DiffMaCore.errors import InputError, OutputError

EXPLANATION = """\
scan   every selective-scan back end against the plain reference that keeps a (B, D, L, N) tensor, forward and
       forward with backward; they take turns, and a ratio compares times of the same round"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "benchmark",
        help="measure how fast this machine is",
        description="Compare speeds within one process and state the machine.",
        epilog=EXPLANATION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", choices=("scan",), metavar="WHAT", help="what to compare: scan")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1 or mps")
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's own choice)")
    parser.add_argument("--rounds", type=int, default=10, help="rounds in which all take turns (default 10)")
    parser.add_argument("--batch", type=int, default=8, help="samples (default 8)")
    parser.add_argument("--channels", type=int, default=1024, help="channels D (default 1024)")
    parser.add_argument("--tokens", type=int, default=196, help="tokens L (default 196)")
    parser.add_argument("--states", type=int, default=16, help="states N of each channel (default 16)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to a file")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    import torch

    from DiffMaCore.benchmark import benchmark_scan
    from DiffMaCore.devices import choose_device

    device = choose_device(args.device)
    if args.threads is not None and args.threads < 1:
        raise InputError(f"{args.threads} threads cannot work; give at least 1 or leave --threads out")
    if args.json is not None and not args.json.parent.is_dir():
        raise OutputError(f"the folder of {args.json} does not exist; make it or choose another file")
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    figures = benchmark_scan(
        args.batch,
        args.channels,
        args.tokens,
        args.states,
        device,
        args.rounds,
        lambda line: print(line, file=sys.stderr),
    )
    print(_table(figures))
    if args.json is not None:
        try:
            args.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise OutputError(
                f"{args.json} cannot be written ({error.strerror}); choose another file"
            ) from error
    return 0


def _table(figures: dict[str, Any]) -> str:
    machine, shape = figures["machine"], figures["shape"]
    load = "" if machine["load_average"] is None else f", load {machine['load_average']:.1f}"
    lines = [
        f"{machine['processor']}, device {machine['device']}, {machine['threads']} threads{load}, "
        f"torch {machine['torch']}, Python {machine['python']}",
        "selective scan, "
        + ", ".join(f"{name} {value}" for name, value in shape.items())
        + f", {figures['rounds']} rounds",
        "",
        f"{'median':>41}{'min..max':>21}{'times as fast':>15}{'min..max':>16}{'rel. error':>12}",
    ]
    for row in figures["results"]:
        times = f"{row['min_s'] * 1e3:.2f}..{row['max_s'] * 1e3:.2f}"
        ratios = f"{row['ratio_min']:.1f}..{row['ratio_max']:.1f}"
        lines.append(
            f"{row['discipline']:<18}{row['contestant']:<12}{row['median_s'] * 1e3:>8.2f} ms{times:>21}"
            f"{row['ratio']:>15.1f}{ratios:>16}{row['relative_error']:>12.1e}"
        )
    lines += [f"{name} was left out: {reason}" for name, reason in figures["unavailable"].items()]
    return "\n".join(lines)
