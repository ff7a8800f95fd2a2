"""From files, folders and tables to a list of volumes."""

from __future__ import annotations

from pathlib import Path

import pytest
import SimpleITK as sitk
from dicom_files import head_hu, write_series

from DiffMaCore.errors import InputError
from DiffMaCore.imaging.inputs import find_inputs
from DiffMaCore.imaging.writing import file_key


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.Image([4, 4, 4], sitk.sitkInt16), str(path))
    return path


def test_files_are_taken_in_the_order_given(tmp_path: Path) -> None:
    items = find_inputs([touch(tmp_path / "b.nii.gz"), touch(tmp_path / "a.x.nrrd")])
    assert [item.output_stem for item in items] == ["b", "a.x"]


def test_a_folder_gives_its_volumes_and_dicom_folders(tmp_path: Path) -> None:
    touch(tmp_path / "two.mha")
    touch(tmp_path / "deep" / "one.nii")
    write_series(tmp_path / "patient" / "raw", head_hu(16, 3))
    (tmp_path / "notes.txt").write_text("x")
    found = find_inputs([tmp_path])
    assert [item.path.relative_to(tmp_path).as_posix() for item in found] == [
        "deep/one.nii",
        "patient",
        "two.mha",
    ]
    assert [item.output_stem for item in found] == ["one", "patient", "two"]


def test_one_dicom_study_is_one_item_however_deep(tmp_path: Path) -> None:
    write_series(tmp_path / "a" / "scout", head_hu(16, 1), series="s")
    write_series(tmp_path / "a" / "ct", head_hu(16, 3))
    assert [item.path for item in find_inputs([tmp_path])] == [tmp_path]


def test_folders_of_several_studies_are_several_items(tmp_path: Path) -> None:
    write_series(tmp_path / "p1" / "ct", head_hu(16, 3))
    write_series(tmp_path / "p2" / "ct", head_hu(16, 3), StudyInstanceUID="1.2.3")
    assert [item.output_stem for item in find_inputs([tmp_path])] == ["p1", "p2"]


def test_equal_names_stay_apart(tmp_path: Path) -> None:
    touch(tmp_path / "p1" / "ct.nii.gz"), touch(tmp_path / "p2" / "ct.nii.gz")
    stems = [item.output_stem for item in find_inputs([tmp_path, tmp_path / "p1" / "ct.nii.gz"])]
    assert stems == ["p1_ct", "p2_ct", "p1_ct_2"]


def test_names_that_are_one_on_macos_or_windows_stay_apart(tmp_path: Path) -> None:
    touch(tmp_path / "p1" / "Jos\u00e9.nii"), touch(tmp_path / "p2" / "JOSE\u0301.nii")
    stems = [item.output_stem for item in find_inputs([tmp_path])]
    assert stems == ["p1_Jos\u00e9", "p2_JOSE\u0301"]
    again = find_inputs([tmp_path / "p1", tmp_path / "p1" / "Jos\u00e9.nii", tmp_path / "p2"])
    assert len({file_key(item.output_stem) for item in again}) == 3


@pytest.mark.parametrize("separator", [",", ";"])
def test_a_table_names_inputs_outputs_series_and_masks(separator: str, tmp_path: Path) -> None:
    rows = ["Input,Output,series,mask", "a.nii.gz,out/a.nrrd,,m.nrrd", "dicom,,3,", ""]
    (tmp_path / "list.csv").write_text("\n".join(rows).replace(",", separator), encoding="utf-8-sig")
    first, second = find_inputs([tmp_path / "list.csv"])
    assert first.path == tmp_path / "a.nii.gz" and first.output == Path("out/a.nrrd")
    assert first.mask == tmp_path / "m.nrrd" and first.series is None
    assert second.series == "3" and second.output is None and second.mask is None


def test_a_table_without_the_column_input_is_refused(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("file\na.nii\n")
    with pytest.raises(InputError, match="no column input"):
        find_inputs([tmp_path / "list.csv"])


def test_what_is_not_there_or_holds_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        find_inputs([tmp_path / "nothing.nii"])
    with pytest.raises(InputError, match="holds no volume"):
        find_inputs([tmp_path])
