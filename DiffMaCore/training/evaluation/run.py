"""``diffma evaluate`` from end to end: predictions, metrics, tables; what is there already is not made again."""

from __future__ import annotations

import hashlib
import json
import time
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from DiffMaCore.diffusion.schedulers import check_sampling
from DiffMaCore.errors import InputError, ModelError
from DiffMaCore.progress import Reporter
from DiffMaCore.training.cache import CT, Case, PairedCache
from DiffMaCore.training.evaluation import calibration, scores, tables
from DiffMaCore.training.evaluation.models import find_models
from DiffMaCore.training.evaluation.predictors import VOLUMES, Predictor, references
from DiffMaCore.training.experiment import DataConfig, EvaluationConfig, Experiment, Folders
from DiffMaCore.training.files import read_facts, replacing, require_room, write_json
from DiffMaCore.training.run_folder import RunFolder
from DiffMaCore.training.sources.heads import MR_RANGE

FORMAT = 1
RANKED_BY = "SSIM inside the mask"
OURS = "diffma"

Entries = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Evaluation:
    """What :func:`evaluate` found, and where it is."""

    folder: Path  # of the tables, the picture and the predictions
    results: dict[str, Any]  # as in results.json


def evaluate(
    experiment: Experiment,
    folders: Folders,
    split: str | None = None,
    systems: Sequence[str] | None = None,
    bundles: Sequence[str | Path] = (),
    reporter: Reporter | None = None,
    device: str = "auto",
) -> Evaluation:
    """Judge models on one split of the experiment's cache.

    Args:
        experiment: its ``evaluation`` says how; ``dataclasses.replace`` changes that.
        split: "train", "validation" or "test"; None: ``DataConfig.judged``.
        systems: backbones; None takes those of the experiment that are trained.
        bundles: names, folders or hub ids of bundles that were trained elsewhere.

    Raises:
        InputError: there is no cache, the split is empty, a model is unknown or not trained, a bundle does not fit.
        ModelError: a bundle is incomplete, or a network fails.
        OutputError: the results cannot be written.
    """
    reporter, settings = reporter or Reporter(), experiment.evaluation
    check_sampling(steps=settings.steps, scheduler=settings.scheduler, samples=settings.samples, seed=settings.seed)
    cache = PairedCache.open(folders.data)
    cache.require(experiment.data)
    split = split or experiment.data.judged
    cases = split_cases(cache, split)
    found = find_models(experiment, folders, cache, systems, bundles, reporter, device)
    predictors = [*found, *references(cache, device)]
    folder = folders.evaluation / split
    entries: Entries = {}
    for number, predictor in enumerate(predictors, start=1):
        place = f"{predictor.title} ({number} of {len(predictors)})"
        judge = _Judge(folder / "predictions" / predictor.key, cache, settings, predictor, reporter)
        entry = judge.judge(cases, place)
        # how far a model of the experiment was trained when it was judged; None for what is trained elsewhere
        account = RunFolder(folders.system(predictor.key)).account() if predictor.kind == "system" else {}
        trained = {"steps": account["step"], "ended": account["sessions"][-1]["ended"]} if account else None
        entries[predictor.key] = entry | {"trained": trained}
    entries = _ranked(entries)
    if OURS in entries:
        ours, drawn = entries[OURS]["cases"], (settings.bootstrap, settings.seed)
        for key in entries.keys() - {OURS}:
            entries[key]["against_diffma"] = scores.paired(entries[key]["cases"], ours, *drawn)
    results = {
        "format": FORMAT,
        "title": experiment.title,
        "split": split,
        "cases": [case.id for case in cases],
        "normalisation": _normalisation(cache.data),
        "definitions": scores.DEFINITIONS,
        "data_range": scores.DATA_RANGE,
        "settings": asdict(settings),
        "data_fingerprint": cache.fingerprint,
        "ranked_by": RANKED_BY,
        "notes": _notes(entries, len(cases), split, settings),
        "systems": entries,
    }
    tables.write(results, folder)
    measured = {key: (e["title"], e["calibration"]) for key, e in entries.items() if e["calibration"]}
    if measured:
        caption = f"{experiment.title}: {_patients(len(cases), split)}, {settings.samples} samples"
        calibration.picture(measured, folder / tables.PICTURE, caption)
    return Evaluation(folder, results)


