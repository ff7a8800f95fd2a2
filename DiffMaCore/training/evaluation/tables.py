"""The results as Markdown for people, CSV for spreadsheets and JSON for programs; the three hold the same figures."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from DiffMaCore.errors import InputError
from DiffMaCore.training.evaluation.scores import FIGURES, REGIONS
from DiffMaCore.training.files import replacing, write_json

RESULTS, TABLE, SUMMARY_CSV, CASES_CSV, PICTURE = (
    "results.json",
    "table.md",
    "table.csv",
    "cases.csv",
    "calibration.png",
)
_HEADS = {
    "mask": "Inside the mask",
    "slice": "Over the whole slice",
}
_FORMATS: dict[str, tuple[str, Callable[[float], str]]] = {
    "ssim": ("SSIM (%)", lambda value: f"{100 * value:.2f}"),
    "psnr": ("PSNR (dB)", lambda value: f"{value:.2f}"),
    "mse": ("MSE", lambda value: f"{value:.5f}"),
    "mae": ("MAE", lambda value: f"{value:.4f}"),
    "mse_8bit": ("MSE (8-bit)", lambda value: f"{value:.1f}"),
}
_SHOWN = ("ssim", "psnr", "mse_8bit", "mae")
_PAPER = (
    "SSIM in % and MSE (8-bit: times 255 squared) are on the scales of the paper's Table 2. Its own normalisation,"
    " data range and region are not known, and its PSNR and MSE cannot be reproduced, so its figures stand beside"
    " these and cannot be subtracted from them."
)

Results = Mapping[str, Any]


def write(results: Results, folder: Path) -> None:
    """All tables into ``folder``, each whole or not at all.

    Raises OutputError when the disk is full.
    """
    write_json(folder / RESULTS, results)
    texts = {TABLE: markdown(results), SUMMARY_CSV: summary_csv(results), CASES_CSV: cases_csv(results)}
    for name, text in texts.items():
        with replacing(folder / name) as part:
            part.write_text(text, encoding="utf-8", newline="")


def read_results(folder: Path) -> dict[str, Any]:
    """What an evaluation left in ``folder``; raises InputError where there was none."""
    try:
        return json.loads((folder / RESULTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise InputError(f"there are no results in {folder}; run `diffma evaluate` first") from None


def markdown(results: Results) -> str:
    """The whole report of an evaluation, for people."""
    settings = results["settings"]
    count = len(results["cases"])
    parts = [
        f"# {results['title']}: {count} {results['split']} patient{'' if count == 1 else 's'}",
        f"{results['normalisation']} {results['definitions']}",
        f"Sampling: {settings['steps']} steps of {settings['scheduler']}, {settings['samples']} samples, seed"
        f" {settings['seed']}. Ranked by {results['ranked_by']}; references are not ranked. Each cell: mean ± standard"
        " deviation over patients, and the 95 % interval of the mean.",
        _PAPER,
        "\n".join(f"- {note}" for note in results["notes"]),
    ]
    for region in REGIONS:
        parts += [f"## {_HEADS[region]}", _table(results, region, "summary")]
    if any(entry["single"] for entry in results["systems"].values()):
        text = "What one answer of every system is worth, ranked anew: the sampling ones by their first sample."
        parts += ["## One sample alone, inside the mask", text, _table(results, "mask", "single")]
    parts += [*_differences(results), "## From slice to slice", _consistency(results), *_calibration(results)]
    return "\n\n".join(parts) + "\n"


def _table(results: Results, region: str, which: str) -> str:
    head = ["Rank", "System", "Parameters (M)", "Image", *(_FORMATS[figure][0] for figure in _SHOWN), "s / slice"]
    entries = list(results["systems"].values())
    rank = "rank_single" if which == "single" else "rank"
    rows = []
    for entry in sorted(entries, key=lambda entry: entry[rank] or len(entries)):
        alone = entry["single"] if which == "single" else None
        summary, image = (alone["summary"], "one sample") if alone else (entry["summary"], entry["estimate"])
        figures = [cell(summary[region][figure], _FORMATS[figure][1]) for figure in _SHOWN]
        seconds = "-" if alone else f"{entry['seconds_per_slice']:.2f}"
        rows.append([_whole(entry[rank]), entry["title"], _millions(entry), image, *figures, seconds])
    return rows_of(head, rows)


def cell(summary: Mapping[str, Any], form: Callable[[float], str], signed: bool = False) -> str:
    """Mean, deviation and interval as one cell, with a plus if ``signed``; what does not exist is left out."""

    def place(value: float) -> str:
        return ("+" if signed and value > 0 else "") + form(value)

    if summary["mean"] is None:
        return "-"
    text = place(summary["mean"])
    if summary["sd"] is not None:
        text += f" ± {form(summary['sd'])}"
    if summary["ci95"] is not None:
        text += f" [{place(summary['ci95'][0])}, {place(summary['ci95'][1])}]"
    return text


def rows_of(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *([text.replace("|", "\\|") for text in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def ranking(results: Results) -> str:
    """The first table in short, for a terminal."""
    width = max(len(entry["title"]) for entry in results["systems"].values())
    lines = [f"{'':>3} {'inside the mask':<{width}}  {'SSIM (%)':<28}PSNR (dB)"]
    for entry in results["systems"].values():
        ssim, psnr = (cell(entry["summary"]["mask"][figure], _FORMATS[figure][1]) for figure in ("ssim", "psnr"))
        lines.append(f"{_whole(entry['rank']):>3} {entry['title']:<{width}}  {ssim:<28}{psnr}")
    return "\n".join(lines)


def _differences(results: Results) -> list[str]:
    there = [entry for entry in results["systems"].values() if entry["against_diffma"]]
    if not there:
        return []
    head = ["System minus DiffMa", *(_FORMATS[figure][0] for figure in _SHOWN)]
    rows = [
        [
            entry["title"],
            *(cell(entry["against_diffma"]["mask"][figure], _FORMATS[figure][1], signed=True) for figure in _SHOWN),
        ]
        for entry in there
    ]
    text = (
        "Patient by patient, inside the mask. An interval that holds 0 means that these patients do not tell the two"
        " apart. SSIM and PSNR above 0, MSE and MAE below 0: better than DiffMa."
    )
    return ["## Against DiffMa", text, rows_of(head, rows)]


def _consistency(results: Results) -> str:
    rows = [
        [entry["title"], entry["estimate"], cell(entry["summary"]["consistency"], lambda value: f"{value:.2f}")]
        for entry in results["systems"].values()
    ]
    rows += [
        [entry["title"], "one sample", cell(entry["single"]["summary"]["consistency"], lambda value: f"{value:.2f}")]
        for entry in results["systems"].values()
        if entry["single"]
    ]
    text = (
        "Mean absolute change between neighbouring slices inside the mask, as a multiple of the true images' own: 1 is"
        " right, above 1 the volume flickers, below 1 it changes less from slice to slice than the patient does."
    )
    return f"{text}\n\n{rows_of(['System', 'Image', 'Change'], rows)}"


def _calibration(results: Results) -> list[str]:
    there = [entry for entry in results["systems"].values() if entry["calibration"]]
    if not there:
        return []
    samples = results["settings"]["samples"]
    text = (
        f"The standard deviation of {samples} samples against the error of their mean, voxel by voxel inside the mask."
        " Ratio: the error that the deviation promises, over the error that is made (1 is right, below 1 too"
        " confident). Calibration error: mean distance of promised and made error over ten groups of voxels, in shares"
        " of the data range. Rank correlation of deviation and absolute error, mean over patients: 1 if the largest"
        f" deviations mark the largest errors, 0 if they say nothing. The deviation of {samples} samples is itself"
        " uncertain, which flattens the curve and lowers the correlation; it tells how far the model is from itself,"
        " and knows nothing of what the model was never shown."
    )
    rows = [
        [
            entry["title"],
            _figure(entry["calibration"]["ratio"], 2),
            _figure(entry["calibration"]["error"], 4),
            _figure(entry["calibration"]["spearman"]["mean"], 2),
            entry["calibration"]["meaning"],
        ]
        for entry in there
    ]
    head = ["System", "Ratio", "Calibration error", "Rank correlation", "Meaning"]
    return ["## Does a high uncertainty mean a large error?", text, rows_of(head, rows), f"![calibration]({PICTURE})"]


def summary_csv(results: Results) -> str:
    """One line per system, image and region; every figure with mean, sd, low, high and n."""
    head = ["rank", "system", "title", "kind", "parameters", "image", "region"]
    head += [f"{figure}_{part}" for figure in (*FIGURES, "consistency") for part in ("mean", "sd", "low", "high", "n")]
    rows = []
    for key, entry, image, _, summary in _estimates(results):
        facts = [entry["rank"], key, entry["title"], entry["kind"], entry["parameters"], image]
        for region in REGIONS:
            figures = [*(summary[region][figure] for figure in FIGURES), summary["consistency"]]
            numbers = [
                value
                for item in figures
                for value in (item["mean"], item["sd"], *(item["ci95"] or (None, None)), item["n"])
            ]
            rows.append([*facts, region, *numbers])
    return _csv(head, rows)


def cases_csv(results: Results) -> str:
    """One line per system, image, case and region."""
    head = ["system", "image", "case", "region", *FIGURES, "consistency"]
    rows = [
        [key, image, name, region, *(case[region][figure] for figure in FIGURES), case["consistency"]]
        for key, _, image, cases, _ in _estimates(results)
        for name, case in cases.items()
        for region in REGIONS
    ]
    return _csv(head, rows)


def _estimates(results: Results) -> Iterator[tuple[str, Any, str, Any, Any]]:
    """Key, entry, image, cases and summary: of every system, and again of its single samples."""
    for key, entry in results["systems"].items():
        yield key, entry, entry["estimate"], entry["cases"], entry["summary"]
        if entry["single"]:
            yield key, entry, "one sample", entry["single"]["cases"], entry["single"]["summary"]


def _csv(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return text.getvalue()


def _figure(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _whole(value: int | None) -> str:
    return "-" if value is None else str(value)


def _millions(entry: Mapping[str, Any]) -> str:
    return f"{entry['parameters'] / 1e6:.2f}" if entry["parameters"] else "-"
