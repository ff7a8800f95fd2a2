"""Bundles loaded and run, in Python."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from DiffMaCore import DiffMaPipeline
from DiffMaCore.diffusion.pipeline import noise_seed
from DiffMaCore.errors import BackendError, InputError, ModelError
from DiffMaCore.progress import Reporter
from Testing.images import head_like_ct

GEOMETRY = ("GetSize", "GetSpacing", "GetOrigin", "GetDirection")


@pytest.fixture(scope="module")
def pipe(tiny_bundle: Path) -> DiffMaPipeline:
    return DiffMaPipeline.from_pretrained(tiny_bundle)


def test_the_result_has_the_cts_geometry_whatever_its_orientation(pipe: DiffMaPipeline) -> None:
    ct = head_like_ct()
    for image in (ct, sitk.DICOMOrient(ct, "PIR"), sitk.DICOMOrient(ct, "SAR"), _oblique(ct)):
        out = pipe(image, num_inference_steps=2)
        for volume in (out.mr, out.soft_mask):
            for get in GEOMETRY:
                assert getattr(volume, get)() == getattr(image, get)()


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("steps", "num_inference_steps"), ("sample", "samples"), ("Seed", "seed"), ("batch", "batch_size")],
)
def test_a_wrong_argument_is_answered_with_the_nearest(pipe: DiffMaPipeline, wrong: str, right: str) -> None:
    with pytest.raises(TypeError, match=rf"__call__\(\) has no argument '{wrong}'; did you mean '{right}'"):
        pipe(head_like_ct(), **{wrong: 1})
    with pytest.raises(TypeError, match="there are image, mode, num_inference_steps"):
        pipe(head_like_ct(), xyz=1)


def _oblique(image: sitk.Image) -> sitk.Image:
    turned = sitk.Image(image)
    rotation = sitk.Euler3DTransform()
    rotation.SetRotation(0.1, -0.2, 0.3)
    turned.SetDirection(rotation.GetMatrix())
    return turned


def test_the_same_anatomy_in_another_orientation_gives_the_same_mri(pipe: DiffMaPipeline) -> None:
    ct = head_like_ct()
    upright = sitk.GetArrayFromImage(pipe(ct, num_inference_steps=3).mr)
    turned = pipe(sitk.DICOMOrient(ct, "SAR"), num_inference_steps=3).mr
    back = sitk.GetArrayFromImage(sitk.DICOMOrient(turned, "LPS"))
    assert np.abs(back - upright).max() < 1.0  # of 1000


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not(pipe: DiffMaPipeline) -> None:
    ct = head_like_ct()
    first, again, other = (sitk.GetArrayFromImage(pipe(ct, num_inference_steps=3, seed=s).mr) for s in (7, 7, 8))
    assert np.array_equal(first, again)
    assert not np.allclose(first, other)


@pytest.mark.parametrize("scheduler", ["dpm++", "unipc", "ddim", "ddpm"])
def test_a_slice_does_not_depend_on_those_it_is_batched_with(pipe: DiffMaPipeline, scheduler: str) -> None:
    ct = head_like_ct()
    together = sitk.GetArrayFromImage(pipe(ct, num_inference_steps=4, scheduler=scheduler, batch_size=6).mr)
    alone = sitk.GetArrayFromImage(pipe(ct, num_inference_steps=4, scheduler=scheduler, batch_size=1).mr)
    assert np.abs(together - alone).max() < 1.0


def test_equal_slices_give_equal_mris_because_they_share_the_noise(pipe: DiffMaPipeline) -> None:
    array = sitk.GetArrayFromImage(head_like_ct())
    array[:] = array[2]
    ct = sitk.GetImageFromArray(array)
    ct.CopyInformation(head_like_ct())
    for scheduler in ("dpm++", "ddpm"):
        mr = sitk.GetArrayFromImage(pipe(ct, num_inference_steps=4, scheduler=scheduler, batch_size=4).mr)
        assert np.abs(mr - mr[0]).max() < 1.0


def test_several_samples_give_their_mean_and_standard_deviation(pipe: DiffMaPipeline) -> None:
    ct = head_like_ct()
    out = pipe(ct, num_inference_steps=2, samples=3, seed=5)
    assert out.uncertainty is not None
    deviation = sitk.GetArrayFromImage(out.uncertainty)
    assert deviation.max() > 0
    assert pipe(ct, num_inference_steps=2).uncertainty is None
    conditions = pipe.conditions(torch.zeros(1, 32, 32))
    latents = [pipe.denoise(conditions, 2, noise_seed=noise_seed(5, k)) for k in range(3)]
    assert not torch.equal(latents[0], latents[1])


def test_neighbouring_seeds_share_no_noise() -> None:
    seeds = {noise_seed(seed, sample) for seed in range(10) for sample in range(10)}
    assert len(seeds) == 100


def test_only_the_chosen_slices_and_the_mask_are_converted(pipe: DiffMaPipeline) -> None:
    ct = head_like_ct()
    inside = np.zeros(ct.GetSize()[::-1], np.uint8)
    inside[1:5, 15:30, 10:30] = 1
    mask = sitk.GetImageFromArray(inside)
    mask.CopyInformation(ct)
    mr = sitk.GetArrayFromImage(pipe(ct, num_inference_steps=2, mask=mask, slices=(2, 4)).mr)
    assert not mr[:2].any() and not mr[4:].any()
    assert not mr[2:4][inside[2:4] == 0].any()
    assert mr[2:4][inside[2:4] > 0].any()
    with pytest.raises(InputError, match="no part of the body"):
        pipe(ct, num_inference_steps=2, mask=sitk.Mask(mask, mask < 1))


def test_air_around_the_body_is_background(pipe: DiffMaPipeline) -> None:
    ct = head_like_ct()
    mr = sitk.GetArrayFromImage(pipe(ct, num_inference_steps=2).mr)
    assert not mr[:, :3, :3].any()


def test_the_soft_mask_lies_between_0_and_1_and_varies_over_the_tokens(pipe: DiffMaPipeline) -> None:
    weights = sitk.GetArrayFromImage(pipe(head_like_ct(), num_inference_steps=1).soft_mask)
    assert 0 <= weights.min() < weights.max() <= 1
    assert len(np.unique(weights)) > 10


def test_the_metadata_tell_how_the_result_was_made(pipe: DiffMaPipeline) -> None:
    out = pipe(head_like_ct(), num_inference_steps=2, seed=3, scheduler="ddim")
    expected = {"model": "tiny", "steps": 2, "seed": 3, "scheduler": "ddim", "scan_backend": "numba", "device": "cpu"}
    assert expected.items() <= out.metadata.items()
    assert len(out.metadata["model_sha256"]) == 64
    assert "Research only" in out.metadata["notice"]


def test_progress_counts_every_step_and_hands_out_every_slice(pipe: DiffMaPipeline) -> None:
    class Recorder(Reporter):
        def __init__(self) -> None:
            super().__init__()
            self.made: list[int] = []

        def slice_done(self, index: int, axis: int, values: np.ndarray, picture: np.ndarray) -> None:
            assert (axis, values.shape) == (0, (44, 40))
            self.made.append(index)

    recorder = Recorder()
    pipe(head_like_ct(), num_inference_steps=3, samples=2, batch_size=4, reporter=recorder)
    assert recorder.made == [4, 5, 0, 1, 2, 3]
    assert recorder.done == recorder.total == 2 * 3 * 2
    assert recorder.eta == 0


@pytest.mark.parametrize("start", [0, 3, 99])
def test_the_order_of_the_slices_changes_no_voxel(pipe: DiffMaPipeline, start: int) -> None:
    usual = pipe(head_like_ct(), num_inference_steps=2, batch_size=2)
    other = pipe(head_like_ct(), num_inference_steps=2, batch_size=2, start_slice=start)
    assert usual.slices == (2, 3, 4, 5, 0, 1)
    assert min(start, 5) in other.slices[:2]
    assert sorted(other.slices) == list(range(6))
    assert np.array_equal(*(sitk.GetArrayFromImage(out.mr) for out in (usual, other)))


def test_numbers_out_of_range_are_refused(pipe: DiffMaPipeline) -> None:
    for options in ({"num_inference_steps": 0}, {"num_inference_steps": 1001}, {"samples": 0}, {"batch_size": 0}):
        with pytest.raises(InputError, match="must be"):
            pipe(head_like_ct(), **options)


def test_an_image_that_is_no_volume_is_refused(pipe: DiffMaPipeline) -> None:
    with pytest.raises(InputError, match="three-dimensional"):
        pipe(sitk.Image(8, 8, sitk.sitkFloat32))
    with pytest.raises(InputError, match="resample it onto the image"):
        pipe(head_like_ct(), mask=sitk.Image(8, 8, 8, sitk.sitkUInt8))


def test_a_ct_in_whole_numbers_gives_the_same_mri(pipe: DiffMaPipeline) -> None:
    rounded = sitk.Round(head_like_ct())
    first = sitk.GetArrayFromImage(pipe(rounded, num_inference_steps=2).mr)
    second = sitk.GetArrayFromImage(pipe(sitk.Cast(rounded, sitk.sitkInt16), num_inference_steps=2).mr)
    assert np.abs(first - second).max() < 1.0


def test_both_scan_back_ends_give_the_same_mri(pipe: DiffMaPipeline) -> None:
    ct = head_like_ct()
    images = []
    for backend in ("torch", "numba"):
        assert pipe.set_device("cpu", backend) == backend
        out = pipe(ct, num_inference_steps=3)
        assert out.metadata["scan_backend"] == backend
        images.append(sitk.GetArrayFromImage(out.mr))
    assert np.abs(images[0] - images[1]).max() < 1.0


def test_a_device_or_back_end_that_is_not_there_is_an_error(pipe: DiffMaPipeline) -> None:
    with pytest.raises(BackendError, match="quantum"):
        pipe.set_device("quantum")
    with pytest.raises(BackendError, match="mamba-ssm"):
        pipe.set_device("cpu", "mamba-ssm")
    if not torch.cuda.is_available():
        with pytest.raises(BackendError, match="--device cpu"):
            pipe.set_device("cuda:1")


def test_a_saved_bundle_converts_as_the_one_it_came_from(pipe: DiffMaPipeline, tmp_path: Path) -> None:
    pipe.save_pretrained(tmp_path / "copy")
    copy = DiffMaPipeline.from_pretrained(tmp_path / "copy")
    assert copy.bundle == pipe.bundle
    assert copy.checksum == pipe.checksum
    ct = head_like_ct()
    first, second = (sitk.GetArrayFromImage(p(ct, num_inference_steps=2).mr) for p in (pipe, copy))
    assert np.array_equal(first, second)


def test_an_altered_or_truncated_file_is_named_and_not_loaded(tiny_bundle: Path, tmp_path: Path) -> None:
    import shutil

    broken = tmp_path / "broken"
    shutil.copytree(tiny_bundle, broken)
    weights = broken / "denoiser" / "diffusion_pytorch_model.safetensors"
    content = weights.read_bytes()
    for damaged in (content[:-100], content[:-1] + bytes([content[-1] ^ 1])):
        weights.write_bytes(damaged)
        with pytest.raises(ModelError, match=r"denoiser.diffusion_pytorch_model\.safetensors"):
            DiffMaPipeline.from_pretrained(broken)


def test_the_networks_and_the_vae_round_trip_through_the_output_range(pipe: DiffMaPipeline) -> None:
    low, high = pipe.bundle.output_range
    decoded = pipe.decode(torch.randn(2, *pipe.latent_shape))
    assert decoded.shape == (2, 32, 32)
    assert low <= decoded.min() < decoded.max() <= high
