"""How few steps suffice: ways to sample against the 1000-step ODE solution and the truth, on held-out slices."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks.sampling_slices import Problem, make_problem
from benchmarks.sampling_ways import (
    ODE,
    RELEASED_STEPS,
    STEPS,
    Way,
    initial_noise,
    integrate,
    solver_of,
    warm_start,
    ways,
)
from DiffMaCore.diffusion.pipeline import noise_seed
from DiffMaCore.errors import InputError
from DiffMaCore.files import replacing, write_json
from DiffMaCore.imaging import metrics
from DiffMaCore.inference.benchmark import machine, spread, take_turns
from DiffMaCore.progress import Reporter
from DiffMaCore.training.cache import PairedCache
from DiffMaCore.training.experiment import Experiment, Folders

PACE_ROUNDS = 10
METRICS = ("to_ode", "to_truth", "ssim", "psnr")


def benchmark_sampling(
    experiment: Experiment,
    folders: Folders,
    slices: int = 8,
    rounds: int = 1,
    steps: Iterable[int] = STEPS,
    device: str = "auto",
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Sample some test slices in every way; a round is one initial noise, the same for every slice and way.

    What is finished stays in ``<out>/sampling``: a stopped run goes on there, and begins anew once the bundle, the
    data or the slices have changed. Errors are relative, ``|x - y| / |y|`` over a slice's latent; SSIM and PSNR are
    the decoded slices' inside the body, whose values lie from 0 to 1; seconds are the denoiser's evaluations in one
    batch (one by one for the released procedure), timed in turns.

    Returns a dictionary for JSON.

    Raises:
        InputError: nothing is prepared or trained yet, or a number is below 1.
    """
    if min(slices, rounds, *steps) < 1:
        raise InputError(
            "a benchmark needs at least one slice, one round and one step; leave them out for the defaults"
        )
    reporter = reporter or Reporter()
    reporter.stage("loading")
    cache = PairedCache.open(folders.data)
    problem = make_problem(folders, cache, slices, device)
    methods = ways(steps, ("own", "neighbour", *(["regression"] if problem.regression is not None else [])))
    identity = {"bundle": problem.pipe.checksum, "data": cache.fingerprint, "slices": problem.labels}
    notebook = _Notebook(folders.root / "sampling", identity)
    pending = [(k, way) for k in range(rounds) for way in (ODE, *methods) if _name(problem, k, way) not in notebook]
    reporter.stage("sampling", sum(_evaluations(way, problem.count) for _, way in pending))
    for k, way in pending:
        notebook.add(_name(problem, k, way), _measure(problem, way, k, notebook, reporter))
    if "pace" not in notebook:
        reporter.stage("timing")
        notebook.add("pace", _pace(problem))
    return {
        "benchmark": "sampling",
        "machine": machine(problem.pipe.device),
        "shape": {
            "experiment": experiment.name,
            "system": problem.pipe.denoiser.title,
            "image_size": cache.data.image_size,
            "slices": problem.count,
            "split": problem.split,
            "prediction": problem.pipe.scheduler.config.prediction_type,
        },
        "rounds": rounds,
        "labels": problem.labels,
        "ceiling": _quality(problem, problem.target),
        "pace": notebook["pace"],
        "rows": [
            _row(way, [notebook[_name(problem, k, way)] for k in range(rounds)], notebook["pace"])
            for way in (ODE, *methods)
        ],
    }


