"""A report of ``benchmark_sampling`` in, its table, JSON and picture out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.style import COLOURS, INK, QUIET, new_figure, quiet, save
from DiffMaCore.files import replacing, write_json

_PANELS = (
    ("to_ode", "Error to the 1000-step ODE", "relative error of the latents"),
    ("to_truth", "Error to the truth", "relative error of the latents"),
    ("ssim", "Decoded slices against the truth", "SSIM inside the body"),
)
_HUES = dict(zip(("dpm++", "unipc", "ddim", "ddpm", "own", "neighbour", "regression"), COLOURS.values(), strict=False))


def write(report: dict[str, Any], folder: Path) -> Path:
    """``sampling.md``, which is returned, ``sampling.json`` and ``sampling.png`` in the folder."""
    write_json(folder / "sampling.json", report)
    plot(report, folder / "sampling.png")
    with replacing(folder / "sampling.md") as part:
        part.write_text(table(report), encoding="utf-8")
    return folder / "sampling.md"


def table(report: dict[str, Any]) -> str:
    """Markdown: how it was measured, and a row a way."""
    shape, machine = report["shape"], report["machine"]
    load = "" if machine["load_average"] is None else f", load {machine['load_average']:.1f}"
    lines = [
        f"{shape['experiment']}: DiffMa {shape['system']} ({shape['prediction']}), {shape['slices']} {shape['split']}"
        f" slices of {shape['image_size']} px, {report['rounds']} initial noise(s). {machine['processor']}, device"
        f" {machine['device']}, {machine['threads']} threads{load}, torch {machine['torch']}.",
        "",
        "Errors: |x - y| / |y| of a slice's latent, mean over the slices. ODE: 1000 deterministic DDIM steps from the"
        " same noise; ddpm draws noise at every step and goes to no such solution. SSIM and PSNR: decoded, inside the"
        " body, values from 0 to 1; with several noises median (least to greatest). Seconds: the denoiser in one batch,"
        " timed in turns with the released one-by-one; neither VAE nor guess are counted.",
        "",
        "| way | steps | error to ODE | error to truth | SSIM | PSNR, dB | s per slice | times as fast as released |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in report["rows"]:
        cells = [_cell(row["to_ode"], 4), _cell(row["to_truth"], 3), _cell(row["ssim"], 4), _cell(row["psnr"], 2)]
        cells += [f"{row['seconds']['median']:.4f}", _cell(row["faster"], 1)]
        lines.append(f"| {row['way']} | {row['steps']} | {' | '.join(cells)} |")
    ceiling = {name: sum(values) / len(values) for name, values in report["ceiling"].items()}
    lines.append(f"| VAE alone (the truth, encoded) | | | 0 | {ceiling['ssim']:.4f} | {ceiling['psnr']:.2f} | | |")
    return "\n".join(lines) + "\n"


def _cell(value: dict[str, Any] | None, digits: int) -> str:
    if value is None:
        return "-"
    middle = f"{value['median']:.{digits}f}"
    if value["min"] == value["max"]:
        return middle
    return f"{middle} ({value['min']:.{digits}f} to {value['max']:.{digits}f})"


def plot(report: dict[str, Any], path: Path) -> Path:
    """Three panels over the steps: a line a scheduler, a mark a warm start."""
    figure = new_figure(13, 4.2)
    ode = report["rows"][0]
    for axes, (name, title, label) in zip(figure.subplots(1, len(_PANELS)), _PANELS, strict=True):
        quiet(axes, title, "evaluations of the denoiser", label)
        axes.set_xscale("log")
        for scheduler in dict.fromkeys(row["scheduler"] for row in report["rows"]):
            line = [row for row in report["rows"] if (row["kind"], row["scheduler"]) == ("scheduler", scheduler)]
            points = [(row["steps"], row[name]["median"]) for row in line if row[name]]
            if points:
                axes.plot(*zip(*points, strict=True), color=_HUES[scheduler], marker="o", markersize=4, label=scheduler)
        for guess in dict.fromkeys(row["guess"] for row in report["rows"] if row["guess"]):
            marks = [(row["steps"], row[name]["median"]) for row in report["rows"] if row["guess"] == guess]
            axes.scatter(*zip(*marks, strict=True), color=_HUES[guess], marker="x", s=18, label=f"warm, {guess}")
        if name != "to_ode":
            axes.axhline(ode[name]["median"], color=QUIET, linewidth=1, linestyle="--", label="ODE")
        else:
            axes.set_yscale("log")
        counts = sorted({row["steps"] for row in report["rows"] if row["kind"] == "scheduler"})
        axes.set_xticks(counts, [str(count) for count in counts])
        axes.minorticks_off()
        axes.legend(fontsize=7, frameon=False, labelcolor=INK)
    return save(figure, path)
