"""`diffma prepare`: from a data set on disk to a cache, stopped and gone on, and what it refuses."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
import yaml
from diffusers import AutoencoderKL
from safetensors.torch import load_file

from DiffMaCore.cluster import Cluster
from DiffMaCore.errors import InputError, OutputError
from DiffMaCore.models import components
from DiffMaCore.models.image_encoder import ImageEncoder
from DiffMaCore.progress import Reporter
from DiffMaCore.training.cache import PairedCache, SliceDataset
from DiffMaCore.training.experiment import Folders, PartsConfig, SplitConfig
from DiffMaCore.training.prepare import prepare, prepare_cases
from DiffMaCore.training.sources.case import RawCase, RawPair
from Testing.training.synthrad import BRAINS, write_synthrad
from Testing.training.tiny_cache import SPLIT, make_tiny_cache, tiny_cases, tiny_experiment, tiny_pair

REPOSITORY = Path(__file__).resolve().parents[3]
HALF, EXACT = {"rtol": 2e-3, "atol": 2e-3}, {"rtol": 0, "atol": 0}
ROUNDED = {"rtol": 0, "atol": 1}  # resampling depends on the number of threads in its last bit, and is rounded to int16


class Listener(Reporter):
    """Keeps what was said."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def note(self, message: str) -> None:
        self.said.append(message)

    warning = note


@pytest.fixture(scope="module")
def synthrad(tmp_path_factory):
    """Task1 with six brains, of which one has an MR that is not registered."""
    return write_synthrad(tmp_path_factory.mktemp("synthrad"), slices=4, damage={"1BB011": "shifted"})


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    tiny = tiny_experiment(tmp_path_factory.mktemp("networks"))
    return replace(tiny, data=replace(tiny.data, split=SplitConfig(test=0.2, validation=0.2)))


@pytest.fixture(scope="module")
def prepared(synthrad, experiment, tmp_path_factory):
    """The cache of the SynthRAD imitation, made in one go."""
    return prepare(experiment, Folders(tmp_path_factory.mktemp("run")), [synthrad], device="cpu")


def stamps(folder: Path) -> dict[str, int]:
    return {file.name: file.stat().st_mtime_ns for file in (folder / "cases").glob("*.safetensors")}


def test_synthrad_becomes_a_cache_split_by_patient(prepared):
    ids = [id for part in prepared.split.values() for id in part]
    assert sorted(ids) == sorted(set(BRAINS) - {"1BB011"})
    assert all(prepared.split.values())
    rows = SliceDataset(prepared, prepared.ids("train"), ("target", "source", "target_latent"))
    assert len(rows) == 4 * len(prepared.ids("train"))
    assert rows[0]["source"].min() < -900 and -1 <= rows[0]["target"].min() < rows[0]["target"].max() <= 1


def test_what_is_left_out_is_named_with_its_reason(prepared):
    left_out = prepared.manifest["left_out"]
    assert [case["id"] for case in left_out] == ["1BB011"] and "overlap" in left_out[0]["reason"]
    report = (prepared.folder / "report.md").read_text(encoding="utf-8")
    assert "1BB011: " in report and "| A |" in report and "| all |" in report


