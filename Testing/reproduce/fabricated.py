"""Folders as trainings and evaluations leave them, written in no time: what a report reads."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from DiffMaCore.baselines.registry import TITLES
from DiffMaCore.training.cache import PairedCache
from DiffMaCore.training.experiment import Experiment, Folders
from DiffMaCore.training.trainer import deciding

SSIM = {"diffma": 0.62, "dit": 0.58, "regression": 0.7, "vae_ceiling": 0.95}
_REGRESSION = {"in_channels": 9, "image_size": 32, "parameters": 10}
_MACHINE = {"system": "a system", "processor": "a processor", "cores": 2, "memory_bytes": 2**34, "gpus": []}


def trained(experiment: Experiment, folders: Folders, backbone: str, status: str = "finished", **facts: Any) -> Path:
    """The run folder of a system: run.json, metrics.csv, samples at two steps."""
    path, train = folders.system(backbone), experiment.denoiser.train
    (path / "samples").mkdir(parents=True)
    session = {
        "started": "2026-01-02T03:04:05+00:00",
        "ended": "2026-01-02T03:34:05+00:00",
        "train": asdict(train),
        "device": "cpu",
        "machine": _MACHINE,
        "versions": {"torch": "9.9"},
        "git": {"revision": "abc123", "dirty": True},
    }
    own = {key: value for key, value in asdict(experiment.denoiser).items() if key != "train"}
    settings = {**own, "backbone": backbone, "embedder": "abcdef123456"} if backbone != "regression" else _REGRESSION
    settings = {**settings, "data": PairedCache.open(folders.data).fingerprint, "train": deciding(train)}
    account = {"status": status, "step": train.steps, "task": f"denoiser {backbone}", "seed": 0, **facts}
    account["settings"] = {**settings, **facts.get("settings", {})}
    account |= {"config": json.loads(json.dumps(asdict(experiment))), "sessions": [session]}
    (path / "run.json").write_text(json.dumps(account))
    rows = [{"step": step, "loss": 1 / step, "samples_per_second": 2.0} for step in range(1, train.steps + 1)]
    _csv(path / "metrics.csv", rows)
    _csv(path / "samples" / "figures.csv", [{"step": 2, "held_out_loss": 0.5}, {"step": 4, "held_out_loss": 0.4}])
    size = experiment.data.image_size
    truth = np.linspace(-1, 1, 2 * size * size, dtype=np.float32).reshape(2, size, size)
    for step in (2, 4):
        arrays: dict[str, Any] = {
            "generated": truth / step,
            "source": truth,
            "target": truth,
            "labels": np.array(["slice a", "slice b"]),
        }
        np.savez(path / "samples" / f"step_{step:08d}.npz", **arrays)
    return path


def evaluated(experiment: Experiment, folders: Folders, systems: tuple[str, ...]) -> dict[str, Any]:
    """``results.json`` and predictions of some systems and of one reference."""
    cache = PairedCache.open(folders.data)
    ranked = sorted(systems, key=lambda key: -SSIM[key])
    entries = {key: _entry(key, ranked.index(key) + 1) for key in ranked} | {"vae_ceiling": _entry("vae_ceiling", None)}
    for key in ranked:
        entries[key]["trained"] = {"steps": experiment.denoiser.train.steps, "ended": "2026-01-02T03:34:05+00:00"}
    results = {
        "format": 1,
        "title": experiment.title,
        "split": "test",
        "cases": list(cache.split["test"]),
        "normalisation": "0 and 1 are the 0.5 and 99.5 percentiles.",
        "settings": asdict(experiment.evaluation),
        "data_fingerprint": cache.fingerprint,
        "ranked_by": "SSIM inside the mask",
        "notes": ["One patient gives no interval."],
        "systems": entries,
    }
    folder = folders.evaluation / "test"
    for key in systems:
        (folder / "predictions" / key).mkdir(parents=True)
        for id in cache.split["test"]:
            volume = np.full_like(cache.case(id).target().numpy(), 0.5)
            np.savez(folder / "predictions" / key / f"{id}.npz", mean=volume, first=volume)
    (folder / "results.json").write_text(json.dumps(results))
    return results


def measured_tokens(folders: Folders) -> None:
    """``tokens.json`` of a machine on which DiffMa grows in proportion and DiT faster."""

    def told(value: float) -> dict[str, float]:
        return {"median": value, "min": 0.9 * value, "max": 1.1 * value}

    points = [
        {
            "tokens": count,
            "image_size": 16 * int(count**0.5),
            "batch": 1,
            "diffma": {**told(1e-3 * count), "peak_bytes": 10**9, "step_bytes": 10**4 * count},
            "dit": {**told(1e-5 * count**1.75), "peak_bytes": 10**9, "step_bytes": None},
            "ratio": told(100 * count**-0.75),
        }
        for count in (196, 784, 3136)
    ]
    fit = [{"tokens": [196, 784, 3136], **told(1.0)}]
    figures = {
        "benchmark": "tokens",
        "machine": {"processor": "a processor", "device": "cpu", "threads": 2, "torch": "9.9", "load_average": None},
        "shape": {"size": "B/2", "tokens": [196, 784, 3136], "tokens at once": 3136},
        "parameters": {"diffma": 45_407_000, "dit": 45_560_000},
        "rounds": 3,
        "points": points,
        "exponents": {"diffma": fit, "dit": fit},
        "crossover": {"tokens": 464, "words": "DiffMa is the faster one from about 464 tokens on"},
    }
    folders.report.mkdir(parents=True, exist_ok=True)
    (folders.report / "tokens.json").write_text(json.dumps(figures))


def _entry(key: str, rank: int | None) -> dict[str, Any]:
    def told(mean: float, spread: float = 0.1) -> dict[str, Any]:
        return {"mean": mean, "sd": spread, "ci95": [mean - spread, mean + spread], "n": 3}

    region = {
        "ssim": told(SSIM[key], 0.02),
        "psnr": told(20.5),
        "mse_8bit": told(500.0, 9),
        "mse": told(0.1),
        "mae": told(0.2),
    }
    single = {**region, "ssim": told(SSIM[key] - 0.1, 0.02)}
    difference = {"ssim": told(SSIM[key] - SSIM["diffma"], 0.02)}
    bins = [{"predicted": 0.01 * n, "actual": 0.02 * n} for n in range(1, 4)]
    calibration = {"bins": bins, "ratio": 0.5, "spearman": {"mean": 0.4}, "meaning": "Too small."}
    return {
        "title": TITLES.get(key, "VAE ceiling"),
        "parameters": 45_000_000 if rank else 0,
        "kind": "system" if rank else "reference",
        "rank": rank,
        "rank_single": rank,
        "single": {"cases": {}, "summary": {"mask": single}} if key in ("diffma", "dit") else None,
        "estimate": "mean of 2 samples",
        "seconds_per_slice": 0.1,
        "summary": {"mask": region, "slice": region},
        "against_diffma": {"mask": difference} if key in ("dit", "regression") else None,
        "calibration": calibration if key in ("diffma", "dit") else None,
    }


def _csv(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
