"""Counted sizes in, Table 1 out, with the paper's."""

from __future__ import annotations

from dataclasses import asdict
from functools import cache
from typing import Any

from DiffMaCore.baselines.counting import TABLE_1, count_all
from DiffMaCore.presets import DEPTHS
from Training.reproduce.document import Section, Table, Text

SWAPPED = ("XXL/2", "XXL/4")
"""Rows that the paper's table prints in each other's place (the parameters)."""

_HEAD = (
    "Model",
    "Tokens",
    "Layers",
    "Paper #Params (M)",
    "counted its way (M)",
    "all trainable (M)",
    "Paper FLOPs (G)",
    "counted its way, MACs (G)",
    "as released, MACs (G)",
    "as here, MACs (G)",
)
_NOTE = (
    "The paper's counter hooks modules and never sees what is computed inside a Mamba: its way leaves all of that out,"
    " parameters and multiply-adds. The true numbers hold everything; a multiply-add counts once (two FLOPs). As"
    " released, every direction is projected out by itself; here the directions are summed before, with the same"
    " result. At 224 pixels, one slice, one denoising step."
)


@cache
def table1() -> tuple[dict[str, Any], ...]:
    """Every configuration: what the paper prints ("table_...") and what is counted."""
    return tuple({**asdict(item), "layers": DEPTHS[item.name.split("/")[0]]} for item in count_all())


def table1_section() -> Section:
    """Table 1, with the rows that the paper swapped marked."""
    rows = []
    for row in table1():
        name = row["name"]
        printed = f"{row['table_parameters']:.2f}" + ("*" if name in SWAPPED else "")
        rows.append(
            [
                f"DiffMa-{name}",
                str(row["tokens"]),
                str(row["layers"]),
                printed,
                f"{row['parameters_without_mamba'] / 1e6:.2f}",
                f"{row['parameters'] / 1e6:.2f}",
                f"{row['table_flops']:.2f}",
                f"{row['macs_without_mamba'] / 1e9:.2f}",
                f"{row['macs_released'] / 1e9:.2f}",
                f"{row['macs'] / 1e9:.2f}",
            ]
        )
    first, second = SWAPPED
    swap = (
        f"* The paper prints the parameters of {first} ({TABLE_1[first][0]:.2f} M) and {second}"
        f" ({TABLE_1[second][0]:.2f} M) in each other's place."
    )
    return Section("table1", "Table 1: the models' sizes", [Text(_NOTE), Table(_HEAD, rows), Text(swap)])
