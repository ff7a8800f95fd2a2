"""`diffma evaluate` on a tiny prepared experiment, with real networks that were never trained."""

from __future__ import annotations

import csv
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from DiffMaCore.bundles.config import read_config
from DiffMaCore.bundles.manifest import bundle_checksum
from DiffMaCore.bundles.writing import seal, write_index
from DiffMaCore.cli.main import main
from DiffMaCore.diffusion import pipeline, precision
from DiffMaCore.errors import InputError
from DiffMaCore.progress import Reporter
from DiffMaCore.training.cache import PairedCache
from DiffMaCore.training.evaluation import evaluate, predictors, tables
from DiffMaCore.training.evaluation.predictors import DiffusionPredictor
from Testing.training.evaluation.tiny_models import make_tiny_systems

REFERENCES = ["vae_ceiling", "mean_image", "linear_source"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory):
    """Experiment, folders, configuration file, and what evaluating the test split gave."""
    experiment, folders, config = make_tiny_systems(tmp_path_factory.mktemp("evaluation"))
    return experiment, folders, config, evaluate(experiment, folders, device="cpu")


class Listener(Reporter):
    """Remembers the stages, and whether each was worked to its end."""

    def __init__(self) -> None:
        super().__init__()
        self.stages: list[list] = []
        self.notes: list[str] = []

    def stage(self, name: str, total: int = 0) -> None:
        super().stage(name, total)
        self.stages.append([name, total, 0])

    def advance(self, slice_index: int | None = None) -> None:
        super().advance(slice_index)
        self.stages[-1][2] += 1

    def note(self, message: str) -> None:
        self.notes.append(message)


def test_every_trained_system_is_ranked_and_references_stand_below(made) -> None:
    results = made[3].results
    keys = list(results["systems"])
    assert set(keys[:3]) == {"diffma", "dit", "regression"} and keys[3:] == REFERENCES
    scores = [results["systems"][key]["summary"]["mask"]["ssim"]["mean"] for key in keys[:3]]
    assert scores == sorted(scores, reverse=True)
    assert [results["systems"][key]["rank"] for key in keys] == [1, 2, 3, None, None, None]
    assert results["cases"] == ["head_4"]


def test_sampling_systems_are_judged_by_the_mean_and_by_one_sample_and_have_a_calibration(made) -> None:
    systems = made[3].results["systems"]
    assert systems["diffma"]["estimate"] == "mean of 2 samples"
    single, mean = systems["diffma"]["single"]["cases"]["head_4"], systems["diffma"]["cases"]["head_4"]
    assert single["mask"]["mse"] > mean["mask"]["mse"]
    assert systems["diffma"]["calibration"]["meaning"]
    alone = {key: systems[key]["rank_single"] for key in ("diffma", "dit", "regression")}
    scores = {key: (systems[key]["single"] or systems[key])["summary"]["mask"]["ssim"]["mean"] for key in alone}
    assert sorted(alone, key=alone.get) == sorted(scores, key=scores.get, reverse=True)
    assert systems["regression"]["estimate"] == "deterministic"
    assert systems["regression"]["single"] is None and systems["regression"]["calibration"] is None
    assert (made[3].folder / "calibration.png").is_file()


def test_differences_are_from_diffma(made) -> None:
    systems = made[3].results["systems"]
    assert systems["diffma"]["against_diffma"] is None
    difference = systems["dit"]["against_diffma"]["mask"]["psnr"]["mean"]
    own = [systems[key]["cases"]["head_4"]["mask"]["psnr"] for key in ("dit", "diffma")]
    assert difference == pytest.approx(own[0] - own[1])


def test_references_are_what_they_say(made) -> None:
    _, folders, _, found = made
    cache = PairedCache.open(folders.data)
    case = cache.case("head_4")
    body = case.body().numpy()
    held = np.load(found.folder / "predictions" / "mean_image" / "head_4.npz")["mean"]
    training = np.concatenate([cache.case(name).target().numpy() for name in cache.ids("train")])
    expected = np.broadcast_to((training.mean(axis=0) + 1) / 2, body.shape)
    assert np.abs(held - expected)[body].max() < 1e-3
    assert (held[~body] == 0).all()
    systems = found.results["systems"]
    # fitted to the training patients, so close for this one too; untrained networks are not
    assert (
        systems["linear_source"]["summary"]["mask"]["mse"]["mean"] < systems["diffma"]["summary"]["mask"]["mse"]["mean"]
    )


