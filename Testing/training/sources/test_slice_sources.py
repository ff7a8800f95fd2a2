"""Paired slices without headers: .npz files, and the folders of .npy that the paper's authors published."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from DiffMaCore.errors import InputError
from DiffMaCore.imaging.body import body_of
from DiffMaCore.imaging.grid import AIR_HU
from DiffMaCore.training.experiment import DataConfig
from DiffMaCore.training.slicing import check_case
from DiffMaCore.training.sources import find_cases

NARROW = DataConfig(anatomy="brain", target="t2", eight_bit_window=(-20.0, 100.0), eight_bit_spacing=2.0)


def head_pictures(slices: int = 5, size: int = 96) -> dict[str, np.ndarray]:
    """A head in 8 bits: brain in a bright skull, a black scalp around it that only the MR shows."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    radius = np.broadcast_to(np.hypot(x, y), (slices, size, size))
    noise = np.random.default_rng(0).integers(0, 6, radius.shape)
    ct = np.select([radius < 6, radius < 33, radius < 36], [0, 110, 255], 0)
    mr = np.select([radius < 6, radius < 33, radius < 36, radius < 38], [220, 120, 10, 200], 2)
    return {"ct": (ct + noise * (ct == 110)).astype(np.uint8), "t2": (mr + noise).astype(np.uint8)}


def test_npz_slices_become_a_ct_with_air_around_the_head_and_an_mri(tmp_path: Path) -> None:
    np.savez(tmp_path / "brain_01.npz", **head_pictures())
    (case,) = find_cases([tmp_path], NARROW, 0)
    pair = case.load()
    hu = sitk.GetArrayFromImage(pair.source)
    assert case.id == "brain_01" and pair.source.GetSpacing()[:2] == (2.0, 2.0)
    assert hu[0, 0, 0] == AIR_HU and hu[0, 48, 48] == -20 and 30 < hu[0, 48, 68] < 35 and hu[0, 48, 82] == 100
    body = body_of(pair.source)
    assert body[:, 48, 14:82].all() and not body[:, :9].any()
    assert check_case(pair, NARROW) == []


def test_the_name_of_a_file_may_tell_the_part_of_the_body(tmp_path: Path) -> None:
    for name in ("brain_01", "pelvis_11", "somebody"):
        np.savez(tmp_path / f"{name}.npz", **head_pictures(1, 40))
    assert [case.id for case in find_cases([tmp_path], NARROW, 0)] == ["brain_01", "somebody"]
    assert find_cases([tmp_path / "brain_01.npz"], NARROW, 0)[0].id == "brain_01"
    with pytest.raises(InputError, match="no case of the anatomy 'brain'"):
        find_cases([tmp_path / "pelvis_11.npz"], NARROW, 0)


def test_an_array_that_is_not_there_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **head_pictures(1, 40))
    with pytest.raises(InputError, match="has no array mr but ct, t2"):
        find_cases([tmp_path], DataConfig(anatomy="brain"), 0)
    np.savez(tmp_path / "a.npz", ct=np.zeros((1, 9, 9), np.float32), t2=np.zeros((1, 9, 9), np.uint8))
    with pytest.raises(InputError, match="the array ct is float32"):
        find_cases([tmp_path], NARROW, 0)[0].load()
    (tmp_path / "a.npz").write_bytes(b"PK no")
    with pytest.raises(InputError, match="no intact"):
        find_cases([tmp_path], NARROW, 0)


def test_t1_to_t2_and_back_to_ct_are_configuration(tmp_path: Path) -> None:
    pictures = head_pictures()
    np.savez(tmp_path / "a.npz", **pictures, t1=255 - pictures["t2"])
    pair = find_cases([tmp_path], DataConfig(anatomy="brain", source="t1", target="t2"), 0)[0].load()
    assert np.array_equal(sitk.GetArrayFromImage(pair.source), 255.0 - pictures["t2"])
    back = DataConfig(anatomy="brain", source="t2", target="ct", eight_bit_window=(-20.0, 100.0))
    assert sitk.GetArrayViewFromImage(find_cases([tmp_path], back, 0)[0].load().target).min() == AIR_HU


