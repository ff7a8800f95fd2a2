"""What a prepared experiment holds, and that it is what inference computes."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from DiffMaCore.errors import InputError
from DiffMaCore.models.diffma import DiffMa
from DiffMaCore.models.embedder import VisionEmbedder
from DiffMaCore.training.batches import to_device
from DiffMaCore.training.bundling import build_pipeline
from DiffMaCore.training.cache import (
    PairedCache,
    SliceDataset,
    ct_pixels,
    source_pixels,
    target_pixels,
    with_neighbours,
)
from DiffMaCore.training.tasks.denoiser import KEYS, conditions_of
from Testing.training.tiny_cache import make_tiny_cache, tiny_experiment, tiny_pair

ALL = ("target_latent", "source_latent", "clip_embedding", "source", "ct_pixels", "target", "body")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The tiny experiment and its cache."""
    experiment, folders = make_tiny_cache(tmp_path_factory.mktemp("tiny"))
    return experiment, PairedCache.open(folders.data)


def pixels_of(case, row, data):
    """A slice of a case beside the planes next to it, as a network sees it."""
    three = with_neighbours(case.source(), row, case.slice_index().numpy(), case.spacing, data.neighbour_distance)
    return ct_pixels(three[None], data)[0]


@pytest.fixture(scope="module")
def embedder():
    torch.manual_seed(1)
    return VisionEmbedder(8, 2, 32, mask_hidden=8).eval()


def test_a_row_of_the_dataset_is_the_slice_of_its_case(tiny):
    _, cache = tiny
    rows = SliceDataset(cache, cache.ids("train"), ALL)
    case = cache.case("head_1")
    row = len(cache.case("head_0")) + 6
    item = rows[row]
    assert len(rows) == sum(len(cache.case(id)) for id in cache.ids("train"))
    assert rows.where(row) == f"case head_1, slice {int(case.slice_index()[6])}"
    assert torch.equal(item["source"], case.source()[6]) and torch.equal(item["target"], case.target()[6])
    assert torch.equal(item["body"].bool(), case.body()[6])
    assert torch.equal(item["ct_pixels"], pixels_of(case, 6, cache.data))
    assert torch.equal(item["target_latent"], case.file.whole("target_latent")[6].float())
    assert all(value.dtype == torch.float32 for key, value in item.items() if key != "row")
    assert item["source_latent"].shape == cache.latent_shape and item["clip_embedding"].shape == (cache.embed_dim,)


def test_the_first_and_last_slice_stand_in_for_the_neighbour_they_lack(tiny):
    _, cache = tiny
    rows = SliceDataset(cache, ["head_0"], ("ct_pixels",))
    first, second, last = (rows[row]["ct_pixels"].view(3, 3, 32, 32) for row in (0, 1, len(rows) - 1))
    assert torch.equal(first[0], first[1]) and torch.equal(first[2], second[1])  # slice, window
    assert torch.equal(last[2], last[1]) and not torch.equal(last[0], last[1])


def test_a_batch_is_its_rows_to_the_last_bit(tiny):
    _, cache = tiny
    rows = SliceDataset(cache, cache.ids("train"), ALL)
    wanted = [17, 3, 3, 40]
    batch = to_device(rows.batch(wanted), torch.device("cpu"))
    one_by_one = default_collate([rows[row] for row in wanted])
    assert batch.keys() == one_by_one.keys()
    for key, value in one_by_one.items():
        assert batch[key].dtype == value.dtype and torch.equal(batch[key], value), key
    with pytest.raises(IndexError):
        rows.batch([0, len(rows)])


def test_a_dataset_goes_to_another_process_without_its_open_files(tiny):
    _, cache = tiny
    rows = SliceDataset(cache, ["head_0"], ("target",))
    first = rows[0]["target"]
    assert torch.equal(pickle.loads(pickle.dumps(rows))[0]["target"], first)  # noqa: S301


@pytest.mark.parametrize("direction", [("ct", "mr"), ("mr", "ct")], ids=["ct to mr", "mr to ct"])
def test_what_inference_computes_from_the_raw_volume_is_what_is_trained_on(direction, tmp_path, embedder):
    """The whole path of `diffma convert` runs, and its conditions are compared slice by slice."""
    experiment = tiny_experiment(tmp_path)
    data = replace(experiment.data, source=direction[0], target=direction[1])
    experiment, folders = make_tiny_cache(tmp_path, data=data)
    cache = PairedCache.open(folders.data)
    stored, _ = conditions_of(SliceDataset(cache, ["head_4"], KEYS).spread(1000), embedder)
    pipe = build_pipeline(experiment, cache, embedder, DiffMa(8, 2, 32, 1), "diffma")
    computed, compute = [], pipe.conditions

    def listening(source):
        computed.append(compute(source))
        return computed[-1]

    pipe.conditions = listening
    out = pipe(tiny_pair(4, direction[0]).source, num_inference_steps=1)
    places = {index: row for row, index in enumerate(cache.case("head_4").slice_index().tolist())}
    compared = 0
    for key in ("clip_embedding", "ct_embedding", "soft_mask"):
        values = torch.cat([getattr(part, key) for part in computed])
        for index, value in zip(out.slices, values, strict=True):
            if index in places:
                torch.testing.assert_close(value, getattr(stored, key)[places[index]], rtol=2e-3, atol=4e-3)
                compared += 1
    assert compared == 3 * len(places) > 0


def test_the_latents_are_those_of_the_stored_slices(tiny):
    _, cache = tiny
    case, vae = cache.case("head_2"), cache.load_vae()
    with torch.inference_mode():
        latent = vae.encode(source_pixels(case.source(), cache.data)).latent_dist.mode() * vae.config["scaling_factor"]
    # HU are stored whole, which the narrowest window shows as 1 % of its range
    assert (latent - case.file.whole("source_latent")).abs().mean() < 0.01


def test_a_ct_target_is_mapped_from_its_window_and_stored_in_hu(tmp_path):
    data = replace(tiny_experiment(tmp_path).data, source="mr", target="ct", target_window=(-500.0, 1500.0))
    _, folders = make_tiny_cache(tmp_path, data=data)
    case = PairedCache.open(folders.data).case("head_0")
    hu = case.file.whole("target").float()
    assert hu.min() < -900 and torch.equal(case.target(), target_pixels(hu, data))
    assert case.target().min() == -1 and float(case.source().min()) == -1
    inside = ((hu > -400) & (hu < 1400)).numpy()
    np.testing.assert_allclose(case.target().numpy()[inside], (hu.numpy()[inside] + 500) / 1000 - 1, atol=1e-6)


def test_a_cache_that_is_not_there_or_not_whole_says_what_to_do(tmp_path):
    with pytest.raises(InputError, match="diffma prepare"):
        PairedCache.open(tmp_path / "nothing")
    _, folders = make_tiny_cache(tmp_path)
    (folders.data / "cases" / "head_1.safetensors").unlink()
    with pytest.raises(InputError, match="head_1"):
        PairedCache.open(folders.data)
    (folders.data / "manifest.json").unlink()
    with pytest.raises(InputError, match="not complete"):
        PairedCache.open(folders.data)
