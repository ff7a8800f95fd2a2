"""An experiment's folders in, the whole report out: ``index.html``, ``report.md``, ``report.json`` and pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from DiffMaCore.baselines.registry import TITLES
from DiffMaCore.errors import InputError
from DiffMaCore.files import replacing, write_json
from DiffMaCore.training.cache import PairedCache
from DiffMaCore.training.evaluation.tables import read_results
from DiffMaCore.training.experiment import Experiment, Folders
from DiffMaCore.training.run_folder import git_revision, machine, versions
from Training.reproduce.document import Document, Folded, Picture, Section, Table, Text, to_markdown
from Training.reproduce.figures import plot_calibration
from Training.reproduce.page import to_html
from Training.reproduce.runs import RunFacts, duration, run_facts
from Training.reproduce.slices import figure1, figure5, figure7
from Training.reproduce.table1 import table1, table1_section
from Training.reproduce.table2 import OURS, table2_rows, table2_section
from Training.reproduce.tokens import read_tokens, tokens_section

PAGE, TEXT, FACTS, CALIBRATION = "index.html", "report.md", "report.json", "calibration.png"
_RESEARCH = "Research only: synthetic images are not for diagnosis or treatment planning."
_NO_DATA = "no data is prepared yet"


def write_report(
    experiment: Experiment,
    folders: Folders,
    failures: Mapping[str, str] | None = None,
    split: str | None = None,
    now: datetime | None = None,
) -> Path:
    """Write the report from whatever the experiment's folders hold, saying what is missing; returns the page.

    Args:
        failures: why models are missing, by backbone.
        split: whose evaluation is shown; None: ``DataConfig.judged``.
        now: the time that is printed.

    Raises OutputError when the disk is full.
    """
    try:
        cache = PairedCache.open(folders.data)
    except InputError:
        cache = None
    results = _results(folders.evaluation / (split or experiment.data.judged), cache)
    rows = table2_rows(experiment, folders, results, failures or {})
    models = results["systems"] if results else {}
    tokens = read_tokens(folders.report)
    sections = [
        table1_section(),
        table2_section(experiment, rows, results),
        figure1(experiment, folders, cache) if cache else _absent("figure1", "Figure 1: soft masks"),
        figure5(experiment, folders, cache, models) if cache else _absent("figure5", "Figures 5 and 6"),
        figure7(experiment, folders, cache) if cache else _absent("figure7", "Figure 7: all models over training"),
        _calibration(folders, models),
        tokens_section(tokens, folders.report, "not measured yet; `python -m Training.reproduce --only tokens` does"),
        _runs(experiment, folders, cache),
    ]
    when = (now or datetime.now(timezone.utc)).strftime("%d %B %Y, %H:%M UTC")
    lead = [
        f"The tables and figures of the DiffMa paper, on these data: {experiment.card.training_data}",
        f"{_RESEARCH} Written {when} by `python -m Training.reproduce`.",
    ]
    if experiment.demo:
        lead.insert(1, "DEMO: a small experiment that shows the method at work; its models are not for any use.")
    document = Document(f"{experiment.title}: the paper's experiment", lead, sections, _foot(experiment))
    missing = {section.key: list(section.missing) for section in sections if section.missing}
    facts = {"format": 1, "title": document.title, "written": when, "missing": missing, "table1": list(table1())}
    facts |= {"table2": rows, "tokens": tokens, "data_fingerprint": cache.fingerprint if cache else None}
    write_json(folders.report / FACTS, facts)
    for name, text in ((TEXT, to_markdown(document)), (PAGE, to_html(document))):
        with replacing(folders.report / name) as part:
            part.write_text(text, encoding="utf-8", newline="")
    return folders.report / PAGE


def _results(folder: Path, cache: PairedCache | None) -> dict[str, Any] | None:
    """The evaluation's results, if they are of these data."""
    try:
        results = read_results(folder)
    except InputError:
        return None
    return results if cache and results["data_fingerprint"] == cache.fingerprint else None


def _absent(key: str, title: str) -> Section:
    return Section(key, title, [], [_NO_DATA])


