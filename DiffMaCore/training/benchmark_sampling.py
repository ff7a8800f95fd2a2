"""How few steps suffice: ways to sample against the 1000-step ODE solution and the truth, on held-out slices."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from DiffMaCore import metrics
from DiffMaCore.benchmark import machine
from DiffMaCore.conditions import Conditions, encode, mr_to_pixels
from DiffMaCore.errors import InputError
from DiffMaCore.pipeline import DiffMaPipeline, noise_seed
from DiffMaCore.progress import Reporter
from DiffMaCore.schedulers import KARRAS_FROM, TRAIN_TIMESTEPS, describe_schedulers, make_scheduler, model_output
from DiffMaCore.training.cache import PairedCache, SliceDataset
from DiffMaCore.training.evaluation.predictors import DiffusionPredictor, RegressionPredictor
from DiffMaCore.training.evaluation.systems import is_trained, load_predictor
from DiffMaCore.training.experiment import Experiment, Folders
from DiffMaCore.training.files import replacing, write_json

STEPS = (5, 10, 15, 20, 30, 50, 250)
RELEASED_STEPS = 250
SPACING_STEPS = 50  # where the spacing matters
WARM_STEPS = 20  # with more there is nothing left to save
WARM_STARTS = (900, 700, 500, 300)
"""Timesteps at which a noised guess is taken up, of 999 (nothing but noise) to 0."""
FIGURES = ("to_ode", "to_truth", "ssim", "psnr")


@dataclass(frozen=True)
class Way:
    """One way to sample.

    Attributes:
        name: in tables.
        kind: "scheduler", "spacing" (the scheduler with other timesteps than ours), "released", "noise" or "warm".
        scheduler: short name.
        steps: evaluations of the denoiser; of a warm start its guess's included.
        options: what differs from our scheduler of this name.
        guess: of a warm start: "own" (the denoiser's from pure noise), "neighbour" or "regression".
        start: timestep at which the guess is noised.
    """

    name: str
    kind: str
    scheduler: str
    steps: int
    options: tuple[tuple[str, Any], ...] = ()
    guess: str = ""
    start: int = TRAIN_TIMESTEPS - 1

    @property
    def key(self) -> str:
        return f"{self.name} {self.steps}"

    @property
    def to_ode(self) -> bool:
        """Whether it goes to the same solution; what draws noise at every step does not."""
        return self.scheduler != "ddpm"


ODE = Way("ODE (ddim)", "ode", "ddim", TRAIN_TIMESTEPS)


def ways(steps: Iterable[int] = STEPS, guesses: Sequence[str] = ("own", "neighbour")) -> list[Way]:
    """All that are compared."""
    counts = sorted(set(steps))
    names = [known["name"] for known in describe_schedulers()]
    found = [Way(name, "scheduler", name, count) for name in names for count in counts]
    for count in (count for count in counts if count <= SPACING_STEPS):
        karras = count < KARRAS_FROM
        name = "dpm++, Karras" if karras else "dpm++, linspace"
        found.append(Way(name, "spacing", "dpm++", count, (("use_karras_sigmas", karras),)))
        found.append(Way("ddim, trailing", "spacing", "ddim", count, (("timestep_spacing", "trailing"),)))
    found.append(Way("dpm++, another noise", "noise", "dpm++", 20))
    found.append(Way("released: ddpm, batch 1", "released", "ddpm", RELEASED_STEPS))
    for guess in guesses:
        for start in WARM_STARTS:
            name = f"warm, {guess} at {start}"
            found += [
                Way(name, "warm", "dpm++", count, guess=guess, start=start)
                for count in counts
                if 1 < count <= WARM_STEPS
            ]
    return found


@dataclass
class Problem:
    """Slices with all that the ways need, and what the figures are measured against.

    Attributes:
        pipe: the bundle.
        labels: "case a, slice n" of each of the N slices.
        conditions: of the slices.
        neighbours: of a slice beside each.
        truth: (N, S, S) in [0, 1], 0 outside the body.
        body: bool (N, S, S).
        target: latents (N, 4, s, s) of the truth.
        regression: latents of the 2.5D regression's answer; None where it is not trained.
    """

    pipe: DiffMaPipeline
    split: str
    labels: list[str]
    conditions: Conditions
    neighbours: Conditions
    truth: np.ndarray
    body: np.ndarray
    target: Tensor
    regression: Tensor | None

    @cached_property
    def count(self) -> int:
        return len(self.labels)


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
    the decoded slices' inside the body, whose values lie from 0 to 1; seconds are the denoising's.

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
    problem = _problem(folders, cache, slices, device)
    contestants = ways(steps, ("own", "neighbour", *(["regression"] if problem.regression is not None else [])))
    identity = {"bundle": problem.pipe.checksum, "data": cache.fingerprint, "slices": problem.labels}
    notebook = _Notebook(folders.root / "sampling", identity)
    pending = [(k, way) for k in range(rounds) for way in (ODE, *contestants) if not notebook.has(k, way)]
    reporter.stage("sampling", sum(_evaluations(way, problem.count) for _, way in pending))
    for k, way in pending:
        notebook.add(k, way, _measure(problem, way, k, notebook, reporter))
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
        "rows": [_row(way, [notebook.get(k, way) for k in range(rounds)]) for way in (ODE, *contestants)],
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

    def has(self, round: int, way: Way) -> bool:
        return f"{round} {way.key}" in self._all["entries"]

    def get(self, round: int, way: Way) -> dict[str, Any]:
        return self._all["entries"][f"{round} {way.key}"]

    def add(self, round: int, way: Way, entry: dict[str, Any]) -> None:
        self._all["entries"][f"{round} {way.key}"] = entry
        write_json(self.folder / "measured.json", self._all)

    def keep_ode(self, round: int, latents: Tensor) -> None:
        with replacing(self.folder / f"ode_{round}.safetensors") as part:
            save_file({"latents": latents.cpu()}, part)

    def ode(self, round: int) -> Tensor:
        return load_file(self.folder / f"ode_{round}.safetensors")["latents"]


def _problem(folders: Folders, cache: PairedCache, count: int, device: str) -> Problem:
    if not is_trained(folders, "diffma"):
        raise InputError(
            f"DiffMa is not trained yet ({folders.system('diffma')}); run `diffma train denoiser --backbone diffma`"
        )
    predictor = load_predictor(folders, "diffma", cache, device)
    assert isinstance(predictor, DiffusionPredictor)
    pipe = predictor.pipe
    split = next(name for name in ("test", "validation", "train") if cache.split[name])
    ids = cache.split[split]
    dataset = SliceDataset(cache, ids, ("source", "target", "body", "target_latent", "source25"))
    rows = _spread_rows(ids, cache, count)
    items = [dataset[row] for row in rows]
    stacked = {key: torch.stack([item[key] for item in items]) for key in dataset.keys}
    beside = torch.stack([dataset[_beside(dataset, row)]["source"] for row in rows])
    body = stacked["body"].bool().numpy()
    return Problem(
        pipe=pipe,
        split=split,
        labels=[dataset.where(row) for row in rows],
        conditions=pipe.conditions(stacked["source"]),
        neighbours=pipe.conditions(beside),
        truth=np.where(body, (stacked["target"].numpy() + 1) / 2, 0),
        body=body,
        target=stacked["target_latent"].to(pipe.device),
        regression=_regression(folders, cache, pipe, stacked["source25"], device),
    )


@torch.inference_mode()
def _regression(
    folders: Folders, cache: PairedCache, pipe: DiffMaPipeline, source25: Tensor, device: str
) -> Tensor | None:
    if not is_trained(folders, "regression"):
        return None
    predictor = load_predictor(folders, "regression", cache, device)
    assert isinstance(predictor, RegressionPredictor)
    return encode(pipe.vae, mr_to_pixels(predictor.model(source25.to(pipe.device)).clamp(-1, 1)))


def _spread_rows(ids: Sequence[str], cache: PairedCache, count: int) -> list[int]:
    """``count`` rows with some body, evenly over all slices."""
    filled = np.flatnonzero(torch.cat([cache.case(id).body().flatten(1).any(1) for id in ids]).numpy())
    count = min(count, len(filled))
    return [int(filled[(2 * k + 1) * len(filled) // (2 * count)]) for k in range(count)]


def _beside(dataset: SliceDataset, row: int) -> int:
    """The next slice of the same case, the previous one at its end."""
    same = row + 1 < len(dataset) and dataset.place(row + 1)[0] == dataset.place(row)[0]
    return row + 1 if same else row - 1


def _evaluations(way: Way, slices: int) -> int:
    return way.steps * (slices if way.kind == "released" else 1)


def _measure(problem: Problem, way: Way, round: int, notebook: _Notebook, reporter: Reporter) -> dict[str, Any]:
    seed = noise_seed(0, round + (way.kind == "noise"))
    prepared = _guess_beforehand(problem, way, seed)
    began = time.perf_counter()
    latents = _sample(problem, way, seed, prepared, reporter)
    if latents.is_cuda:
        torch.cuda.synchronize(latents.device)
    seconds = (time.perf_counter() - began) / problem.count
    if way == ODE:
        notebook.keep_ode(round, latents)
    to_ode = _relative(latents.cpu(), notebook.ode(round)) if way.to_ode else None
    return {**_quality(problem, latents), "to_ode": to_ode, "seconds": seconds}


def _sample(problem: Problem, way: Way, seed: int, prepared: Tensor | None, reporter: Reporter) -> Tensor:
    pipe, conditions = problem.pipe, problem.conditions
    denoise = partial(pipe.denoise, noise_seed=seed, on_step=reporter.advance)
    if way.kind == "warm":
        return warm_start(pipe, conditions, way.steps, way.start, seed, prepared, reporter.advance)
    if way.kind == "spacing":
        return _walk(pipe, conditions, _solver(pipe, way), _noise(pipe, problem.count, seed), reporter.advance)
    if way.kind == "released":
        alone = [Conditions(*(part[k : k + 1] for part in conditions)) for k in range(problem.count)]
        return torch.cat([denoise(one, way.steps, way.scheduler) for one in alone])
    return denoise(conditions, way.steps, way.scheduler)


def _guess_beforehand(problem: Problem, way: Way, seed: int) -> Tensor | None:
    """What a warm start is given: there already, where slices are solved one after the other."""
    if way.guess == "neighbour":
        return problem.pipe.denoise(problem.neighbours, 20, "dpm++", seed)
    return problem.regression if way.guess == "regression" else None


@torch.inference_mode()
def warm_start(
    pipe: DiffMaPipeline,
    conditions: Conditions,
    steps: int,
    start: int,
    seed: int,
    guess: Tensor | None = None,
    on_step: Any = None,
) -> Tensor:
    """Latents (B, 4, s, s) from a guess that is noised at timestep ``start`` with the noise of the seed.

    ``guess`` None is the denoiser's own, the clean latent that it expects of pure noise, and takes one of the steps.
    The rest are DPM-Solver++'s at even distances (its Karras sigmas always begin with pure noise).
    """
    noise = _noise(pipe, len(conditions.soft_mask), seed)
    if guess is None:
        guess = _expected(pipe, conditions, noise)
        steps -= 1
        if on_step:
            on_step()
    solver = make_scheduler("dpm++", 1, pipe.scheduler.config.prediction_type)
    times = np.linspace(start, 0, steps + 1).round()[:-1]
    solver.set_timesteps(timesteps=times.astype(int).tolist(), device=pipe.device)
    kept = float(solver.alphas_cumprod[start])
    return _walk(pipe, conditions, solver, kept**0.5 * guess + (1 - kept) ** 0.5 * noise, on_step)


def _expected(pipe: DiffMaPipeline, conditions: Conditions, noise: Tensor) -> Tensor:
    """The clean latent that the denoiser expects of pure noise."""
    solver = make_scheduler("ddim", TRAIN_TIMESTEPS, pipe.scheduler.config.prediction_type)
    solver.set_timesteps(TRAIN_TIMESTEPS, device=pipe.device)
    t = solver.timesteps[0]
    return solver.step(_predict(pipe, conditions, solver, noise, t), t, noise).pred_original_sample


def _walk(pipe: DiffMaPipeline, conditions: Conditions, solver: Any, latents: Tensor, on_step: Any = None) -> Tensor:
    """From the solver's first timestep to the last; as ``pipe.denoise``, for solvers that it does not make."""
    with torch.inference_mode():
        for t in solver.timesteps:
            latents = solver.step(_predict(pipe, conditions, solver, latents, t), t, latents).prev_sample
            if on_step:
                on_step()
    return latents


def _predict(pipe: DiffMaPipeline, conditions: Conditions, solver: Any, latents: Tensor, t: Tensor) -> Tensor:
    return model_output(
        solver, pipe.denoiser(latents, t.expand(len(latents)), *conditions).sample, pipe.latent_shape[0]
    )


def _solver(pipe: DiffMaPipeline, way: Way) -> Any:
    ours = make_scheduler(way.scheduler, way.steps, pipe.scheduler.config.prediction_type)
    solver = type(ours).from_config(ours.config, **dict(way.options))
    solver.set_timesteps(way.steps, device=pipe.device)
    return solver


def _noise(pipe: DiffMaPipeline, count: int, seed: int) -> Tensor:
    """As ``pipe.denoise`` begins: one noise for all slices."""
    noise = torch.randn(pipe.latent_shape, generator=torch.Generator().manual_seed(seed))
    return noise.to(pipe.device, pipe.denoiser.dtype).expand(count, -1, -1, -1).clone()


def _quality(problem: Problem, latents: Tensor) -> dict[str, Any]:
    """Error of the latents to the truth, and SSIM and PSNR of the decoded slices; one figure a slice."""
    low, high = problem.pipe.bundle.output_range
    made = (problem.pipe.decode(latents).numpy() - low) / (high - low)
    slices = zip(np.where(problem.body, made, 0), problem.truth, problem.body, strict=True)
    figures = [metrics.quality(image, truth, 1.0, body) for image, truth, body in slices]
    return {
        "to_truth": _relative(latents, problem.target),
        "ssim": [one.ssim for one in figures],
        "psnr": [one.psnr for one in figures],
    }


def _relative(latents: Tensor, exact: Tensor) -> list[float]:
    """``|x - y| / |y|`` of every slice."""
    exact = exact.to(latents).flatten(1)
    return ((latents.flatten(1) - exact).norm(dim=1) / exact.norm(dim=1)).tolist()


def _row(way: Way, entries: list[dict[str, Any]]) -> dict[str, Any]:
    """One way's figures: means over the slices, their median, least and greatest over the rounds."""
    row: dict[str, Any] = {
        "way": way.name,
        "kind": way.kind,
        "scheduler": way.scheduler,
        "steps": way.steps,
        "guess": way.guess or None,
        "start": way.start if way.guess else None,
    }
    for name in FIGURES:
        told = [entry[name] for entry in entries]
        row[name] = None if told[0] is None else {**spread([statistics.mean(one) for one in told]), "slices": told}
    row["seconds"] = spread([entry["seconds"] for entry in entries])
    return row


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least and greatest."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}
