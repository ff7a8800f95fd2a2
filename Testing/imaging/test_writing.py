"""Writing volumes: geometry, atomicity, repeatability, and the check before long work."""

from __future__ import annotations

import gzip
import os
import shutil
import struct
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from DiffMaCore import files
from DiffMaCore.errors import OutputError
from DiffMaCore.files import Together, clear_left
from DiffMaCore.imaging.dicom_writing import write_dicom_series
from DiffMaCore.imaging.reading import read_volume
from DiffMaCore.imaging.writing import (
    check_output,
    output_format,
    same_geometry,
    write_volume,
)

FORMATS = [".nii", ".nii.gz", ".nrrd", ".mha"]


def oblique(seed: int = 0, size: tuple[int, int, int] = (7, 6, 5)) -> sitk.Image:
    rng = np.random.default_rng(seed)
    image = sitk.GetImageFromArray(rng.normal(0, 300, size[::-1]).astype(np.float32))
    direction = Rotation.random(random_state=seed).as_matrix()
    image.SetDirection((direction * [1, 1, (-1) ** seed]).ravel().tolist())
    image.SetSpacing(rng.uniform(0.3, 4, 3).tolist())
    image.SetOrigin(rng.normal(0, 200, 3).tolist())
    return image


def geometry(image: sitk.Image) -> np.ndarray:
    return np.array([*image.GetOrigin(), *image.GetSpacing(), *image.GetDirection()])


@pytest.mark.parametrize("extension", FORMATS)
def test_voxels_come_back_exactly_and_the_geometry_as_far_as_the_format_holds_it(
    extension: str, tmp_path: Path
) -> None:
    for seed in range(6):
        image = oblique(seed)
        write_volume(image, tmp_path / f"out{extension}", like=image)
        again = sitk.ReadImage(str(tmp_path / f"out{extension}"))
        assert np.array_equal(sitk.GetArrayFromImage(again), sitk.GetArrayFromImage(image))
        precision = 1e-6 if "nii" in extension else 1e-12
        np.testing.assert_allclose(geometry(again), geometry(image), rtol=precision, atol=precision)


@pytest.mark.parametrize("extension", FORMATS)
@pytest.mark.parametrize("seed", range(20))
def test_the_geometry_of_an_input_file_comes_back_to_the_last_digit(extension: str, seed: int, tmp_path: Path) -> None:
    sitk.WriteImage(oblique(seed), str(tmp_path / f"ct{extension}"))
    ct = read_volume(tmp_path / f"ct{extension}").image
    write_volume(sitk.GetArrayFromImage(ct), tmp_path / f"mr{extension}", like=ct)
    assert same_geometry(read_volume(tmp_path / f"mr{extension}").image, ct)


def test_the_geometry_of_real_files_comes_back_to_the_last_digit(shared: Path, tmp_path: Path) -> None:
    for file in sorted((shared / "data").rglob("*.nii.gz")):
        ct = read_volume(file).image
        for extension in (".nii.gz", ".mha"):
            write_volume(np.zeros(ct.GetSize()[::-1], np.float32), tmp_path / f"mr{extension}", like=ct)
            assert same_geometry(sitk.ReadImage(str(tmp_path / f"mr{extension}")), ct), file.name


def test_a_changed_geometry_is_not_overruled_by_the_files_own(tmp_path: Path) -> None:
    sitk.WriteImage(oblique(3), str(tmp_path / "ct.nii"))
    ct = read_volume(tmp_path / "ct.nii").image
    ct.SetOrigin((1.0, 2.0, 3.0))
    write_volume(ct, tmp_path / "mr.nii", like=ct)
    assert sitk.ReadImage(str(tmp_path / "mr.nii")).GetOrigin() == (1.0, 2.0, 3.0)


def test_the_codes_of_qform_and_sform_are_kept(tmp_path: Path) -> None:
    sitk.WriteImage(oblique(1), str(tmp_path / "ct.nii"))
    raw = bytearray((tmp_path / "ct.nii").read_bytes())
    struct.pack_into("<2h", raw, 252, 2, 4)
    (tmp_path / "ct.nii").write_bytes(raw)
    ct = read_volume(tmp_path / "ct.nii").image
    write_volume(ct, tmp_path / "mr.nii.gz", like=ct)
    header = gzip.decompress((tmp_path / "mr.nii.gz").read_bytes())[:348]
    assert struct.unpack_from("<2h", header, 252) == (2, 4)


