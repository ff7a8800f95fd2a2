"""An evaluation's results in, the same numbers as Markdown, CSV and JSON out."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from DiffMaCore.errors import InputError
from DiffMaCore.training.evaluation.scores import METRICS, REGIONS
from DiffMaCore.training.files import rows_of, write_json, write_text

RESULTS, TABLE, PICTURE = "results.json", "table.md", "calibration.png"
SUMMARY_CSV, CASES_CSV = "table.csv", "cases.csv"
_HEADS = {"mask": "Inside the mask", "slice": "Over the whole slice"}
_FORMATS: dict[str, tuple[str, Callable[[float], str]]] = {
    "ssim": ("SSIM (%)", lambda value: f"{100 * value:.2f}"),
    "psnr": ("PSNR (dB)", lambda value: f"{value:.2f}"),
    "mse_8bit": ("MSE (8-bit)", lambda value: f"{value:.1f}"),
    "mae": ("MAE", lambda value: f"{value:.4f}"),
}
_SHOWN = [title for title, _ in _FORMATS.values()]
_PAPER = (
    "SSIM in % and MSE (8-bit: times 255 squared) are on the scales of the paper's Table 2. Its own normalisation,"
    " data range and region are not known, and its PSNR and MSE cannot be reproduced, so its metrics stand next to"
    " these and cannot be subtracted from them."
)
_DIFFERENCES = (
    "Patient by patient, inside the mask. An interval that holds 0 means that these patients do not tell the two"
    " apart. SSIM and PSNR above 0, MSE and MAE below 0: better than DiffMa."
)
_CONSISTENCY = (
    "Mean absolute change between neighbouring slices inside the mask, as a multiple of the true images' own: 1 is"
    " right, above 1 the volume flickers, below 1 it changes less from slice to slice than the patient does."
)
_CALIBRATION = (
    "The standard deviation of {0} samples against the error of their mean, voxel by voxel inside the mask."
    " Ratio: the error that the deviation promises, over the error that is made (1 is right, below 1 too"
    " confident). Calibration error: mean distance of promised and made error over ten groups of voxels, in shares"
    " of the data range. Rank correlation of deviation and absolute error, mean over patients: 1 if the largest"
    " deviations mark the largest errors, 0 if they say nothing. The deviation of {0} samples is itself"
    " uncertain, which flattens the curve and lowers the correlation; it tells how far the model is from itself,"
    " and knows nothing of what the model was never shown."
)

Results = Mapping[str, Any]


def write(results: Results, folder: Path) -> None:
    """All tables into ``folder``, each whole or not at all. Raises OutputError when the disk is full."""
    write_json(folder / RESULTS, results)
    write_text(folder / TABLE, _markdown(results))
    write_text(folder / SUMMARY_CSV, _summary_csv(results))
    write_text(folder / CASES_CSV, _cases_csv(results))


def read_results(folder: Path) -> dict[str, Any]:
    """What an evaluation left in ``folder``; raises InputError where there was none."""
    try:
        return json.loads((folder / RESULTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise InputError(f"there are no results in {folder}; run `diffma evaluate` first") from None


def _markdown(results: Results) -> str:
    """The whole report of an evaluation, for people."""
    settings, count, entries = results["settings"], len(results["cases"]), results["systems"].values()
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
        parts += [f"## {_HEADS[region]}", _table(entries, region)]
    if any(entry["single"] for entry in entries):
        text = "What one answer of every model is worth, ranked anew: the sampling ones by their first sample."
        parts += ["## One sample alone, inside the mask", text, _table(entries, "mask", single=True)]
    against = [entry for entry in entries if entry["against_diffma"]]
    if against:
        rows = [[e["title"], *_cells(e["against_diffma"]["mask"], signed=True)] for e in against]
        parts += ["## Against DiffMa", _DIFFERENCES, rows_of(["Model minus DiffMa", *_SHOWN], rows)]
    shown = sorted(_estimates(results), key=lambda each: each[3] is not each[1]["cases"])
    rows = [[e["title"], image, cell(summary["consistency"], "{:.2f}".format)] for _, e, image, _, summary in shown]
    parts += ["## From slice to slice", _CONSISTENCY, rows_of(["Model", "Image", "Change"], rows)]
    judged = [(entry["title"], entry["calibration"]) for entry in entries if entry["calibration"]]
    if judged:
        head = ["Model", "Ratio", "Calibration error", "Rank correlation", "Meaning"]
        rows = [
            [title, number(c["ratio"]), number(c["error"], 4), number(c["spearman"]["mean"]), c["meaning"]]
            for title, c in judged
        ]
        text = _CALIBRATION.format(settings["samples"])
        parts += ["## Does a high uncertainty mean a large error?", text, rows_of(head, rows)]
        parts.append(f"![calibration]({PICTURE})")
    return "\n\n".join(parts) + "\n"


def _table(entries: Iterable[Any], region: str, single: bool = False) -> str:
    head = ["Rank", "Model", "Parameters (M)", "Image", *_SHOWN, "s / slice"]
    which = "rank_single" if single else "rank"
    rows = []
    for entry in sorted(entries, key=lambda entry: entry[which] or float("inf")):
        alone = entry["single"] if single else None
        image, seconds = ("one sample", "-") if alone else (entry["estimate"], number(entry["seconds_per_slice"]))
        facts = [number(entry[which], 0), entry["title"], number(entry["parameters"] / 1e6 or None), image]
        rows.append([*facts, *_cells((alone or entry)["summary"][region]), seconds])
    return rows_of(head, rows)


def _cells(summary: Mapping[str, Any], signed: bool = False) -> list[str]:
    return [cell(summary[metric], form, signed) for metric, (_, form) in _FORMATS.items()]


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


def number(value: float | None, digits: int = 2) -> str:
    """A metric in a cell; "-" where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"


