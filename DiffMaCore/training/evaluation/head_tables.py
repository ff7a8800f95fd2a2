"""Measures of bundles on real and rendered heads in, Markdown for people and JSON for programs out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from DiffMaCore.training.evaluation.calibration import axes_in
from DiffMaCore.training.evaluation.head_measures import LEVELS
from DiffMaCore.training.evaluation.heads import means
from DiffMaCore.training.evaluation.tables import RESULTS, TABLE, number
from DiffMaCore.training.files import rows_of, write_json, write_text

RELIABILITY = "reliability.png"

_PAIRS = (
    "Inside the skull, after a linear fit of each image to the true MRI (two parameters, patient by patient);"
    " correlation is Pearson's, SSIM is taken slice by slice, data range between the truth's 0.5 and 99.5 percentiles."
    " The CT itself, fitted likewise, is what a model must surpass. The CT slices are 8-bit pictures of a brain window:"
    " bone and fat were given usual HU, and the size of a pixel is that of an average brain unless it was given."
)
_CTS = (
    "No true MRI is needed. CSF: Dice of the fluid inside the skull in CT and MRI, and its volume, CT / MRI."
    " Skull: Dice of compact bone and darkness. The true MRI of a rendered head reaches 0.83 to 0.89. Scalp: median"
    " thickness over the upper skull, CT / MRI. NMI: normalised mutual information of CT and MRI, and of the CT and the"
    " mirrored MRI. Slices: change from slice to slice over that at the same distance within slices; about 1 is right."
)


def write(results: Mapping[str, Any], folder: Path) -> None:
    """``results.json``, ``table.md`` and, where there are deviations, ``reliability.png`` in ``folder``.

    Raises OutputError when they cannot be written.
    """
    write_json(folder / RESULTS, results)
    write_text(folder / TABLE, markdown(results))
    curves = {name: _covers(entry) for name, entry in results["bundles"].items() if _covers(entry)}
    if curves:
        _draw_reliability(curves, folder / RELIABILITY)


def _covers(entry: Mapping[str, Any]) -> list[list[float]]:
    """Of each rendering, how many of its voxels the intervals of ``LEVELS`` cover."""
    cases = entry.get("heads", {}).get("cases", {}).values()
    return [case["uncertainty"]["covers"] for case in cases if "uncertainty" in case]


def _draw_reliability(curves: Mapping[str, list[list[float]]], path: Path) -> None:
    """The share of voxels that intervals cover against the share that they promise: the mean, and every rendering."""
    with axes_in(path, (4.2, 4.0), 90) as axes:
        axes.plot([0, 1], [0, 1], color="0.6", linestyle="--", linewidth=1, label="as promised")
        for name, covers in curves.items():
            label = (
                name if len(curves) > 1 else "measured"
            )  # a card shows it, and no folder of the machine that drew it
            (line,) = axes.plot(LEVELS, np.mean(covers, axis=0), marker="o", markersize=4, linewidth=1.5, label=label)
            for each in covers:
                axes.plot(LEVELS, each, color=line.get_color(), linewidth=0.6, alpha=0.5)
        axes.set(xlabel="promised by the interval", ylabel="truth inside the interval", xlim=(0, 1), ylim=(0, 1))
        axes.set_title("Below the line: too confident")


_HEADS = (
    "Renderings that nobody trained on; inside the head, data range 1, the prediction as it comes. Contrast: difference"
    " of white and grey matter over the truth's. AUC: how often white matter is brighter than cortex (next to the"
    " truth's; below 0.5 the order is reversed, as in T2). Slices: change from slice to slice over the truth's."
    " Deviation: its correlation with the absolute error, that of their ranks, the share of voxels in its 90 %"
    " intervals, and the factor that would make that 90 %."
)


def markdown(results: Mapping[str, Any]) -> str:
    """The report of ``diffma evaluate`` without an experiment: a section for each bundle and kind of heads."""
    options = ", ".join(f"{key} {value}" for key, value in results["options"].items()) or "the bundle's own settings"
    parts = ["# Bundles judged on heads", f"Converted with {options}."]
    kinds = {
        "pairs": ("paired slices, true ", _PAIRS, _pairs_table),
        "heads": ("rendered heads, ", _HEADS, _heads_table),
        "cts": ("CTs alone, ", _CTS, _cts_table),
    }
    for name, entry in results["bundles"].items():
        for kind, (title, text, table) in kinds.items():
            if kind in entry:
                judged = entry[kind]
                parts += [f"## {name}: {title}{judged['contrast'].upper()}", text, table(judged["cases"])]
    return "\n\n".join(parts) + "\n"


def _pairs_table(cases: dict[str, Any]) -> str:
    """One line a patient, and their mean."""
    shown = {"correlation": 2, "ssim": 2, "psnr": 1}
    digits = {f"{image}.{key}": n for key, n in shown.items() for image in ("mr", "ct")}
    head = ["Patient", "Slices", "Correlation", "of the CT", "SSIM", "of the CT", "PSNR (dB)", "of the CT"]
    rows = [[name, str(cases[name]["slices"]) if name in cases else "", *line] for name, *line in _lines(cases, digits)]
    return rows_of(head, rows)


def _heads_table(cases: dict[str, Any]) -> str:
    """One line a rendering, and their mean."""
    digits = {"ssim": 3, "psnr": 1, "contrast": 2, "auc": 2, "auc_truth": 2, "slice_change": 2}
    digits |= {f"uncertainty.{key}": 2 for key in ("correlation", "rank_correlation", "cover", "scale")}
    head = ["Head", "SSIM", "PSNR (dB)", "Contrast", "AUC", "of the truth", "Slices"]
    return rows_of([*head, "Deviation", "Ranks", "Cover", "Factor"], _lines(cases, digits))


def _lines(cases: dict[str, Any], digits: Mapping[str, int]) -> list[list[str]]:
    """Name and metrics of every case, and their mean."""
    lines = {**{name: means({name: case}, *digits) for name, case in cases.items()}, "**mean**": means(cases, *digits)}
    return [[name, *(number(line[key], n) for key, n in digits.items())] for name, line in lines.items()]


def _cts_table(cases: dict[str, Any]) -> str:
    """One line a CT, and the means of the two agreements."""
    head = ["CT", "CSF", "CSF volume (ml)", "Skull", "Scalp (mm)", "NMI (mirrored)", "Slices", "Verdict"]
    mean = means(cases, "csf_dice", "skull_dice")
    last = ["**mean**", number(mean["csf_dice"]), "", number(mean["skull_dice"]), "", "", "", ""]
    return rows_of(head, [*([name, *_ct(case)] for name, case in cases.items()), last])


def _ct(case: Mapping[str, Any]) -> list[str]:
    if "problem" in case:
        return ["-"] * 6 + [case["problem"]]
    return [
        number(case["csf_dice"]),
        f"{case['csf_ct_ml']:.0f} / {case['csf_mr_ml']:.0f}",
        number(case["skull_dice"]),
        f"{number(case['scalp_ct_mm'], 1)} / {number(case['scalp_mr_mm'], 1)}",
        f"{case['nmi']:.3f} ({case['nmi_mirrored']:.3f})",
        number(case["slice_change"]),
        case["verdict"],
    ]
