"""``diffma summary``: parameters and multiply-adds of every configuration, beside the paper's Table 1."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from DiffMaCore.errors import InputError

if TYPE_CHECKING:
    from DiffMaCore.baselines.counting import Count

EXPLANATION = """\
params        trainable parameters, all of them
- no Mamba    without everything inside the Mambas: the rule of the paper's Table 1, whose counter hooks modules
Table 1       the paper's figures (its rows XXL/2 and XXL/4 are swapped)
MACs          multiply-adds for one slice and one step; "released" projects out once a direction, ours once in all"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "summary",
        help="print the size of every configuration beside the paper's Table 1",
        description="Count parameters and multiply-adds of all 15 configurations (S, B, L, XL, XXL x patch 7, 4, 2).",
        epilog=EXPLANATION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--image-size", type=int, default=224, help="side of the slice in pixels (default 224)")
    parser.add_argument("--json", action="store_true", help="print JSON for machines")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from dataclasses import asdict

    from DiffMaCore.baselines.counting import count_all

    if args.image_size < 8 or args.image_size % 8:
        raise InputError(f"an image of {args.image_size} px cannot be encoded; give a multiple of 8, such as 256")
    counts = count_all(args.image_size)
    if args.json:
        print(json.dumps([asdict(item) for item in counts], indent=2))
        return 0
    print(_table(counts))
    print()
    print(EXPLANATION)
    return 0


def _table(counts: list[Count]) -> str:
    head = (
        f"{'':>7}{'':>8}{'parameters (M)':>31}   {'multiply-adds (G)':>46}\n"
        f"{'config':>7}{'tokens':>8}{'params':>11}{'- no Mamba':>11}{'Table 1':>9}   "
        f"{'MACs':>10}{'released':>10}{'- no Mamba':>11}{'Table 1 FLOPs':>15}"
    )
    rows = [
        f"{c.name:>7}{c.tokens:>8}{c.parameters / 1e6:>11.3f}{c.parameters_without_mamba / 1e6:>11.3f}"
        f"{_figure(c.table_parameters):>9}   {c.macs / 1e9:>10.3f}{c.macs_released / 1e9:>10.3f}"
        f"{c.macs_without_mamba / 1e9:>11.3f}{_figure(c.table_flops):>15}"
        for c in counts
    ]
    return "\n".join([head, *rows])


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