def split_cases(cache: PairedCache, split: str) -> list[Case]:
    """The cases of a split, of several contrasts those of the first, whose a model's bundle is.

    Raises InputError, naming those that have cases, when it has none.
    """
    if split in cache.split and not cache.split[split]:
        filled = [f"{name} ({len(ids)})" for name, ids in cache.split.items() if ids]
        raise InputError(
            f"the split {split!r} holds no case; {' and '.join(filled) or 'no split'} does: choose it with --split, or"
            " change data.split in the configuration and prepare again"
        )
    return [case for case in map(cache.case, cache.ids(split)) if case.contrast == 0]


def _normalisation(data: DataConfig) -> str:
    """What 0 and 1 are in the images that are compared."""
    if data.target == CT:
        low, high = data.target_window
        return f"0 and 1 are {low:g} and {high:g} HU; values outside are clipped. The data range is 1."
    if data.heads is not None:
        return f"0 and 1 are {MR_RANGE[0]:g} and {MR_RANGE[1]:g} of the rendering's fixed scale. The data range is 1."
    low, high = data.mr_percentiles
    return (
        f"0 and 1 are the {low:g} and {high:g} percentiles of the true {data.target.upper()} inside the body, volume by"
        " volume; values outside are clipped. The prediction is taken as it comes, not fitted to the truth. The data"
        " range is 1."
    )


class _Judge:
    """One model's volumes of a split and their metrics, made where they are not there yet.

    ``<folder>/<case>.npz`` holds the volumes (N, S, S) in [0, 1] as float16, 0 outside the body, ``<case>.json`` their
    metrics. Each file carries the key of what it was made with: the model's checksum and precision, the data's
    fingerprint and, where the model samples, how it was asked. A file of another key counts as missing. What is scored
    is what was stored, so that metrics do not depend on when a volume was made.
    """

    def __init__(
        self, folder: Path, cache: PairedCache, settings: EvaluationConfig, predictor: Predictor, reporter: Reporter
    ) -> None:
        self.folder, self.cache, self.settings = folder, cache, settings
        self.predictor, self.reporter = predictor, reporter
        self.sampled = predictor.stochastic and settings.samples > 1
        asked = {name: value for name, value in asdict(settings).items() if name != "bootstrap"}
        words = {"format": FORMAT, "system": predictor.identity, "precision": predictor.precision}
        words |= {"data": cache.fingerprint, "asked": asked if predictor.stochastic else None}
        self.key = hashlib.sha256(json.dumps(words, sort_keys=True).encode()).hexdigest()

    def judge(self, cases: Sequence[Case], place: str) -> dict[str, Any]:
        """The model's entry in the results; ``place`` names it in the progress."""
        predictor, settings = self.predictor, self.settings
        missing = [case for case in cases if not self._has_volumes(case)]
        if missing:
            self._predict(missing, place)
        fresh = [case for case in cases if self._scores(case) is None]
        if fresh:
            self.reporter.stage(f"measuring {place}", total=sum(map(len, fresh)) * (4 if self.sampled else 2))
        main: dict[str, Any] = {}
        single: dict[str, Any] = {}
        measured = calibration.Calibration(settings.samples, settings.seed)
        seconds = 0.0
        for case in cases:
            with np.load(self.folder / f"{case.id}.npz") as stored:
                seconds += float(stored["seconds"])
                volumes = {name: stored[name].astype(np.float32) for name in VOLUMES if name in stored}
            metrics = self._scores(case) or self._score(case, volumes)
            main[case.id] = metrics["main"]
            if "deviation" in volumes:
                single[case.id] = metrics["first"]
                measured.add(case.id, volumes["mean"], volumes["deviation"], _truth(case), case.body().numpy())
        estimate = f"mean of {settings.samples} samples" if self.sampled else "one sample"
        estimate = "expected image" if predictor.expects else estimate
        drawn = settings.bootstrap, settings.seed
        return {
            "title": predictor.title,
            "parameters": predictor.parameters,
            "kind": predictor.kind,
            "rank": None,
            "rank_single": None,
            "estimate": estimate if predictor.stochastic else "deterministic",
            "seconds_per_slice": seconds / sum(map(len, cases)),
            "cases": main,
            "summary": scores.cohort(main, *drawn),
            "against_diffma": None,
            "single": {"cases": single, "summary": scores.cohort(single, *drawn)} if single else None,
            "calibration": measured.result() if single else None,
        }

    def _has_volumes(self, case: Case) -> bool:
        try:
            with np.load(self.folder / f"{case.id}.npz") as stored:
                return str(stored["key"]) == self.key
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            return False

    def _predict(self, missing: Sequence[Case], place: str) -> None:
        """Make volumes. Raises OutputError when the disk cannot hold them, ModelError where a model gives values that
        are not finite."""
        predictor, settings, reporter = self.predictor, self.settings, self.reporter
        reporter.stage(f"loading {place}")
        numbers = (len(VOLUMES) if self.sampled else 1) * sum(map(len, missing)) * self.cache.data.image_size**2
        require_room(self.folder, 2 * numbers, f"the volumes of {predictor.title}")
        reporter.stage(f"predicting with {place}", sum(predictor.ticks(len(case), settings) for case in missing))
        for case in missing:
            began = time.monotonic()
            made = predictor.predict(case, settings, reporter)
            seconds = time.monotonic() - began
            if not np.isfinite(made["mean"]).all():
                raise ModelError(f"{predictor.title} gave values that are not finite for {case.id}; train it again")
            body = case.body().numpy()
            stored: dict[str, Any] = {name: np.where(body, each, 0).astype(np.float16) for name, each in made.items()}
            with replacing(self.folder / f"{case.id}.npz") as part, part.open("wb") as stream:
                np.savez_compressed(stream, key=self.key, seconds=seconds, **stored)

    def _scores(self, case: Case) -> dict[str, Any] | None:
        """The metrics that were taken of a volume of this key, or None: SSIM takes long."""
        stored = read_facts(self.folder / f"{case.id}.json")
        return stored.get("scores") if stored.get("key") == f"{self.key}-{scores.SCORING}" else None

    def _score(self, case: Case, volumes: Mapping[str, NDArray]) -> dict[str, Any]:
        """The metrics of a volume and, where there are several samples, of the first one alone; they are kept."""
        body, index, truth = case.body().numpy(), case.slice_index().numpy(), _truth(case)
        found = {
            name: scores.score_volume(volumes[of], truth, body, index, on_slice=self.reporter.advance).to_dict()
            for name, of in (("main", "mean"), ("first", "first"))
            if of in volumes
        }
        write_json(self.folder / f"{case.id}.json", {"key": f"{self.key}-{scores.SCORING}", "scores": found})
        return found


