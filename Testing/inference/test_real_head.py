"""A real head CT, which ships with the tests, and the DEMO's T1 of it."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from DiffMaCore import DiffMaPipeline
from DiffMaCore.imaging.agreement import agreement
from DiffMaCore.imaging.checks import describe_ct
from Testing.conftest import GOLDEN


def test_the_demos_t1_of_a_real_head_lies_on_it_and_follows_its_fluid_and_its_skull() -> None:
    ct = sitk.ReadImage(str(GOLDEN / "head_ct_2x2x4mm.nii.gz"))
    assert describe_ct(ct)["looks_like_ct"]
    mr = DiffMaPipeline.from_pretrained("demo")(ct).mr
    for name in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(mr, name)() == getattr(ct, name)()
    found = agreement(ct, mr)
    assert found.csf_dice is not None and found.csf_dice > 0.7 and found.skull_dice > 0.85
    hu, t1 = sitk.GetArrayFromImage(ct), sitk.GetArrayFromImage(mr)
    brain = (hu > 20) & (hu < 45)
    assert np.median(t1[brain]) > 2 * np.median(t1[hu > 600]), "bone is dark where the brain is bright"
