"""Reading DICOM series: choosing, sorting, rescaling, regridding."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_files import head_hu, write_enhanced, write_series, write_slice
from PIL import Image
from pydicom.encaps import encapsulate, get_frame
from pydicom.uid import JPEG2000Lossless

from DiffMaCore.errors import InputError
from DiffMaCore.imaging.dicom_headers import list_series
from DiffMaCore.imaging.reading import read_volume

HU = head_hu()


def voxels(path: Path, **choice) -> np.ndarray:
    return sitk.GetArrayFromImage(read_volume(path, **choice).image)


def assert_as_itk_reads_it(image: sitk.Image, folder: Path) -> None:
    reference = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    assert image.GetSize() == reference.GetSize()
    assert image.GetOrigin() == reference.GetOrigin()
    np.testing.assert_allclose(image.GetSpacing(), reference.GetSpacing(), rtol=1e-12)
    np.testing.assert_allclose(image.GetDirection(), reference.GetDirection(), atol=1e-9)
    assert np.array_equal(sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(reference))


@pytest.mark.parametrize("orientation", [(1, 0, 0, 0, 1, 0), (0, 1, 0, 0, 0, -1), (0.36, 0.48, -0.8, -0.8, 0.6, 0)])
def test_slices_are_sorted_by_position_and_placed_as_itk_places_them(
    orientation: tuple[float, ...], tmp_path: Path
) -> None:
    normal = np.cross(orientation[:3], orientation[3:])
    write_series(tmp_path, HU, orientation=orientation, step=tuple(2.5 * normal))
    volume = read_volume(tmp_path)
    assert volume.notes == [] and not volume.resampled
    assert np.array_equal(sitk.GetArrayFromImage(volume.image), HU)
    assert_as_itk_reads_it(volume.image, tmp_path)


def test_slope_and_intercept_of_each_slice_are_applied(tmp_path: Path) -> None:
    for k, plane in enumerate(HU):
        write_slice(tmp_path / str(k), plane, (0, 0, 3.0 * k), instance=k, slope=0.5 + 0.25 * k, intercept=-1000 - k)
    np.testing.assert_allclose(voxels(tmp_path), HU, atol=1.3)


def test_files_may_lie_deep_without_extension_beside_other_things(tmp_path: Path) -> None:
    write_series(tmp_path / "a" / "b", HU)
    (tmp_path / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    (tmp_path / "a" / "report.txt").write_text("x" * 500)
    assert np.array_equal(voxels(tmp_path), HU)


def test_one_file_stands_for_its_series(tmp_path: Path) -> None:
    write_series(tmp_path, HU)
    write_series(tmp_path, HU[:5] + 50, series="b", step=(0, 0, 4.0))
    one = next(p for p in tmp_path.iterdir() if pydicom.dcmread(p).SeriesDescription == "series b")
    assert voxels(one).shape[0] == 5


def test_several_series_are_listed_and_chosen(tmp_path: Path) -> None:
    write_series(tmp_path / "x", HU, number=4)
    write_series(tmp_path / "y", HU[:6] + 10, series="b", number=7)
    with pytest.raises(InputError, match="--series") as caught:
        read_volume(tmp_path)
    message = str(caught.value)
    assert "series number 4" in message and "6 slices of 32 x 32" in message
    assert "Doe" not in message and "secret" not in message
    uid = list_series(tmp_path)[1].uid
    for choice in (7, "7", "#2", "2", uid, uid[-8:]):
        assert len(voxels(tmp_path, series=choice)) == 6
    with pytest.raises(InputError, match="--series 9 does not name"):
        read_volume(tmp_path, series=9)


def test_a_localizer_does_not_make_the_folder_ambiguous(tmp_path: Path) -> None:
    write_series(tmp_path / "ct", HU)
    write_series(tmp_path / "scout", HU[:1], series="b")
    write_series(tmp_path / "plan", HU, series="c", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    write_series(tmp_path / "pet", HU, series="d", Modality="PT")
    volume = read_volume(tmp_path)
    assert np.array_equal(sitk.GetArrayFromImage(volume.image), HU)
    assert "left aside" in volume.notes[0]


def test_two_phases_in_one_series_are_told_apart(tmp_path: Path) -> None:
    for phase in (1, 2):
        for k, plane in enumerate(HU):
            write_slice(tmp_path / f"{phase}_{k}", plane + phase, (0, 0, 3.0 * k), instance=10 * phase + k,
                        AcquisitionNumber=phase)  # fmt: skip
    with pytest.raises(InputError, match="2 series"):
        read_volume(tmp_path)
    assert np.array_equal(voxels(tmp_path, series="#2"), HU + 2)


def test_repeated_positions_are_left_out_and_said_aloud(tmp_path: Path) -> None:
    write_series(tmp_path, HU)
    write_slice(tmp_path / "again", HU[3], (-10, -10, -1.0), instance=99)
    volume = read_volume(tmp_path)
    assert "1 slice" in volume.notes[0]
    assert np.array_equal(sitk.GetArrayFromImage(volume.image), HU)


def test_other_modalities_are_named_and_refused(tmp_path: Path) -> None:
    write_series(tmp_path, HU, Modality="MR")
    with pytest.raises(InputError, match="MR images, not CT"):
        read_volume(tmp_path)


def test_images_without_positions_are_refused(tmp_path: Path) -> None:
    for file in write_series(tmp_path, HU).iterdir():
        data = pydicom.dcmread(file)
        del data.ImagePositionPatient
        data.save_as(file)
    with pytest.raises(InputError, match="without position"):
        read_volume(tmp_path)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.99])
def test_a_truncated_slice_is_named(share: float, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_series(tmp_path, HU)
    broken = sorted(tmp_path.iterdir())[2]
    broken.write_bytes(broken.read_bytes()[: int(broken.stat().st_size * share)])
    with pytest.raises(InputError, match=broken.name):
        read_volume(tmp_path)
    assert capfd.readouterr().err == ""


def test_a_folder_without_dicom_says_so(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("x")
    with pytest.raises(InputError, match="holds no DICOM image"):
        read_volume(tmp_path)


def test_padding_becomes_air(tmp_path: Path) -> None:
    padded = HU.copy()
    padded[:, :3] = -2000
    write_series(tmp_path, padded, intercept=0, PixelPaddingValue=-2000)
    volume = read_volume(tmp_path)
    assert "-2000" in volume.notes[0]
    assert sitk.GetArrayFromImage(volume.image)[:, :3].max() == -1024


def test_odd_headers_print_nothing(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    write_series(tmp_path, HU)
    for file in tmp_path.iterdir():
        file.write_bytes(file.read_bytes().replace(b"19500102", b"Doe 1950"))
    assert read_volume(tmp_path).dicom is not None
    assert len(recwarn) == 0


def test_rounding_of_the_orientation_does_not_split_a_series(tmp_path: Path) -> None:
    for k, plane in enumerate(HU):
        tilt = (1, 0, 0, 0, 0.99999, 0.0005 + 1e-5 * (-1) ** k)
        write_slice(tmp_path / str(k), plane, (0, -0.0005 * 3 * k, 3.0 * k), instance=k, orientation=tilt)
    assert len(list_series(tmp_path)) == 1


def write_by_gdcm(folder: Path, compressor: str, hu: np.ndarray) -> None:
    """A compressed series, slice k in the file k.dcm."""
    image = sitk.GetImageFromArray(hu.astype(np.int16))
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    writer.UseCompressionOn()
    writer.SetCompressor(compressor)
    for k in range(len(hu)):
        plane = image[:, :, k]
        tags = {
            "0008|0016": "1.2.840.10008.5.1.4.1.1.2",
            "0008|0018": f"1.2.{k + 1}",
            "0008|0060": "CT",
            "0020|000d": "1.2.3.3",
            "0020|000e": "1.2.3.4",
            "0020|0052": "1.2.3.5",
            "0020|0032": f"0\\0\\{3 * k}",
            "0020|0037": "1\\0\\0\\0\\1\\0",
            "0028|0030": "1\\1",
        }
        for key, value in tags.items():
            plane.SetMetaData(key, value)
        writer.SetFileName(str(folder / f"{k}.dcm"))
        writer.Execute(plane)


@pytest.mark.parametrize("compressor", ["JPEG", "JPEG2000", "JPEGLS"])
def test_a_compressed_series_is_decoded(compressor: str, tmp_path: Path) -> None:
    write_by_gdcm(tmp_path, compressor, HU)
    assert pydicom.dcmread(tmp_path / "0.dcm").file_meta.TransferSyntaxUID.is_compressed
    volume = read_volume(tmp_path)
    assert np.array_equal(sitk.GetArrayFromImage(volume.image), HU) and volume.notes == []


def noisy_hu(rng: np.random.Generator) -> np.ndarray:
    """As noisy as a scanner's."""
    return head_hu(96, 10) + rng.normal(0, 8, (10, 96, 96)).round().astype(int)


