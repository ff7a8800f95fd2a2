"""Reading NIfTI, NRRD and MetaImage files."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from DiffMaCore.errors import InputError
from DiffMaCore.imaging.reading import read_volume

FORMATS = [".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd"]


def ct(pixel_type: int = sitk.sitkInt16, size: tuple[int, ...] = (12, 10, 8)) -> sitk.Image:
    rng = np.random.default_rng(1)
    image = sitk.GetImageFromArray(rng.integers(-1000, 2000, size[::-1]).astype(np.int16))
    image.SetSpacing((0.75, 1.25, 2.5)[: len(size)] + (1.0,) * (len(size) - 3))
    return sitk.Cast(image, pixel_type)


def write(image: sitk.Image, path: Path, compress: bool = True) -> Path:
    sitk.WriteImage(image, str(path), compress)
    return path


def patch(path: Path, offset: int, form: str, *values: float) -> None:
    raw = bytearray(path.read_bytes())
    struct.pack_into(form, raw, offset, *values)
    path.write_bytes(raw)


@pytest.mark.parametrize("extension", FORMATS)
def test_every_format_gives_the_same_hu_and_geometry(extension: str, tmp_path: Path) -> None:
    image = ct()
    volume = read_volume(write(image, tmp_path / f"ct{extension}"))
    assert volume.image.GetPixelID() == sitk.sitkFloat32
    assert np.array_equal(sitk.GetArrayFromImage(volume.image), sitk.GetArrayFromImage(image))
    assert volume.image.GetSpacing() == image.GetSpacing()
    assert (volume.notes, volume.resampled, volume.dicom) == ([], False, None)


def test_the_case_of_the_extension_does_not_matter(tmp_path: Path) -> None:
    path = write(ct(), tmp_path / "ct.nii.gz").rename(tmp_path / "CT.NII.GZ")
    assert read_volume(path).image.GetSize() == (12, 10, 8)


def test_the_slope_and_intercept_of_nifti_are_applied(tmp_path: Path) -> None:
    path = write(ct(), tmp_path / "ct.nii")
    patch(path, 112, "<2f", 0.5, -100.0)
    expected = sitk.GetArrayFromImage(ct()) * 0.5 - 100
    np.testing.assert_allclose(sitk.GetArrayFromImage(read_volume(path).image), expected, atol=1e-3)


@pytest.mark.parametrize("extension", [".nii", ".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("share", [0.4, 0.99])
def test_a_truncated_file_is_named_and_not_loaded(
    extension: str, compress: bool, share: float, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write(ct(), tmp_path / f"ct{extension}", compress)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(InputError, match=rf"ct\{extension}") as caught:
        read_volume(path)
    assert "\n" not in str(caught.value) and "again" in str(caught.value)
    assert capfd.readouterr().err == ""


def test_a_damaged_gzip_is_found_by_its_checksum(tmp_path: Path) -> None:
    path = write(ct(), tmp_path / "ct.nii.gz")
    raw = bytearray(path.read_bytes())
    raw[-6] ^= 0xFF
    path.write_bytes(raw)
    with pytest.raises(InputError, match="damaged"):
        read_volume(path)


@pytest.mark.parametrize("extension", [".nii", ".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("content", [b"", b"\0" * 50, b"this is a letter, not an image\n" * 40])
def test_a_file_that_is_no_image_is_one_clear_sentence(
    extension: str, content: bytes, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / f"ct{extension}").write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_volume(tmp_path / f"ct{extension}")
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)
    assert capfd.readouterr().err == ""


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.nii\.gz does not exist"):
        read_volume(tmp_path / "nowhere.nii.gz")


def test_a_picture_or_document_is_refused(tmp_path: Path) -> None:
    (tmp_path / "scan.pdf").write_bytes(b"%PDF-1.4" + b" " * 300)
    with pytest.raises(InputError, match="no image this program reads"):
        read_volume(tmp_path / "scan.pdf")


@pytest.mark.parametrize("extension", [".nii.gz", ".nrrd", ".mha"])
def test_4d_is_refused_but_a_single_time_point_is_taken(extension: str, tmp_path: Path) -> None:
    for count in (1, 3):
        array = np.zeros((count, 5, 6, 7), np.float32) - 1000
        write(sitk.GetImageFromArray(array, isVector=False), tmp_path / f"{count}{extension}")
    assert read_volume(tmp_path / f"1{extension}").image.GetSize() == (7, 6, 5)
    with pytest.raises(InputError, match="4D with 3 volumes"):
        read_volume(tmp_path / f"3{extension}")


@pytest.mark.parametrize("extension", [".nii.gz", ".nrrd", ".mha"])
def test_colour_is_refused(extension: str, tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(np.zeros((5, 6, 7, 3), np.uint8), isVector=True)
    with pytest.raises(InputError, match="3 values per voxel"):
        read_volume(write(image, tmp_path / f"rgb{extension}"))


def test_a_2d_picture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="2D picture"):
        read_volume(write(sitk.Image([9, 8], sitk.sitkInt16), tmp_path / "flat.nrrd"))


def test_a_single_slice_is_a_volume(tmp_path: Path) -> None:
    path = write(sitk.Image([9, 8, 1], sitk.sitkInt16), tmp_path / "one.mha")
    assert read_volume(path).image.GetSize() == (9, 8, 1)


def test_a_header_without_its_data_file_names_what_is_missing(tmp_path: Path) -> None:
    path = write(ct(), tmp_path / "ct.mhd", compress=False)
    (tmp_path / "ct.raw").unlink()
    with pytest.raises(InputError, match=r"ct\.raw"):
        read_volume(path)


def test_a_slightly_sheared_sform_is_made_orthogonal_and_said_aloud(tmp_path: Path) -> None:
    path = write(ct(sitk.sitkFloat32), tmp_path / "ct.nii", compress=False)
    patch(path, 252, "<2h", 0, 1)
    patch(path, 284, "<f", 0.01)
    volume = read_volume(path)
    assert "sheared" in volume.notes[0]
    direction = np.array(volume.image.GetDirection()).reshape(3, 3)
    np.testing.assert_allclose(direction @ direction.T, np.eye(3), atol=1e-12)
    assert np.array_equal(sitk.GetArrayFromImage(volume.image), sitk.GetArrayFromImage(ct()))


def test_a_strongly_sheared_sform_is_refused(tmp_path: Path) -> None:
    path = write(ct(), tmp_path / "ct.nii")
    patch(path, 252, "<2h", 0, 1)
    patch(path, 284, "<f", 0.4)
    with pytest.raises(InputError, match="sheared"):
        read_volume(path)


def test_a_qform_that_overrules_a_different_sform_is_said_aloud(tmp_path: Path) -> None:
    path = write(ct(), tmp_path / "ct.nii")
    patch(path, 284, "<f", 0.4)
    assert "qform" in read_volume(path).notes[0]


def test_a_nan_in_the_geometry_is_refused(tmp_path: Path) -> None:
    path = write(ct(), tmp_path / "ct.nii")
    patch(path, 280, "<f", float("nan"))
    with pytest.raises(InputError, match=r"spacing or position|sheared"):
        read_volume(path)


def test_a_series_cannot_be_chosen_in_a_plain_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--series"):
        read_volume(write(ct(), tmp_path / "ct.nrrd"), series=2)


def test_uncompressed_data_under_a_gz_name_is_read(tmp_path: Path) -> None:
    path = write(ct(), tmp_path / "ct.nii")
    path.rename(tmp_path / "ct.nii.gz")
    assert read_volume(tmp_path / "ct.nii.gz").image.GetSize() == (12, 10, 8)
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress((tmp_path / "ct.nii.gz").read_bytes()))
    assert read_volume(tmp_path / "b.nii.gz").image.GetSize() == (12, 10, 8)


@pytest.mark.parametrize("extension", [".nii", ".nii.gz", ".mha"])
def test_voxels_that_are_not_finite_stay_so(extension: str, tmp_path: Path) -> None:
    image = ct(sitk.sitkFloat32)
    array = sitk.GetArrayFromImage(image)
    array[2, 3, 4], array[5, 6, 7] = np.nan, np.inf
    broken = sitk.GetImageFromArray(array)
    broken.CopyInformation(image)
    read = read_volume(write(broken, tmp_path / f"ct{extension}")).image
    found = sitk.GetArrayFromImage(read)
    assert np.array_equal(np.isfinite(found), np.isfinite(array)) and read.GetSpacing() == image.GetSpacing()
    assert np.array_equal(found[np.isfinite(found)], array[np.isfinite(array)])


@pytest.mark.parametrize("number", ["inf", "nan", "1e-300", "1e300", "-1e-30", "1e30", "abc", "0.3"])
@pytest.mark.parametrize("extension", [".nrrd", ".mha"])
def test_axes_that_cannot_be_are_refused_and_never_moved(extension: str, number: str, tmp_path: Path) -> None:
    path = write(ct(), tmp_path / f"ct{extension}", compress=False)
    raw = path.read_bytes()
    axes = {".nrrd": (b"(0.75,0,0)", b"(0.75,%s,0)"), ".mha": (b"= 1 0 0 0 1", b"= 1 %s 0 0 1")}[extension]
    assert axes[0] in raw
    for text in (
        axes[1] % number.encode(),
        axes[0].replace(b"0.75", number.encode()).replace(b"= 1", b"= " + number.encode()),
    ):
        path.write_bytes(raw.replace(axes[0], text))
        try:
            image = read_volume(path).image
        except InputError as error:
            assert "\n" not in str(error) and path.name in str(error)
            continue
        # what was read lies where the header says, to the last corner
        steps = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
        said = np.array([float(number) if b"0.75" not in text and extension == ".nrrd" else 0.75, 1.25, 2.5])
        assert np.abs(steps - np.diag(said)).max() < 1e-6


def test_a_compressed_stream_that_is_damaged_is_not_taken_for_voxels(tmp_path: Path) -> None:
    for extension in (".nrrd", ".mha"):
        path = write(ct(), tmp_path / f"ct{extension}")
        raw = bytearray(path.read_bytes())
        raw[-3] ^= 0xFF  # of its checksum
        path.write_bytes(raw)
        with pytest.raises(InputError, match="damaged"):
            read_volume(path)


def test_a_number_of_an_nrrd_that_runs_into_a_word_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "ct.nrrd"
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((4, 5, 6), np.int16)), str(path))
    header = path.read_bytes()
    assert header.count(b"(1,0,0)") == 1
    path.write_bytes(header.replace(b"(1,0,0)", b"(1none,0,0)"))
    with pytest.raises(InputError, match="damaged header"):
        read_volume(path)
