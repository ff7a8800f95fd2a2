"""An experiment in, the steps that are missing of it out, each as the commands do it one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from DiffMaCore.baselines.registry import TITLES
from DiffMaCore.errors import BackendError, InputError, ModelError, TrainingError
from DiffMaCore.files import write_json
from DiffMaCore.progress import Reporter
from DiffMaCore.training.cache import PairedCache
from DiffMaCore.training.evaluation import evaluate
from DiffMaCore.training.evaluation.models import is_trained
from DiffMaCore.training.evaluation.run import split_cases
from DiffMaCore.training.evaluation.tables import RESULTS, read_results
from DiffMaCore.training.experiment import TRAINED, Experiment, Folders
from DiffMaCore.training.tasks import Part, config_of, folder_of
from Training.reproduce.runs import is_finished, run_facts
from Training.reproduce.tokens import TOKENS_FILE, read_tokens

NEEDS: dict[str, tuple[str, ...]] = {
    "table1": (),
    "table2": ("prepare", "embedder", "systems", "evaluate"),
    "figure1": ("prepare", "embedder"),
    "figure5": ("prepare", "embedder", "systems", "evaluate"),
    "figure7": ("prepare", "embedder", "systems"),
    "calibration": ("prepare", "embedder", "systems", "evaluate"),
    "tokens": ("tokens",),
}
"""The report's parts, and what each needs to be run; "figure5" stands for Figures 5 and 6."""


@dataclass(frozen=True)
class ReproduceOptions:
    """What the caller asks for beside the experiment."""

    datasets: Sequence[Path] = ()
    split_file: Path | None = None
    parts: Sequence[str] = tuple(NEEDS)
    tokens: Sequence[int] = ()
    size: str = "B/2"
    rounds: int = 3
    device: str = "auto"
    command: Sequence[str] = ()


@dataclass(frozen=True)
class Step:
    """One thing to run; ``done`` says what is there already, "" if nothing or not all is."""

    key: str
    title: str
    done: str
    run: Callable[[Reporter], object]


def make_plan(experiment: Experiment, folders: Folders, options: ReproduceOptions) -> list[Step]:
    """All steps that the wished parts need, in order.

    Raises InputError for a part that is none, for models or data that cannot be, before anything is run.
    """
    unknown = [part for part in options.parts if part not in NEEDS]
    if unknown:
        raise InputError(f"the report has no part {unknown[0]!r}; its parts are {', '.join(NEEDS)}")
    wanted = {need for part in options.parts for need in NEEDS[part]}
    steps: list[Step] = []
    cache = _prepared(experiment, folders)
    embedder = _embedder_hash(experiment, folders, cache)
    if "prepare" in wanted:
        if cache is None and not options.datasets and experiment.data.heads is None:
            raise InputError(
                f"no data is prepared in {folders.data} and none is named; name the data set: "
                "python -m Training.reproduce DATASET --config FILE.yaml"
            )
        steps.extend(_own_parts(experiment, folders, options, cache))
        steps.append(_prepare(experiment, folders, options, cache))
    if "embedder" in wanted:
        done = f"{experiment.embedder.train.steps} steps" if embedder else ""
        steps.append(
            Step("embedder", "train the Vision Embedder", done, _training(experiment, folders, options, "embedder"))
        )
    if "systems" in wanted:
        for backbone in experiment.systems:
            steps.append(_system(experiment, folders, options, backbone, cache, embedder))
    if "evaluate" in wanted:
        steps.append(_evaluation(experiment, folders, options, cache, all(step.done for step in steps)))
    if "tokens" in wanted:
        steps.append(_tokens(folders, options))
    return steps


def tell_plan(steps: Sequence[Step]) -> str:
    """The plan for people, what is done ticked."""
    width = max((len(step.title) for step in steps), default=0)
    lines = [f"  [{'x' if s.done else ' '}] {s.title:<{width}}  {s.done}".rstrip() for s in steps]
    todo = sum(not step.done for step in steps)
    head = f"{todo} of {len(steps)} steps are to be run" if todo else "nothing is to be run"
    return "\n".join([f"{head}, then the report is written{':' if lines else ''}", *lines])


def run_plan(steps: Sequence[Step], reporter: Reporter) -> dict[str, str]:
    """Run what is not done. A model that cannot be trained does not keep the others from it: returns why, by model.

    Raises whatever else goes wrong, and KeyboardInterrupt; what is done stays done.
    """
    failures: dict[str, str] = {}
    todo = [step for step in steps if not step.done]
    for number, step in enumerate(todo, start=1):
        reporter.note(f"step {number} of {len(todo)}: {step.title}")
        try:
            step.run(reporter)
        except (InputError, ModelError, BackendError, TrainingError) as error:
            if step.key not in TITLES:
                raise
            failures[step.key] = str(error)
            reporter.warning(f"{step.title} failed and is left out: {error}")
    return failures


def _prepared(experiment: Experiment, folders: Folders) -> PairedCache | None:
    """The cache, if it is whole; InputError where it was made for other data settings."""
    if not (folders.data / "manifest.json").is_file():
        return None
    cache = PairedCache.open(folders.data)
    cache.require(experiment.data)
    return cache


