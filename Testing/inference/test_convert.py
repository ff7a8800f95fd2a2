"""One volume converted and written: what was there before survives a failure."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest
import SimpleITK as sitk

from DiffMaCore import DiffMaPipeline
from DiffMaCore.bundles.config import FeatureRange
from DiffMaCore.errors import OutputError
from DiffMaCore.imaging.inputs import InputItem
from DiffMaCore.inference.convert import ConvertOptions, convert
from DiffMaCore.progress import Reporter
from Testing.images import head_like_ct


@pytest.fixture
def ct(tmp_path: Path) -> InputItem:
    sitk.WriteImage(head_like_ct(), str(tmp_path / "ct.nii.gz"))
    return InputItem(tmp_path / "ct.nii.gz", "ct")


@contextmanager
def _room(size: int) -> Iterator[None]:
    """No file can grow beyond so many bytes, as on a disk that is full."""
    resource = pytest.importorskip("resource", reason="Windows has no limit on the size of a file")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("result_fails", [False, True], ids=["the first file fails", "the result fails"])
def test_what_an_earlier_run_wrote_survives_a_full_disk(
    result_fails: bool, ct: InputItem, tiny_bundle: Path, tmp_path: Path
) -> None:
    pipe = DiffMaPipeline.from_pretrained(tiny_bundle)
    out = tmp_path / "out"
    mask = out / ("mask.nii.gz" if result_fails else "mask.nii")
    options = ConvertOptions(steps=1, samples=1, soft_mask=mask)
    convert(pipe, ct, out / "mr.nii", options, Reporter())
    before = _contents(out)
    assert mask.stat().st_size < 20_000 or not result_fails
    with _room(20_000), pytest.raises(OutputError, match="cannot write"):
        convert(pipe, ct, out / "mr.nii", ConvertOptions(steps=1, seed=1, soft_mask=mask), Reporter())
    assert _contents(out) == before


def test_a_full_disk_leaves_none_of_the_files_that_were_not_there(
    ct: InputItem, tiny_bundle: Path, tmp_path: Path
) -> None:
    pipe = DiffMaPipeline.from_pretrained(tiny_bundle)
    options = ConvertOptions(steps=1, soft_mask=tmp_path / "out" / "mask.nii.gz")
    with _room(20_000), pytest.raises(OutputError, match=r"cannot write .*mr\.nii"):
        convert(pipe, ct, tmp_path / "out" / "mr.nii", options, Reporter())
    assert list((tmp_path / "out").iterdir()) == []


def test_a_second_run_replaces_what_the_first_one_wrote(ct: InputItem, tiny_bundle: Path, tmp_path: Path) -> None:
    pipe = DiffMaPipeline.from_pretrained(tiny_bundle)
    out = tmp_path / "out"
    convert(pipe, ct, out / "mr.nii", ConvertOptions(steps=1, samples=2), Reporter())
    before = _contents(out)
    convert(pipe, ct, out / "mr.nii", ConvertOptions(steps=1, samples=2, seed=1), Reporter())
    after = _contents(out)
    assert after.keys() == before.keys() == {"mr.nii", "mr_uncertainty.nii"}
    assert all(after[name] != before[name] for name in after)


def test_the_dicom_results_of_two_patients_on_one_grid_are_two_studies_and_those_of_one_are_one(
    ct: InputItem, tiny_bundle: Path, tmp_path: Path
) -> None:
    sitk.WriteImage(head_like_ct() + 10, str(tmp_path / "other.nii.gz"))
    pipe = DiffMaPipeline.from_pretrained(tiny_bundle)
    heads = {}
    other = InputItem(tmp_path / "other.nii.gz", "other")
    for name, item, seed in (("a", ct, 0), ("again", ct, 0), ("seed", ct, 1), ("other", other, 0)):
        convert(pipe, item, tmp_path / name, ConvertOptions(steps=1, seed=seed), Reporter())
        heads[name] = pydicom.dcmread(tmp_path / name / "MR00001.dcm")
    for uid in ("StudyInstanceUID", "FrameOfReferenceUID"):
        assert heads["a"][uid] == heads["again"][uid] == heads["seed"][uid] != heads["other"][uid]
    series = [heads[name].SeriesInstanceUID for name in ("a", "again", "seed", "other")]
    assert series[0] == series[1] and len(set(series)) == 3


@pytest.mark.parametrize(
    ("output", "mask", "words"),
    [
        ("mr.nii", "MR_uncertainty.nii", "both the uncertainty and the soft mask"),
        ("mr.nii", "mr.nii", "both the result and the soft mask"),
        ("series", "series.nrrd_uncertainty.nrrd", None),
        ("series", "series_uncertainty.nrrd", "both the uncertainty and the soft mask"),
        ("series", "series/mask.nrrd", "is for the DICOM series"),
        ("mr.nii", "mask", "mask has no file extension"),
    ],
)
def test_files_that_cannot_be_written_beside_each_other_are_refused_before_the_work(
    output: str, mask: str, words: str | None, ct: InputItem, tiny_bundle: Path, tmp_path: Path
) -> None:
    pipe = DiffMaPipeline.from_pretrained(tiny_bundle)
    out = tmp_path / "out"
    options = ConvertOptions(steps=1, samples=2, soft_mask=out / mask)
    with nullcontext() if words is None else pytest.raises(OutputError, match=words):
        convert(pipe, ct, out / output, options, Reporter())
    assert out.exists() is (words is None)


def test_a_result_says_where_its_ct_lies_outside_of_the_training(
    ct: InputItem, tiny_bundle: Path, tmp_path: Path
) -> None:
    warnings: list[str] = []
    listener = Reporter()
    listener.warning = warnings.append  # type: ignore[method-assign]
    options = ConvertOptions(steps=1)
    pipe = DiffMaPipeline.from_pretrained(tiny_bundle)
    convert(pipe, ct, tmp_path / "silent.nrrd", options, Reporter())
    assert sitk.ReadImage(str(tmp_path / "silent.nrrd")).GetMetaData("training_words").startswith("not known")

    telling = replace(pipe.bundle, training_range=(FeatureRange("width", (10.0, 50.0)), FeatureRange("cut", (0, 100))))
    pipe.bundle = telling
    result = convert(pipe, ct, tmp_path / "warned.nrrd", options, listener)
    words = result.metadata["training_words"]
    assert words.startswith("Outside of what the model was trained on: the body from right to left")
    assert words.endswith("mm (training 10 to 50).") and words in result.notes and warnings.count(words) == 1
    assert sitk.ReadImage(str(tmp_path / "warned.nrrd")).GetMetaData("training_words") == words
