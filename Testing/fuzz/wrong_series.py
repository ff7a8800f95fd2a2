"""DICOM series that are wrong in ways met in archives, and what may become of each."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from dicom_files import head_hu, write_enhanced
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileDataset
from pydicom.tag import Tag
from pydicom.uid import MRImageStorage, generate_uid
from seed_files import HU, SEEDS

REFUSED, REPAIRED, SAME = "refused", "repaired", "same"
"""What may become of a series: a sentence; a volume and a note; the volume it is without the fault."""

Edit = Callable[[list[FileDataset], np.random.Generator], object]


@dataclass(frozen=True)
class Wrong:
    """One kind of fault: ``make`` spoils the intact series in a folder."""

    make: Callable[[Path, np.random.Generator], None]
    may: tuple[str, ...]


def _edited(edit: Edit) -> Callable[[Path, np.random.Generator], None]:
    def make(folder: Path, rng: np.random.Generator) -> None:
        files = sorted(folder.iterdir(), key=lambda f: pydicom.dcmread(f).ImagePositionPatient[2])
        slices = [pydicom.dcmread(file) for file in files]
        edit(slices, rng)
        for file, data in zip(files, slices, strict=True):
            data.save_as(file)

    return make


def raw_value(data: Dataset, keyword: str, value: bytes) -> None:
    """Put bytes where ``keyword`` stands, whatever its VR allows."""
    tag = Tag(tag_for_keyword(keyword) or 0)
    value += b" " * (len(value) % 2)
    explicit = not data.original_encoding[0]
    data._dict[tag] = RawDataElement(tag, dictionary_VR(tag)[:2], len(value), value, 0, not explicit, True)


def _some(slices: list[FileDataset], rng: np.random.Generator) -> list[FileDataset]:
    """One slice, half of them, or all."""
    count = int(rng.choice([1, len(slices) // 2, len(slices)]))
    return [slices[int(k)] for k in rng.permutation(len(slices))[:count]]


def _part(slices: list[FileDataset], rng: np.random.Generator) -> list[FileDataset]:
    """One slice or a few, never all."""
    return [slices[int(k)] for k in rng.permutation(len(slices))[: int(rng.integers(1, len(slices) // 2 + 1))]]


def _values(keyword: str, values: tuple[bytes, ...], part: bool = False) -> Edit:
    def edit(slices: list[FileDataset], rng: np.random.Generator) -> None:
        value = values[int(rng.integers(len(values)))]
        for data in (_part if part else _some)(slices, rng):
            raw_value(data, keyword, value)

    return edit


def _absent(*keywords: str) -> Edit:
    def edit(slices: list[FileDataset], rng: np.random.Generator) -> None:
        for data in _some(slices, rng):
            for keyword in keywords:
                if keyword in data:
                    del data[keyword]

    return edit


def _number(keyword: str, values: tuple[int, ...]) -> Edit:
    """A binary number of 16 bits."""
    return _values(keyword, tuple(value.to_bytes(2, "little") for value in values))


def _another_uid(keyword: str) -> Edit:
    def edit(slices: list[FileDataset], rng: np.random.Generator) -> None:
        other = generate_uid(entropy_srcs=[str(rng.integers(1 << 30))])
        for data in _part(slices, rng):
            setattr(data, keyword, other)

    return edit


def _mr_slice(slices: list[FileDataset], rng: np.random.Generator) -> None:
    for data in _part(slices, rng):
        data.Modality = "MR"
        if rng.random() < 0.5:
            data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = MRImageStorage


def _mr_values(slices: list[FileDataset], rng: np.random.Generator) -> None:
    """An MRI's values under a CT's header: air 0, the brightest tissue some hundreds or thousands."""
    top = float(rng.choice([255, 900, 1500, 4095]))
    offset = float(rng.choice([0, 0, -1024]))
    for data, plane in zip(slices, HU, strict=True):
        ramp = np.linspace(0.2, 1, plane.shape[1])[None, :]
        body = np.where(plane > 500, 0.15, 0.6) * (0.5 + ramp)
        values = np.where(plane > -500, body, 0.0) * top + rng.rayleigh(0.01 * top, plane.shape)
        raw_value(data, "RescaleIntercept", str(offset).encode())
        data.PixelData = np.clip(values, 0, 32767).astype("<i2").tobytes()


def _one_place(slices: list[FileDataset], rng: np.random.Generator) -> None:
    place = [b"-10\\-10\\5", b"0\\0\\0", b"0\\0\\1e30", b"1e30\\1e30\\1e30"][int(rng.integers(4))]
    for data in slices[int(rng.integers(0, 2)) :]:
        raw_value(data, "ImagePositionPatient", place)


def _far_slice(slices: list[FileDataset], rng: np.random.Generator) -> None:
    where = [b"-10\\-10\\1e30", b"1e9\\-10\\2", b"-10\\-10\\-99999999", b"-10\\-10\\20000"][int(rng.integers(4))]
    raw_value(slices[int(rng.integers(len(slices)))], "ImagePositionPatient", where)


def _turned_slice(slices: list[FileDataset], rng: np.random.Generator) -> None:
    for data in _part(slices, rng):
        data.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]


def _another_patient(slices: list[FileDataset], rng: np.random.Generator) -> None:
    way = int(rng.integers(3))
    for data in _part(slices, rng):
        if way != 1:
            data.PatientID = "other-8"
        if way != 0:
            data.PatientName = "Roe^Richard"


def _wide_bits(slices: list[FileDataset], rng: np.random.Generator) -> None:
    bits = int(rng.choice([32, 8, 64, 12, 0]))
    for data in _some(slices, rng):
        data.BitsAllocated = bits
        if bits == 32 and rng.random() < 0.5:
            data.BitsStored, data.HighBit = 32, 31


def _short_pixels(slices: list[FileDataset], rng: np.random.Generator) -> None:
    share = float(rng.choice([0.0, 0.1, 0.5, 0.9]))
    for data in _some(slices, rng):
        keep = int(len(data.PixelData) * share) // 2 * 2
        data.PixelData = data.PixelData[:keep]


def _large_matrix(slices: list[FileDataset], rng: np.random.Generator) -> None:
    keyword = str(rng.choice(["Rows", "Columns"]))
    size = int(rng.choice([0, 1, 23, 25, 48, 65535]))
    for data in _some(slices, rng):
        setattr(data, keyword, size)


def _repeated(folder: Path, rng: np.random.Generator) -> None:
    for file in sorted(folder.iterdir())[: int(rng.integers(1, 4))]:
        shutil.copy(file, file.with_name(file.name + "_copy"))


def _strangers(folder: Path, rng: np.random.Generator) -> None:
    (folder / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM" + rng.bytes(300))
    (folder / "notes.txt").write_text("x" * 400)
    (folder / "empty.dcm").write_bytes(b"")
    (folder / "loop").symlink_to(folder)
    (folder / "nowhere.dcm").symlink_to(folder / "absent")
    (folder / b"na\xffme.txt".decode("utf-8", "surrogateescape")).write_text("x")


def _cut_file(folder: Path, rng: np.random.Generator) -> None:
    file = sorted(folder.iterdir())[int(rng.integers(len(HU)))]
    raw = file.read_bytes()
    file.write_bytes(raw[: 140 + int(rng.random() * (len(raw) - 150))])


def _gap(folder: Path, rng: np.random.Generator) -> None:
    files = sorted(folder.iterdir(), key=lambda f: pydicom.dcmread(f).ImagePositionPatient[2])
    files[int(rng.integers(2, len(files) - 2))].unlink()


def _another_syntax(folder: Path, rng: np.random.Generator) -> None:
    """Plain pixels under the name of another coding."""
    uids = (b"1.2.840.10008.1.2.4.90", b"1.2.840.10008.1.2.4.70", b"1.2.840.10008.1.2.5", b"1.2.3.4")
    uid = uids[int(rng.integers(len(uids)))]
    uid += b"\0" * (len(uid) % 2)
    files = sorted(folder.iterdir())
    for file in files[: int(rng.choice([1, len(files)]))]:
        raw = file.read_bytes()
        at = raw.find(b"\x02\x00\x10\x00UI")
        end = at + 8 + int.from_bytes(raw[at + 6 : at + 8], "little")
        file.write_bytes(raw[: at + 6] + len(uid).to_bytes(2, "little") + uid + raw[end:])


def _without_meta(folder: Path, rng: np.random.Generator) -> None:
    file = sorted(folder.iterdir())[int(rng.integers(len(HU)))]
    raw = file.read_bytes()
    start = raw.find(b"\x08\x00\x05\x00")
    start = start if start > 0 else raw.find(b"\x08\x00\x08\x00")
    file.write_bytes(raw[start:])


def _nested(slices: list[FileDataset], rng: np.random.Generator) -> None:
    """Sequences within sequences, as deep as a damaged or hostile file may nest them."""
    inner = Dataset()
    inner.CodeValue = "1"
    for _ in range(int(rng.choice([20, 150]))):
        outer = Dataset()
        outer.ProcedureCodeSequence = [inner]
        inner = outer
    slices[0].ProcedureCodeSequence = [inner]


def _odd_texts(slices: list[FileDataset], rng: np.random.Generator) -> None:
    for data in slices:
        raw_value(data, "SpecificCharacterSet", b"ISO_IR 999")
        raw_value(data, "PatientName", b"\xc3\xa4\xff^J\xf6")
        raw_value(data, "PatientBirthDate", b"Doe 1950")
        raw_value(data, "SeriesDescription", b"\xff\xfehead \x00")


def _damaged_code(coding: str) -> Callable[[Path, np.random.Generator], None]:
    """Bytes of compressed pixels changed: the decoder fails, or gives other values."""

    def make(folder: Path, rng: np.random.Generator) -> None:
        shutil.rmtree(folder)
        SEEDS[coding](folder, head_hu(64, 40))  # neighbours as alike as in a real head
        files = sorted(folder.iterdir())
        file = files[int(rng.integers(1, len(files) - 1))]
        raw = bytearray(file.read_bytes())
        start = raw.find(b"\xe0\x7f\x10\x00") + 100
        for at in rng.integers(start, len(raw) - 10, int(rng.integers(3, 30))):
            raw[int(at)] = int(rng.integers(256))
        file.write_bytes(bytes(raw))

    return make


def _enhanced(promised: int | None, groups: int | None) -> Callable[[Path, np.random.Generator], None]:
    def make(folder: Path, rng: np.random.Generator) -> None:
        shutil.rmtree(folder)
        write_enhanced(folder / "enhanced.dcm", HU, range(len(HU)), frames=promised, positions=groups)

    return make


_NO_NUMBER = (b"0", b"nan", b"abc", b"", b"inf", b"1e300", b"1\\2", b"-0", b"1e-300")
KINDS: dict[str, Wrong] = {
    "slices of two patients": Wrong(_edited(_another_patient), (REFUSED,)),
    "slices of two studies": Wrong(_edited(_another_uid("StudyInstanceUID")), (REFUSED,)),
    "two frames of reference": Wrong(_edited(_another_uid("FrameOfReferenceUID")), (REFUSED,)),
    "MR slices among CT slices": Wrong(_edited(_mr_slice), (REFUSED,)),
    "MR values labelled CT": Wrong(_edited(_mr_values), (REFUSED, REPAIRED)),
    "slope that is no scale": Wrong(_edited(_values("RescaleSlope", _NO_NUMBER)), (REFUSED,)),
    "intercept that is no number": Wrong(
        _edited(_values("RescaleIntercept", (b"nan", b"abc", b"", b"inf", b"1e300", b"1\\2"))), (REFUSED,)
    ),
    "slope in some slices only": Wrong(
        _edited(lambda s, r: [raw_value(d, "RescaleSlope", b"") for d in _part(s, r)]),  # type: ignore[func-returns-value]
        (REFUSED,),
    ),
    "bits that do not fit": Wrong(_edited(_wide_bits), (REFUSED,)),
    "bits stored that do not fit": Wrong(_edited(_number("BitsStored", (0, 17, 33, 65535))), (REFUSED, SAME)),
    "high bit that does not fit": Wrong(_edited(_number("HighBit", (0, 3, 31, 65535))), (REFUSED, SAME)),
    "signedness that is none": Wrong(_edited(_number("PixelRepresentation", (2, 5, 65535))), (REFUSED, SAME)),
    "pixels missing": Wrong(_edited(_short_pixels), (REFUSED,)),
    "no pixels": Wrong(_edited(_absent("PixelData")), (REFUSED,)),
    "matrix that does not fit": Wrong(_edited(_large_matrix), (REFUSED, REPAIRED)),
    "no rows": Wrong(_edited(_absent("Rows")), (REFUSED, REPAIRED)),
    "all at one position": Wrong(_edited(_one_place), (REFUSED,)),
    "a slice far away": Wrong(_edited(_far_slice), (REFUSED,)),
    "a position that is none": Wrong(
        _edited(_values("ImagePositionPatient", (b"", b"nan\\0\\0", b"a\\b\\c", b"1\\2", b"1\\2\\3\\4", b"\\\\"))),
        (REFUSED,),
    ),
    "an orientation that is none": Wrong(
        _edited(
            _values(
                "ImageOrientationPatient",
                (
                    b"0\\0\\0\\0\\0\\0",
                    b"1\\0\\0\\1\\0\\0",
                    b"nan\\0\\0\\0\\1\\0",
                    b"1\\0\\0\\0\\1",
                    b"x",
                    b"1e30\\0\\0\\0\\1e-30\\0",
                ),
            )
        ),
        (REFUSED,),
    ),
    "slices turned": Wrong(_edited(_turned_slice), (REFUSED, REPAIRED)),
    "a pixel spacing that is none": Wrong(
        _edited(
            _values("PixelSpacing", (b"0\\0", b"-1\\-1", b"nan\\1", b"1", b"1e-9\\1e-9", b"1e9\\1e9", b"x\\y", b""))
        ),
        (REFUSED,),
    ),
    "a thickness that is none": Wrong(
        _edited(_values("SliceThickness", (b"nan", b"abc", b"-3", b""))), (SAME, REFUSED)
    ),
    "no instance UID": Wrong(_edited(_absent("SOPInstanceUID")), (REFUSED, SAME)),
    "no class UID": Wrong(_edited(_absent("SOPClassUID")), (REFUSED, SAME)),
    "no series UID": Wrong(_edited(_absent("SeriesInstanceUID")), (REFUSED, SAME, REPAIRED)),
    "no modality": Wrong(_edited(_absent("Modality")), (REFUSED,)),
    "no photometric interpretation": Wrong(_edited(_absent("PhotometricInterpretation")), (REFUSED, SAME)),
    "no bits": Wrong(_edited(_absent("BitsAllocated", "BitsStored", "HighBit")), (REFUSED,)),
    "samples per pixel": Wrong(
        _edited(_values("SamplesPerPixel", (b"\3\0", b"\0\0", b"MONOCHROME2", b"\1\0\1\0", b""))), (REFUSED, SAME)
    ),
    "colours": Wrong(
        _edited(_values("PhotometricInterpretation", (b"RGB", b"PALETTE COLOR", b"YBR_FULL"))), (REFUSED,)
    ),
    "frames of a single slice": Wrong(
        _edited(_values("NumberOfFrames", (b"abc", b"0", b"-1", b"999999999", b"2", b"1\\2"))), (REFUSED, SAME)
    ),
    "padding that is none": Wrong(
        _edited(_values("PixelPaddingValue", (b"abc", b"", b"\1\0\2\0", b"9"))), (SAME, REFUSED)
    ),
    "numbers that are none": Wrong(
        _edited(
            lambda s, r: [
                raw_value(d, k, b"9\\x")  # type: ignore[func-returns-value]
                for d in _some(s, r)
                for k in ("InstanceNumber", "AcquisitionNumber", "SeriesNumber")
            ]
        ),
        (SAME, REFUSED),
    ),
    "texts in no character set": Wrong(_edited(_odd_texts), (SAME,)),
    "deep sequences": Wrong(_edited(_nested), (SAME, REFUSED)),
    "another transfer syntax": Wrong(_another_syntax, (REFUSED,)),
    "no file meta": Wrong(_without_meta, (REFUSED, REPAIRED, SAME)),
    "files twice": Wrong(_repeated, (REPAIRED,)),
    "other things in the folder": Wrong(_strangers, (SAME, REFUSED)),
    "a file cut off": Wrong(_cut_file, (REFUSED,)),
    "a slice missing": Wrong(_gap, (REPAIRED,)),
    "damaged JPEG": Wrong(_damaged_code("dicom_jpeg"), (REFUSED, REPAIRED)),
    "damaged JPEG 2000": Wrong(_damaged_code("dicom_jpeg2000"), (REFUSED, REPAIRED)),
    "damaged run lengths": Wrong(_damaged_code("dicom_rle"), (REFUSED, REPAIRED)),
    "600 frames promised": Wrong(_enhanced(600, 600), (REFUSED,)),
    "600 frames promised, positions of 8": Wrong(_enhanced(600, None), (REFUSED,)),
    "positions of 600": Wrong(_enhanced(None, 600), (REFUSED,)),
    "positions of 5": Wrong(_enhanced(None, 5), (REFUSED,)),
    "frames without count": Wrong(_enhanced(0, None), (REFUSED,)),
}
"""Faults by name, each with what may become of it."""
CODINGS = ("dicom", "dicom_implicit")