def damage_code(file: Path, rng: np.random.Generator) -> None:
    """Three bytes in the second half of a compressed slice's code, where its finest details are, become others."""
    data = pydicom.dcmread(file)
    code = bytearray(get_frame(data.PixelData, 0, number_of_frames=1))
    at = int(rng.integers(len(code) // 2, len(code) - 50))
    code[at : at + 3] = rng.bytes(3)
    data.PixelData = encapsulate([bytes(code)])
    data.save_as(file)


def write_jpeg2000(folder: Path, hu: np.ndarray, **options: object) -> None:
    """A series in lossless JPEG 2000, coded as Pillow's ``options`` say."""
    for k, plane in enumerate(hu):
        data = write_slice(folder / str(k), plane, (0, 0, 3.0 * k), instance=k, PixelRepresentation=0)
        code = io.BytesIO()
        Image.fromarray((plane + 1024).astype(np.uint16)).save(code, "JPEG2000", no_jp2=True, **options)
        data.PixelData = encapsulate([code.getvalue()])
        data.file_meta.TransferSyntaxUID = JPEG2000Lossless
        data.save_as(folder / str(k))


@pytest.mark.parametrize(
    "options",
    [
        {"codeblock_size": (32, 32), "progression": "RPCL", "num_resolutions": 4},
        {"precinct_size": (64, 64)},
        {"num_resolutions": 3},
        {"quality_mode": "rates", "quality_layers": [20, 5, 1]},
    ],
)
def test_whole_slices_in_any_lossless_jpeg_2000_are_read_without_a_note(options: dict, tmp_path: Path) -> None:
    hu = head_hu(96, 10)
    hu[0] = -1000
    write_jpeg2000(tmp_path, hu, **options)
    volume = read_volume(tmp_path)
    assert np.array_equal(sitk.GetArrayFromImage(volume.image), hu) and volume.notes == []


@pytest.mark.parametrize("seed", [2, 15, 16, 18, 21, 29])  # off by 0.1 to 10 HU
def test_a_damaged_slice_in_lossless_jpeg_2000_is_named_however_little_it_is_off(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    hu = noisy_hu(rng)
    write_jpeg2000(tmp_path, hu)
    damage_code(tmp_path / "4", rng)
    volume = read_volume(tmp_path)
    assert not np.array_equal(sitk.GetArrayFromImage(volume.image)[4], hu[4])
    assert len(volume.notes) == 1 and "instance 4)" in volume.notes[0]


@pytest.mark.parametrize("seed", [3, 4, 6, 8, 9])
def test_a_damaged_slice_in_lossless_jpeg_is_named_where_its_decoder_lost_its_place(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    hu = noisy_hu(rng)
    write_by_gdcm(tmp_path, "JPEG", hu)
    damage_code(tmp_path / "4.dcm", rng)
    volume = read_volume(tmp_path)
    assert not np.array_equal(sitk.GetArrayFromImage(volume.image)[4], hu[4])
    assert len(volume.notes) == 1 and "instance 5)" in volume.notes[0]


def test_an_enhanced_multi_frame_ct_is_sorted_too(tmp_path: Path) -> None:
    write_enhanced(tmp_path / "ct.dcm", HU, [3, 1, 0, 2, 7, 6, 5, 4])
    volume = read_volume(tmp_path / "ct.dcm")
    assert np.array_equal(sitk.GetArrayFromImage(volume.image), HU)
    assert volume.image.GetSpacing() == (0.8, 0.9, 3.0)
    assert volume.image.GetOrigin() == (1.0, 2.0, 0.0)


def test_the_tilted_uneven_head_is_resampled_once_and_said_aloud(shared: Path) -> None:
    folder = shared / "data" / "head_ct_dicom"
    volume = read_volume(folder)
    assert volume.resampled
    said = " ".join(volume.notes)
    assert all(figure in said for figure in ("18.5 degrees", "4.22", "7.38", "-1500"))
    assert volume.image.GetSpacing()[2] == pytest.approx(4.002, abs=1e-3)
    # the same bone and the same air at the same physical places as in the reference on another grid
    reference = read_volume(shared / "data" / "head_ct_detilted_1x1x2mm.nii.gz").image
    ours = sitk.Resample(volume.image, reference, sitk.Transform(), sitk.sitkLinear, -1024.0)
    a, b = sitk.GetArrayFromImage(ours), sitk.GetArrayFromImage(reference)
    both = (a > -1000) & (b > -1000)
    assert np.corrcoef(a[both], b[both])[0, 1] > 0.95
