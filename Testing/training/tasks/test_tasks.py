"""What is trained: embedder, denoiser, regression; what they learn from, and what they leave behind."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from DiffMaCore.baselines.regression import RegressionUNet
from DiffMaCore.diffusion.objective import target
from DiffMaCore.errors import InputError
from DiffMaCore.inference.pipeline import DiffMaPipeline
from DiffMaCore.models.embedder import VisionEmbedder
from DiffMaCore.training.batches import ShardedRNG
from DiffMaCore.training.bundling import bundle_config
from DiffMaCore.training.cache import PairedCache
from DiffMaCore.training.experiment import DataConfig, Folders
from DiffMaCore.training.pictures import FixedSlices, source_window, target_window, triplet_picture
from DiffMaCore.training.run_folder import read_summary
from DiffMaCore.training.tasks import make_task
from Testing.heads import rendered

CPU = torch.device("cpu")


def rng(first: int = 0, count: int = 4, total: int = 4) -> ShardedRNG:
    return ShardedRNG(seed=0, step=7, first=first, count=count, total=total, device=CPU)


def batch_of(task, rows=range(4)) -> dict[str, torch.Tensor]:
    items = [task.dataset[row] for row in rows]
    return {key: torch.stack([torch.as_tensor(item[key]) for item in items]) for key in items[0]}


def with_denoiser(experiment, **changes):
    return replace(experiment, denoiser=replace(experiment.denoiser, **changes))


# the Vision Embedder


def test_a_batch_against_itself_has_a_fixed_diagonal_and_can_only_push_slices_apart(trained):
    experiment, folders = trained
    paper = replace(experiment, embedder=replace(experiment.embedder, views="paper"))
    task = make_task("embedder", paper, folders)
    batch = batch_of(task)
    task.model.requires_grad_(False)
    loss, _ = task.loss(task.model, batch, rng())
    first = nn.functional.normalize(task.model(batch["source_latent"]).ct_embedding.flatten(1), dim=1)
    similarity = first @ first.T / 0.07
    assert torch.allclose(similarity.diagonal(), torch.tensor(1 / 0.07), rtol=1e-5)
    assert float(loss) == pytest.approx(float((similarity.logsumexp(1) - 1 / 0.07).mean()), rel=1e-4)
    same = {"source_latent": batch["source_latent"][:1].expand(4, -1, -1, -1)}
    assert float(task.loss(task.model, same, rng())[0]) == pytest.approx(math.log(4), rel=1e-4)


def test_two_views_of_the_same_slices_are_contrasted_in_one_call(trained):
    experiment, folders = trained
    task = make_task("embedder", experiment, folders)
    calls = []

    def model(latents: torch.Tensor):
        calls.append(len(latents))
        return task.model(latents)

    loss, _ = task.loss(model, batch_of(task), rng())
    assert calls == [8]
    assert torch.equal(loss, task.loss(task.model, batch_of(task), rng())[0])
    assert not torch.equal(loss, task.loss(task.model, batch_of(task), replace(rng(), step=8))[0])


def test_the_embedder_leaves_its_model_its_figure_and_its_masks_figures(trained):
    _, folders = trained
    embedder = VisionEmbedder.from_pretrained(folders.embedder / "model")
    summary = read_summary(folders.embedder)
    assert summary["system"] == "embedder" and summary["steps"] == 4 and summary["calibrated"]
    assert summary["parameters"] == sum(p.numel() for p in embedder.parameters())
    assert summary["mask"]["split"] == "validation" and 0 < summary["mask"]["share"] <= 1
    assert summary["mask"]["share"] > summary["mask_before_calibration"]["share"]
    assert Image.open(folders.embedder / "figure1.png").width == 4 * 320


# the denoiser


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_a_denoiser_that_knows_the_answer_has_no_loss(trained, kind):
    experiment, folders = trained
    task = make_task("denoiser", with_denoiser(experiment, prediction_type=kind), folders)
    batch = batch_of(task)

    def knows(xt, t, clip, ct_embedding, soft_mask, ct_latent, ct_pixels, contrast):
        assert ct_pixels is None and contrast is None
        assert torch.equal(ct_latent, batch["source_latent"]) and ct_embedding.shape[:2] == (4, 16)
        noise = rng().normal("noise", 4, 8, 8)
        return SimpleNamespace(sample=target(batch["target_latent"], noise, t, task._alphas, kind))

    assert float(task.loss(knows, batch, rng())[0]) == 0


def test_a_share_of_the_batch_learns_the_latent_itself_from_no_noise_at_the_last_timestep(trained):
    experiment, folders = trained
    mixed = with_denoiser(experiment, prediction_type="v_prediction", mean_share=0.5)
    task = make_task("denoiser", mixed, folders)
    batch = batch_of(task)
    x0 = batch["target_latent"]

    def knows(xt, t, *conditions, contrast, off=0.0):
        assert t[:2].tolist() == [999, 999] and not xt[:2].any()
        assert (t[2:] < 999).any() and xt[2:].abs().amin(dim=(1, 2, 3)).max() > 0
        noise = rng().normal("noise", 4, 8, 8)
        v = target(x0, noise, t, task._alphas, "v_prediction")
        v[:2] = (off - x0[:2]) / (1 - task._alphas[-1]).sqrt()
        return SimpleNamespace(sample=v)

    loss, figures = task.loss(knows, batch, rng())
    assert float(loss) == pytest.approx(0, abs=1e-6) and float(figures["mse"]) == 0
    loss, figures = task.loss(partial(knows, off=0.3), batch, rng())
    assert float(figures["mean_mse"]) == pytest.approx(0.09, rel=1e-3)
    assert float(loss) == pytest.approx(0.045, rel=1e-3)  # half of the batch


def test_parts_of_a_batch_with_a_mean_share_learn_what_the_whole_learns(trained):
    experiment, folders = trained
    mixed = with_denoiser(experiment, prediction_type="v_prediction", mean_share=0.5)
    task = make_task("denoiser", mixed, folders)
    nn.init.normal_(task.model.final.linear.weight, std=0.1)
    whole, _ = task.loss(task.model, batch_of(task), rng())
    parts = [task.loss(task.model, batch_of(task, range(n, n + 2)), rng(n, 2))[0] for n in (0, 2)]
    assert torch.allclose(sum(parts) / 2, whole, rtol=1e-4)


def test_parts_of_a_batch_learn_what_the_whole_learns(trained):
    experiment, folders = trained
    task = make_task("denoiser", with_denoiser(experiment, learn_sigma=True), folders)
    nn.init.normal_(task.model.final.linear.weight, std=0.1)
    whole, figures = task.loss(task.model, batch_of(task), rng())
    parts = [task.loss(task.model, batch_of(task, range(n, n + 2)), rng(n, 2))[0] for n in (0, 2)]
    assert set(figures) == {"mse", "bound"}
    assert torch.allclose(sum(parts) / 2, whole, rtol=1e-4)


def test_the_seed_decides_the_starting_weights_and_the_callers_numbers_stay(trained):
    experiment, folders = trained
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, two = (make_task("denoiser", experiment, folders).model.state_dict() for _ in range(2))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(one[key], two[key]) for key in one)
    other = make_task("denoiser", replace(experiment, seed=1), folders).model.state_dict()
    assert any(not torch.equal(one[key], other[key]) for key in one)


def test_the_bundle_of_a_run_loads_and_converts_a_phantom(trained):
    _, folders = trained
    pipe = DiffMaPipeline.from_pretrained(folders.system("diffma") / "bundle")
    assert pipe.bundle.name == "tiny-diffma" and pipe.bundle.demo and pipe.bundle.image_size == 32
    assert "4 steps" in pipe.bundle.card.source and pipe.bundle.card.training_data == "Five head phantoms."
    ct = rendered(9, (7.0, 7.0, 20.0), (32, 32, 8)).ct_image()
    out = pipe(ct, num_inference_steps=2, slices=(3, 5))
    assert out.mr.GetSize() == ct.GetSize() and out.metadata["model"] == "tiny-diffma"


def test_samples_show_source_generated_and_true_of_the_same_slices(trained):
    experiment, folders = trained
    run = folders.system("diffma")
    arrays = np.load(run / "samples" / "step_00000004.npz")
    assert arrays["generated"].shape == arrays["target"].shape == arrays["source"].shape == (4, 32, 32)
    assert arrays["generated"].dtype == np.float16 and np.abs(arrays["generated"]).max() <= 1
    assert all("head_3" in label for label in arrays["labels"])
    assert Image.open(run / "samples" / "step_00000004.png").size == (3 * 192, 4 * 192 + 36)
    # the averaged weights of the bundle, through the same code as `convert`
    pipe = DiffMaPipeline.from_pretrained(run / "bundle")
    task = make_task("denoiser", experiment, folders)
    again = task.sample(pipe.denoiser).arrays["generated"]
    assert np.allclose(again, arrays["generated"], atol=1e-3)  # float16 rounds


def test_a_run_sums_itself_up(trained):
    _, folders = trained
    summary = read_summary(folders.system("diffma"))
    assert summary["system"] == "diffma" and summary["title"] == "DiffMa" and summary["steps"] == 4
    assert summary["parameters"] > 10_000 and summary["seconds_per_step"] > 0
    assert all(0 < summary["losses"][key] < 2 for key in ("first", "last", "held_out"))


# the regression


def test_the_regression_learns_to_copy_the_slice(trained):
    experiment, folders = trained
    task = make_task("denoiser", with_denoiser(experiment, backbone="regression"), folders)
    assert isinstance(task.model, RegressionUNet)
    batch = batch_of(task, range(8))
    batch["target"] = batch["ct_pixels"][:, 3]  # own slice, first window
    optimiser = torch.optim.AdamW(task.model.parameters(), lr=2e-3)
    losses = []
    for _ in range(60):
        loss, _ = task.loss(task.model, batch, rng())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.2 * losses[0]


def test_the_regression_is_as_large_as_diffma_and_shows_the_same_slices(trained, tmp_path):
    experiment, folders = trained
    task = make_task("denoiser", with_denoiser(experiment, backbone="regression"), folders)
    parameters = sum(p.numel() for p in task.model.parameters())
    assert abs(parameters / read_summary(folders.system("diffma"))["parameters"] - 1) < 0.3
    sample = task.sample(task.model.eval())
    shown = np.load(folders.system("diffma") / "samples" / "step_00000004.npz")
    assert np.array_equal(sample.arrays["target"], shown["target"]) and sample.metrics["held_out_loss"] > 0
    task.finish(task.model, tmp_path)
    loaded = RegressionUNet.from_pretrained(tmp_path / "model")
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), task.model.parameters(), strict=True))


# data and directions


def test_the_bundle_of_an_mr_source_and_a_ct_target_says_so(trained):
    experiment, folders = trained
    cache = copy.copy(PairedCache.open(folders.data))
    cache.data = replace(cache.data, source="t2", target="ct")
    config = bundle_config(experiment, cache, "vim", "10 steps")
    assert (config.source_modality, config.target_modality) == ("MR T2", "CT")
    assert not config.takes_ct and config.makes_ct
    assert config.source_normalisation == {"method": "percentile", "low": 0.5, "high": 99.5, "mask": "body"}
    assert config.output_range == (-1000.0, 2000.0) and config.output_units == "HU"
    assert config.name == "tiny-vim" and config.title.endswith("ViM")


def test_without_validation_patients_training_slices_are_shown_and_said_to_be(trained):
    _, folders = trained
    cache = PairedCache.open(folders.data)
    cache.split["validation"] = ()
    fixed = FixedSlices.choose(cache)
    assert fixed.split == "training" and len(fixed.rows) == 4
    assert len({label.split(",")[0] for label in fixed.labels}) == 3
    picture = triplet_picture(fixed, fixed.target, replace(cache.data, source="t1", target="t2"), "x")
    tiles = np.asarray(picture)[18:-18]
    assert np.array_equal(tiles[:, 192:384], tiles[:, 384:])


def test_a_ct_is_shown_in_its_own_window_as_a_source_and_in_that_of_soft_tissue_as_a_target():
    data = DataConfig("brain", target="ct", source="mr", target_window=(-1000.0, 1000.0))
    assert target_window(data) == pytest.approx((-0.16, 0.24)) and source_window(data) == (-1, 1)
    data = DataConfig("brain", hu_windows=((-10.0, 80.0),))
    assert source_window(data) == (-10, 80) and target_window(data) == (-1, 1)
    data = DataConfig("brain", hu_windows=((-1000.0, 1200.0), (-150.0, 250.0), (-10.0, 80.0)))
    assert source_window(data) == (-150, 250)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda e: with_denoiser(e, width=64), r"denoiser.width is 64 .* set denoiser.width to 32"),
        (lambda e: with_denoiser(e, patch_size=3), r"patch of 3 does not divide .* 1, 2, 4, 8"),
        (lambda e: with_denoiser(e, patch_size=4), r"Vision Embedder .* \(8, 2, 32\).* \(8, 4, 32\)"),
        (lambda e: replace(e, data=replace(e.data, slice_step=2)), r"data.slice_step is 2 .*was 1 .*diffma prepare"),
    ],
)
def test_what_does_not_fit_is_told_before_any_work(trained, change, words):
    experiment, folders = trained
    with pytest.raises(InputError, match=words):
        make_task("denoiser", change(experiment), folders)


def test_a_denoiser_asks_for_data_and_for_an_embedder(trained, tmp_path):
    experiment, folders = trained
    with pytest.raises(InputError, match="diffma prepare"):
        make_task("denoiser", experiment, Folders(tmp_path))
    (tmp_path / "data").symlink_to(folders.data)
    with pytest.raises(InputError, match="diffma train embedder"):
        make_task("denoiser", experiment, Folders(tmp_path))
