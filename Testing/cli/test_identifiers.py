"""What a CT's headers say of a patient stands in the patient and study of written DICOM, and nowhere else."""

from __future__ import annotations

import gzip
import json
import logging
import re
import tempfile
import warnings
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pydicom
import pytest
import SimpleITK as sitk
import yaml
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from DiffMaCore.cli.main import main
from DiffMaCore.imaging.dicom import COPIED
from DiffMaCore.training.experiment import SplitConfig
from Testing.images import head_images
from Testing.imaging.dicom_files import head_hu, write_series
from Testing.training.tiny_cache import tiny_experiment, tiny_pair

PATIENT = {
    "PatientName": "Zyxwen^Qorbina",
    "PatientID": "PID7741902",
    "OtherPatientIDs": "OPID8852013",
    "PatientBirthDate": "19370811",
    "PatientAddress": "Grelweg 99173",
    "PatientComments": "calls herself Yolandrix",
    "AccessionNumber": "ACC5550123",
    "InstitutionName": "Wexelmoor Hospital",
    "InstitutionAddress": "Wexelmoor",
    "ReferringPhysicianName": "Brumfoot^Ida",
    "PerformingPhysicianName": "Thistlewick^Otto",
    "OperatorsName": "Nuxley^Pam",
}
# what no header may hold, and some headers do
MALFORMED = {"PatientBirthDate": "1937-08-11", "AccessionNumber": "ACC5550123/" * 4, "PatientID": "PID7741902\n" * 9}
WORDS = re.compile(
    rb"zyxwen|qorbina|pid7741902|opid8852013|1937-?08-?11|grelweg|yolandrix|acc5550123|wexelmoor|brumfoot|thistlewick"
    rb"|nuxley",
    re.I,
)
QUICK = ("--device", "cpu", "--steps", "1")


