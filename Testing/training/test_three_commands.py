"""From SynthRAD2023 as it unpacks to a bundle that converts a CT: three commands with the shipped configuration."""

from __future__ import annotations

from pathlib import Path

import SimpleITK as sitk
import yaml

from DiffMaCore.cli.main import main
from Testing.training.synthrad import write_synthrad

TRAINING = Path(__file__).resolve().parents[2] / "Training"
IDS = ("1BA001", "1BA005", "1BB002", "1BB011", "1BC003")
SMALL = {
    "data": {"image_size": 32, "pixel_spacing": 7.2, "split": {"validation": 0.0, "test": 0.0}},
    "embedder": {"train": {"steps": 2, "batch_size": 8}},
    "denoiser": {"width": 32, "depth": 1, "train": {"steps": 2, "batch_size": 4, "workers": 0}},
    "evaluation": {"steps": 1, "samples": 1},
}


def merged(values, changes):
    """``values`` with ``changes`` laid over them, section by section."""
    for key, change in changes.items():
        values[key] = merged(values.get(key, {}), change) if isinstance(change, dict) else change
    return values


def test_three_commands_lead_from_the_unpacked_archive_to_a_bundle_that_converts_a_ct(tiny_bundle, tmp_path):
    task = write_synthrad(tmp_path / "archive", IDS, slices=4, damage={"1BB011": "nan"})
    config, out = tmp_path / "brain.yaml", tmp_path / "run"
    small = {**SMALL, "parts": dict.fromkeys(("vae", "image_encoder"), f"bundle:{tiny_bundle}")}
    config.write_text(yaml.safe_dump(merged(yaml.safe_load((TRAINING / "brain.yaml").read_text()), small)))
    same = ["--config", str(config), "--out", str(out), "--device", "cpu"]

    assert main(["prepare", str(task / "brain"), *same]) == 0
    assert main(["train", "embedder", *same]) == 0
    assert main(["train", "denoiser", *same]) == 0

    assert "1BB011" in (out / "data" / "report.md").read_text().split("Left out", 1)[1]
    ct, mr = task / "brain" / "1BA001" / "ct.nii.gz", tmp_path / "mr.nii.gz"
    bundle = out / "systems" / "diffma" / "bundle"
    assert main(["convert", str(ct), str(mr), "--model", str(bundle), "--steps", "1", "--device", "cpu"]) == 0
    source, result = sitk.ReadImage(str(ct)), sitk.ReadImage(str(mr))
    assert result.GetSize() == source.GetSize() and result.GetDirection() == source.GetDirection()
    assert sitk.GetArrayViewFromImage(result).std() > 0
