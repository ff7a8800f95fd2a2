"""The expected image and samples: what is evaluated, what is drawn, and what the CT's own pixels do."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from DiffMaCore import DiffMaPipeline
from DiffMaCore.bundles.config import DECODERS
from DiffMaCore.cli.main import build_parser
from DiffMaCore.errors import BackendError, InputError, ModelError
from DiffMaCore.inference.batches import Sampling
from DiffMaCore.progress import Reporter
from Testing.images import head_like_ct


@pytest.fixture
def pipe(expecting_bundle: Path) -> DiffMaPipeline:
    return DiffMaPipeline.from_pretrained(expecting_bundle)


@pytest.fixture(scope="module")
def sampling_pipe(tiny_bundle: Path) -> DiffMaPipeline:
    """Of a bundle that was not trained for the expected image."""
    return DiffMaPipeline.from_pretrained(tiny_bundle)


def array(image: sitk.Image | None) -> np.ndarray:
    assert image is not None
    return sitk.GetArrayFromImage(image)


def test_the_expected_image_takes_one_evaluation_and_no_noise(pipe: DiffMaPipeline) -> None:
    calls: list[tuple[torch.Tensor, torch.Tensor]] = []
    pipe.denoiser.register_forward_pre_hook(lambda module, inputs: calls.append(inputs[:2]))
    reporter = Reporter()
    out = pipe(head_like_ct(), seed=1, batch_size=6, reporter=reporter)
    ((latents, t),) = calls
    assert not latents.any() and t.tolist() == [999] * 6
    assert reporter.done == reporter.total == 1
    again = pipe(head_like_ct(), mode="mean", seed=2, batch_size=6, num_inference_steps=3)
    assert np.array_equal(array(out.mr), array(again.mr)) and out.uncertainty is None
    assert (out.metadata["mode"], out.metadata["steps"]) == ("mean", 1)
    assert out.metadata["decoder"] == DECODERS["guided"]
    assert not {"seed", "scheduler"} & out.metadata.keys()


def test_the_expected_latent_is_v_at_the_last_timestep(pipe: DiffMaPipeline) -> None:
    conditions = pipe.conditions(torch.zeros(2, 3, 32, 32))
    mean = pipe.mean(conditions)
    t = torch.full((2,), 999)
    with torch.no_grad():
        v = pipe.denoiser(torch.zeros(2, 4, 8, 8), t, *conditions).sample
    left = float(pipe.scheduler.alphas_cumprod[-1])
    torch.testing.assert_close(mean, -((1 - left) ** 0.5) * v)


def test_the_mean_over_four_grids_of_tokens_sees_across_the_borders_of_the_first(pipe: DiffMaPipeline) -> None:
    generator = torch.Generator().manual_seed(0)
    conditions = pipe.conditions(200 * torch.randn(2, 3, 32, 32, generator=generator))
    assert conditions.ct_pixels is not None
    grids = []
    for down, right in ((0, 0), (1, 0), (0, 1), (1, 1)):
        moved = conditions.ct_pixels.roll((4 * down, 4 * right), (-2, -1))  # latents are a quarter as large
        grids.append(pipe.mean(conditions._replace(ct_pixels=moved)).roll((-down, -right), (-2, -1)))
    pipe.bundle = replace(pipe.bundle, grid_shift=1)
    torch.testing.assert_close(pipe.mean(conditions), torch.stack(grids).mean(0))
    assert not torch.allclose(grids[0], grids[3], atol=1e-3)
    with pytest.raises(ModelError, match="grid_shift"):
        replace(pipe.bundle, grid_shift=-1)


def test_a_mirrored_slice_gives_the_mirrored_image_where_the_bundle_says_so(pipe: DiffMaPipeline) -> None:
    ct, source = head_like_ct(), 200 * torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))

    def made(slices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        image, error = pipe.decode_expected(pipe.expected(slices, pipe.conditions(slices)), with_error=True)
        assert error is not None
        return image, error

    before = array(pipe(ct).mr)
    assert not torch.allclose(made(source.flip(-1))[0], made(source)[0].flip(-1), atol=1.0)
    pipe.bundle = replace(pipe.bundle, mirrored=True)
    for one, other in zip(made(source), made(source.flip(-1)), strict=True):
        torch.testing.assert_close(other, one.flip(-1))
    assert not np.allclose(array(pipe(ct).mr), before, atol=1.0)


def test_the_expected_image_is_smoothed_across_slices_where_the_bundle_says_so_and_samples_never(
    pipe: DiffMaPipeline,
) -> None:
    ct, sample = head_like_ct(), {"mode": "sample", "num_inference_steps": 1}
    before = {mode: array(pipe(ct, **options).mr) for mode, options in (("mean", {}), ("sample", sample))}
    pipe.bundle = replace(pipe.bundle, slice_smoothing=ct.GetSpacing()[2])
    assert np.array_equal(array(pipe(ct, **sample).mr), before["sample"])
    smooth = array(pipe(ct).mr)
    body = smooth > 0
    changes = [np.abs(np.diff(volume, axis=0))[body[1:] & body[:-1]].mean() for volume in (before["mean"], smooth)]
    assert 0 < changes[1] < 0.8 * changes[0]


def test_without_a_mean_mode_it_is_refused_in_one_sentence(sampling_pipe: DiffMaPipeline) -> None:
    message = "the model tiny was not trained for the mode mean; use --mode sample"
    with pytest.raises(InputError, match=message):
        sampling_pipe(head_like_ct(), mode="mean")
    with pytest.raises(InputError, match=message):
        sampling_pipe.mean(sampling_pipe.conditions(torch.zeros(1, 32, 32)))
    with pytest.raises(InputError, match="no mode is called 'median'; use mean or sample"):
        sampling_pipe(head_like_ct(), mode="median")
    assert sampling_pipe(head_like_ct(), num_inference_steps=1).metadata["mode"] == "sample"


def test_samples_beside_the_expected_image_give_their_deviation_as_the_bundle_calibrates_it(
    pipe: DiffMaPipeline,
) -> None:
    ct, asked = head_like_ct(), {"num_inference_steps": 2, "samples": 3, "seed": 5, "batch_size": 6}
    alone, reporter = pipe(ct, mode="mean", batch_size=6), Reporter()
    expected = pipe(ct, mode="mean", reporter=reporter, **asked)
    sampled = pipe(ct, mode="sample", **asked)
    assert np.array_equal(array(expected.mr), array(alone.mr))
    assert not np.allclose(array(sampled.mr), array(alone.mr))
    assert np.array_equal(array(expected.uncertainty), array(sampled.uncertainty))
    assert reporter.done == reporter.total == 3 * 2 + 1
    pipe.bundle = replace(pipe.bundle, uncertainty_scale=2.5)
    scaled = array(pipe(ct, mode="mean", **asked).uncertainty)
    assert scaled.max() > 0
    np.testing.assert_allclose(scaled, 2.5 * array(expected.uncertainty), rtol=1e-5)


def test_the_uncertainty_of_the_expected_image_is_told_by_its_decoder_in_the_same_step(
    pipe: DiffMaPipeline, sampling_pipe: DiffMaPipeline
) -> None:
    ct, reporter = head_like_ct(), Reporter()
    plain, told = pipe(ct, batch_size=6), pipe(ct, uncertainty=True, batch_size=6, reporter=reporter)
    assert plain.uncertainty is None and "uncertainty_of" not in plain.metadata
    assert reporter.done == reporter.total == 1 and told.metadata["uncertainty_of"] == "decoder"
    assert np.array_equal(array(told.mr), array(plain.mr))
    uncertainty = array(told.uncertainty)
    assert (uncertainty[array(told.mr) > 0] > 0).all() and uncertainty[0, 0, 0] == 0
    pipe.bundle = replace(pipe.bundle, error_scale=3 * pipe.bundle.error_scale)
    np.testing.assert_allclose(array(pipe(ct, uncertainty=True, batch_size=6).uncertainty), 3 * uncertainty, rtol=1e-5)
    assert pipe(ct, samples=2, num_inference_steps=1).metadata["uncertainty_of"] == "samples"
    message = "tells no uncertainty of one image in the mode {} by its {} decoder; draw some --samples"
    for options, words in (({"mode": "sample"}, ("sample", "guided")), ({"decoder": "full"}, ("mean", "full"))):
        with pytest.raises(InputError, match=message.format(*words)):
            pipe(ct, uncertainty=True, **options)
    with pytest.raises(InputError, match=message.format("sample", "full")):
        sampling_pipe(ct, uncertainty=True)


@pytest.mark.parametrize(
    ("mode", "samples", "draws", "images"), [("mean", 1, 0, 1), ("mean", 4, 4, 5), ("sample", 1, 1, 1)]
)
def test_noise_is_drawn_where_it_is_needed_alone(mode: str, samples: int, draws: int, images: int) -> None:
    sampling = Sampling(mode, steps=15, scheduler=None, seed=0, samples=samples, decoder="full")
    assert (sampling.draws, sampling.images) == (draws, images)
    assert sampling.evaluations == draws * 15 + (mode == "mean")


def test_the_guided_decoder_is_the_default_and_needs_the_pixels(
    pipe: DiffMaPipeline, sampling_pipe: DiffMaPipeline
) -> None:
    conditions = pipe.conditions(torch.randn(2, 3, 32, 32) * 300)
    latents = torch.randn(2, *pipe.latent_shape)
    with pytest.raises(InputError, match=r"needs the CT's pixels; pass conditions\.ct_pixels"):
        pipe.decode(latents)
    guided, other = (pipe.decode(latents, ct_pixels=p) for p in (conditions.ct_pixels, conditions.ct_pixels.flip(3)))
    assert guided.shape == (2, 32, 32) and not torch.equal(guided, other)
    full = pipe.decode(latents, "full")
    assert not torch.equal(guided, full)
    assert pipe.decoder() == "guided" and sampling_pipe.decoder() == "full"
    with pytest.raises(InputError, match="the model tiny has no guided decoder; use the full one"):
        sampling_pipe(head_like_ct(), decoder="guided")


def test_a_slice_is_seen_with_its_neighbours_and_with_no_others(pipe: DiffMaPipeline) -> None:
    """Planes are 8 mm apart and neighbours 6 mm away."""
    ct = head_like_ct()
    changed = array(ct).copy()
    changed[2, 20:24, 18:22] += 400
    other = sitk.GetImageFromArray(changed)
    other.CopyInformation(ct)
    first, second = array(pipe(ct, mode="mean").mr), array(pipe(other, mode="mean").mr)
    assert [bool(np.abs(a - b).max() > 1e-3) for a, b in zip(first, second, strict=True)] == [
        False,
        True,
        True,
        True,
        False,
        False,
    ]


def test_a_network_of_pixels_says_that_it_lacks_them(pipe: DiffMaPipeline) -> None:
    conditions = pipe.conditions(torch.zeros(1, 3, 32, 32))._replace(ct_pixels=None)
    with pytest.raises(ValueError, match="pass ct_pixels"):
        pipe.denoiser(torch.zeros(1, 4, 8, 8), torch.zeros(1), *conditions)


def test_a_slice_alone_stands_for_its_neighbours(pipe: DiffMaPipeline) -> None:
    slices = torch.randn(2, 32, 32) * 300
    alone, repeated = pipe.conditions(slices), pipe.conditions(slices[:, None].expand(-1, 3, -1, -1))
    assert alone.ct_pixels is not None and alone.ct_pixels.shape == (2, 9, 32, 32)
    assert torch.equal(alone.ct_pixels, repeated.ct_pixels)


@pytest.mark.parametrize("steps", [5, 12])
def test_the_bundles_own_scheduler_and_the_same_by_name_give_the_same_bits(
    sampling_pipe: DiffMaPipeline, steps: int
) -> None:
    """Below eight steps a DPM-Solver++ of fewer is set up otherwise, by whichever way it is asked for."""
    own, named = (
        sampling_pipe(head_like_ct(), num_inference_steps=steps, scheduler=name, slices=(2, 4)).mr
        for name in (None, "dpm++")
    )
    assert np.array_equal(array(own), array(named))


def test_the_command_line_asks_for_no_scheduler_and_no_mode_of_its_own() -> None:
    parsed = build_parser().parse_args(["convert", "ct.nii", "mr.nii"])
    assert parsed.scheduler is None and parsed.mode is None and parsed.decoder is None


def test_a_call_spells_its_arguments() -> None:
    call = inspect.signature(DiffMaPipeline.__call__).parameters
    assert all(p.kind is p.POSITIONAL_OR_KEYWORD for p in call.values())


@pytest.fixture(scope="module", params=["tiny_bundle", "expecting_bundle"])
def rounded(request: pytest.FixtureRequest) -> DiffMaPipeline:
    folder: Path = request.getfixturevalue(request.param)
    return DiffMaPipeline.from_pretrained(folder, torch_dtype=torch.bfloat16)


class TestRoundedWeights:
    """``from_pretrained(..., torch_dtype=torch.bfloat16)``, as diffusers' pipelines are loaded."""

    def test_what_decides_the_decay_of_states_stays_float32(self, rounded: DiffMaPipeline) -> None:
        kept = {name for name, p in rounded.denoiser.named_parameters() if p.dtype == torch.float32}
        assert {name.split(".")[-1] for name in kept} == {"A_log", "D", "dt_bias"}
        assert rounded.denoiser.dtype == rounded.vae.dtype == rounded.image_encoder.dtype == torch.bfloat16

    def test_it_converts_in_its_own_precision_and_says_so(self, rounded: DiffMaPipeline, request) -> None:
        out = rounded(head_like_ct(), num_inference_steps=2)
        assert out.metadata["precision"] == "bfloat16"
        folder = request.node.callspec.params["rounded"]
        exact = DiffMaPipeline.from_pretrained(request.getfixturevalue(folder))(head_like_ct(), num_inference_steps=2)
        error = np.abs(array(out.mr) - array(exact.mr))
        assert 0 < error.mean() < 20  # of 1000

    def test_a_device_is_chosen_for_it_and_float32_is_too_late(self, rounded: DiffMaPipeline) -> None:
        rounded.set_device("cpu")
        assert rounded.precision == "bfloat16"
        with pytest.raises(BackendError, match="loaded in bfloat16; load them without torch_dtype"):
            rounded.set_device("cpu", precision="float32")

    def test_another_type_is_refused(self, tiny_bundle: Path) -> None:
        with pytest.raises(ModelError, match=r"cannot be loaded as torch\.float16"):
            DiffMaPipeline.from_pretrained(tiny_bundle, torch_dtype=torch.float16)
