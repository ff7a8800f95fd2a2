"""``diffma convert`` as a user runs it, on real files; where a process matters, in one of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from DiffMaCore.cli.main import main
from Testing.images import head_like_ct
from Testing.warm import WARM, diffma

QUICK = ("--steps", "2", "--device", "cpu")


Here = Callable[..., tuple[int, str, str]]


@pytest.fixture
def here(capsys: pytest.CaptureFixture[str]) -> Here:
    """Runs a command in this process: its status, and what it said."""

    def run(*arguments: object) -> tuple[int, str, str]:
        return main([str(argument) for argument in arguments]), *capsys.readouterr()

    return run


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., None]:
    """Runs a command that must end with exit status 2 and one sentence that holds the given words."""

    def check(*arguments: object, words: Sequence[str]) -> None:
        assert main([str(argument) for argument in arguments]) == 2
        errors = capsys.readouterr().err
        assert "Traceback" not in errors
        (sentence,) = [line for line in errors.splitlines() if line.startswith("diffma: ")]
        for word in words:
            assert word in sentence

    return check


@pytest.fixture(scope="module")
def ct(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ct") / "ct.nii.gz"
    sitk.WriteImage(head_like_ct(), str(path))
    return path


def test_a_ct_becomes_an_mri_that_says_what_it_is_and_the_same_bytes_the_next_time(
    ct: Path, tiny_bundle: Path, tmp_path: Path, here: Here
) -> None:
    """In another process as well."""
    (tmp_path / "again").mkdir()
    output, mask, said = tmp_path / "mr.nrrd", tmp_path / "mask.nii.gz", tmp_path / "said.txt"
    words = ("convert", ct, output, "--soft-mask", mask, "--model", tiny_bundle, *QUICK)
    child = WARM.Process(target=diffma, args=(said, *words))
    child.start()
    child.join(200)
    assert child.exitcode == 0, said.with_suffix(".err").read_text()
    assert "research only" in said.read_text()
    source, mr = sitk.ReadImage(str(ct)), sitk.ReadImage(str(output))
    for get in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(mr, get)() == getattr(source, get)()
    header = {key: mr.GetMetaData(key) for key in mr.GetMetaDataKeys()}
    assert "SYNTHETIC" in " ".join(header.values())
    assert header["scheduler"] == "dpm++"
    assert header["seed"] == "0"
    assert not list(tmp_path.glob(".*"))
    again = [tmp_path / "again" / path.name for path in (output, mask)]
    assert here("convert", ct, again[0], "--soft-mask", again[1], "--model", tiny_bundle, *QUICK)[0] == 0
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in (output, mask)]


def test_json_lines_tell_stage_steps_eta_slices_and_the_result(
    ct: Path, tiny_bundle: Path, tmp_path: Path, here: Here
) -> None:
    previews = tmp_path / "previews"
    options = ("--progress", "json", "--previews", previews, "--samples", 2, "--soft-mask", tmp_path / "mask.mha")
    status, out, err = here("convert", ct, tmp_path / "mr.nii.gz", "--model", tiny_bundle, *QUICK, *options)
    assert status == 0, err
    events = [json.loads(line) for line in out.splitlines()]
    kinds = {event["event"] for event in events}
    assert {"stage", "progress", "slice", "note", "result"} <= kinds
    progress = [event for event in events if event["event"] == "progress"]
    assert progress[-1]["step"] == progress[-1]["total"] == len(progress)
    assert progress[-1]["eta"] == 0
    written = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "mr.nii.gz")))
    slices = [event for event in events if event["event"] == "slice"]
    assert [(event["done"], event["total"]) for event in slices] == [(n, 6) for n in range(1, 7)]
    assert sorted(event["slice"] for event in slices) == list(range(6))
    (volume,) = [event for event in events if event["event"] == "volume"]
    assert volume["slices"] == [event["slice"] for event in slices]
    assert (volume["number"], volume["of"], volume["shape"], volume["demo"]) == (1, 1, [6, 44, 40], False)
    for event in slices:
        assert Path(event["preview"]).suffix == ".png" and Path(event["preview"]).is_file()
        values = np.load(event["values"], allow_pickle=False)
        assert np.array_equal(values, written.take(event["slice"], axis=event["axis"]))
    (final,) = [event for event in events if event["event"] == "result"]
    assert final["samples"] == 2 and final["slices"] == 6 and final["shape"] == [6, 44, 40]
    assert final["output_range"] == volume["output_range"] == [0.0, 1000.0]
    assert final["peak_memory_bytes"] > 1e8
    assert set(final["seconds"]) == {"loading", "preparing", "synthesising", "comparing", "writing", "total"}
    assert final["seconds"]["total"] >= final["seconds"]["synthesising"] > 0
    for key in ("output", "uncertainty", "soft_mask"):
        assert Path(final[key]).is_file()
    assert final["uncertainty_of"] == "samples"


def test_the_uncertainty_of_the_expected_image_is_written_where_the_model_tells_it(
    ct: Path, tiny_bundle: Path, expecting_bundle: Path, tmp_path: Path, here: Here
) -> None:
    status, _, err = here("convert", ct, tmp_path / "mr.nii.gz", "--model", expecting_bundle, "--uncertainty")
    assert status == 0, err
    uncertainty = sitk.ReadImage(str(tmp_path / "mr_uncertainty.nii.gz"))
    assert uncertainty.GetDirection() == sitk.ReadImage(str(ct)).GetDirection()
    assert sitk.GetArrayFromImage(uncertainty).max() > 0
    status, _, err = here("convert", ct, tmp_path / "no.nii.gz", "--model", tiny_bundle, "--uncertainty", *QUICK)
    assert status != 0 and "draw some --samples" in err and not (tmp_path / "no.nii.gz").exists()


def test_several_volumes_go_through_one_loaded_model_and_the_summary_names_the_failed(
    ct: Path, tiny_bundle: Path, tmp_path: Path, here: Here
) -> None:
    cohort = tmp_path / "cohort"
    cohort.mkdir()
    (cohort / "good.nii.gz").write_bytes(ct.read_bytes())
    (cohort / "cut.nii.gz").write_bytes(ct.read_bytes()[:2000])
    status, out, err = here("convert", cohort, ct, tmp_path / "out", "--format", "mha", "--model", tiny_bundle, *QUICK)
    assert status == 1
    assert "2 of 3 volumes converted" in out
    assert "cut.nii.gz" in err and "Traceback" not in err
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["ct_synthetic_mr.mha", "good_synthetic_mr.mha"]


def test_a_dicom_folder_is_written_where_the_output_has_no_extension(
    ct: Path, tiny_bundle: Path, tmp_path: Path, here: Here
) -> None:
    status, _, err = here("convert", ct, tmp_path / "series", "--model", tiny_bundle, *QUICK)
    assert status == 0, err
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "series")))
    assert reader.Execute().GetSize() == (40, 44, 6)


def test_bad_input_is_one_sentence_and_leaves_no_output(
    ct: Path, tiny_bundle: Path, tmp_path: Path, refused: Callable[..., None]
) -> None:
    output = tmp_path / "mr.nii.gz"
    text, air = tmp_path / "text.nii.gz", tmp_path / "air.mha"
    text.write_text("not an image")
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/h\xff.nii.gz"))
    shutil.copy(ct, odd)
    sitk.WriteImage(head_like_ct() * 0 - 1000, str(air))
    tiny = ("--model", tiny_bundle)
    refused("convert", tmp_path / "absent.nii.gz", output, *tiny, words=["absent.nii.gz", "does not exist"])
    refused("convert", text, output, *tiny, words=["text.nii.gz"])
    refused("convert", odd, output, *tiny, words=["no UTF-8"])
    refused("convert", air, output, *tiny, words=["same value"])
    refused("convert", ct, tmp_path / "mr.jpg", *tiny, words=[".nii.gz"])
    refused("convert", ct, ct, *tiny, words=["input itself"])
    refused("convert", ct, text, output, *tiny, words=["name a folder"])
    refused("convert", ct, output, *tiny, "--slices", "9:4", words=["--slices"])
    refused("convert", ct, output, "--model", "no-such-model", words=["no-such-model", "diffma models"])
    refused("convert", ct, output, *tiny, "--scheduler", "dpm+", words=["dpm++"])
    refused("convert", ct, output, *tiny, "--steps", "0", words=["steps is 0"])
    refused("convert", ct, output, *tiny, "--device", "cpu", "--scan-backend", "mamba-ssm", words=["mamba-ssm"])
    assert not output.exists()


def test_previews_that_have_no_place_are_one_sentence(ct: Path, tiny_bundle: Path, tmp_path: Path, here: Here) -> None:
    options = ("--model", tiny_bundle, *QUICK, "--progress", "json", "--previews", ct / "previews")
    status, out, err = here("convert", ct, tmp_path / "mr.nii.gz", *options)
    event = json.loads(out.splitlines()[-1])
    assert status == 2 and not err and event["event"] == "error" and "another for --previews" in event["message"]
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_model_is_named(ct: Path, tiny_bundle: Path, tmp_path: Path, refused: Callable[..., None]) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(tiny_bundle, broken)
    weights = broken / "vae" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    refused("convert", ct, tmp_path / "mr.nii.gz", "--model", broken, words=["vae", "diffusion_pytorch_model"])


def test_errors_reach_a_program_as_json_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["convert", str(tmp_path / "absent.nii.gz"), str(tmp_path / "o.nrrd"), "--progress", "json"]
    assert main(arguments) == 2
    hello, event = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (hello["event"], hello["protocol"]) == ("hello", 1)
    assert (event["event"], event["kind"]) == ("error", "InputError")
    assert "absent.nii.gz" in event["message"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for a single child")
@pytest.mark.parametrize("how", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_cancelling_leaves_no_half_written_output(
    ct: Path, tiny_bundle: Path, tmp_path: Path, how: signal.Signals
) -> None:
    out, said = tmp_path / "out", tmp_path / "said.txt"
    out.mkdir()
    said.touch()
    options = ("--steps", 1000, "--batch-size", 1, "--progress", "json", "--previews", tmp_path / "previews")
    words = ("convert", ct, out / "mr.nii.gz", "--model", tiny_bundle, *options)
    child = WARM.Process(target=diffma, args=(said, *words))
    child.start()
    while '"progress"' not in said.read_text():
        assert child.is_alive(), said.with_suffix(".err").read_text()
        time.sleep(0.02)
    os.kill(child.pid, how)
    child.join(200)
    assert child.exitcode == 130
    assert "Traceback" not in said.with_suffix(".err").read_text()
    assert json.loads(said.read_text().splitlines()[-1])["kind"] == "Cancelled"
    assert list(out.iterdir()) == []