class _Notebook:
    """What has been measured, on disk after every entry."""

    def __init__(self, folder: Path, identity: dict[str, Any]) -> None:
        self.folder = folder
        try:
            self._all = json.loads((folder / "measured.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            self._all = {}
        if self._all.get("identity") != identity:
            self._all = {"identity": identity, "entries": {}}

    def __contains__(self, name: str) -> bool:
        return name in self._all["entries"]

    def __getitem__(self, name: str) -> dict[str, Any]:
        return self._all["entries"][name]

    def add(self, name: str, entry: dict[str, Any]) -> None:
        self._all["entries"][name] = entry
        write_json(self.folder / "measured.json", self._all)

    def keep_ode(self, round: int, latents: Tensor) -> None:
        with replacing(self.folder / f"ode_{round}.safetensors") as part:
            save_file({"latents": latents.cpu()}, part)

    def ode(self, round: int) -> Tensor:
        return load_file(self.folder / f"ode_{round}.safetensors")["latents"]


def _name(problem: Problem, round: int, way: Way) -> str:
    """Of an entry in the notebook; a regression that was trained again is another one."""
    which = f" {problem.regression[1][:12]}" if way.guess == "regression" and problem.regression else ""
    return f"{round} {way.key}{which}"


def _evaluations(way: Way, slices: int) -> int:
    return way.steps * (slices if way.kind == "released" else 1)


def _measure(problem: Problem, way: Way, round: int, notebook: _Notebook, reporter: Reporter) -> dict[str, Any]:
    seed = noise_seed(0, round + (way.kind == "noise"))
    latents = _sample(problem, way, seed, reporter)
    if way == ODE:
        notebook.keep_ode(round, latents)
    to_ode = _relative(latents.cpu(), notebook.ode(round)) if way.to_ode else None
    return {**_quality(problem, latents), "to_ode": to_ode}


def _pace(problem: Problem) -> dict[str, list[float]]:
    """Seconds a slice and evaluation, in one batch and one by one, round by round."""
    pipe, count = problem.pipe, 4
    alone = problem.conditions.map(lambda part: part[:1])
    turns = {
        "together": lambda: pipe.denoise(problem.conditions, count, "dpm++"),
        "alone": lambda: pipe.denoise(alone, count, "ddpm"),
    }
    seconds = take_turns(turns, PACE_ROUNDS, pipe.device)
    return {
        "together": [taken / count / problem.count for taken in seconds["together"]],
        "alone": [taken / count for taken in seconds["alone"]],
    }


def _sample(problem: Problem, way: Way, seed: int, reporter: Reporter) -> Tensor:
    pipe, conditions = problem.pipe, problem.conditions
    denoise = partial(pipe.denoise, noise_seed=seed, on_step=reporter.advance)
    if way.kind == "warm":
        guess = _guess_beforehand(problem, way, seed)
        return warm_start(pipe, conditions, way.steps, way.start, seed, guess, reporter.advance)
    if way.kind == "spacing":
        return integrate(
            pipe, conditions, solver_of(pipe, way), initial_noise(pipe, problem.count, seed), reporter.advance
        )
    if way.kind == "released":
        alone = [conditions.map(lambda part, k=k: part[k : k + 1]) for k in range(problem.count)]  # type: ignore[misc]
        return torch.cat([denoise(one, way.steps, way.scheduler) for one in alone])
    return denoise(conditions, way.steps, way.scheduler)


def _guess_beforehand(problem: Problem, way: Way, seed: int) -> Tensor | None:
    """What a warm start is given: there already, where slices are solved one after the other."""
    if way.guess == "neighbour":
        return problem.pipe.denoise(problem.neighbours, 20, "dpm++", seed)
    return problem.regression[0] if way.guess == "regression" and problem.regression else None


def _quality(problem: Problem, latents: Tensor) -> dict[str, Any]:
    """Error of the latents to the truth, and SSIM and PSNR of the decoded slices; one value a slice."""
    low, high = problem.pipe.bundle.output_range
    made = (problem.pipe.decode(latents).numpy() - low) / (high - low)
    slices = zip(np.where(problem.body, made, 0), problem.truth, problem.body, strict=True)
    qualities = [metrics.quality(image, truth, 1.0, body) for image, truth, body in slices]
    return {
        "to_truth": _relative(latents, problem.target),
        "ssim": [one.ssim for one in qualities],
        "psnr": [one.psnr for one in qualities],
    }


def _relative(latents: Tensor, exact: Tensor) -> list[float]:
    """``|x - y| / |y|`` of every slice."""
    exact = exact.to(latents).flatten(1)
    return ((latents.flatten(1) - exact).norm(dim=1) / exact.norm(dim=1)).tolist()


def _row(way: Way, entries: list[dict[str, Any]], pace: dict[str, list[float]]) -> dict[str, Any]:
    """One way's metrics: means over the slices, their median, least and greatest over the rounds.

    Seconds are a slice's, and ``faster`` how many times those of the released procedure in the same round of timing.
    """
    row: dict[str, Any] = {
        "way": way.name,
        "kind": way.kind,
        "scheduler": way.scheduler,
        "steps": way.steps,
        "guess": way.guess or None,
        "start": way.start if way.guess else None,
    }
    for name in METRICS:
        values = [entry[name] for entry in entries]
        means = [] if values[0] is None else [statistics.mean(one) for one in values]
        row[name] = {**spread(means), "slices": values} if means else None
    own = pace["alone" if way.kind == "released" else "together"]
    row["seconds"] = spread([way.steps * one for one in own])
    pairs = zip(own, pace["alone"], strict=True)
    row["faster"] = spread([RELEASED_STEPS * theirs / (way.steps * ours) for ours, theirs in pairs])
    return row