@pytest.mark.slow
def test_killed_in_the_middle_it_goes_on_with_the_next_case(prepared, synthrad, experiment, tmp_path):
    config, out = tmp_path / "tiny.yaml", tmp_path / "run"
    config.write_text(yaml.safe_dump(plain(experiment)), encoding="utf-8")
    words = [sys.executable, "-m", "DiffMaCore", "prepare", str(synthrad), "--config", str(config), "--out", str(out)]
    child = subprocess.Popen([*words, "--device", "cpu"], cwd=REPOSITORY, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 120
    while len(stamps(out / "data")) < 2:
        assert child.poll() is None and time.monotonic() < end
        time.sleep(0.02)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    before = stamps(out / "data")
    assert len(before) < 5
    with pytest.raises(InputError, match="not complete"):
        PairedCache.open(out / "data")
    cache = prepare(experiment, Folders(out), [synthrad], device="cpu")
    after = stamps(out / "data")
    assert len(after) == 5 and before.items() <= after.items()
    assert cache.fingerprint == prepared.fingerprint
    assert_same(cache, prepared)


def assert_same(cache: PairedCache, other: PairedCache) -> None:
    """Slices are equal in every case; what networks made of them is too, but for the order in which threads add."""
    for id in (id for ids in other.split.values() for id in ids):
        mine, theirs = load_file(cache.case_file(id)), load_file(other.case_file(id))
        assert mine.keys() == theirs.keys()
        for key, tensor in theirs.items():
            near = HALF if tensor.is_floating_point() else ROUNDED if key in ("source", "target") else EXACT
            torch.testing.assert_close(mine[key], tensor, **near)


def plain(experiment) -> dict:
    """An experiment as a YAML file holds it."""
    return json.loads(json.dumps(asdict(experiment)))


def test_a_changed_configuration_makes_again_what_it_changes_and_says_so(tmp_path):
    experiment, folders = make_tiny_cache(tmp_path)
    before, first = stamps(folders.data), PairedCache.open(folders.data).fingerprint
    finer, listener = replace(experiment, data=replace(experiment.data, pixel_spacing=6.5)), Listener()
    prepare_cases(finer, folders, tiny_cases(), SPLIT, listener, device="cpu")
    assert "data.pixel_spacing was 7.0 and is 6.5" in listener.said[0] and "5 cases" in listener.said[0]
    assert not before.items() & stamps(folders.data).items()
    assert PairedCache.open(folders.data).fingerprint != first


def test_another_split_makes_no_slice_again(tmp_path):
    experiment, folders = make_tiny_cache(tmp_path)
    before, first = stamps(folders.data), PairedCache.open(folders.data).fingerprint
    other = {"train": ["head_4", "head_1"], "validation": ["head_3"], "test": ["head_0"]}
    cache = prepare_cases(experiment, folders, tiny_cases(), other, device="cpu")
    assert stamps(folders.data) == before and cache.ids("test") == ("head_0",) and cache.fingerprint != first


def test_other_networks_make_all_again(tmp_path):
    experiment, folders = make_tiny_cache(tmp_path)
    before = stamps(folders.data)
    shutil.copytree(tmp_path / "networks" / "vae", tmp_path / "other")
    config = json.loads((tmp_path / "other" / "config.json").read_text())
    (tmp_path / "other" / "config.json").write_text(json.dumps({**config, "scaling_factor": 0.5}))
    parts = replace(experiment.parts, vae=str(tmp_path / "other"))
    listener = Listener()
    prepare_cases(replace(experiment, parts=parts), folders, tiny_cases(), SPLIT, listener, device="cpu")
    assert "parts.vae is another network" in listener.said[0]
    assert not before.items() & stamps(folders.data).items()


@pytest.mark.slow
def test_workers_of_a_cluster_change_nothing(prepared, synthrad, experiment, tmp_path):
    pytest.importorskip("distributed", reason="the extra `cluster` is not installed")
    cache = prepare(experiment, Folders(tmp_path), [synthrad], device="cpu", cluster=Cluster("local", 2))
    assert cache.manifest["left_out"] == prepared.manifest["left_out"]
    assert cache.fingerprint == prepared.fingerprint
    assert_same(cache, prepared)


def test_paired_npz_slices_are_prepared_in_any_direction(experiment, tmp_path):
    for k in range(4):
        pair = tiny_pair(k)
        ct, mr = (sitk.GetArrayFromImage(image)[3:12] for image in (pair.source, pair.target))
        np.savez(
            tmp_path / f"brain_{k:02d}.npz",
            ct=np.clip((ct + 1000) / 2000 * 255, 0, 255).astype(np.uint8),
            t1=np.clip(mr / mr.max() * 255, 0, 255).astype(np.uint8),
            t2=np.clip((1 - mr / mr.max()) * (mr > 40) * 255, 0, 255).astype(np.uint8),
        )
    split = SplitConfig(test_cases=("brain_03",), validation_cases=("brain_02",))
    for source, target in (("ct", "t2"), ("t1", "ct")):
        data = replace(
            experiment.data, source=source, target=target, split=split, eight_bit_spacing=7.0, pixel_spacing=7.0
        )
        out = Folders(tmp_path / f"{source}_{target}")
        cache = prepare(replace(experiment, data=data), out, [tmp_path], device="cpu")
        assert cache.split == {"train": ("brain_00", "brain_01"), "validation": ("brain_02",), "test": ("brain_03",)}
        case = cache.case("brain_00")
        assert case.target().min() >= -1 and case.target().max() <= 1 and case.target().std() > 0.1
        assert case.source().std() > 0.1 and 0.1 < case.body().float().mean() < 0.9


def test_slices_without_a_target_are_left_out_and_counted(experiment, tmp_path):
    pair = tiny_pair(0)
    pair.target[:, :, :4] = 0.0
    cases = [RawCase("a", "", partial(RawPair, pair.source, pair.target)), *tiny_cases()]
    split = {"train": ["a", "head_1"], "validation": [], "test": []}
    cache = prepare_cases(experiment, Folders(tmp_path), cases, split, device="cpu")
    assert cache.case("a").slice_index().min() == 4
    assert any("4 slices" in note for note in cache.manifest["notes"])


class TestBeforeAnyLongWork:
    """Errors that come before a case is read."""

    def refuses(self, experiment, tmp_path, words, split=SPLIT):
        cases = [RawCase(case.id, case.centre, unread) for case in tiny_cases()]
        with pytest.raises(InputError, match=words):
            prepare_cases(experiment, Folders(tmp_path / "run"), cases, split, device="cpu")

    def test_an_image_size_that_the_vae_does_not_divide(self, experiment, tmp_path):
        parts = replace(experiment.parts, vae=vae_of_factor_8(tmp_path))
        odd = replace(experiment, data=replace(experiment.data, image_size=36), parts=parts)
        self.refuses(odd, tmp_path, "image_size is 36.* by 8; take 32")

    def test_a_patch_size_that_does_not_divide_the_latent(self, experiment, tmp_path):
        odd = replace(experiment, denoiser=replace(experiment.denoiser, patch_size=3))
        self.refuses(odd, tmp_path, "patch of 3 does not divide a latent of 8 x 8.*1, 2, 4, 8")

    def test_an_image_encoder_of_another_width(self, experiment, tmp_path):
        odd = replace(experiment, denoiser=replace(experiment.denoiser, width=64))
        self.refuses(odd, tmp_path, "width 32 and denoiser.width is 64")

    @pytest.mark.parametrize(
        ("given", "words"),
        [
            ("no/such/place", "parts.vae: no/such/place .*neither a folder"),
            ("bundle:nothing", "parts.vae: bundle:nothing .*no model 'nothing'"),
        ],
    )
    def test_an_unknown_part(self, experiment, tmp_path, given, words):
        self.refuses(replace(experiment, parts=PartsConfig(given, given)), tmp_path, words)

    def test_a_hub_that_cannot_be_reached(self, experiment, tmp_path, monkeypatch):
        monkeypatch.setattr(components, "_from_hub", lambda *given: None)
        parts = PartsConfig("stabilityai/sd-vae-ft-ema", "microsoft/BiomedCLIP")
        self.refuses(replace(experiment, parts=parts), tmp_path, "parts.vae: stabilityai.* cannot be fetched.*folder")

    def test_a_split_that_leaks_a_patient(self, experiment, tmp_path):
        leaking = {"train": ["head_0", "head_1"], "validation": [], "test": ["head_1"]}
        self.refuses(experiment, tmp_path, "head_1", split=leaking)

    def test_one_patient_under_two_ids(self, experiment, tmp_path, synthrad):
        case = synthrad / "brain" / "1BA001"
        twins = tmp_path / "Task1" / "brain"
        for name in ("1BA001", "1BA002"):
            shutil.copytree(case, twins / name)
        split = tmp_path / "split.json"
        split.write_text(json.dumps({"train": ["1BA001"], "validation": [], "test": ["1BA002"]}))
        with pytest.raises(InputError, match="leaks a patient: 1BA001 and 1BA002"):
            prepare(experiment, Folders(tmp_path / "run"), [twins], split_file=split, device="cpu")
        assert not (tmp_path / "run" / "data" / "cases").exists()


def unread() -> RawPair:
    raise AssertionError("a case was read")


def vae_of_factor_8(folder: Path) -> str:
    """A folder with a tiny VAE that halves three times."""
    vae = AutoencoderKL(
        block_out_channels=(4,) * 4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=4,
    )
    vae.save_pretrained(folder / "factor_8")
    return str(folder / "factor_8")


def test_a_disk_without_room_is_told_with_the_first_case(experiment, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage(1 << 40, 1 << 40, 1 << 20))
    with pytest.raises(OutputError, match="5 cases like head_0 need"):
        prepare_cases(experiment, Folders(tmp_path), tiny_cases(), SPLIT, device="cpu")
    assert not list((tmp_path / "data").glob("cases/*"))


def test_networks_of_an_installed_bundle_are_taken_and_kept(tiny_bundle, experiment, tmp_path):
    parts = PartsConfig(f"bundle:{tiny_bundle}", f"bundle:{tiny_bundle}")
    cache = prepare_cases(replace(experiment, parts=parts), Folders(tmp_path), tiny_cases(), SPLIT, device="cpu")
    assert cache.manifest["parts"]["vae"]["asked"] == f"bundle:{tiny_bundle}"
    theirs = AutoencoderKL.from_pretrained(tiny_bundle / "vae").state_dict()
    assert all(torch.equal(value, theirs[key]) for key, value in cache.load_vae().state_dict().items())


def test_networks_of_the_hub_are_fetched_once(experiment, tmp_path, monkeypatch):
    networks = Path(experiment.parts.vae).parent
    asked = []

    def hub(part, given, progress):
        asked.append(given)
        return {"vae": AutoencoderKL, "image_encoder": ImageEncoder}[part.name].from_pretrained(networks / part.name)

    monkeypatch.setattr(components, "obtain", hub)
    online = replace(experiment, parts=PartsConfig("owner/vae", "owner/encoder"))
    first = prepare_cases(online, Folders(tmp_path), tiny_cases(), SPLIT, device="cpu")
    again = prepare_cases(online, Folders(tmp_path), tiny_cases(), SPLIT, device="cpu")
    assert asked == ["owner/vae", "owner/encoder"] and first.fingerprint == again.fingerprint
    weights = tmp_path / "data" / "parts" / "vae" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"abcd")
    prepare_cases(online, Folders(tmp_path), tiny_cases(), SPLIT, device="cpu")
    assert asked[2:] == ["owner/vae"]