class Leaks:
    """Runs commands in ``folder`` and finds the patient in whatever they say and write."""

    def __init__(self, folder: Path, said: Callable[[], str]) -> None:
        self.folder, self.said = folder, said

    def run(self, *words: object, status: int | tuple[int, ...] = 0) -> str:
        """What a command says: output, errors, warnings and log."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            ended = main([*map(str, words), "--verbose"])
        assert ended in (status if isinstance(status, tuple) else (status,))
        text = "\n".join([self.said(), *(str(warning.message) for warning in caught)])
        assert not WORDS.search(text.encode()), text
        return text

    def written(self) -> list[Path]:
        """The files written since the beginning, after each was searched, as it is and unpacked."""
        given = self.folder / "in"
        files = sorted(file for file in self.folder.rglob("*") if file.is_file() and given not in file.parents)
        for file in files:
            content = file.read_bytes()
            if file.suffix == ".dcm":
                head = pydicom.dcmread(file)
                for keyword in set(COPIED) & set(head.dir()):
                    del head[keyword]
                content = head.to_json().encode()
            for text in (str(file).encode(), content, content.replace(b"\0", b""), *_unpacked(content)):
                assert not WORDS.search(text), f"{file} tells of the patient"
        return files


def _unpacked(content: bytes) -> Iterator[bytes]:
    """What gzip or zlib streams in a file hold: of NIfTI, NRRD and MetaImage."""
    if content.startswith(b"\x1f\x8b"):
        yield gzip.decompress(content)
    for found in re.finditer(rb"\n\n\x1f\x8b|ElementDataFile = LOCAL\n", content):
        yield zlib.decompressobj(47).decompress(content[found.start() + 2 if found[0][:1] == b"\n" else found.end() :])


@pytest.fixture(params=[{}, MALFORMED], ids=["valid", "malformed"])
def ct(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return write_series(tmp_path / "in" / "ct", head_hu(), **{**PATIENT, **request.param})


@pytest.fixture
def leaks(
    one_reader: None,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> Leaks:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    caplog.set_level(logging.DEBUG)

    def said() -> str:
        text = "".join([*capfd.readouterr(), caplog.text])
        caplog.clear()
        return text

    return Leaks(tmp_path, said)


def test_a_search_that_finds_nothing_can_find_something(ct: Path, leaks: Leaks, tmp_path: Path) -> None:
    sitk.WriteImage(sitk.ReadImage(str(next(ct.iterdir()))), str(tmp_path / "leaks.nrrd"))
    with pytest.raises(AssertionError, match=r"leaks\.nrrd tells of the patient"):
        leaks.written()


@pytest.mark.parametrize(
    ("ct", "format"),
    [
        ({}, "nii.gz"),
        (MALFORMED, "nrrd"),
        ({}, "mha"),
        pytest.param(MALFORMED, "nii.gz", marks=pytest.mark.slow),
        pytest.param({}, "nrrd", marks=pytest.mark.slow),
        pytest.param(MALFORMED, "mha", marks=pytest.mark.slow),
    ],
    indirect=["ct"],
)
def test_a_converted_ct_tells_nothing_of_the_patient(
    format: str, ct: Path, leaks: Leaks, tiny_bundle: Path, tmp_path: Path
) -> None:
    words = ["--samples", 2, "--soft-mask", tmp_path / f"out/mask.{format}", "--model", tiny_bundle, *QUICK]
    said = leaks.run("convert", ct, tmp_path / f"out/mr.{format}", *words, "--progress", "json")
    assert '"event": "slice"' in said and '"event": "result"' in said
    leaks.run("convert", ct, tmp_path / f"out/mr.{format}", *words)
    files = leaks.written()
    assert {f"mr.{format}", f"mr_uncertainty.{format}", f"mask.{format}", "slice_0003.png"} <= {p.name for p in files}


def test_written_dicom_has_the_patient_and_the_study_and_no_more(
    ct: Path, leaks: Leaks, tiny_bundle: Path, tmp_path: Path
) -> None:
    leaks.run("convert", ct, tmp_path / "mr", "--model", tiny_bundle, *QUICK, "--samples", 2)
    leaks.run("convert", ct, tmp_path / "mr.nii", "--model", tiny_bundle, *QUICK)
    leaks.run("export-dicom", tmp_path / "mr.nii", tmp_path / "exported", "--source", ct)
    leaks.run("export-dicom", tmp_path / "mr.nii", tmp_path / "anonymous")
    assert sum(file.suffix == ".dcm" for file in leaks.written()) == 24
    for folder in ("mr", "exported"):
        head = pydicom.dcmread(tmp_path / folder / "MR00001.dcm")
        source = pydicom.dcmread(next(ct.iterdir()))
        for keyword in ("PatientName", "PatientID", "PatientBirthDate", "AccessionNumber", "ReferringPhysicianName"):
            assert head[keyword].value == source[keyword].value
        assert not [keyword for keyword in PATIENT if keyword in head and keyword not in COPIED]
    assert not WORDS.search(pydicom.dcmread(tmp_path / "anonymous" / "MR00001.dcm").to_json().encode())


def test_a_batch_tells_nothing_of_its_patients_nor_of_those_that_failed(
    ct: Path, leaks: Leaks, tiny_bundle: Path, tmp_path: Path
) -> None:
    mixed = write_series(tmp_path / "in" / "mixed", head_hu(), **PATIENT)
    other = next(mixed.iterdir())
    data = pydicom.dcmread(other)
    data.PatientID = "OPID8852013"
    data.save_as(other)
    (tmp_path / "table.csv").write_text("input,output\nin/ct,one.nii.gz\nin/mixed,two.nii.gz\nin/ct,three\n")
    words = ["convert", tmp_path / "table.csv", tmp_path / "out", "--model", tiny_bundle, *QUICK]
    assert "2 patients" in leaks.run(*words, "--progress", "json", status=1)
    assert "2 patients" in leaks.run(*words, status=1)  # what was made is found
    assert {"one.nii.gz", "MR00001.dcm"} <= {file.name for file in leaks.written()}


def test_judging_a_ct_and_its_result_tells_nothing(leaks: Leaks, tiny_bundle: Path, tmp_path: Path) -> None:
    head, mr = head_images()
    hu = sitk.GetArrayFromImage(head)
    ct = write_series(tmp_path / "in" / "head", hu, step=(0, 0, 2.0), spacing=(2, 2), **PATIENT)
    mr.SetOrigin((-10, -10, -10))
    sitk.WriteImage(mr, str(tmp_path / "mr.nii.gz"))
    for progress in ("bar", "json"):
        leaks.run("check", ct, "--model", tiny_bundle, "--progress", progress)
        assert "follows the CT" in leaks.run("check-result", ct, tmp_path / "mr.nii.gz", "--progress", progress)
        assert "does not exist" in leaks.run("check-result", ct, tmp_path / "no.nii", "--progress", progress, status=2)
    leaks.written()


@pytest.mark.parametrize("ct", [{}, pytest.param(MALFORMED, marks=pytest.mark.slow)], indirect=True)
@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("Modality", b"MR"),
        ("PatientName", b"Nuxley^Pam"),
        ("PatientBirthDate", b"calls herself Yolandrix"),
        ("RescaleSlope", b"PID7741902"),
        ("ImagePositionPatient", b"Zyxwen"),
        ("BitsAllocated", b"\7\0"),
        ("NumberOfFrames", b"acc5550123"),
        ("InstanceNumber", b"Zyxwen"),
        ("StudyInstanceUID", b"PID7741902"),
        ("PixelSpacing", b"OPID8852013\\3"),
        ("SpecificCharacterSet", b"Wexelmoor"),
    ],
)
def test_no_error_about_a_series_tells_whose_it_is(
    keyword: str, value: bytes, ct: Path, leaks: Leaks, tiny_bundle: Path, tmp_path: Path
) -> None:
    file = next(ct.iterdir())
    data = pydicom.dcmread(file)
    tag, vr = tag_for_keyword(keyword), dictionary_VR(keyword)
    data._dict[Tag(tag)] = RawDataElement(Tag(tag), vr, len(value), value, 0, False, True)
    data.save_as(file)
    leaks.run("convert", ct, tmp_path / "out", "--model", tiny_bundle, *QUICK, status=(0, 2))
    leaks.written()


def test_a_prepared_data_set_tells_nothing(ct: Path, leaks: Leaks, tmp_path: Path) -> None:
    for number in range(3):
        pair = tiny_pair(number)
        hu = sitk.GetArrayFromImage(pair.source)
        write_series(tmp_path / "in" / f"ct{number}", hu, step=(0, 0, 14.0), spacing=(7, 7), **PATIENT)
        pair.target.SetOrigin((-10, -10, -10))
        sitk.WriteImage(pair.target, str(tmp_path / "in" / f"mr{number}.nii.gz"))
    rows = "".join(f"case{number},in/ct{number},in/mr{number}.nii.gz\n" for number in range(3))
    (tmp_path / "pairs.csv").write_text(f"id,ct,mr\n{rows}bad,in/ct,in/ct\n")
    tiny = tiny_experiment(tmp_path / "networks")
    tiny = replace(tiny, data=replace(tiny.data, split=SplitConfig(test=0.0, validation=0.0)))
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(json.loads(json.dumps(asdict(tiny)))))
    words = ["--config", tmp_path / "tiny.yaml", "--out", tmp_path / "run", "--device", "cpu"]
    assert "bad" in leaks.run("prepare", tmp_path / "pairs.csv", *words)
    leaks.run("train", "embedder", *words, "--steps", 1)
    assert {"report.md", "manifest.json", "run.json"} <= {file.name for file in leaks.written()}