@pytest.mark.parametrize("extension", FORMATS)
def test_two_runs_write_the_same_bytes(extension: str, tmp_path: Path) -> None:
    image = oblique()
    for name in ("a", "b"):
        write_volume(image, tmp_path / f"{name}{extension}", like=image, metadata={"model": "demo", "seed": 3})
    first, second = ((tmp_path / f"{name}{extension}").read_bytes() for name in ("a", "b"))
    assert first == second


def test_the_file_says_that_it_is_synthetic_and_how_it_was_made(tmp_path: Path) -> None:
    image = oblique()
    metadata = {"model": "demo", "steps": 20, "note": "two\nlines"}
    for extension in (".nrrd", ".mha"):
        write_volume(image, tmp_path / f"mr{extension}", like=image, metadata=metadata)
        again = sitk.ReadImage(str(tmp_path / f"mr{extension}"))
        assert "SYNTHETIC" in again.GetMetaData("notice") and again.GetMetaData("steps") == "20"
    write_volume(image, tmp_path / "mr.nii", like=image, metadata=metadata)
    raw = (tmp_path / "mr.nii").read_bytes()
    assert raw[148:180].startswith(b"SYNTHETIC image, research only:")
    assert b'"steps": "20"' in raw[352:900]


@pytest.mark.parametrize("extension", FORMATS)
def test_a_failed_write_leaves_neither_file_nor_remnant(
    extension: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(self: Path, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupt)
    image = oblique()
    with pytest.raises(KeyboardInterrupt):
        write_volume(image, tmp_path / f"mr{extension}", like=image)
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_result_survives_a_failed_write(tmp_path: Path) -> None:
    image = oblique()
    write_volume(image, tmp_path / "mr.nrrd", like=image)
    before = (tmp_path / "mr.nrrd").read_bytes()
    with pytest.raises(OutputError, match="voxels"):
        write_volume(np.zeros((2, 2, 2), np.float32), tmp_path / "mr.nrrd", like=image)
    assert (tmp_path / "mr.nrrd").read_bytes() == before


def test_the_format_follows_from_the_name(tmp_path: Path) -> None:
    assert output_format("a/b.NII.GZ") == "nifti"
    assert output_format("b.nrrd") == "nrrd"
    assert output_format(tmp_path) == "dicom"
    assert output_format("some/folder") == "dicom"
    assert output_format("patient.1.2") == "dicom"
    for name in ("a.mhd", "a.jpg", "a.gz"):
        with pytest.raises(OutputError, match="end the name"):
            output_format(name)


def test_the_input_itself_is_never_the_output(tmp_path: Path) -> None:
    image = oblique()
    write_volume(image, tmp_path / "ct.nrrd", like=image)
    with pytest.raises(OutputError, match="the input itself"):
        check_output(tmp_path / "." / "ct.nrrd", like=image, inputs=[tmp_path / "ct.nrrd"])
    check_output(tmp_path / "new" / "mr.nrrd", like=image, inputs=[tmp_path / "ct.nrrd"])
    assert not (tmp_path / "new").exists()


def test_nor_is_it_by_another_name(tmp_path: Path) -> None:
    """As on macOS and Windows, where CT.nrrd is ct.nrrd."""
    image = oblique()
    write_volume(image, tmp_path / "ct.nrrd", like=image)
    (tmp_path / "alias.nrrd").hardlink_to(tmp_path / "ct.nrrd")
    with pytest.raises(OutputError, match="the input itself"):
        check_output(tmp_path / "alias.nrrd", like=image, inputs=[tmp_path / "ct.nrrd"])


def test_too_little_room_is_found_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10))
    with pytest.raises(OutputError, match="not enough room"):
        check_output(tmp_path / "mr.nrrd", like=oblique())


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot write into"):
        check_output(tmp_path / "file" / "mr.nrrd", like=oblique())


