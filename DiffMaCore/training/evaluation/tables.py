"""Results in, the same numbers as Markdown, CSV and JSON out: of an experiment's models, and of bundles on heads."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from DiffMaCore.errors import InputError
from DiffMaCore.files import read_facts, write_json, write_text
from DiffMaCore.reports import report, rows_of
from DiffMaCore.training.evaluation.calibration import axes_in
from DiffMaCore.training.evaluation.scores import LEVELS, REGIONS

RESULTS, TABLE, PICTURE, RELIABILITY = "results.json", "table.md", "calibration.png", "reliability.png"
_FORMATS: dict[str, tuple[str, Callable[[float], str]]] = {
    "ssim": ("SSIM (%)", lambda value: f"{100 * value:.2f}"),
    "psnr": ("PSNR (dB)", lambda value: f"{value:.2f}"),
    "mse_8bit": ("MSE (8-bit)", lambda value: f"{value:.1f}"),
    "mae": ("MAE", lambda value: f"{value:.4f}"),
}
_SHOWN = [title for title, _ in _FORMATS.values()]

Results = Mapping[str, Any]


def write(results: Results, folder: Path) -> None:
    """All tables into ``folder``, each whole or not at all. Raises OutputError when the disk is full."""
    write_json(folder / RESULTS, results)
    write_text(folder / TABLE, _markdown(results))
    write_text(folder / "table.csv", _csv(_summaries(results)))
    write_text(folder / "cases.csv", _csv(_cases(results)))


def read_results(folder: Path) -> dict[str, Any]:
    """What an evaluation left in ``folder``; raises InputError where there was none."""
    if results := read_facts(folder / RESULTS):
        return results
    raise InputError(f"there are no results in {folder}; run `diffma evaluate` first")


def _markdown(results: Results) -> str:
    entries = results["systems"].values()
    tables = {region: _table(entries, region) for region in REGIONS}
    if any(entry["single"] for entry in entries):
        tables["single"] = _table(entries, "mask", single=True)
    rows = [[e["title"], *_cells(e["against_diffma"]["mask"], signed=True)] for e in entries if e["against_diffma"]]
    tables["against"] = rows_of(["Model minus DiffMa", *_SHOWN], rows) if rows else ""
    shown = sorted(_estimates(results), key=lambda each: each[3] is not each[1]["cases"])
    rows = [[e["title"], image, cell(summary["consistency"], "{:.2f}".format)] for _, e, image, _, summary in shown]
    tables["consistency"] = rows_of(["Model", "Image", "Change"], rows)
    rows = [
        [e["title"], number(c["ratio"]), number(c["error"], 4), number(c["spearman"]["mean"]), c["meaning"]]
        for e in entries
        if (c := e["calibration"])
    ]
    head = ["Model", "Ratio", "Calibration error", "Rank correlation", "Meaning"]
    tables["calibration"] = rows_of(head, rows) if rows else ""
    return report("evaluation.md.jinja", **{"single": "", **results, **tables}, picture=PICTURE)


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


def _summaries(results: Results) -> Iterator[dict[str, Any]]:
    """One line per model, image and region; every metric with mean, sd, low, high and n."""
    for key, entry, image, _, summary in _estimates(results):
        facts = {name: entry[name] for name in ("title", "kind", "parameters")}
        for region in REGIONS:
            row = {"rank": entry["rank"], "system": key, **facts, "image": image, "region": region}
            for metric, item in (*summary[region].items(), ("consistency", summary["consistency"])):
                low, high = item["ci95"] or (None, None)
                values = {"mean": item["mean"], "sd": item["sd"], "low": low, "high": high, "n": item["n"]}
                row |= {f"{metric}_{part}": value for part, value in values.items()}
            yield row


def _cases(results: Results) -> Iterator[dict[str, Any]]:
    for key, _, image, cases, _ in _estimates(results):
        for name, case in cases.items():
            for region in REGIONS:
                place = {"system": key, "image": image, "case": name, "region": region}
                yield {**place, **case[region], "consistency": case["consistency"]}


def _estimates(results: Results) -> Iterator[tuple[str, Any, str, Any, Any]]:
    """Key, entry, image, cases and summary: of every model, and again of its single samples."""
    for key, entry in results["systems"].items():
        yield key, entry, entry["estimate"], entry["cases"], entry["summary"]
        if entry["single"]:
            yield key, entry, "one sample", entry["single"]["cases"], entry["single"]["summary"]


def _csv(rows: Iterable[Mapping[str, Any]]) -> str:
    lines = list(rows)
    text = io.StringIO()
    writer = csv.DictWriter(text, lines[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def write_heads(results: Results, folder: Path) -> None:
    """``results.json``, ``table.md`` and, where there are deviations, ``reliability.png`` in ``folder``: the share of
    voxels that intervals cover against the share that they promise, the mean, and every rendering.

    Raises OutputError when they cannot be written.
    """
    write_json(folder / RESULTS, results)
    write_text(folder / TABLE, heads_markdown(results))
    curves = {}
    for name, entry in results["bundles"].items():
        cases = entry.get("heads", {}).get("cases", {}).values()
        covers = [case["uncertainty"]["covers"] for case in cases if "uncertainty" in case]
        if covers:
            curves[name] = covers
    if not curves:
        return
    with axes_in(folder / RELIABILITY, (4.2, 4.0), 90) as axes:
        axes.plot([0, 1], [0, 1], color="0.6", linestyle="--", linewidth=1, label="as promised")
        for name, covers in curves.items():
            label = name if len(curves) > 1 else "measured"  # a card shows it, and no folder of whoever drew it
            (line,) = axes.plot(LEVELS, np.mean(covers, axis=0), marker="o", markersize=4, linewidth=1.5, label=label)
            for each in covers:
                axes.plot(LEVELS, each, color=line.get_color(), linewidth=0.6, alpha=0.5)
        axes.set(xlabel="promised by the interval", ylabel="truth inside the interval", xlim=(0, 1), ylim=(0, 1))
        axes.set_title("Below the line: too confident")


def heads_markdown(results: Results) -> str:
    """The report of ``diffma evaluate`` without an experiment: a section for each bundle and kind of heads."""
    return report("heads.md.jinja", **results, pairs=_pairs_table, heads=_heads_table, cts=_cts_table)


def _pairs_table(cases: dict[str, Any]) -> str:
    shown = {"correlation": 2, "ssim": 2, "psnr": 1}
    digits = {f"{image}.{key}": n for key, n in shown.items() for image in ("mr", "ct")}
    seen = {name: [str(case["slices"]), f"{case['brain_hu']:.0f}"] for name, case in cases.items()}
    measures = ("Correlation", "SSIM", "PSNR (dB)")
    head = ["Patient", "Slices", "Brain (HU)", *(title for each in measures for title in (each, "of the CT"))]
    return rows_of(head, [[name, *seen.get(name, ["", ""]), *line] for name, *line in _lines(cases, digits)])


def _heads_table(cases: dict[str, Any]) -> str:
    digits = {"ssim": 3, "psnr": 1, "contrast": 2, "auc": 2, "auc_truth": 2, "slice_change": 2}
    digits |= {f"uncertainty.{key}": 2 for key in ("correlation", "rank_correlation", "cover", "scale")}
    head = ["Head", "SSIM", "PSNR (dB)", "Contrast", "AUC", "of the truth", "Slices"]
    return rows_of([*head, "Deviation", "Ranks", "Cover", "Factor"], _lines(cases, digits))


def _lines(cases: dict[str, Any], digits: Mapping[str, int]) -> list[list[str]]:
    lines = {**{name: means({name: case}, *digits) for name, case in cases.items()}, "**mean**": means(cases, *digits)}
    return [[name, *(number(line[key], n) for key, n in digits.items())] for name, line in lines.items()]


def _cts_table(cases: dict[str, Any]) -> str:
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


def means(cases: Mapping[str, Any], *keys: str) -> dict[str, float | None]:
    """Mean of each figure over the cases that have it; None where none has. A dot leads inwards: ``mr.ssim``."""
    found = {}
    for key in keys:
        values: list[Any] = list(cases.values())
        for part in key.split("."):
            values = [value[part] for value in values if isinstance(value, Mapping) and part in value]
        there = [value for value in values if value is not None and np.isfinite(value)]
        found[key] = float(np.mean(there)) if there else None
    return found
