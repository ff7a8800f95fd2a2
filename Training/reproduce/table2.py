"""An evaluation's results in, Table 2 out: every model on the test patients, with the paper's values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from DiffMaCore.baselines.registry import TITLES
from DiffMaCore.training.experiment import Experiment, Folders
from Training.reproduce.document import Block, Cell, Section, Table, Text
from Training.reproduce.paper import DATA_SET, PAPERS_SIZE, TABLE_2
from Training.reproduce.runs import RunFacts, duration, run_facts
from Training.reproduce.trained import trained_table, trained_with, warnings

OURS = "diffma"
FEW = 5  # patients: a bootstrap over fewer gives intervals that are far too narrow
_OTHER = {"brain": "pelvis", "pelvis": "brain"}


def is_papers_data(experiment: Experiment) -> bool:
    """Whether the configuration says that this is the paper's data set."""
    return DATA_SET in f"{experiment.title} {experiment.card.training_data}"


def is_papers_size(experiment: Experiment) -> bool:
    """Whether slices and DiffMa are as large as in the paper's Table 2."""
    size = experiment.denoiser
    return (experiment.data.image_size, size.width, size.depth, size.patch_size) == PAPERS_SIZE


def table2_rows(
    experiment: Experiment, folders: Folders, results: Mapping[str, Any] | None, failures: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Every model of the experiment, ranked ones first, then those that are missing ("missing" says why), then
    references and foreign bundles; "summary" is the evaluation's, "paper" the paper's values by region."""
    entries = dict(results["systems"]) if results else {}
    rows = [_row(key, entries.pop(key, None), folders, failures) for key in experiment.systems]
    ranked = sorted((row for row in rows if row["rank"] is not None), key=lambda row: row["rank"])
    rest = [row for row in rows if row["rank"] is None]
    return [*ranked, *rest, *(_row(key, entry, None, {}) for key, entry in entries.items())]


def _row(
    key: str, entry: Mapping[str, Any] | None, folders: Folders | None, failures: Mapping[str, str]
) -> dict[str, Any]:
    run = run_facts(folders.system(key)) if folders else None
    row: dict[str, Any] = {"key": key, "paper": TABLE_2.get(key, {}), "steps": run.step if run else None}
    row |= {"training_seconds": run.seconds if run else None, "missing": None, "kind": "system"}
    row |= {"trained": trained_with(run) if run else None, "judged": (entry or {}).get("trained")}
    if entry is None:
        reason = failures.get(key) or _why(run)
        return {**row, "title": TITLES.get(key, key), "rank": None, "parameters": None, "missing": reason}
    kept = ("title", "rank", "rank_single", "parameters", "kind", "estimate", "summary", "single", "against_diffma")
    return {**row, **{name: entry[name] for name in kept}}


def _why(run: RunFacts | None) -> str:
    if run is None or not run.status:
        return "not trained yet"
    failure = run.account.get("failure", {}).get("message", "")
    state = {"finished": "trained, not evaluated yet"}.get(run.status, f"its training {_words(run.status)}")
    return f"{state} (step {run.step})" + (f": {failure}" if failure else "")


def _words(status: str) -> str:
    return {"training": "is under way or was killed", "stopped": "was stopped", "failed": "failed"}.get(status, status)


def table2_section(experiment: Experiment, rows: list[dict[str, Any]], results: Mapping[str, Any] | None) -> Section:
    """Table 2 as the report shows it."""
    title = f"Table 2: {experiment.title}"
    missing = [f"{row['title']}: {row['missing']}" for row in rows if row["missing"]]
    if results is None:
        return Section("table2", title, [], missing)
    first = experiment.data.anatomy if experiment.data.anatomy in _OTHER else "brain"
    regions = (first, _OTHER[first])
    head = [
        "Rank",
        "Model",
        "Parameters (M)",
        "Training steps",
        "SSIM (%)",
        "minus DiffMa's",
        "PSNR (dB)",
        "MSE (8-bit)",
        "SSIM (%), whole slice",
        *(f"Paper, {region}: SSIM, PSNR / MSE" for region in regions),
    ]
    cells = [_cells(row, regions) for row in rows]
    strong = [n for n, row in enumerate(rows) if row["key"] == OURS]
    faint = [n for n, row in enumerate(rows) if row["kind"] == "reference" or row["missing"]]
    unlike = warnings(rows, experiment, results["data_fingerprint"])
    trained = trained_table(rows)
    warned = ["NOT TRAINED ALIKE: the ranks are of these runs, not of the models."] if unlike else []
    shown: list[Block] = [Text("What each model was trained with:"), trained] if trained else []
    blocks: list[Block] = [
        *(Text(text) for text in (*_lead(experiment, rows, results), *warned, *(f"Warning: {one}" for one in unlike))),
        Table(head, cells, strong, faint),
        *shown,
        *(Text(note) for note in results["notes"]),
        *_single(rows),
        Text(
            "References are no models and are not ranked: the truth through the VAE and back is the most that any"
            " latent diffusion with this VAE can be expected to reach; the mean training image and the linear fit of"
            " the source's grey values are to be had without a network. All tables, per patient and over whole slices:"
            f" evaluation/{results['split']}/table.md next to this report's folder."
        ),
    ]
    return Section("table2", title, blocks, missing)


def _single(rows: list[dict[str, Any]]) -> list[Block]:
    """What one sample alone is worth, where the table above judges the mean of several."""
    if not any(not row["missing"] and row["single"] for row in rows):
        return []
    ranked = sorted((row for row in rows if row.get("rank_single")), key=lambda row: row["rank_single"])
    cells: list[list[Cell]] = []
    for row in ranked:
        mask = (row["single"] or row)["summary"]["mask"]
        image = "one sample" if row["single"] else row["estimate"]
        metrics = value(mask["ssim"], 2, 100), value(mask["psnr"], 2), value(mask["mse_8bit"], 1)
        cells.append([str(row["rank_single"]), row["title"], image, *metrics])
    head = ["Rank", "Model", "Image", "SSIM (%)", "PSNR (dB)", "MSE (8-bit)"]
    strong = [n for n, row in enumerate(ranked) if row["key"] == OURS]
    return [Text("The same by one sample alone, inside the mask:"), Table(head, cells, strong)]


def _lead(experiment: Experiment, rows: list[dict[str, Any]], results: Mapping[str, Any]) -> list[str]:
    count, settings = len(results["cases"]), results["settings"]
    ranked = [row for row in rows if row["rank"] is not None]
    own = next((row for row in ranked if row["key"] == OURS), None)
    verdict = f"Best by {results['ranked_by']}: {ranked[0]['title']}." if ranked else ""
    if own and own is not ranked[0]:
        verdict += f" DiffMa is number {own['rank']} of {len(ranked)}."
    if own and count < FEW:
        verdict += (
            f" {count} patient{'' if count == 1 else 's'} are too few to tell models apart, whatever the intervals."
        )
    elif own:
        apart = [row["title"] for row in ranked if _apart(row)]
        verdict += (
            f" These {count} patients tell DiffMa apart from {', '.join(apart)} (interval of the difference without 0)."
            if apart
            else f" These {count} patients tell no model apart from DiffMa: every interval of a difference holds 0."
        )
    if is_papers_data(experiment):
        data = (
            f"By its configuration the data set is the paper's, {DATA_SET}, but not its split (the paper gives none by"
            " patient), nor its normalisation or metric code, which it does not state: compare ranks, not digits."
        )
    else:
        data = (
            f"These are other data than the paper's{'' if is_papers_size(experiment) else ', and another size'}: the"
            f" metrics say nothing about {DATA_SET}, and the paper's columns stand here only to be looked at next to"
            " them."
        )
    how = (
        f"{count} {results['split']} patient{'' if count == 1 else 's'}, inside the mask. {results['normalisation']}"
        f" Sampling: {settings['samples']} samples of {settings['steps']} steps of {settings['scheduler']}. Mean ±"
        " deviation over patients; small: 95 % bootstrap interval of the mean over patients. MSE times 255 squared."
    )
    return [data, how, verdict.strip()]


def _apart(row: Mapping[str, Any]) -> bool:
    difference = row["against_diffma"]
    interval = difference["mask"]["ssim"]["ci95"] if difference else None
    return interval is not None and (interval[0] > 0 or interval[1] < 0)


def _cells(row: Mapping[str, Any], regions: tuple[str, str]) -> list[Cell]:
    paper = [_printed(row["paper"].get(region)) for region in regions]
    size = f"{row['parameters'] / 1e6:.2f}" if row["parameters"] else "-"
    trained = (f"{row['steps']}", f"in {duration(row['training_seconds'])}") if row["steps"] else "-"
    ours: list[Cell] = ["-", row["title"], size, trained]
    if row["missing"]:
        return [*ours, "missing", "-", "-", "-", "-", *paper]
    ours[0] = "-" if row["rank"] is None else str(row["rank"])
    mask, whole = row["summary"]["mask"], row["summary"]["slice"]
    difference = row["against_diffma"]["mask"]["ssim"] if row["against_diffma"] else None
    return [
        *ours,
        value(mask["ssim"], 2, 100),
        value(difference, 2, 100, "+") if difference else "-",
        value(mask["psnr"], 2),
        value(mask["mse_8bit"], 1),
        value(whole["ssim"], 2, 100),
        *paper,
    ]


def _printed(values: tuple[float, float, float] | None) -> Cell:
    return (f"{values[0]:.2f}", f"{values[1]:.2f} dB / {values[2]:.2f}") if values else "-"


def value(summary: Mapping[str, Any], digits: int, factor: float = 1, sign: str = "") -> Cell:
    """Mean ± deviation, and the interval to stand small."""
    if summary["mean"] is None:
        return "-"
    text = f"{summary['mean'] * factor:{sign}.{digits}f}"
    if summary["sd"] is not None:
        text += f" ± {summary['sd'] * factor:.{digits}f}"
    if summary["ci95"] is None:
        return text
    low, high = (f"{end * factor:{sign}.{digits}f}" for end in summary["ci95"])
    return text, f"[{low}, {high}]"
