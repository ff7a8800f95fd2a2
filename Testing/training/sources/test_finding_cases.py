"""Every kind of data set is recognised, and what is no data set is refused with the reason."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from DiffMaCore.errors import InputError
from DiffMaCore.imaging.phantom import bundled_heads
from DiffMaCore.training.experiment import DataConfig, HeadsConfig
from DiffMaCore.training.sources import RawCase, find_cases
from DiffMaCore.training.sources.heads import heads_split
from Testing.training.synthrad import BRAINS, PELVES, case_images, write_synthrad

BRAIN = DataConfig(anatomy="brain")


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two brains of two centres and a pelvis."""
    return write_synthrad(tmp_path_factory.mktemp("synthrad"), (BRAINS[0], BRAINS[2], PELVES[0]), slices=4)


def ids(cases: list[RawCase]) -> list[str]:
    return [case.id for case in cases]


@pytest.mark.parametrize("below", [".", "brain", "brain/1BA001"])
def test_synthrad_is_found_from_any_folder_above_its_cases(task: Path, below: str) -> None:
    found = find_cases([task / below], BRAIN, 0)
    assert ids(found) == [BRAINS[0]] if below.endswith("1BA001") else [BRAINS[0], BRAINS[2]]
    pair = found[0].load()
    assert pair.source.GetSpacing() == pair.target.GetSpacing() == (1.0, 1.0, 1.0)
    assert {image.GetPixelID() for image in (pair.source, pair.target)} == {sitk.sitkFloat32}
    assert pair.mask is not None and set(np.unique(sitk.GetArrayViewFromImage(pair.mask))) == {0, 1}
    assert [path.name for path in found[0].files] == ["ct.nii.gz", "mr.nii.gz", "mask.nii.gz"]


def test_the_third_letter_of_a_synthrad_patient_is_the_centre(task: Path) -> None:
    assert [case.centre for case in find_cases([task], BRAIN, 0)] == ["A", "B"]


def test_a_pelvis_experiment_takes_the_pelves_of_the_same_folder(task: Path) -> None:
    found = find_cases([task], DataConfig(anatomy="pelvis"), 0)
    assert ids(found) == [PELVES[0]] and found[0].load().source.GetSpacing() == (1.0, 1.0, 2.5)
    with pytest.raises(InputError, match=r"no case of the anatomy 'pelvis'.*1BA001"):
        find_cases([task / "brain"], DataConfig(anatomy="pelvis"), 0)


def test_synthrad_2025_is_read_too(tmp_path: Path) -> None:
    task = write_synthrad(tmp_path, ("1ABA005", "1HNC002"), slices=2, year=2025)
    found = find_cases([task], DataConfig(anatomy="abdomen"), 0)
    assert [(case.id, case.centre) for case in found] == [("1ABA005", "A")]
    assert found[0].load().mask is not None
    assert ids(find_cases([task], DataConfig(anatomy="head_and_neck"), 0)) == ["1HNC002"]


def test_direction_is_configuration(task: Path) -> None:
    forth = find_cases([task], BRAIN, 0)[0].load()
    back = find_cases([task], DataConfig(anatomy="brain", source="mr", target="ct"), 0)[0].load()
    for a, b in ((forth.source, back.target), (forth.target, back.source)):
        assert np.array_equal(sitk.GetArrayViewFromImage(a), sitk.GetArrayViewFromImage(b))


def test_overlapping_folders_give_every_case_once(task: Path) -> None:
    assert len(find_cases([task, task / "brain"], BRAIN, 0)) == 2


def test_one_id_in_two_places_is_refused(task: Path, tmp_path: Path) -> None:
    other = write_synthrad(tmp_path, BRAINS[:1], slices=2)
    with pytest.raises(InputError, match="the case 1BA001 is there twice"):
        find_cases([task, other], BRAIN, 0)


@pytest.mark.parametrize("absent", ["ct", "mr"])
def test_a_missing_modality_is_named_before_anything_is_read(absent: str, tmp_path: Path) -> None:
    task = write_synthrad(tmp_path, BRAINS[:2], slices=2, damage={BRAINS[1]: f"no_{absent}"})
    with pytest.raises(InputError, match=rf"1BA005 lacks {absent}: ct and mr are needed, and it holds .*mask.nii.gz"):
        find_cases([task], BRAIN, 0)


def test_a_modality_by_another_name_is_offered(task: Path) -> None:
    with pytest.raises(InputError, match=r"lacks t1 \(2 of 2 cases.*set source or target to mr"):
        find_cases([task], DataConfig(anatomy="brain", target="t1"), 0)


def test_task_2_is_told_from_task_1(tmp_path: Path) -> None:
    write_synthrad(tmp_path, BRAINS[:1], slices=2)
    (tmp_path / "Task1").rename(tmp_path / "Task2")
    for file in tmp_path.rglob("mr.nii.gz"):
        file.rename(file.with_name("cbct.nii.gz"))
    with pytest.raises(InputError, match="cases of Task 2"):
        find_cases([tmp_path / "Task2"], BRAIN, 0)


