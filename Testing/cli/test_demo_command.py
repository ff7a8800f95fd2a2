"""``diffma demo`` with the bundled model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from DiffMaCore.cli.main import main
from Testing.images import head_like_ct


def test_it_writes_a_phantom_its_mri_and_a_picture_and_says_demo(
    coarse_heads: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "-o", str(tmp_path), "--steps", "1"]) == 0
    said = capsys.readouterr().out
    assert "DEMO" in said and "research only" in said
    ct, mr = (sitk.ReadImage(str(tmp_path / f"{name}.nii.gz")) for name in ("phantom_ct", "synthetic_mr"))
    assert mr.GetSize() == ct.GetSize() and mr.GetSpacing() == ct.GetSpacing()
    picture = np.asarray(Image.open(tmp_path / "side_by_side.png"))
    assert picture.shape[1] > picture.shape[0] / 2
    assert picture.std() > 20


def test_it_takes_a_file_too(tmp_path: Path, tiny_bundle: Path) -> None:
    sitk.WriteImage(head_like_ct(), str(tmp_path / "mine.nrrd"))
    arguments = ["demo", str(tmp_path / "mine.nrrd"), "-o", str(tmp_path / "out"), "--model", str(tiny_bundle)]
    assert main([*arguments, "--steps", "1"]) == 0
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"synthetic_mr.nii.gz", "side_by_side.png"}