def _calibration(folders: Folders, models: Mapping[str, Any]) -> Section:
    title = "Calibration: does a high uncertainty mean a large error?"
    measured = {key: entry for key, entry in models.items() if entry["calibration"]}
    if not measured:
        return Section("calibration", title, [], ["no model that samples is evaluated with several samples yet"])
    bins = {key: entry["calibration"]["bins"] for key, entry in measured.items()}
    curves = {key: ([b["predicted"] for b in each], [b["actual"] for b in each]) for key, each in bins.items()}
    plot_calibration(curves, {key: entry["title"] for key, entry in measured.items()}, folders.report / CALIBRATION)
    rows = [
        [
            _rank(entry),
            entry["title"],
            _two(entry["calibration"]["ratio"]),
            _two(entry["calibration"]["spearman"]["mean"]),
        ]
        for entry in measured.values()
    ]
    head = ["Rank", "Model", "promised / made error (1 is right)", "rank correlation with the error"]
    strong = [n for n, key in enumerate(measured) if key == OURS]
    key = OURS if OURS in measured else next(iter(measured))
    text = f"{measured[key]['title']}: {measured[key]['calibration']['meaning']}"
    caption = (
        "Tenths of the voxels inside the mask, from the surest to the least sure: the error that the deviation of the"
        " samples promises, against the error of their mean. A rising line: errors are where the deviation says."
    )
    return Section("calibration", title, [Text(text), Table(head, rows, strong), Picture(CALIBRATION, caption)])


def _rank(entry: Mapping[str, Any]) -> str:
    return "-" if entry["rank"] is None else str(entry["rank"])


def _two(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _runs(experiment: Experiment, folders: Folders, cache: PairedCache | None) -> Section:
    """What was run: every run with its times, the data, versions, machines, configuration."""
    title = "What was run"
    runs = {"Vision Embedder": run_facts(folders.embedder)}
    runs |= {TITLES[key]: run_facts(folders.system(key)) for key in experiment.systems}
    head = ["Run", "State", "Steps", "Batch", "Time in steps", "Begun", "Ended", "Starts", "Device"]
    rows = [_run_row(name, run) for name, run in runs.items() if run.account]
    blocks: list[Any] = [Table(head, rows)] if rows else []
    if cache:
        counts = ", ".join(f"{len(ids)} {name}" for name, ids in cache.split.items())
        slices = sum(case["slices"] for case in cache.manifest["cases"])
        left = len(cache.manifest["left_out"])
        parts = "; ".join(
            f"{name.replace('_', ' ')} {part['asked']} (sha256 {part['sha256'][:12]})"
            for name, part in cache.manifest["parts"].items()
        )
        blocks.append(
            Text(
                f"Data: {slices} slices of {len(cache.manifest['cases'])} cases ({counts}), {left} left out."
                f" Fingerprint {cache.fingerprint}. Test: {', '.join(cache.split['test'])}. Parts: {parts}."
            )
        )
    blocks += [Text(f"{what}: {text}") for what, text in _surroundings(list(runs.values())).items()]
    blocks.append(Folded("The configuration", json.dumps(asdict(experiment), indent=2)))
    return Section("runs", title, blocks)


def _run_row(name: str, run: RunFacts) -> list[str]:
    sessions = run.account["sessions"]
    gpus = sessions[-1]["machine"]["gpus"]
    device = gpus[0] if gpus and sessions[-1]["device"].startswith("cuda") else sessions[-1]["machine"]["processor"]
    ended = sessions[-1]["ended"] or ""
    times = [time.replace("T", " ").replace("+00:00", "") for time in (sessions[0]["started"], ended)]
    return [
        name,
        run.status,
        str(run.step),
        str(run.batch_size),
        duration(run.seconds),
        *(time or "-" for time in times),
        str(len(sessions)),
        device,
    ]


def _surroundings(runs: list[RunFacts]) -> dict[str, str]:
    """Revisions, versions and machines of the runs, each once; of this process where there is no run."""
    sessions = [session for run in runs for session in run.account.get("sessions", [])]
    sessions = sessions or [{"git": git_revision(), "versions": versions(), "machine": machine()}]

    def once(lines: list[str]) -> str:
        return " | ".join(dict.fromkeys(lines))

    def revision(git: Mapping[str, Any] | None) -> str:
        return "none" if not git else git["revision"] + (" (with changes)" if git["dirty"] else "")

    def computer(facts: Mapping[str, Any]) -> str:
        memory = f", {facts['memory_bytes'] / 2**30:.0f} GiB" if facts["memory_bytes"] else ""
        gpus = f", {', '.join(facts['gpus'])}" if facts["gpus"] else ", no GPU"
        return f"{facts['processor']}, {facts['cores']} cores{memory}{gpus}, {facts['system']}"

    return {
        "Git revision": once([revision(session["git"]) for session in sessions]),
        "Versions": once([", ".join(f"{k} {v}" for k, v in session["versions"].items()) for session in sessions]),
        "Machine": once([computer(session["machine"]) for session in sessions]),
    }


def _foot(experiment: Experiment) -> str:
    return f"{_RESEARCH} Data: {experiment.card.licence}. Limits: {experiment.card.limits}"
