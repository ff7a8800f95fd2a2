"""A bundle whose source is an MRI, and one whose result is a CT."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from DiffMaCore import DiffMaPipeline
from DiffMaCore.bundles.config import BundleConfig, read_config
from DiffMaCore.bundles.writing import card_text
from DiffMaCore.cli.main import main
from DiffMaCore.diffusion.conditions import mr_to_pixels, source_pixels
from DiffMaCore.errors import InputError, ModelError
from DiffMaCore.imaging.source import percentile_normalisation
from Testing.images import head_like_ct

GEOMETRY = ("GetSize", "GetSpacing", "GetOrigin", "GetDirection")


@pytest.fixture(scope="module")
def mr_to_ct(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle, as if it had been trained from MR to CT."""
    pipe = DiffMaPipeline.from_pretrained(tiny_bundle)
    words = {
        **pipe.bundle.to_dict(),
        "name": "back",
        "source_modality": "MR T1",
        "target_modality": "CT",
        "source_normalisation": percentile_normalisation(0.5, 99.5),
        "output_range": [-1000, 2000],
        "output_units": "HU",
    }
    folder = tmp_path_factory.mktemp("bundles") / "back"
    parts = {name: getattr(pipe, name) for name in ("denoiser", "embedder", "vae", "image_encoder", "scheduler")}
    DiffMaPipeline(**parts, bundle=words).save_pretrained(folder)
    return folder


def mr_like() -> sitk.Image:
    hu = sitk.GetArrayFromImage(head_like_ct())
    array = np.where(hu > 500, 40, np.where(hu > -300, 400 + 5 * hu, 5)).astype(np.float32)
    image = sitk.GetImageFromArray(array)
    image.CopyInformation(head_like_ct())
    return image


def test_an_mri_is_converted_in_its_own_geometry_whatever_its_orientation_and_units(mr_to_ct: Path) -> None:
    pipe = DiffMaPipeline.from_pretrained(mr_to_ct)
    first = pipe(mr_like(), num_inference_steps=2)
    for image in (sitk.DICOMOrient(mr_like(), "PIR"), mr_like() * 3.0 + 7.0):
        out = pipe(image, num_inference_steps=2)
        for get in GEOMETRY:
            assert getattr(out.mr, get)() == getattr(image, get)()
        back = sitk.GetArrayFromImage(sitk.DICOMOrient(out.mr, "LPS"))
        assert np.abs(back - sitk.GetArrayFromImage(first.mr)).max() < 3  # of 3000 HU
    values = sitk.GetArrayViewFromImage(first.mr)
    assert values.min() == -1000 and values.max() <= 2000
    assert (first.metadata["source_modality"], first.metadata["target_modality"]) == ("MR T1", "CT")
    assert first.metadata["output_units"] == "HU"


def test_conditions_take_the_slices_as_they_are_normalised(mr_to_ct: Path) -> None:
    pipe = DiffMaPipeline.from_pretrained(mr_to_ct)
    slices = torch.rand(2, 32, 32) * 2 - 1
    assert torch.equal(source_pixels(slices, None), mr_to_pixels(slices))
    moved = pipe.conditions(slices * 0.5)
    assert not torch.allclose(pipe.conditions(slices).clip_embedding, moved.clip_embedding)


def test_the_wrong_kind_of_image_is_told_clearly(mr_to_ct: Path, tiny_bundle: Path) -> None:
    with pytest.raises(InputError, match="a CT in HU, and an MRI is wanted here"):
        DiffMaPipeline.from_pretrained(mr_to_ct)(head_like_ct(), num_inference_steps=1)
    with pytest.raises(InputError, match="no CT in HU"):
        DiffMaPipeline.from_pretrained(tiny_bundle)(mr_like(), num_inference_steps=1)


def test_the_command_line_converts_and_checks_with_it(
    mr_to_ct: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mr, ct = tmp_path / "mr.nii.gz", tmp_path / "ct.nii.gz"
    sitk.WriteImage(mr_like(), str(mr))
    sitk.WriteImage(head_like_ct(), str(ct))
    assert main(["convert", str(mr), str(tmp_path / "made.nii.gz"), "--model", str(mr_to_ct), "--steps", "1"]) == 0
    assert sitk.ReadImage(str(tmp_path / "made.nii.gz")).GetSize() == mr_like().GetSize()
    folder = tmp_path / "many"
    assert main(["convert", str(mr), str(folder), "--model", str(mr_to_ct), "--steps", "1", "--format", "nii.gz"]) == 0
    assert [path.name for path in folder.iterdir()] == ["mr_synthetic_ct.nii.gz"]
    capsys.readouterr()
    assert main(["convert", str(ct), str(tmp_path / "no.nii.gz"), "--model", str(mr_to_ct), "--steps", "1"]) != 0
    assert "an MRI is wanted here" in capsys.readouterr().err
    assert main(["convert", str(mr), str(tmp_path / "series"), "--model", str(mr_to_ct), "--steps", "1"]) != 0
    assert "this model makes CTs" in capsys.readouterr().err
    facts = tmp_path / "facts.json"
    facts.write_text(json.dumps({"target_modality": "CT"}))
    assert main(["export-dicom", str(tmp_path / "made.nii.gz"), str(tmp_path / "s"), "--metadata", str(facts)]) != 0
    assert "is a synthetic CT" in capsys.readouterr().err
    assert main(["check", str(mr), "--model", str(mr_to_ct)]) == 0
    assert "an MRI (MR T1 is wanted)" in capsys.readouterr().out
    assert main(["check", str(ct), "--model", str(mr_to_ct)]) == 1
    assert "NOT for this model: the volume is a CT in HU" in capsys.readouterr().out


def test_the_model_list_shows_the_direction(
    mr_to_ct: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DIFFMA_HOME", str(tmp_path))
    assert main(["models", "add", str(mr_to_ct)]) == 0
    capsys.readouterr()
    assert main(["models", "list"]) == 0
    table = capsys.readouterr().out
    assert "MR T1 to CT" in table and "CT to MR T1" in table  # the second is the demo
    assert main(["models", "list", "--json"]) == 0
    assert {m["name"]: m["source_modality"] for m in json.loads(capsys.readouterr().out)["models"]}["back"] == "MR T1"


def test_the_card_says_what_is_put_in_and_what_comes_out(mr_to_ct: Path) -> None:
    text = card_text(read_config(mr_to_ct))
    assert "diffma convert mr.nii.gz ct.nii.gz --model back" in text
    assert "Source: percentile (high 99.5, low 0.5, mask body)" in text and "HU window" not in text
    assert '"mri-to-ct"' in text and "Output: -1000 to 2000 HU" in text


@pytest.mark.parametrize(
    "value", [{}, {"method": "z-score"}, {"method": "percentile", "low": 99, "high": 1, "mask": "body"}, "percentile"]
)
def test_a_normalisation_that_cannot_be_meant_is_refused(mr_to_ct: Path, value: object) -> None:
    words = {**read_config(mr_to_ct).to_dict(), "source_normalisation": value}
    with pytest.raises(ModelError, match="source_normalisation"):
        BundleConfig.from_dict(words)
