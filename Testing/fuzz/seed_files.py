"""Small CTs of a head in every format and coding that is read: what the fuzzer damages."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.uid import ImplicitVRLittleEndian, RLELossless

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "imaging"))
from dicom_files import head_hu, write_enhanced, write_series

SPACING, ORIGIN = (0.8, 0.9, 3.0), (-10.0, -11.5, 20.25)
DIRECTION = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0)
HU = head_hu(24, 8)


def head_image(pixel_type: int = sitk.sitkInt16) -> sitk.Image:
    """24 x 24 x 8 voxels of HU on an oblique grid."""
    image = sitk.Cast(sitk.GetImageFromArray(HU.astype(np.int16)), pixel_type)
    image.SetSpacing(SPACING)
    image.SetOrigin(ORIGIN)
    image.SetDirection(DIRECTION)
    return image


def _file(name: str, pixel_type: int, compress: bool) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        sitk.WriteImage(head_image(pixel_type), str(folder / name), compress)
        return folder / name

    return write


def _plain_series(folder: Path) -> Path:
    return write_series(folder, HU)


def _implicit_series(folder: Path) -> Path:
    for file in write_series(folder, HU).iterdir():
        data = pydicom.dcmread(file)
        data.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        data.save_as(file, implicit_vr=True, little_endian=True)
    return folder


def _run_length_series(folder: Path, hu: np.ndarray = HU) -> Path:
    for file in write_series(folder, hu).iterdir():
        data = pydicom.dcmread(file)
        data.compress(RLELossless, generate_instance_uid=False)
        data.save_as(file)
    return folder


def _compressed_series(compressor: str) -> Callable[[Path], Path]:
    """Codings that GDCM writes: JPEG (lossless) and JPEG2000."""

    def write(folder: Path, hu: np.ndarray = HU) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        writer = sitk.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        writer.UseCompressionOn()
        writer.SetCompressor(compressor)
        image = sitk.GetImageFromArray(hu.astype(np.int16))
        for k in range(len(hu)):
            plane = image[:, :, k]
            tags = {
                "0008|0016": "1.2.840.10008.5.1.4.1.1.2", "0008|0018": f"1.2.{k + 1}", "0008|0060": "CT",
                "0020|000d": "1.2.3.3", "0020|000e": "1.2.3.4", "0020|0052": "1.2.3.5", "0010|0020": "secret-7",
                "0020|0032": f"0\\0\\{3 * k}", "0020|0037": "1\\0\\0\\0\\1\\0", "0028|0030": "1\\1",
                "0028|1052": "0", "0028|1053": "1",
            }  # fmt: skip
            for key, value in tags.items():
                plane.SetMetaData(key, value)
            writer.SetFileName(str(folder / f"{k}.dcm"))
            writer.Execute(plane)
        return folder

    return write


def _enhanced_file(folder: Path) -> Path:
    write_enhanced(folder / "enhanced.dcm", HU, range(len(HU)))
    return folder


SEEDS: dict[str, Callable[..., Path]] = {
    "nii": _file("ct.nii", sitk.sitkInt16, False),
    "nii_float": _file("ct.nii", sitk.sitkFloat32, False),
    "nii.gz": _file("ct.nii.gz", sitk.sitkInt16, True),
    "nrrd_raw": _file("ct.nrrd", sitk.sitkInt16, False),
    "nrrd_gzip": _file("ct.nrrd", sitk.sitkInt16, True),
    "nhdr": _file("ct.nhdr", sitk.sitkInt16, False),
    "mha_raw": _file("ct.mha", sitk.sitkInt16, False),
    "mha_zlib": _file("ct.mha", sitk.sitkInt16, True),
    "mhd": _file("ct.mhd", sitk.sitkInt16, True),
    "dicom": _plain_series,
    "dicom_implicit": _implicit_series,
    "dicom_rle": _run_length_series,
    "dicom_jpeg": _compressed_series("JPEG"),
    "dicom_jpeg2000": _compressed_series("JPEG2000"),
    "dicom_enhanced": _enhanced_file,
}
"""Writers of what is damaged, by name: each takes a new folder and returns what ``diffma check`` is given."""
