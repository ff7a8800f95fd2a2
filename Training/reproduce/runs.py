"""Folders of training runs in; how far, how long and with what they were trained out."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from DiffMaCore.training.experiment import Experiment, TrainConfig
from DiffMaCore.training.run_folder import RunFolder, read_metrics


@dataclass(frozen=True)
class RunFacts:
    """One run.

    Attributes:
        status: "finished", "training", "stopped", "failed", or "" where it was never begun.
        step: optimiser steps done.
        batch_size: slices of a step, over all processes.
        seconds: spent in steps, without pictures and checkpoints; None before the first row of metrics.
        account: run.json.
    """

    path: Path
    status: str
    step: int
    batch_size: int
    seconds: float | None
    account: dict[str, Any]


def run_facts(path: Path) -> RunFacts:
    """Facts of the run in a folder."""
    account = RunFolder(path).account()
    sessions = account.get("sessions", [])
    batch = sessions[-1]["train"]["batch_size"] if sessions else 0
    rows = read_metrics(path / "metrics.csv")
    seconds = None
    if rows:
        starts = [0, *(row["step"] for row in rows)]
        seconds = sum(
            (row["step"] - start) * batch / row["samples_per_second"]
            for start, row in zip(starts, rows, strict=False)
            if row.get("samples_per_second")
        )
    return RunFacts(path, account.get("status", ""), account.get("step", 0), batch, seconds, account)


def is_finished(experiment: Experiment, path: Path, train: TrainConfig, **settings: str) -> bool:
    """Whether a run has reached its steps under this configuration, with these of its task's settings."""
    run = run_facts(path)
    if run.status != "finished" or run.step < train.steps:
        return False
    if any(run.account["settings"].get(key) != value for key, value in settings.items()):
        return False
    now, then = json.loads(json.dumps(asdict(experiment))), run.account["config"]
    alone = run.account["task"].replace("-", "_")
    parts = [alone] if alone in ("autoencoder", "image_encoder", "embedder") else ["embedder", "denoiser"]
    return all(_deciding(then.get(part, {})) == _deciding(now[part]) for part in parts)


def _deciding(part: dict[str, Any]) -> dict[str, Any]:
    """A part of a configuration without a number of steps, which may be met already, and without what is told of
    elsewhere."""
    train = {key: value for key, value in part.get("train", {}).items() if key != "steps"}
    return {**{key: value for key, value in part.items() if key != "backbone"}, "train": train}


def duration(seconds: float | None) -> str:
    """A time as people write it."""
    if seconds is None:
        return "-"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