def test_a_case_without_a_mask_has_none(tmp_path: Path) -> None:
    task = write_synthrad(tmp_path, BRAINS[:1], slices=2, damage={BRAINS[0]: "no_mask"})
    assert find_cases([task], BRAIN, 0)[0].load().mask is None


def test_a_truncated_file_is_told_when_it_is_read(tmp_path: Path) -> None:
    task = write_synthrad(tmp_path, BRAINS[:1], slices=2, damage={BRAINS[0]: "truncated"})
    with pytest.raises(InputError, match=r"mr\.nii\.gz is truncated"):
        find_cases([task], BRAIN, 0)[0].load()


def test_what_is_no_data_set_says_what_would_be_one(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    (tmp_path / "Task1.zip").write_bytes(b"PK")
    for path, reason in (
        (tmp_path, r"it holds Task1.zip, notes.txt\); give SynthRAD's Task1"),
        (tmp_path / "absent", "does not exist"),
        (tmp_path / "Task1.zip", "unpack it"),
        (tmp_path / "notes.txt", "is no data set; give"),
    ):
        with pytest.raises(InputError, match=reason):
            find_cases([path], BRAIN, 0)
    with pytest.raises(InputError, match="no data set is given"):
        find_cases([], BRAIN, 0)


def test_a_table_names_any_pairs(tmp_path: Path) -> None:
    images = case_images(0, slices=2)
    (tmp_path / "scans").mkdir()
    for name, image in images.items():
        sitk.WriteImage(image, str(tmp_path / "scans" / f"{name}.nrrd"))
    table = tmp_path / "pairs.csv"
    table.write_text(
        "id,ct,mr,mask,centre,patient\n"
        "visit 1,scans/ct.nrrd,scans/mr.nrrd,scans/mask.nrrd,Delft,Ann\n"
        "visit 2,scans/ct.nrrd,scans/mr.nrrd,,Delft,Ann\n"
    )
    found = find_cases([table], BRAIN, 0)
    assert [(c.id, c.centre, c.patient) for c in found] == [("visit_1", "Delft", "Ann"), ("visit_2", "Delft", "Ann")]
    assert found[0].load().mask is not None and found[1].load().mask is None
    assert found[0].load().source.GetSize() == images["ct"].GetSize()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("id,source\na,ct.nrrd\n", "names no target or mr"),
        ("id,source,target\na,ct.nrrd,absent.nrrd\n", r"line 2: there is no .*absent.nrrd"),
        ("source,target\nct.nrrd,ct.nrrd\n", "line 2 has no id"),
        ("id,source,target\n", "names no case"),
    ],
)
def test_a_table_that_lacks_something_says_where(text: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "ct.nrrd").write_bytes(b"")
    (tmp_path / "pairs.csv").write_text(text)
    with pytest.raises(InputError, match=reason):
        find_cases([tmp_path / "pairs.csv"], BRAIN, 0)


def test_rendered_heads_need_no_data_set(tmp_path: Path) -> None:
    for name in ("head_a", "head_b", "head_c"):
        (tmp_path / f"{name}.nii.gz").write_bytes(b"")
    heads = HeadsConfig(str(tmp_path), draws=2)
    data = DataConfig(anatomy="brain", contrasts=("t1", "t2"), neighbour_distance=3.0, heads=heads)
    found = find_cases([], data, 0)
    ours = [f"{name}_{draw}_{word}" for name in bundled_heads() for draw in (0, 1) for word in ("t1", "t2")]
    assert ids(found) == [*ours, "head_a_0_t1", "head_b_0_t2", "head_c_0_t1"]
    assert [case.patient for case in found[-3:]] == ["head_a", "head_b", "head_c"]
    seeds = {case.id: case.load.args[1] for case in found}
    assert len(set(seeds.values())) == len(found) - len(ours) // 2  # contrasts of one rendering share its seed
    assert min(seeds.values()) >= 1_000_000 and not set(seeds.values()) & {
        c.load.args[1] for c in find_cases([], data, 1)
    }
    split = heads_split(found)
    assert split["validation"] == ours and split["train"] == ids(found)[-3:] and split["test"] == []
    with pytest.raises(InputError, match="heads are rendered as ct and t1, t2, flair, not as pd"):
        find_cases([], replace(data, contrasts=("t1", "pd")), 0)
    with pytest.raises(InputError, match=r"asks for rendered heads and Task1 is given; take data\.heads out"):
        find_cases([Path("Task1")], data, 0)
    with pytest.raises(InputError, match=r"data\.contrasts is for rendered heads"):
        find_cases([tmp_path], replace(data, heads=None), 0)
    (tmp_path / f"{bundled_heads()[0]}.nii.gz").write_bytes(b"")
    with pytest.raises(InputError, match=f"{bundled_heads()[0]} validates and must not be trained on"):
        find_cases([], data, 0)


def test_cases_can_be_sent_to_other_processes(task: Path) -> None:
    case = pickle.loads(pickle.dumps(find_cases([task], BRAIN, 0)[0]))  # noqa: S301
    assert case.load().source.GetSize()[2] == 4