def test_a_folder_with_other_files_takes_no_dicom_series(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("x")
    with pytest.raises(OutputError, match="holds other files"):
        check_output(tmp_path, like=oblique())


@pytest.mark.parametrize(
    "name", ["", ".", "/", "..", "m" * 252 + ".nii.gz", "mr.nii.bz2", "mr.h5", "a\0b.nii", "\udcff.nii.gz"]
)
def test_a_name_that_cannot_be_is_one_sentence(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OutputError) as caught:
        check_output(Path(name), like=sitk.Image([4, 4, 4], sitk.sitkFloat32))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300
    assert not list(tmp_path.iterdir())


def test_the_longest_name_that_may_be_is_written(tmp_path: Path) -> None:
    image = sitk.Image([4, 4, 4], sitk.sitkFloat32)
    for name in ("m" * 248 + ".nii.gz", "m" * 251 + ".mha"):
        check_output(tmp_path / name, like=image)
        write_volume(image, tmp_path / name, like=image)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_loop_of_links_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "loop.nii").symlink_to(tmp_path / "loop.nii")
    with pytest.raises(OutputError, match=r"loop\.nii"):
        check_output(tmp_path / "loop.nii", like=sitk.Image([4, 4, 4], sitk.sitkFloat32))


def test_nothing_is_written_into_the_folder_of_the_input_series(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="folder of the input series"):
        check_output(tmp_path / "mr.nii.gz", like=sitk.Image([4, 4, 4], sitk.sitkFloat32), inputs=[tmp_path])


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="a small disk is mounted, as root on Linux")
@pytest.mark.parametrize("pages", [0, 1, 2])
@pytest.mark.parametrize("name", ["mr.nii", "mr.nii.gz", "mr.nrrd", "mr.mha", "series"])
def test_a_disk_with_a_little_room_or_none_is_told_of_and_holds_nothing_half_written(
    name: str, pages: int, tmp_path: Path
) -> None:
    """Of files of 10 kB, whatever library writes them and when it notices."""
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", tmp_path], check=False).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        image = sitk.GetImageFromArray(np.random.default_rng(0).normal(size=(2, 50, 25)).astype(np.float32))
        with (tmp_path / "filler").open("wb", buffering=0) as filler, suppress(OSError):
            while filler.write(bytes(4096)):
                pass
        os.truncate(tmp_path / "filler", (tmp_path / "filler").stat().st_size - 4096 * pages)
        with pytest.raises(OutputError, match=r"cannot write .*No space left on device"):
            if name == "series":
                write_dicom_series(image, tmp_path / name)
            else:
                write_volume(image, tmp_path / name, like=image)
        assert [path.name for path in tmp_path.iterdir()] == ["filler"]
    finally:
        subprocess.run(["umount", "-l", tmp_path], check=True)


def test_what_a_killed_process_left_goes_and_what_a_living_one_writes_stays(tmp_path: Path) -> None:
    image = sitk.Image([4, 4, 4], sitk.sitkFloat32)
    killed = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    with Together() as together, together.writing(tmp_path / "mr.nii", ".nii") as own:
        own.touch()
        left = own.with_name(own.name.replace(f"-{os.getpid()}-", f"-{killed.stdout.decode().strip()}-"))
        living = own.with_name(own.name.replace(f"-{os.getpid()}-", f"-{os.getppid()}-"))
        for path in (left, living):
            path.write_bytes(b"half")
    write_volume(image, tmp_path / "mr.nii", like=image)
    assert sorted(tmp_path.iterdir()) == sorted([tmp_path / "mr.nii", living])


def test_an_earlier_folder_that_was_put_aside_by_a_killed_process_comes_back(tmp_path: Path) -> None:
    image = sitk.Image([4, 4, 2], sitk.sitkFloat32)
    write_dicom_series(image, tmp_path / "mr")
    before = (tmp_path / "mr" / "MR00001.dcm").read_bytes()
    aside = tmp_path / files._hidden(tmp_path / "mr", "old").name.replace(files._START, "0" * 8)
    aside.mkdir()
    (tmp_path / "mr").rename(aside / "mr")
    clear_left(tmp_path)
    assert (tmp_path / "mr" / "MR00001.dcm").read_bytes() == before and len(list(tmp_path.iterdir())) == 1
