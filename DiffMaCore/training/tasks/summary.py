"""What a finished run came to, in ``summary.json``."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from typing import Any

from DiffMaCore.training.files import write_json
from DiffMaCore.training.metrics_log import read_metrics
from DiffMaCore.training.run_folder import RunFolder


def trained_steps(folder: Path) -> int:
    """Steps that the run in ``folder`` has made."""
    return int(RunFolder(folder).account().get("step", 0))


def write_summary(folder: Path, system: str, title: str, parameters: int, **facts: Any) -> dict[str, Any]:
    """Write ``folder/summary.json`` and return what it says.

    Args:
        folder: of the run; its metrics are read.
        system: the backbone's word, or "embedder".
        title: the same for people.
        parameters: trainable ones.
        facts: what else this system has to tell.
    """
    rows = read_metrics(folder / "metrics.csv")
    held_out = [row for row in read_metrics(folder / "samples" / "figures.csv") if "held_out_loss" in row]
    sessions = RunFolder(folder).account().get("sessions", [])
    paces = [row["samples_per_second"] for row in rows if row.get("samples_per_second")]
    batch = sessions[-1]["train"]["batch_size"] if sessions else None
    summary = {
        "system": system,
        "title": title,
        "parameters": parameters,
        "steps": trained_steps(folder),
        "losses": {
            "first": rows[0]["loss"] if rows else None,
            "last": rows[-1]["loss"] if rows else None,
            "held_out": held_out[-1]["held_out_loss"] if held_out else None,
        },
        "seconds_per_step": batch / median(paces) if batch and paces else None,
        **facts,
    }
    write_json(folder / "summary.json", summary)
    return summary


def read_summary(folder: Path) -> dict[str, Any]:
    """What ``folder/summary.json`` says; empty where there is none."""
    try:
        return dict(json.loads((folder / "summary.json").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}
