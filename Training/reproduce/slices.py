"""Cached slices and predictions in, Figures 1, 5, 6 and 7 out: soft masks, slices of every model and over training."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from DiffMaCore.baselines.registry import TITLES
from DiffMaCore.files import replacing
from DiffMaCore.imaging.pictures import grey
from DiffMaCore.models.embedder import VisionEmbedder
from DiffMaCore.training.cache import PairedCache, SliceDataset
from DiffMaCore.training.evaluation.run import split_cases
from DiffMaCore.training.experiment import DataConfig, Experiment, Folders
from DiffMaCore.training.pictures import mask_measures, mask_picture, modality, source_window, target_window
from DiffMaCore.training.run_folder import read_metrics, read_summary
from Training.reproduce.document import Block, Picture, Section, Text
from Training.reproduce.figures import Curve, Tile, picture_grid, plot_curves, smooth

TRIPLETS, COMPARED, MILESTONES, MASKS, MANY = 12, 4, 4, 4, 256
Samples = dict[int, dict[str, NDArray]]
"""Arrays by name, by step."""

SHORT = {"diffma": "DiffMa", "unet": "LDM", "efficient_vmamba": "EffVMamba", "regression": "2.5D regr."}


def short(key: str) -> str:
    """A model's name above a narrow column."""
    return SHORT.get(key, TITLES.get(key, key))


