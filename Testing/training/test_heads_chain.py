"""From rendered heads to bundles, every network trained here for two steps: the way the bundled demo was made."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from safetensors.torch import load_file

from DiffMaCore.bundles.config import has_component, read_config
from DiffMaCore.bundles.manifest import verify
from DiffMaCore.cli.main import main
from DiffMaCore.errors import InputError
from DiffMaCore.files import write_json
from DiffMaCore.imaging.phantom import bundled_head
from DiffMaCore.imaging.training_range import FEATURES
from DiffMaCore.inference.pipeline import DiffMaPipeline
from DiffMaCore.models.patch_autoencoder import PatchAutoencoder
from DiffMaCore.progress import Reporter
from DiffMaCore.training import bundling, fresh
from DiffMaCore.training.batches import ShardedRNG, to_device
from DiffMaCore.training.bundling import write_bundles
from DiffMaCore.training.cache import PairedCache
from DiffMaCore.training.evaluation import evaluate
from DiffMaCore.training.experiment import Experiment, Folders, GuidedDecoderConfig
from DiffMaCore.training.fresh import FreshSpec
from DiffMaCore.training.prepare import prepare
from DiffMaCore.training.sources import heads
from DiffMaCore.training.tasks import Part, make_task, train_part
from Testing.heads import HEAD, TRAINING_HEAD, rendered
from Testing.training.heads_run import heads_experiment, write_config
from Training.reproduce.plan import ReproduceOptions, make_plan

CPU = "cpu"
TRAINED_ON = TRAINING_HEAD.name.removesuffix(".nii.gz")


class RendersHere:
    """What renders ahead, without another process; ``test_fresh.py`` has the real one."""

    def __init__(self, spec: FreshSpec) -> None:
        spec.folder.mkdir(parents=True, exist_ok=True)
        self._maker = fresh.VolumeMaker(spec)

    def ask_for(self, volume: int) -> None:
        for newest in range(volume + 1):
            while self._maker.make_next(newest):
                pass

    def stop(self) -> None:
        pass


@pytest.fixture(scope="module", autouse=True)
def one_head():
    """One head validates, each is loaded once, and a training begins with two volumes."""
    patch = pytest.MonkeyPatch()
    patch.setattr(heads, "bundled_heads", lambda: (HEAD,))
    patch.setattr(heads, "_head", bundled_head)
    patch.setattr(fresh, "load_head", lambda path, cache: bundled_head(str(path)))
    patch.setattr(fresh, "_FIRST", 2)
    patch.setattr(bundling, "DESCRIBED", 2)
    patch.setattr(fresh, "Renderer", RendersHere)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    patch.undo()


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> tuple[Experiment, Folders]:
    """Slices alone."""
    root = tmp_path_factory.mktemp("heads")
    experiment, folders = heads_experiment(root), Folders(root / "run")
    prepare(experiment, folders, device=CPU)
    return experiment, folders


@pytest.fixture(scope="module")
def encoded(begun: tuple[Experiment, Folders]) -> tuple[Experiment, Folders]:
    """Both networks around the denoiser, and the latents."""
    experiment, folders = begun
    for what in ("autoencoder", "image-encoder"):
        train_part(experiment, folders, what, Reporter(), CPU)
    prepare(experiment, folders, device=CPU)
    return experiment, folders


@pytest.fixture(scope="module")
def trained(encoded: tuple[Experiment, Folders]) -> tuple[Experiment, Folders]:
    """Everything."""
    experiment, folders = encoded
    for what in ("embedder", "denoiser", "guided-decoder", "joint", "small-decoder"):
        train_part(experiment, folders, what, Reporter(), CPU)
    return experiment, folders


def test_one_head_validates_with_every_contrast_and_slices_come_before_latents(begun) -> None:
    experiment, folders = begun
    cache = PairedCache.open(folders.data)
    assert sorted(cache.ids("validation")) == [f"{HEAD}_0_t1", f"{HEAD}_0_t2"]
    assert cache.ids("train") == (f"{TRAINED_ON}_0_t1",) and cache.split["test"] == ()
    one, other = (cache.case(f"{HEAD}_0_{word}") for word in ("t1", "t2"))
    assert torch.equal(one.source(), other.source()) and not torch.equal(one.target(), other.target())
    with pytest.raises(InputError, match=r"holds slices only; run `diffma train autoencoder`"):
        _ = cache.latent_shape
    with pytest.raises(InputError, match=r"holds slices only; run `diffma train autoencoder`"):
        make_task("embedder", experiment, folders)


def test_the_plan_names_the_networks_that_the_experiment_makes_itself(begun) -> None:
    experiment, folders = begun
    keys = [step.key for step in make_plan(experiment, folders, ReproduceOptions(parts=("figure7",), device=CPU))]
    assert keys == ["slices", "autoencoder", "image-encoder", "prepare", "embedder", "diffma", "unet", "regression"]


def test_an_autoencoder_gives_latents_of_unit_variance_that_come_back(encoded) -> None:
    _, folders = encoded
    cache = PairedCache.open(folders.data)
    assert cache.latent_shape == (4, 8, 8) and cache.embed_dim == 32
    vae = cache.load_vae()
    assert isinstance(vae, PatchAutoencoder)
    latents = torch.cat([cache.case(id).file.whole("target_latent").float() for id in cache.ids("train")])
    assert 0.5 < float(latents.std()) < 2
    case = cache.case(cache.ids("validation")[0])
    with torch.no_grad():
        back = vae.decode(case.file.whole("target_latent").float() / vae.config["scaling_factor"]).sample.mean(dim=1)
    assert (back - case.target()).abs().mean() < 0.25 * (case.target() - case.target().mean()).abs().mean()


def test_there_is_a_bundle_for_each_contrast_of_one_family(trained) -> None:
    _, folders = trained
    bundles = [folders.system("diffma") / name for name in ("bundle", "bundle-t2")]
    found = [read_config(bundle) for bundle in bundles]
    assert [config.name for config in found] == ["tiny", "tiny-t2"]
    assert [config.family for config in found] == ["tiny", "tiny"]
    assert [config.title for config in found] == ["TINY head CT to MR T1, DiffMa", "TINY head CT to MR T2, DiffMa"]
    assert [config.target_modality for config in found] == ["MR T1", "MR T2"]
    for bundle, config in zip(bundles, found, strict=True):
        assert config.modes == ("mean", "sample") and config.neighbour_distance == 7.0
        assert has_component(bundle, "guided_decoder") and has_component(bundle, "small_decoder")
        assert config.trained_on == found[0].trained_on and config.trained_on["width"][0] > 0
    networks = [DiffMaPipeline.from_pretrained(bundle) for bundle in bundles]
    ct = rendered(3, (7.0, 7.0, 14.0), (32, 32, 15)).ct_image()
    made = [pipe(ct, slices=(5, 8), uncertainty=True) for pipe in networks]
    images = [sitk.GetArrayFromImage(each.mr) for each in made]
    assert np.isfinite(images).all() and not np.array_equal(*images)
    assert all(sitk.GetArrayFromImage(each.uncertainty).max() > 0 for each in made)


def test_the_command_writes_them_anew_and_changes_what_they_say_alone(trained, tmp_path: Path, capsys) -> None:
    experiment, folders = trained
    bundle = folders.system("diffma") / "bundle"
    weights = bundle / "denoiser" / "diffusion_pytorch_model.safetensors"
    before = weights.read_bytes()
    plot = tmp_path / "plot.png"
    plot.write_bytes(b"a plot")
    card = replace(experiment.card, reliability=str(plot))
    changed = replace(
        experiment, title="ANOTHER head CT to {contrast}", uncertainty_scale=1.75, error_scale=2.5, card=card
    )
    config = write_config(tmp_path / "changed.yaml", changed)
    assert main(["bundle", "--config", str(config), "--out", str(folders.root)]) == 0
    assert "bundle-t2" in capsys.readouterr().out
    assert weights.read_bytes() == before
    said = read_config(bundle)
    assert said.title == "ANOTHER head CT to MR T1, DiffMa" and (said.uncertainty_scale, said.error_scale) == (
        1.75,
        2.5,
    )
    assert (bundle / "reliability.png").read_bytes() == b"a plot" and "(reliability.png)" in (
        bundle / "README.md"
    ).read_text()
    verify(bundle)
    plot.unlink()
    with pytest.raises(InputError, match=r"card\.reliability"):
        write_bundles(changed, folders, PairedCache.open(folders.data))
    half = write_bundles(replace(experiment, bundle_precision="float16"), folders, PairedCache.open(folders.data))
    assert half[0] == bundle and weights.stat().st_size < 0.6 * len(before)
    write_bundles(experiment, folders, PairedCache.open(folders.data))


def test_the_range_of_the_trainings_cts_is_measured_once_and_goes_on_where_it_was(trained, monkeypatch) -> None:
    experiment, folders = trained
    cache, path = PairedCache.open(folders.data), folders.data / "training_range.json"
    measured = json.loads(path.read_text())["measured"]
    assert len(measured) == 2 and measured[0] != measured[1]
    numbers = []
    monkeypatch.setattr(bundling.VolumeMaker, "render", lambda _, volume: numbers.append(volume) or rendered(volume))
    assert bundling.training_range(experiment, folders, cache).keys() <= FEATURES.keys() and not numbers
    monkeypatch.setattr(bundling, "DESCRIBED", 3)
    bundling.training_range(experiment, folders, cache)
    assert numbers == [2]
    write_json(path, json.loads(path.read_text()) | {"fingerprint": "another's"})
    bundling.training_range(experiment, folders, cache)
    assert numbers == [2, 0, 1, 2], "other data have other CTs"


def test_a_guided_decoder_is_refused_without_pixels_or_a_mean_and_before_a_denoiser(encoded, tmp_path: Path) -> None:
    experiment, folders = encoded
    train_part(experiment, folders, "embedder", Reporter(), CPU)
    for changes in ({"mean_share": 0.0}, {"ct_conditioning": "pooled"}):
        other = replace(experiment, denoiser=replace(experiment.denoiser, **changes))
        with pytest.raises(InputError, match="needs a denoiser with a mean_share and ct_conditioning: pixels"):
            make_task("guided-decoder", other, folders)
    shallow = replace(experiment, guided_decoder=GuidedDecoderConfig(channels=(8, 16)))
    with pytest.raises(InputError, match=r"has 2 levels, for slices 2 times as wide .* give it 3 levels"):
        make_task("guided-decoder", shallow, folders)
    bare = Folders(tmp_path)
    for name in ("data", "embedder"):
        (tmp_path / name).symlink_to(folders.root / name)
    with pytest.raises(InputError, match=r"no trained DiffMa in .*diffma train denoiser"):
        make_task("guided-decoder", experiment, bare)


def test_bundles_hold_what_was_trained_together_until_one_of_both_is_trained_on(trained) -> None:
    experiment, folders = trained
    cache, bundle, joint = PairedCache.open(folders.data), folders.system("diffma") / "bundle", folders.part("joint")

    def weights(folder: Path) -> dict[str, torch.Tensor]:
        return load_file(folder / "diffusion_pytorch_model.safetensors")

    def same(folder: Path, other: Path) -> bool:
        ours, theirs = weights(folder), weights(other)
        return all(torch.equal(value, ours[key]) for key, value in theirs.items() if "contrast" not in key)

    alone = folders.part("guided_decoder") / "model"
    assert same(bundle / "guided_decoder", joint / "model" / "guided_decoder")
    assert not same(bundle / "guided_decoder", alone)
    blocks = [
        {key: value for key, value in weights(folder).items() if key.startswith("blocks.")}
        for folder in (bundle / "denoiser", joint / "model" / "denoiser", folders.system("diffma") / "model")
    ]
    together = [all(torch.equal(value, blocks[0][key]) for key, value in other.items()) for other in blocks[1:]]
    assert together == [True, False], "the denoiser learned too, and its bundle holds what it learned"
    assert "2 steps and 2 together with its guided decoder" in read_config(bundle).card.source
    run = folders.part("guided_decoder") / "run.json"
    before = run.read_text()
    write_json(run, json.loads(before) | {"step": 3})
    write_bundles(experiment, folders, cache)
    assert same(bundle / "guided_decoder", alone) and "together" not in read_config(bundle).card.source
    with pytest.raises(InputError, match="begun_from"):
        train_part(experiment, folders, "joint", Reporter(), CPU)
    run.write_text(before)
    write_bundles(experiment, folders, cache)
    assert same(bundle / "guided_decoder", joint / "model" / "guided_decoder")


def _part_begins_from(experiment: Experiment, part: str, bundle: str, **changes: Any) -> Experiment:
    return replace(experiment, **{part: replace(getattr(experiment, part), begin_from=bundle, **changes)})


@pytest.mark.parametrize("what", ["embedder", "denoiser", "guided-decoder"])
def test_a_training_begins_with_the_weights_of_a_bundle(trained, what: Part) -> None:
    experiment, folders = trained
    bundle, part = folders.system("diffma") / "bundle", what.replace("-", "_")
    task = make_task(what, _part_begins_from(experiment, part, str(bundle)), folders)
    ours, theirs = task.model.state_dict(), load_file(bundle / part / "diffusion_pytorch_model.safetensors")
    assert all(torch.equal(value, ours[key]) for key, value in theirs.items())
    assert not ours.get("contrast.weight", torch.zeros(1)).any(), "each contrast begins as the bundle's"
    random = make_task(what, experiment, folders).model.state_dict()
    assert not all(torch.equal(value, random[key]) for key, value in theirs.items())


def test_a_bundle_says_whose_weights_its_training_began_with(trained) -> None:
    experiment, folders = trained
    begun = _part_begins_from(experiment, "denoiser", "demo")
    (bundle, _) = write_bundles(begun, folders, PairedCache.open(folders.data))
    assert "2 steps from the weights of demo" in read_config(bundle).card.source
    write_bundles(experiment, folders, PairedCache.open(folders.data))


def test_a_bundle_that_a_training_cannot_begin_from_is_told_before_any_work(trained) -> None:
    experiment, folders = trained
    bundle = str(folders.system("diffma") / "bundle")
    for name, changes, message in (
        (bundle, {"depth": 3}, r"denoiser\.begin_from: .* has denoiser\.depth 2, and the experiment 3; make both"),
        (bundle, {"backbone": "unet"}, r"has no UNetDenoiser to go on from"),
        ("demmo", {}, r"denoiser\.begin_from: demmo cannot be gone on from: .* did you mean 'demo'"),
        ("demo", {}, r"has denoiser\.latent_size 40, and the experiment 8"),
    ):
        with pytest.raises(InputError, match=message):
            make_task("denoiser", _part_begins_from(experiment, "denoiser", name, **changes), folders)


@pytest.mark.parametrize("what", ["guided-decoder", "joint"])
def test_parts_of_a_batch_without_a_mean_latent_learn_what_the_whole_learns(trained, what: Part) -> None:
    experiment, folders = trained
    task = make_task(what, experiment, folders)
    batch = to_device(task.dataset.batch([0, 1, 2, 3]), torch.device(CPU))
    of_parts = []
    for first, count in ((0, 4), (0, 2), (2, 1), (3, 1)):
        rng = ShardedRNG(0, 0, first, count, 4, torch.device(CPU))
        loss, metrics = task.loss(task.model, {key: value[first : first + count] for key, value in batch.items()}, rng)
        of_parts.append(count / 4 * torch.stack([loss, metrics["expected_error"]]))
    task.dataset.close()
    whole, *parts = of_parts
    torch.testing.assert_close(torch.stack(parts).sum(0), whole)


def test_systems_are_judged_on_the_head_that_validates_by_their_expected_image(trained) -> None:
    experiment, folders = trained
    found = evaluate(experiment, folders, device=CPU).results
    assert found["split"] == "validation" and found["cases"] == [f"{HEAD}_0_t1"]
    ours = found["systems"]["diffma"]
    assert ours["estimate"] == "expected image" and ours["single"]["cases"] and ours["calibration"]["meaning"]
    pipe = DiffMaPipeline.from_pretrained(folders.system("diffma") / "bundle")
    case = PairedCache.open(folders.data).case(f"{HEAD}_0_t1")
    planes = sitk.GetImageFromArray(case.source().numpy())
    planes.SetSpacing((7.0, 7.0, 14.0))
    row = len(case) // 2
    from DiffMaCore.imaging.grid import SliceGrid

    grid = SliceGrid.from_image(planes, np.ones(case.source().shape, bool), 7.0, 32)
    source = grid.neighbours(case.source().numpy(), [row], 7.0, -1000.0)
    conditions = pipe.conditions(torch.from_numpy(source))
    expected = pipe.decode(pipe.mean(conditions), ct_pixels=conditions.ct_pixels)[0].numpy() / 1000
    held = np.load(folders.evaluation / "validation" / "predictions" / "diffma" / f"{HEAD}_0_t1.npz")["mean"][row]
    body = case.body()[row].numpy()
    assert np.abs(held - expected)[body].max() < 5e-3


def test_what_training_needs_is_told_before_any_work(begun) -> None:
    experiment, _ = begun
    with pytest.raises(ValueError, match=r"ct_conditioning: pixels needs data\.neighbour_distance"):
        replace(experiment, data=replace(experiment.data, neighbour_distance=None))
    with pytest.raises(ValueError, match="set prediction_type to v_prediction"):
        replace(experiment.denoiser, prediction_type="epsilon")


def test_runs_keep_their_figures(trained) -> None:
    _, folders = trained
    for part in ("autoencoder", "image_encoder", "embedder", "guided_decoder", "joint", "small_decoder"):
        summary = json.loads((folders.part(part) / "summary.json").read_text())
        assert summary["system"] == part and summary["parameters"] > 0 and summary["steps"] == 2
    held = (folders.system("diffma") / "samples" / "figures.csv").read_text()
    assert "held_out_mean_mse" in held
