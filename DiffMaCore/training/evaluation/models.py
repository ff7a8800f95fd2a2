"""Names in, predictors out: of models that were trained here, and of foreign bundles that fit the data."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

from DiffMaCore.bundles import hub
from DiffMaCore.bundles.config import INDEX_FILE, BundleConfig, read_config
from DiffMaCore.configuring import nearest
from DiffMaCore.errors import InputError
from DiffMaCore.progress import Reporter
from DiffMaCore.training.cache import CT, PairedCache
from DiffMaCore.training.evaluation.predictors import DiffusionPredictor, Predictor, RegressionPredictor
from DiffMaCore.training.experiment import Backbone, DataConfig, Experiment, Folders

BACKBONES: tuple[str, ...] = get_args(Backbone)


def find_models(
    experiment: Experiment,
    folders: Folders,
    cache: PairedCache,
    systems: Sequence[str] | None,
    bundles: Sequence[str | Path],
    reporter: Reporter,
    device: str = "auto",
) -> list[Predictor]:
    """Predictors of the named models (None: of all the experiment's that are trained) and bundles; loads nothing.

    Raises InputError: a model is unknown or not trained, a bundle does not fit the data, two bundles are the same, or
    there is nothing to evaluate; ModelError: a bundle is unknown or incomplete.
    """
    wanted = experiment.systems if systems is None else tuple(dict.fromkeys(systems))
    for name in (name for name in wanted if name not in BACKBONES):
        near = nearest(name, BACKBONES)
        hint = f"did you mean {near!r}?" if near else f"there are {', '.join(BACKBONES)}"
        raise InputError(f"no model is called {name!r}; {hint}")
    absent = [name for name in wanted if not is_trained(folders, name)]
    if absent and systems is not None:
        raise InputError(f"{absent[0]} is not trained yet ({folders.system(absent[0])}); {_train(absent[0])}")
    trained = [name for name in wanted if name not in absent]
    if not trained and not bundles:
        example = (experiment.denoiser.backbone, *wanted)[0]
        raise InputError(f"no model of {folders.root} is trained yet; {_train(example)}, or name a bundle")
    if absent:
        reporter.note(f"not trained yet and left out: {', '.join(absent)}; {_train(absent[0])}")
    found = [load_predictor(folders, name, cache, device) for name in trained]
    foreign = {str(bundle): _foreign_bundle(bundle, cache, reporter, device) for bundle in bundles}
    _tell_apart(foreign, reporter)
    return [*found, *foreign.values()]


def is_trained(folders: Folders, backbone: str) -> bool:
    """Whether the training of a model has left what can be evaluated."""
    marker = "config.json" if backbone == "regression" else INDEX_FILE
    return (_result(folders, backbone) / marker).is_file()


def _result(folders: Folders, backbone: str) -> Path:
    return folders.system(backbone) / ("model" if backbone == "regression" else "bundle")


def load_predictor(folders: Folders, backbone: str, cache: PairedCache, device: str = "auto") -> Predictor:
    """The predictor of a trained model; raises InputError when its bundle was made for other slices."""
    from DiffMaCore.baselines.registry import TITLES

    folder = _result(folders, backbone)
    if backbone == "regression":
        return RegressionPredictor(folder, backbone, TITLES[backbone], "system", cache, device)
    _check_fits(read_config(folder), cache.data)
    return DiffusionPredictor(folder, backbone, TITLES[backbone], "system", device)


def _foreign_bundle(
    name_or_path: str | Path, cache: PairedCache, reporter: Reporter, device: str
) -> DiffusionPredictor:
    folder = hub.find(name_or_path, reporter.bytes_done)
    config = read_config(folder)
    config.require_complete(str(name_or_path))
    _check_fits(config, cache.data)
    asked, made = list(cache.data.mr_percentiles), [config.mr_normalisation.get(k) for k in ("low", "high")]
    if cache.data.target != CT and asked != made:
        reporter.warning(
            f"the bundle {config.name} was trained on a target whose percentiles {made} became black and white, the"
            f" data's are {asked}: its errors hold that difference"
        )
    key = "bundle-" + re.sub(r"[^\w.-]+", "_", config.name)
    return DiffusionPredictor(folder, key, f"{config.title} (bundle {config.name})", "bundle", device)


def _tell_apart(bundles: Mapping[str, DiffusionPredictor], reporter: Reporter) -> None:
    """Give bundles of one name the first digits of their checksums; raises InputError where two are the same."""
    givens: dict[str, str] = {}
    for given, bundle in bundles.items():
        other = givens.setdefault(bundle.identity, given)
        if other != given:
            raise InputError(f"{other} and {given} are the same bundle; name one of them")
    folders = Counter(bundle.key.casefold() for bundle in bundles.values())  # of their predictions, on any system
    for given, bundle in bundles.items():
        if folders[bundle.key.casefold()] > 1:
            digits = bundle.identity[:8]
            bundle.key, bundle.title = f"{bundle.key}-{digits}", f"{bundle.title} {digits}"
            reporter.note(f"{given} has a name that another bundle has too; it is called {bundle.title}")


def _check_fits(bundle: BundleConfig, data: DataConfig) -> None:
    """Raise InputError, naming both values, where a bundle was made for slices unlike those of the data."""
    takes = ["a CT" if ct else "not a CT" for ct in (bundle.takes_ct, data.source == CT)]
    pairs = [
        ("image_size", f"{bundle.image_size} px", f"{data.image_size} px"),
        ("pixel_spacing", f"{bundle.pixel_spacing:g} mm", f"{data.pixel_spacing:g} mm"),
        ("the source", *takes),
    ]
    if data.source == CT:
        pairs.append(("hu_windows", _windows(bundle.hu_windows), _windows(data.hu_windows)))
    for what, made, given in pairs:
        if made != given:
            raise InputError(
                f"the bundle {bundle.name} does not fit the data: {what} is {made} in the bundle and {given} in the"
                " data; prepare the data with the bundle's value in another --out, or train anew"
            )


def _windows(windows: Sequence[tuple[float, float]]) -> str:
    each = [f"{low:g} to {high:g}" for low, high in windows]
    return ", ".join(each if len(set(each)) > 1 else each[:1]) + " HU"  # one window is the same as three times that one


def _train(backbone: str) -> str:
    return f"train it with `diffma train denoiser --config FILE.yaml --backbone {backbone}`"