def ranking(results: Results) -> str:
    """The first table in short, for a terminal."""
    width = max(len(entry["title"]) for entry in results["systems"].values())
    lines = [f"{'':>3} {'inside the mask':<{width}}  {'SSIM (%)':<28}PSNR (dB)"]
    for entry in results["systems"].values():
        ssim, psnr, *_ = _cells(entry["summary"]["mask"])
        lines.append(f"{number(entry['rank'], 0):>3} {entry['title']:<{width}}  {ssim:<28}{psnr}")
    return "\n".join(lines)


def _summary_csv(results: Results) -> str:
    """One line per model, image and region; every metric with mean, sd, low, high and n."""
    head = ["rank", "system", "title", "kind", "parameters", "image", "region"]
    head += [f"{metric}_{part}" for metric in (*METRICS, "consistency") for part in ("mean", "sd", "low", "high", "n")]
    rows = []
    for key, entry, image, _, summary in _estimates(results):
        for region in REGIONS:
            row = [entry["rank"], key, entry["title"], entry["kind"], entry["parameters"], image, region]
            for item in (*(summary[region][metric] for metric in METRICS), summary["consistency"]):
                row += [item["mean"], item["sd"], *(item["ci95"] or (None, None)), item["n"]]
            rows.append(row)
    return _csv(head, rows)


def _cases_csv(results: Results) -> str:
    """One line per model, image, case and region."""
    rows = [
        [key, image, name, region, *(case[region][metric] for metric in METRICS), case["consistency"]]
        for key, _, image, cases, _ in _estimates(results)
        for name, case in cases.items()
        for region in REGIONS
    ]
    return _csv(["system", "image", "case", "region", *METRICS, "consistency"], rows)


def _estimates(results: Results) -> Iterator[tuple[str, Any, str, Any, Any]]:
    """Key, entry, image, cases and summary: of every model, and again of its single samples."""
    for key, entry in results["systems"].items():
        yield key, entry, entry["estimate"], entry["cases"], entry["summary"]
        if entry["single"]:
            yield key, entry, "one sample", entry["single"]["cases"], entry["single"]["summary"]


def _csv(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([head, *rows])
    return text.getvalue()
