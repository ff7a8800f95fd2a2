"""Run folders in, what each model was trained with out, and where that differs: only like runs are compared fairly."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from DiffMaCore.training.experiment import Experiment
from Training.reproduce.document import Table
from Training.reproduce.runs import RunFacts

_OWN = ("backbone", "train")
"""Of the denoiser's configuration: what differs by purpose, and what is compared by itself."""


def trained_with(run: RunFacts) -> dict[str, Any] | None:
    """What a run's folder tells of its training; None where there is no account of one."""
    if not run.account:
        return None
    settings = run.account["settings"]
    return {
        "steps": run.step,
        "slices": run.step * run.batch_size,
        "seed": run.account["seed"],
        "train": {**settings["train"], "batch_size": run.batch_size},
        "inputs": _inputs(settings),
        "learns": _learns(settings),
        "data": settings["data"],
        "embedder": settings.get("embedder"),
        "denoiser": {key: value for key, value in settings.items() if key in _DENOISER},
        "ended": run.account["sessions"][-1]["ended"],
    }


_DENOISER = ("width", "depth", "patch_size", "state_size", "expand", "learn_sigma", "mean_share", "vlb_weight")


def _inputs(settings: Mapping[str, Any]) -> str:
    if "ct_conditioning" not in settings:
        return f"pixels of the slice and its neighbours ({settings['in_channels']} channels)"
    way = settings["ct_conditioning"]
    if way == "tokens" and settings["backbone"] == "unet":
        way = "pooled"  # the U-Net has no tokens to add them to
    more = {"pooled": "", "tokens": ", the CT's tokens", "pixels": ", pixels of the slice and its neighbours"}[way]
    return f"latent, embeddings and soft mask of the slice{more}"


def _learns(settings: Mapping[str, Any]) -> str:
    if "prediction_type" not in settings:
        return "the image, by its mean absolute error"
    what = {"epsilon": "noise", "v_prediction": "velocity"}[settings["prediction_type"]]
    share = settings["mean_share"]
    return f"{what}{' and variance' if settings['learn_sigma'] else ''}" + (f", mean in {share:.0%}" if share else "")


def _setting(key: str, facts: dict[str, Any]) -> Any:
    return facts["train"].get(key)


def trained_table(rows: Sequence[Mapping[str, Any]]) -> Table | None:
    """A row for every model of Table 2 whose training is known."""
    head = ["Model", "Steps", "Slices seen", "Inputs", "Learns", "Batch", "Rate", "Precision", "Seed", "Data"]
    known = [(row["title"], row["trained"]) for row in rows if row["trained"]]
    cells = [
        [
            title,
            str(facts["steps"]),
            str(facts["slices"]),
            facts["inputs"],
            facts["learns"],
            str(facts["train"]["batch_size"]),
            f"{facts['train']['learning_rate']:g}",
            facts["train"]["precision"],
            str(facts["seed"]),
            facts["data"][:12],
        ]
        for title, facts in known
    ]
    return Table(head, cells) if cells else None


def warnings(rows: Sequence[Mapping[str, Any]], experiment: Experiment, fingerprint: str | None) -> list[str]:
    """A sentence for everything in which the measured models were not trained alike, or not as the report shows.

    Args:
        rows: Table 2's; those without metrics are left out.
        experiment: whose configuration the report shows.
        fingerprint: of the data on which they are judged; None where there is none.
    """
    measured = [row for row in rows if not row["missing"] and row["kind"] != "reference"]
    known = {row["title"]: row["trained"] for row in measured if row["trained"]}
    found = [f"What {row['title']} was trained with is not known here." for row in measured if not row["trained"]]

    def differs(what: str, of: Callable[[dict[str, Any]], Any]) -> None:
        groups: dict[Any, list[str]] = {}
        for title, facts in known.items():
            groups.setdefault(of(facts), []).append(title)
        if len(groups) > 1:
            words = [f"{value} for {', '.join(titles)}" for value, titles in groups.items()]
            found.append(f"{what} differ: {'; '.join(words)}.")

    differs("Training steps", lambda facts: facts["steps"])
    differs("Inputs", lambda facts: facts["inputs"])
    differs("Objectives", lambda facts: facts["learns"])
    differs("Seeds", lambda facts: facts["seed"])
    for key in dict.fromkeys(key for facts in known.values() for key in facts["train"]):
        differs(f"Training settings ({key})", partial(_setting, key))
    differs("Vision Embedders", lambda facts: facts["embedder"] or "none")
    for title, facts in known.items():
        if fingerprint and facts["data"] != fingerprint:
            found.append(
                f"{title} was trained on other data ({facts['data'][:12]}) than it is judged on ({fingerprint[:12]})."
            )
        now = {key: value for key, value in asdict(experiment.denoiser).items() if key not in _OWN}
        changed = [f"{key} {value}" for key, value in facts["denoiser"].items() if now[key] != value]
        if changed:
            found.append(f"{title} was trained with {', '.join(changed)}, not with the configuration shown below.")
    found += [
        f"The metrics of {row['title']} are of {row['judged']['steps']} steps; it was trained again since."
        for row in measured
        if row["trained"] and row["judged"] and row["judged"] != {k: row["trained"][k] for k in ("steps", "ended")}
    ]
    return found