def _truth(case: Case) -> NDArray[np.floating]:
    """The true volume in [0, 1]."""
    return (case.target().numpy() + 1) / 2


def _ranked(entries: Entries) -> Entries:
    """Best first; references are not ranked, and stand last. Where models sample, one sample gives a rank too."""
    judged = [key for key, entry in entries.items() if entry["kind"] != "reference"]

    def best_first(which: str) -> list[str]:
        told = {key: (which and entries[key][which]) or entries[key] for key in judged}
        return sorted(judged, key=lambda key: -told[key]["summary"]["mask"]["ssim"]["mean"])

    if any(entry["single"] for entry in entries.values()):
        for rank, key in enumerate(best_first("single"), start=1):
            entries[key]["rank_single"] = rank
    order = best_first("")
    for rank, key in enumerate(order, start=1):
        entries[key]["rank"] = rank
    return {key: entries[key] for key in dict.fromkeys([*order, *entries])}


def _patients(count: int, split: str = "") -> str:
    return f"{count} {split} patient{'s'[: count - 1]}".replace("  ", " ")


def _notes(entries: Entries, patients: int, split: str, settings: EvaluationConfig) -> list[str]:
    """What must be known to read the metrics rightly."""
    found = [
        f"Intervals are 95 % percentile bootstrap intervals of the mean over {_patients(patients)}"
        f" ({settings.bootstrap} resamples, seed {settings.seed}); with few patients they are too narrow."
    ]
    if patients < scores.FEW:
        found.append(f"With {_patients(patients)} an interval means little, if there is one.")
    if split != "test":
        found.append(f"These are {split} patients, which the models may have been fitted to or chosen by.")
    if any(entry["single"] for entry in entries.values()):
        found.append(
            "The mean of several samples has a smaller error than one sample and is smoother than any true image;"
            " one sample is what most papers measure. Both are given."
        )
    cases = [case for entry in entries.values() for case in entry["cases"].values()]
    infinite = sum(case[region]["psnr"] is None for case in cases for region in scores.REGIONS)
    if infinite:
        found.append(f"{infinite} volumes equal the truth exactly: their infinite PSNR is left out of the means.")
    if OURS not in entries:
        found.append("DiffMa was not evaluated, so there are no differences from it.")
    return found