def test_predictions_are_those_of_the_bundle_itself(made) -> None:
    experiment, folders, _, found = made
    case = PairedCache.open(folders.data).case("head_4")
    pipe = DiffusionPredictor(folders.system("diffma") / "bundle", "a", "A", "bundle", "cpu").pipe
    settings = experiment.evaluation
    from DiffMaCore.diffusion.pipeline import noise_seed

    conditions = pipe.conditions(case.source())
    latents = pipe.denoise(conditions, settings.steps, settings.scheduler, noise_seed(settings.seed, 0))
    low, high = pipe.bundle.output_range
    expected = (pipe.decode(latents).numpy() - low) / (high - low)
    held = np.load(found.folder / "predictions" / "diffma" / "head_4.npz")["first"]
    body = case.body().numpy()
    assert np.abs(held - expected)[body].max() < 2e-3


def test_tables_hold_what_json_holds(made) -> None:
    folder, results = made[3].folder, made[3].results
    assert json.loads((folder / "results.json").read_text(encoding="utf-8")) == results == tables.read_results(folder)
    rows = list(csv.DictReader(io.StringIO((folder / "table.csv").read_text(encoding="utf-8"))))
    for key, entry in results["systems"].items():
        own = [row for row in rows if row["system"] == key and row["image"] == entry["estimate"]]
        assert {row["region"] for row in own} == {"mask", "slice"}
        for row in own:
            for figure in ("ssim", "psnr", "mse", "mae", "mse_8bit"):
                assert float(row[f"{figure}_mean"]) == entry["summary"][row["region"]][figure]["mean"]
    cases = list(csv.DictReader(io.StringIO((folder / "cases.csv").read_text(encoding="utf-8"))))
    assert len(cases) == 2 * (len(results["systems"]) + 2)  # two regions; two systems have single samples too
    text = (folder / "table.md").read_text(encoding="utf-8")
    for entry in results["systems"].values():
        assert f"{100 * entry['summary']['mask']['ssim']['mean']:.2f}" in text and entry["title"] in text
    assert results["normalisation"] in text and "data range is 1" in text
    assert all(note in text for note in results["notes"])


def test_a_lone_patient_s_interval_is_said_to_mean_little(made) -> None:
    results = made[3].results
    assert results["systems"]["diffma"]["summary"]["mask"]["ssim"]["ci95"] is None
    assert any("means little" in note for note in results["notes"])


def test_a_second_run_makes_nothing_again_and_gives_the_same(made) -> None:
    experiment, folders, _, first = made
    before = {path: path.stat().st_mtime_ns for path in first.folder.rglob("*.npz")}
    listener = Listener()
    again = evaluate(experiment, folders, reporter=listener, device="cpu")
    assert again.results == first.results
    assert {path: path.stat().st_mtime_ns for path in first.folder.rglob("*.npz")} == before
    assert not any(name.startswith(("predicting", "measuring")) for name, *_ in listener.stages)
    assert any("not trained yet" in note and "vim" in note for note in listener.notes)


def test_what_changed_or_broke_is_made_again_and_the_progress_runs_to_its_end(made) -> None:
    experiment, folders, _, first = made
    (first.folder / "predictions" / "dit" / "head_4.npz").write_bytes(b"half a file")
    listener = Listener()
    settings = replace(experiment.evaluation, steps=3)
    systems = ["diffma", "regression"]
    evaluate(replace(experiment, evaluation=settings), folders, systems=systems, reporter=listener, device="cpu")
    predicted = [name for name, *_ in listener.stages if name.startswith("predicting")]
    assert len(predicted) == 1 and "DiffMa" in predicted[0]  # the regression knows no steps
    assert all(done == total for _, total, done in listener.stages)
    listener = Listener()
    assert evaluate(experiment, folders, reporter=listener, device="cpu").results["systems"].keys()
    predicted = [name for name, *_ in listener.stages if name.startswith("predicting")]
    assert len(predicted) == 2 and not any("egression" in name for name in predicted)


