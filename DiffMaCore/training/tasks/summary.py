"""What a finished run came to, in ``summary.json``."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from typing import Any

from torch import nn

from DiffMaCore.training.files import replacing_folder, write_json
from DiffMaCore.training.metrics_log import read_metrics
from DiffMaCore.training.run_folder import RunFolder


def write_trained(
    folder: Path, network: Any, system: str, title: str, counted: nn.Module | None = None, **facts: Any
) -> None:
    """Write ``folder/model`` and ``folder/summary.json``.

    Args:
        folder: of the run; its metrics are read.
        network: what was trained, a model of diffusers'.
        system: the backbone's word, or "embedder".
        title: the same for people.
        counted: the part of it whose parameters are told, where it is not the whole.
        facts: what else this system has to tell.
    """
    with replacing_folder(folder / "model") as part:
        network.save_pretrained(part)
    rows = read_metrics(folder / "metrics.csv")
    held_out = [row for row in read_metrics(folder / "samples" / "figures.csv") if "held_out_loss" in row]
    account = RunFolder(folder).account()
    sessions = account.get("sessions", [])
    paces = [row["samples_per_second"] for row in rows if row.get("samples_per_second")]
    batch = sessions[-1]["train"]["batch_size"] if sessions else None
    summary = {
        "system": system,
        "title": title,
        "parameters": sum(p.numel() for p in (counted or network).parameters()),
        "steps": int(account.get("step", 0)),
        "losses": {
            "first": rows[0]["loss"] if rows else None,
            "last": rows[-1]["loss"] if rows else None,
            "held_out": held_out[-1]["held_out_loss"] if held_out else None,
        },
        "seconds_per_step": batch / median(paces) if batch and paces else None,
        **facts,
    }
    write_json(folder / "summary.json", summary)


def read_summary(folder: Path) -> dict[str, Any]:
    """What ``folder/summary.json`` says; empty where there is none."""
    try:
        return dict(json.loads((folder / "summary.json").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}