def spread_rows(cache: PairedCache, ids: Sequence[str], count: int) -> list[tuple[str, int]]:
    """``count`` slices of cases as (id, row), spread over the cases and over each one's inner slices."""
    ids = ids if len(ids) <= count else [ids[i] for i in np.linspace(0, len(ids) - 1, count).round().astype(int)]
    shares = [count // len(ids) + (n < count % len(ids)) for n in range(len(ids))]
    picked = []
    for id, share in zip(ids, shares, strict=True):
        last = len(cache.case(id)) - 1
        places = np.linspace(0.15, 0.85, share) if share > 1 else np.array([0.5])
        picked += [(id, int(row)) for row in sorted({round(p * last) for p in places.tolist()})]
    return picked


def figure1(experiment: Experiment, folders: Folders, cache: PairedCache) -> Section:
    """The soft masks of slices that are judged on, and what they owe to the slice."""
    title = "Figure 1: soft masks"
    model, summary = folders.embedder / "model", read_summary(folders.embedder)
    if not model.is_dir() or not summary:
        return Section("figure1", title, [], ["the Vision Embedder is not trained yet"])
    embedder = VisionEmbedder.from_pretrained(model, local_files_only=True).eval()
    ids = cache.ids(cache.data.judged)
    shown = spread_rows(cache, ids, MASKS)
    sources = np.concatenate([cache.case(id).source([row]).numpy() for id, row in shown])
    latents = torch.cat([cache.case(id).file.whole("source_latent")[[row]].float() for id, row in shown])
    dataset = SliceDataset(cache, ids, ("source_latent",))
    rows = np.linspace(0, len(dataset) - 1, min(MANY, len(dataset))).astype(int).tolist()
    with torch.inference_mode():
        masks = embedder(latents).soft_mask
        measures = mask_measures(embedder(torch.stack([dataset[row]["source_latent"] for row in rows])).soft_mask)
    labels = [f"{id}, slice {int(cache.case(id).slice_index()[row])}" for id, row in shown]
    with replacing(folders.report / "figure1.png") as part:
        caption = f"Soft masks of {cache.data.judged} slices, {experiment.title}"
        mask_picture(sources, masks, labels, source_window(cache.data), caption, side=280).save(part, format="png")
    views = "two disturbed views of every slice" if experiment.embedder.views == "two_views" else "as in the paper"
    text = (
        f"Of the masks' variance over {len(rows)} {cache.data.judged} slices {measures.share:.1%} comes from the slice,"
        " and the rest from the token's place alone (the paper's released masks on synthetic latents: 1 % or less from"
        f" the slice). {_weights(asdict(measures))} Trained by InfoNCE ({views}) for {summary['steps']} steps."
    )
    before = summary.get("mask_before_calibration")
    if before:
        text += (
            " Shown are masks whose logits were shifted and scaled after training, token by token, without changing"
            f" what each ranks highest; as trained, {before['share']:.1%} of their variance came from the slice."
            f" {_weights(before)}"
        )
    caption = "Above the source, below it pale and with a circle a token: the larger and darker, the more important."
    return Section("figure1", title, [Text(text), Picture("figure1.png", caption)])


def _weights(mask: Mapping[str, float]) -> str:
    return f"Mean weight {mask['mean']:.2f}, {mask['closed']:.1%} of them below 0.01 and {mask['open']:.1%} above 0.99."


def figure5(experiment: Experiment, folders: Folders, cache: PairedCache, models: Mapping[str, Any]) -> Section:
    """Slices that are judged on: triplets of DiffMa, and every model side by side."""
    title = "Figures 5 and 6: source, generated, true"
    volumes = folders.evaluation / cache.data.judged / "predictions"
    keys = [key for key in experiment.systems if key in models and (volumes / key).is_dir()]
    if not keys:
        return Section("figure5", title, [], ["no model is evaluated yet"])
    names = (modality(cache.data.source), modality(cache.data.target))
    blocks: list[Block] = []
    first = "diffma" if "diffma" in keys else keys[0]
    judged = [case.id for case in split_cases(cache, cache.data.judged)]
    picked = spread_rows(cache, judged, TRIPLETS)
    tiles = _tiles(cache, volumes, picked, [first])
    across = 3
    lines = [list(chain(*tiles[i : i + across])) for i in range(0, len(tiles), across)]
    lines[-1] += [None] * (3 * across - len(lines[-1]))
    heads = [names[0], f"{names[1]}, {short(first)}", f"{names[1]}, true"] * across
    picture_grid(lines, heads, [""] * len(lines), folders.report / "figure5.png", gaps=(3, 6), side=1.15)
    shown = f"{len(picked)} {cache.data.judged} slices: source, one sample of {TITLES[first]}, truth."
    blocks.append(Picture("figure5.png", shown))
    if len(keys) > 1:
        ordered = [*(key for key in keys if key != "diffma"), *(["diffma"] if "diffma" in keys else [])]
        picked = spread_rows(cache, judged, COMPARED)
        tiles = _tiles(cache, volumes, picked, ordered)
        labels = [f"{id}\nslice {int(cache.case(id).slice_index()[row])}" for id, row in picked]
        heads = [names[0], *map(short, ordered), f"{names[1]}, true"]
        gaps = (1, len(heads) - 1)
        picture_grid(tiles, heads, labels, folders.report / "figure6.png", gaps=gaps, side=1.05)
        shown = f"Every model on the same {cache.data.judged} slices; one sample of those that sample."
        blocks.append(Picture("figure6.png", shown))
    text = (
        "Pictures show one sample, as the paper's do; Table 2 judges the mean of several, which is smoother. Generated"
        " images are black outside the body. Chosen by place in the volume, not by result."
    )
    missing = [f"{TITLES[key]} has no predictions" for key in experiment.systems if key not in keys]
    return Section("figure5", title, [Text(text), *blocks], missing)


def _tiles(
    cache: PairedCache, volumes: Path, picked: Sequence[tuple[str, int]], models: Sequence[str]
) -> list[list[Tile]]:
    """A line a slice: source, every model's image, truth."""
    arrays = {(key, id): _volume(volumes / key / f"{id}.npz") for key in models for id in {id for id, _ in picked}}
    window = target_window(cache.data)
    lines: list[list[Tile]] = []
    for id, row in picked:
        case = cache.case(id)
        made = [arrays[key, id] for key in models]
        generated: list[Tile] = [None if v is None else grey(v[row] * 2 - 1, window) for v in made]
        source, target = case.source([row])[0].numpy(), case.target([row])[0].numpy()
        lines.append([grey(source, source_window(cache.data)), *generated, grey(target, window)])
    return lines


def _volume(path: Path) -> NDArray[np.float32] | None:
    """One sample of a model's prediction (N, S, S) in [0, 1]; None where there is none."""
    if not path.is_file():
        return None
    with np.load(path) as arrays:
        return arrays["first" if "first" in arrays else "mean"].astype(np.float32)


def figure7(experiment: Experiment, folders: Folders, cache: PairedCache) -> Section:
    """All models over training: the fixed slices at milestones, and curves."""
    title = "Figure 7: all models over training"
    samples = {key: read_samples(folders.system(key) / "samples") for key in experiment.systems}
    there: dict[str, Samples] = {key: found for key, found in samples.items() if found}
    missing = [f"{TITLES[key]} has shown no samples yet" for key in experiment.systems if key not in there]
    if not there:
        return Section("figure7", title, [], missing)
    whose = "validation" if cache.split["validation"] else "training"  # as FixedSlices chooses
    blocks: list[Block] = [
        Text(
            f"The averaged weights' images of the same fixed {whose} slices, not of test patients, with the same noise"
            " at every step shown. Same data, same conditions, same number of parameters and of steps."
        )
    ]
    file = "figure7.png"
    labels = _milestones(there, experiment.data, folders.report / file)
    blocks.append(Picture(file, f"{' and '.join(labels)}: the generated image along training, one line a model."))
    panels = {
        "Training loss (diffusion)": ("loss", _curves(folders, there, "metrics.csv", "loss", False)),
        f"Loss on fixed {whose} slices (diffusion)": (
            "loss",
            _curves(folders, there, "samples/figures.csv", "held_out_loss"),
        ),
        "The fixed slices, one sample": ("PSNR (dB)", _quality(there)),
    }
    plot_curves(panels, {key: TITLES[key] for key in experiment.systems}, folders.report / "figure7_curves.png")
    text = (
        "Losses of the models that diffuse (the regression's is another one), training loss as a running mean, and the"
        " PSNR of the fixed slices over the whole slice, data range 1. One sample is one draw: its PSNR is below its"
        " mean's, and the regression, which answers with a mean, has the advantage there."
    )
    return Section("figure7", title, [*blocks, Picture("figure7_curves.png", text)], missing)


def read_samples(folder: Path) -> Samples:
    """The arrays of every ``step_XXXXXXXX.npz`` by step: generated, source and target (n, S, S), labels (n)."""
    found = {}
    for file in sorted(folder.glob("step_*.npz")):
        step = re.fullmatch(r"step_(\d+)", file.stem)
        if step:
            with np.load(file) as arrays:
                found[int(step.group(1))] = {name: arrays[name] for name in arrays.files}
    return found


def _milestones(there: Mapping[str, Samples], data: DataConfig, path: Path) -> list[str]:
    """Draw one or two of the fixed slices, every model a line, at up to MILESTONES of the steps; their labels."""
    every = sorted({step for found in there.values() for step in found})
    steps = [every[i] for i in sorted({round(x) for x in np.linspace(0, len(every) - 1, MILESTONES).tolist()})]
    anyone = next(iter(next(iter(there.values())).values()))
    count = len(anyone["labels"])
    slices = sorted({count // 3, 2 * count // 3})
    windows = {"source": source_window(data), "target": target_window(data)}

    def tile(arrays: Mapping[str, NDArray] | None, name: str, n: int) -> Tile:
        window = windows["source" if name == "source" else "target"]
        return None if arrays is None else grey(arrays[name][n].astype(np.float32), window)

    lines: list[list[Tile]] = []
    for found in there.values():
        last = found[max(found)]
        lines.append([])
        for n in slices:
            lines[-1] += [tile(last, "source", n), *(tile(found.get(step), "generated", n) for step in steps)]
            lines[-1].append(tile(last, "target", n))
    heads = [modality(data.source), *(f"step {step}" for step in steps), f"{modality(data.target)}, true"] * len(slices)
    gaps = range(len(steps) + 2, len(heads), len(steps) + 2)
    picture_grid(lines, heads, [short(key) for key in there], path, gaps=gaps, side=0.92)
    return [str(anyone["labels"][n]) for n in slices]


def _curves(
    folders: Folders, models: Mapping[str, Any], file: str, column: str, whole: bool = True
) -> dict[str, Curve]:
    curves: dict[str, Curve] = {}
    for key in models:
        rows = [row for row in read_metrics(folders.system(key) / file) if column in row]
        if key != "regression" and rows:
            steps, values = [row["step"] for row in rows], [row[column] for row in rows]
            curves[key] = (steps, values) if whole else smooth(steps, values)
    return curves


def _quality(there: Mapping[str, Samples]) -> dict[str, Curve]:
    """PSNR of the fixed slices, over all of them together, by step."""
    curves: dict[str, Curve] = {}
    for key, found in there.items():
        errors = [
            float(np.mean((arrays["generated"].astype(float) - arrays["target"].astype(float)) ** 2)) / 4
            for arrays in found.values()
        ]
        curves[key] = (list(found), [-10 * float(np.log10(max(error, 1e-10))) for error in errors])
    return curves