def test_real_pairs_are_read_and_pass(shared: Path) -> None:
    for data in (NARROW, DataConfig(anatomy="pelvis", source="t1", target="t2")):
        found = find_cases([shared / "data" / "paired_2d"], data, 0)
        assert len(found) == (7 if data.anatomy == "brain" else 2)
        assert check_case(found[-1].load(), data) == []


def write_authors(folder: Path, names: list[str], **roles: str) -> Path:
    """Folders of .npy slices in [-1, 1], all of one head; ``roles`` names the folders of A, B and C."""
    pictures = head_pictures(1)
    radius_mask = np.where(pictures["t2"][0] > 8, 1.0, -1.0)
    values = {
        "A": pictures["t2"][0] / 127.5 - 1,
        "B": pictures["ct"][0] / 127.5 - 1,
        "C": radius_mask,
    }
    for role, place in roles.items():
        (folder / place).mkdir(parents=True, exist_ok=True)
        for name in names:
            np.save(folder / place / name, values[role].astype(np.float32))
    return folder


AUTHORS = DataConfig(anatomy="brain", eight_bit_window=(-20.0, 100.0))


def test_the_authors_train_and_test_folders_are_joined_patient_by_patient(tmp_path: Path) -> None:
    write_authors(tmp_path, ["1BA001_2.npy", "1BA001_10.npy", "1BC007_1.npy"], A="A_train", B="B_train", C="C_train")
    write_authors(tmp_path, ["1BA001_3.npy"], A="A_test", B="B_test", C="C_test")
    found = find_cases([tmp_path], AUTHORS, 0)
    assert [(case.id, case.centre) for case in found] == [("1BA001", "A"), ("1BC007", "C")]
    assert [p.stem for p in found[0].files[::3]] == ["1BA001_2", "1BA001_3", "1BA001_10"]
    pair = found[0].load()
    assert pair.source.GetSize() == (96, 96, 3) and check_case(pair, AUTHORS) == []
    hu = sitk.GetArrayViewFromImage(pair.source)
    assert hu[0, 0, 0] == AIR_HU and hu[0, 48, 82] == pytest.approx(100)


def test_a_slice_full_of_nan_is_left_out_and_counted(tmp_path: Path) -> None:
    write_authors(tmp_path, ["p1_1.npy", "p1_2.npy"], A="train_A_norm", B="train_B_norm")
    np.save(tmp_path / "train_A_norm" / "p1_2.npy", np.full((96, 96), np.nan, np.float32))
    pair = find_cases([tmp_path], AUTHORS, 0)[0].load()
    assert pair.source.GetSize()[2] == 1 and pair.notes == ("1 slices hold NaN and were left out.",)


def test_numbers_for_names_need_a_table_of_patients(tmp_path: Path) -> None:
    write_authors(tmp_path, ["0.npy", "1.npy", "2.npy"], A="A_norm", B="B_norm")
    with pytest.raises(InputError, match=r"0.npy does not tell the patient.*patients.csv"):
        find_cases([tmp_path], AUTHORS, 0)
    (tmp_path / "patients.csv").write_text("file,patient,centre\n0.npy,Ann,A\n1.npy,Bob,B\n2.npy,Ann,A\n")
    assert [(c.id, c.centre, len(c.files)) for c in find_cases([tmp_path], AUTHORS, 0)] == [
        ("Ann", "A", 4),
        ("Bob", "B", 2),
    ]


def test_slices_without_a_partner_or_beyond_their_range_are_refused(tmp_path: Path) -> None:
    write_authors(tmp_path, ["p1_1.npy"], A="A_norm", B="B_norm")
    np.save(tmp_path / "B_norm" / "p1_1.npy", np.full((96, 96), 900, np.float32))
    with pytest.raises(InputError, match=r"beyond \[-1, 1\]"):
        find_cases([tmp_path], AUTHORS, 0)[0].load()
    np.save(tmp_path / "B_norm" / "p1_2.npy", np.zeros((96, 96), np.float32))
    with pytest.raises(InputError, match=r"p1_2.npy of .* has no MRI"):
        find_cases([tmp_path], AUTHORS, 0)
    with pytest.raises(InputError, match="have ct and mr only"):
        find_cases([tmp_path], DataConfig(anatomy="brain", target="t2"), 0)