def test_what_was_predicted_in_another_precision_is_made_again(made, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU computes in bfloat16 by default; a CPU does here as if it were one."""
    experiment, folders, *_ = made
    quick = replace(experiment, evaluation=replace(experiment.evaluation, steps=1, samples=1))

    def predicted() -> list[str]:
        listener = Listener()
        evaluate(quick, folders, "validation", ["dit", "regression"], reporter=listener, device="cpu")
        return [name for name, *_ in listener.stages if name.startswith("predicting")]

    predicted()
    assert predicted() == []
    choose = precision.choose_precision
    for module in (pipeline, predictors):
        monkeypatch.setattr(module, "choose_precision", lambda name, device: choose("bfloat16", device), raising=False)
    (again,) = predicted()
    assert "DiT" in again
    assert predicted() == []


def test_the_command_evaluates_a_foreign_bundle_beside_a_system(made, tmp_path: Path, capsys) -> None:
    _, folders, config, _ = made
    copy = tmp_path / "foreign"
    shutil.copytree(folders.system("dit") / "bundle", copy)
    asked = ["--systems", "diffma", "--bundle", str(copy), "--samples", "1", "--split", "validation"]
    assert main(["evaluate", "--config", str(config), "--out", str(folders.root), *asked, "--device", "cpu"]) == 0
    text = capsys.readouterr().out
    assert "bundle tiny-dit" in text and "DiffMa" in text and "table.md" in text
    results = tables.read_results(folders.evaluation / "validation")
    assert results["systems"]["bundle-tiny-dit"]["kind"] == "bundle"
    assert results["systems"]["diffma"]["estimate"] == "one sample"
    assert results["systems"]["diffma"]["calibration"] is None
    assert not (folders.evaluation / "validation" / "calibration.png").exists()


@pytest.mark.parametrize("name", ["tiny-dit", "Tiny-DiT"])
def test_two_bundles_of_one_name_are_two_rows_and_one_given_twice_is_refused(made, name: str, tmp_path: Path) -> None:
    experiment, folders, *_ = made
    bundles = [folders.system("dit") / "bundle", tmp_path / "other"]
    shutil.copytree(folders.system("diffma") / "bundle", bundles[1])
    index = json.loads((bundles[1] / "model_index.json").read_text(encoding="utf-8"))
    index["bundle"]["name"] = name  # both are one folder where file names have no case
    write_index(bundles[1], index)
    seal(bundles[1], read_config(bundles[1]))
    listener = Listener()
    quick = replace(experiment, evaluation=replace(experiment.evaluation, steps=1, samples=1))
    found = evaluate(quick, folders, "validation", ["regression"], bundles, listener, device="cpu")
    digits = [bundle_checksum(bundle)[:8] for bundle in bundles]
    rows = {f"bundle-tiny-dit-{digits[0]}", f"bundle-{name}-{digits[1]}"}
    assert {key for key, entry in found.results["systems"].items() if entry["kind"] == "bundle"} == rows
    assert len({found.results["systems"][row]["summary"]["mask"]["mse"]["mean"] for row in rows}) == 2
    for bundle, digit in zip(bundles, digits, strict=True):
        assert any(str(bundle) in note and note.endswith(digit) for note in listener.notes)
    shutil.copytree(bundles[0], tmp_path / "copy")
    with pytest.raises(InputError, match="are the same bundle; name one"):
        evaluate(quick, folders, "validation", ["regression"], [bundles[0], tmp_path / "copy"], device="cpu")


def test_the_demo_bundle_does_not_fit_and_both_sizes_are_named(made) -> None:
    experiment, folders, *_ = made
    with pytest.raises(InputError, match=r"image_size is \d+ px in the bundle and 32 px in the data"):
        evaluate(experiment, folders, systems=["diffma"], bundles=["demo"])


def test_what_cannot_be_evaluated_is_told_with_the_remedy(made, tmp_path: Path) -> None:
    experiment, folders, *_ = made
    with pytest.raises(InputError, match="did you mean 'vmamba'"):
        evaluate(experiment, folders, systems=["vmanba"])
    with pytest.raises(
        InputError, match=r"zigma is not trained yet.*diffma train denoiser --config .* --backbone zigma"
    ):
        evaluate(experiment, folders, systems=["zigma"])
    with pytest.raises(InputError, match=r"no prepared data.*diffma prepare"):
        evaluate(experiment, type(folders)(tmp_path / "nowhere"))
    moved = replace(experiment, data=replace(experiment.data, pixel_spacing=3.0))
    with pytest.raises(InputError, match=r"data.pixel_spacing is 3.0 in the configuration and was 7.0"):
        evaluate(moved, folders)
    bare = type(folders)(tmp_path / "bare")
    shutil.copytree(folders.data, bare.data)
    with pytest.raises(InputError, match=r"no model of .* is trained yet"):
        evaluate(experiment, bare)
    split = json.loads((bare.data / "split.json").read_text(encoding="utf-8"))
    (bare.data / "split.json").write_text(json.dumps({**split, "test": []}))
    with pytest.raises(InputError, match=r"'test' holds no case; train \(3\) and validation \(1\) does"):
        evaluate(experiment, bare)