def _own_parts(
    experiment: Experiment, folders: Folders, options: ReproduceOptions, cache: PairedCache | None
) -> list[Step]:
    """The networks around the denoiser that the experiment trains itself, on slices that are prepared before them."""
    own: dict[Part, str] = {"autoencoder": experiment.parts.vae, "image-encoder": experiment.parts.image_encoder}
    trained: list[Part] = [what for what, given in own.items() if given == TRAINED]
    if not trained:
        return []
    whole = "" if cache is None else f"{len(cache.manifest['cases'])} cases"
    steps = [Step("slices", "prepare the slices", whole, _preparing(experiment, folders, options))]
    for what in trained:
        train, path = config_of(experiment, what).train, folder_of(experiment, folders, what)
        settings = {"data": cache.data_fingerprint} if cache else {}
        finished = bool(cache) and is_finished(experiment, path, train, **settings)
        done = f"{train.steps} steps" if finished and (path / "model").is_dir() else ""
        title = f"train the {what.replace('-', ' ')}"
        steps.append(Step(what, title, done, _training(experiment, folders, options, what)))
    return steps


def _preparing(experiment: Experiment, folders: Folders, options: ReproduceOptions) -> Callable[[Reporter], None]:
    def run(reporter: Reporter) -> None:
        from DiffMaCore.training.prepare import prepare

        made = prepare(
            experiment, folders, options.datasets, reporter, device=options.device, split_file=options.split_file
        )
        split_cases(made, experiment.data.judged)  # nothing shall be trained that cannot be tested

    return run


def _prepare(experiment: Experiment, folders: Folders, options: ReproduceOptions, cache: PairedCache | None) -> Step:
    done = ""
    if cache is not None:
        split_cases(cache, experiment.data.judged)
        done = f"{len(cache.manifest['cases'])} cases" if cache.manifest["parts"] else ""
    return Step("prepare", "prepare the data", done, _preparing(experiment, folders, options))


def _embedder_hash(experiment: Experiment, folders: Folders, cache: PairedCache | None) -> str:
    """First digits of the trained embedder's checksum, as the denoisers' settings hold them; "" where it is not
    trained to its end."""
    from DiffMaCore.models.embedder import VisionEmbedder
    from DiffMaCore.training.cache import embedder_hash

    model = folders.embedder / "model"
    if cache is None or not model.is_dir():
        return ""
    if not is_finished(experiment, folders.embedder, experiment.embedder.train, data=cache.fingerprint):
        return ""
    return embedder_hash(VisionEmbedder.from_pretrained(model, local_files_only=True))[:12]


def _training(
    experiment: Experiment, folders: Folders, options: ReproduceOptions, what: Part
) -> Callable[[Reporter], object]:
    def run(reporter: Reporter) -> None:
        from DiffMaCore.training.tasks import train_part

        device = "cpu" if options.device == "cpu" else "auto"
        train_part(experiment, folders, what, reporter, device, options.command)

    return run


def _system(
    experiment: Experiment,
    folders: Folders,
    options: ReproduceOptions,
    backbone: str,
    cache: PairedCache | None,
    embedder: str,
) -> Step:
    path, train = folders.system(backbone), experiment.denoiser.train
    settings = {"data": cache.fingerprint} if cache else {}
    if backbone != "regression":
        settings["embedder"] = embedder
    ready = bool(cache and embedder) and is_trained(folders, backbone)
    done = f"{train.steps} steps" if ready and is_finished(experiment, path, train, **settings) else ""
    begun = run_facts(path).step
    title = f"train {TITLES[backbone]}" + (f" (from step {begun} on)" if begun and not done else "")
    denoiser: Any = replace(experiment.denoiser, backbone=backbone)  # type: ignore[arg-type]
    return Step(backbone, title, done, _training(replace(experiment, denoiser=denoiser), folders, options, "denoiser"))


def _evaluation(
    experiment: Experiment, folders: Folders, options: ReproduceOptions, cache: PairedCache | None, trained: bool
) -> Step:
    def run(reporter: Reporter) -> None:
        evaluate(experiment, folders, reporter=reporter, device=options.device)

    done = "its tables are there" if trained and cache and _is_evaluated(experiment, folders, cache) else ""
    return Step("evaluate", f"evaluate on the {experiment.data.judged} patients", done, run)


def _is_evaluated(experiment: Experiment, folders: Folders, cache: PairedCache) -> bool:
    """Whether the results are of these models, as they are now, of these data, asked in this way."""
    folder = folders.evaluation / experiment.data.judged
    try:
        results = read_results(folder)
    except InputError:
        return False
    runs = [folders.system(backbone) / "run.json" for backbone in experiment.systems]
    return (
        results["data_fingerprint"] == cache.fingerprint
        and results["settings"] == asdict(experiment.evaluation)
        and set(experiment.systems) <= results["systems"].keys()
        and all(run.stat().st_mtime <= (folder / RESULTS).stat().st_mtime for run in runs)
    )


def _tokens(folders: Folders, options: ReproduceOptions) -> Step:
    from benchmarks.tokens import TOKENS, benchmark_tokens, image_side

    counts = sorted(set(options.tokens or TOKENS))
    try:
        for count in counts:
            image_side(count, options.size)
    except ValueError as error:
        raise InputError(str(error)) from None

    def run(reporter: Reporter) -> None:
        from DiffMaCore.devices import choose_device, keep_freed_memory

        keep_freed_memory()
        device = choose_device(options.device)
        write_json(
            folders.report / TOKENS_FILE,
            benchmark_tokens(counts, options.size, device, options.rounds, reporter=reporter),
        )

    held = read_tokens(folders.report)
    shape = held["shape"] if held else {}
    done = "measured" if (shape.get("size"), shape.get("tokens")) == (options.size, counts) else ""
    return Step("tokens", f"time and memory at {', '.join(map(str, counts))} tokens", done, run)
