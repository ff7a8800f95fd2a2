"""What bundles are worth on real and rendered heads, as Markdown for people and JSON for programs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from DiffMaCore.training.evaluation.head_measures import LEVELS
from DiffMaCore.training.evaluation.real_heads import means
from DiffMaCore.training.evaluation.tables import RESULTS, TABLE, rows_of
from DiffMaCore.training.files import replacing, write_json

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
    with replacing(folder / TABLE) as part:
        part.write_text(markdown(results), encoding="utf-8", newline="")
    curves = {name: _covers(entry) for name, entry in results["bundles"].items() if _covers(entry)}
    if curves:
        _draw_reliability(curves, folder / RELIABILITY)


def _covers(entry: Mapping[str, Any]) -> list[list[float]]:
    """Of each rendering, how many of its voxels the intervals of ``LEVELS`` cover."""
    cases = entry.get("heads", {}).get("cases", {}).values()
    return [case["uncertainty"]["covers"] for case in cases if "uncertainty" in case]


def _draw_reliability(curves: Mapping[str, list[list[float]]], path: Path) -> None:
    """The share of voxels that intervals cover against the share that they promise: the mean, and every rendering."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2, 4.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="0.6", linestyle="--", linewidth=1, label="as promised")
    for name, covers in curves.items():
        (line,) = axes.plot(LEVELS, np.mean(covers, axis=0), marker="o", markersize=4, linewidth=1.5, label=name)
        for each in covers:
            axes.plot(LEVELS, each, color=line.get_color(), linewidth=0.6, alpha=0.5)
    axes.set(xlabel="promised by the interval", ylabel="truth inside the interval", xlim=(0, 1), ylim=(0, 1))
    axes.set_title("Below the line: too confident", fontsize=10)
    axes.legend(frameon=False, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    with replacing(path) as part:
        figure.savefig(part, dpi=90, format="png")


_HEADS = (
    "Renderings that nobody trained on; inside the head, data range 1, the prediction as it comes. Contrast: difference"
    " of white and grey matter over the truth's. AUC: how often white matter is brighter than cortex (beside the"
    " truth's; below 0.5 the order is reversed, as in T2). Slices: change from slice to slice over the truth's."
    " Deviation: its correlation with the absolute error, that of their ranks, the share of voxels in its 90 %"
    " intervals, and the factor that would make that 90 %."
)


def markdown(results: Mapping[str, Any]) -> str:
    """The report of ``diffma evaluate`` without an experiment: a section for each bundle and kind of heads."""
    options = ", ".join(f"{key} {value}" for key, value in results["options"].items()) or "the bundle's own settings"
    parts = ["# Bundles judged on heads", f"Converted with {options}."]
    for name, entry in results["bundles"].items():
        if "pairs" in entry:
            parts += [
                f"## {name}: paired slices, true {entry['pairs']['contrast'].upper()}",
                _PAIRS,
                pairs_table(entry),
            ]
        if "heads" in entry:
            title = f"## {name}: rendered heads, {entry['heads']['contrast'].upper()}"
            parts += [title, _HEADS, heads_table(entry)]
        if "cts" in entry:
            parts += [f"## {name}: CTs alone, {entry['cts']['contrast'].upper()}", _CTS, cts_table(entry)]
    return "\n\n".join(parts) + "\n"


def pairs_table(entry: Mapping[str, Any]) -> str:
    """One line a patient, and their mean."""
    cases = entry["pairs"]["cases"]
    keys = [f"{image}.{figure}" for figure in ("correlation", "ssim", "psnr") for image in ("mr", "ct")]
    head = ["Patient", "Slices", "Correlation", "of the CT", "SSIM", "of the CT", "PSNR (dB)", "of the CT"]
    rows = [[name, str(case["slices"]), *_pair(means({name: case}, *keys))] for name, case in cases.items()]
    return rows_of(head, [*rows, ["**mean**", "", *_pair(means(cases, *keys))]])


def _pair(figures: Mapping[str, float | None]) -> list[str]:
    return [_number(value, 1 if key.endswith("psnr") else 2) for key, value in figures.items()]


def heads_table(entry: Mapping[str, Any]) -> str:
    """One line a rendering, and their mean."""
    cases = entry["heads"]["cases"]
    digits = {"ssim": 3, "psnr": 1, "contrast": 2, "auc": 2, "auc_truth": 2, "slice_change": 2}
    digits |= {f"uncertainty.{key}": 2 for key in ("correlation", "rank_correlation", "cover", "scale")}
    head = ["Head", "SSIM", "PSNR (dB)", "Contrast", "AUC", "of the truth", "Slices"]
    head += ["Deviation", "Ranks", "Cover", "Factor"]
    lines = {**{name: means({name: case}, *digits) for name, case in cases.items()}, "**mean**": means(cases, *digits)}
    return rows_of(
        head, [[name, *(_number(line[key], n) for key, n in digits.items())] for name, line in lines.items()]
    )


def cts_table(entry: Mapping[str, Any]) -> str:
    """One line a CT, and the means of the two agreements."""
    cases = entry["cts"]["cases"]
    head = ["CT", "CSF", "CSF volume (ml)", "Skull", "Scalp (mm)", "NMI (mirrored)", "Slices", "Verdict"]
    rows = [[name, *_ct(case)] for name, case in cases.items()]
    mean = means(cases, "csf_dice", "skull_dice")
    last = ["**mean**", _number(mean["csf_dice"]), "", _number(mean["skull_dice"]), "", "", "", ""]
    return rows_of(head, [*rows, last])


def _ct(case: Mapping[str, Any]) -> list[str]:
    if "problem" in case:
        return ["-"] * 6 + [case["problem"]]
    return [
        _number(case["csf_dice"]),
        f"{case['csf_ct_ml']:.0f} / {case['csf_mr_ml']:.0f}",
        _number(case["skull_dice"]),
        f"{_number(case['scalp_ct_mm'], 1)} / {_number(case['scalp_mr_mm'], 1)}",
        f"{case['nmi']:.3f} ({case['nmi_mirrored']:.3f})",
        _number(case["slice_change"]),
        case["verdict"],
    ]


def _number(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
