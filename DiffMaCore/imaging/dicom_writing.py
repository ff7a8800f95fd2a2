"""Write a result as a derived MR series (single-frame MR Image Storage, DERIVED\\SECONDARY).

Patient and study are copied from the CT's own DICOM headers, when there are any, inside the files only.
All identifiers follow from the content, so the same result gives the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage

import DiffMaCore
from DiffMaCore.errors import InputError
from DiffMaCore.files import Together
from DiffMaCore.imaging.dicom import COPIED, DicomSource
from DiffMaCore.imaging.writing import SYNTHETIC, check_series_folder

SERIES_DESCRIPTION = "SYNTHETIC MR (research only)"

_ROOT = "2.25."  # UIDs derived from numbers, open to everybody
_LARGEST = 32767
_SAME_PLACE_MM = 1e-3


def write_dicom_series(
    image: sitk.Image,
    folder: str | Path,
    *,
    source: DicomSource | None = None,
    metadata: Mapping[str, object] | None = None,
    made_from: str = "",
    series_description: str = SERIES_DESCRIPTION,
    series_number: int = 9001,
    together: Together | None = None,
) -> None:
    """Write ``image`` into ``folder``, one file a slice; the folder appears whole or not at all.

    Values are stored as 16-bit integers times a power of ten; RescaleSlope undoes it, so a value is off by
    at most half a RescaleSlope.

    Args:
        image: 3D, in the output units, any geometry.
        folder: new, empty, or holding an earlier result of this function.
        source: of the CT, for patient, study and references; None makes an anonymous study.
        metadata: what made the image (model, steps, seed, ...); goes into DerivationDescription.
        made_from: checksum of the CT's voxels. Results of one CT share the study and the frame of reference that no
            source gives; "" makes them follow from the image's own voxels.
        series_description: shown by viewers, at most 64 characters.
        series_number: larger than the scanner's own.
        together: with which other results it appears.

    Raises:
        OutputError: the folder holds other files or cannot be written.
    """
    folder = Path(folder).absolute()
    check_series_folder(folder)
    texts = {key: str(value) for key, value in (metadata or {}).items()}
    array = sitk.GetArrayViewFromImage(image)
    slope = _slope(float(np.abs(array).max()))
    common = _common(image, array, source, texts, made_from, series_description, series_number, slope)
    with Together() if together is None else nullcontext(together) as files, files.writing(folder) as part:
        part.mkdir()
        for k in range(len(array)):
            _write_slice(part / f"MR{k + 1:05d}.dcm", common, image, array[k], k, source, slope)


def check_source(image: sitk.Image, source: DicomSource) -> None:
    """Raise InputError unless ``image`` lies where the slices of ``source`` lie, give or take one slice."""
    direction = np.array(image.GetDirection()).reshape(3, 3)
    spacing, size = np.array(image.GetSpacing()), np.array(image.GetSize())
    along = (source.positions - image.GetOrigin()) @ direction  # of the source's first pixels, mm on the image's axes
    stacked = int(np.argmax(np.ptp(along, axis=0))) if len(along) > 1 else 2
    low, high = along[:, stacked].min() - spacing[stacked], along[:, stacked].max() + spacing[stacked]
    far = (size - 1) * spacing
    inside = np.delete(np.abs(along[0]), stacked) <= np.delete(far, stacked)
    if low > 0 or high < far[stacked] or not inside.all():
        raise InputError("the volume does not lie where the DICOM source lies; give the CT that it was made from")


def _slope(largest: float) -> float:
    """The power of ten that lets the largest magnitude use 16 bits best."""
    if not largest > 0:
        return 1.0
    return float(10.0 ** np.ceil(np.log10(largest / _LARGEST)))


def _uid(*parts: str) -> UID:
    number = int.from_bytes(hashlib.sha256("|".join(parts).encode()).digest()[:16], "big")
    return UID(f"{_ROOT}{number}")


def _common(
    image: sitk.Image,
    array: np.ndarray,
    source: DicomSource | None,
    texts: Mapping[str, str],
    made_from: str,
    series_description: str,
    series_number: int,
    slope: float,
) -> Dataset:
    """All attributes the slices share."""
    geometry = repr((image.GetSize(), image.GetOrigin(), image.GetSpacing(), image.GetDirection()))
    voxels = hashlib.sha256(array.tobytes()).hexdigest()
    content = voxels + geometry + repr(sorted(texts.items()))
    data = Dataset()
    # the voxels count: on one grid lie many patients, such as all that were registered to one atlas
    _copy_patient_and_study(data, source, f"{made_from or voxels} {geometry}")
    data.SeriesInstanceUID = _uid("series", data.StudyInstanceUID, series_description, content)
    data.SeriesNumber, data.SeriesDescription = series_number, series_description[:64]
    data.Modality, data.SOPClassUID = "MR", MRImageStorage
    data.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
    data.SyntheticData, data.ContentQualification, data.BurnedInAnnotation = "YES", "RESEARCH", "NO"
    made_by = "; ".join(f"{key} {value}" for key, value in texts.items())
    description = f"{SYNTHETIC}, made from a CT by DiffMaCore; not for diagnosis. {made_by}"
    data.DerivationDescription = _ascii(description)[:1024]
    data.DerivationCodeSequence = [_coded(codes.DCM.ArtificialIntelligence)]
    data.ImageComments = SYNTHETIC
    data.ContributingEquipmentSequence = [_equipment(Dataset(), texts)]
    equipment = data.ContributingEquipmentSequence[0]
    equipment.PurposeOfReferenceCodeSequence = [_coded(codes.DCM.SynthesizingEquipment)]
    equipment.ContributionDescription = data.DerivationDescription
    _equipment(data, texts)
    # what the MR image module asks of a scanner; RM is its term for research
    data.ScanningSequence, data.SequenceVariant, data.ScanOptions, data.MRAcquisitionType = ("RM", "NONE", None, None)
    data.EchoTime = data.RepetitionTime = data.EchoTrainLength = None
    direction = np.array(image.GetDirection()).reshape(3, 3)
    data.ImageOrientationPatient = [_decimal(x) for x in (*direction[:, 0], *direction[:, 1])]
    columns, rows, _ = image.GetSize()
    data.Rows, data.Columns = rows, columns
    spacing = image.GetSpacing()
    data.PixelSpacing = [_decimal(spacing[1]), _decimal(spacing[0])]
    data.SliceThickness = data.SpacingBetweenSlices = _decimal(spacing[2])
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 1
    data.RescaleIntercept, data.RescaleSlope, data.RescaleType = 0, _decimal(slope), "US"
    low, high = float(array.min()), float(array.max())
    data.WindowCenter, data.WindowWidth = _decimal((low + high) / 2), _decimal(max(high - low, slope))
    return data


def _equipment(data: Dataset, texts: Mapping[str, str]) -> Dataset:
    """Put into ``data`` what made the image."""
    data.Manufacturer, data.ManufacturerModelName = "DiffMaCore", _ascii(texts.get("model", "DiffMa"))[:64]
    data.SoftwareVersions = DiffMaCore.__version__
    return data


def _coded(code: Code) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme_designator, code.meaning
    return item


def _ascii(text: str) -> str:
    return text.encode("ascii", "replace").decode()


def _copy_patient_and_study(data: Dataset, source: DicomSource | None, origin: str) -> None:
    """Of the source; what it does not give follows from ``origin``."""
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime"):
        setattr(data, keyword, "")
    for keyword in ("AccessionNumber", "StudyID", "ReferringPhysicianName", "PositionReferenceIndicator"):
        setattr(data, keyword, "")
    data.PatientPosition = ""  # empty: nobody knows
    data.SpecificCharacterSet = "ISO_IR 192"
    data.StudyInstanceUID, data.FrameOfReferenceUID = _uid("study", origin), _uid("frame", origin)
    if source is not None:
        for keyword in COPIED:
            if keyword in source.header:
                data[keyword] = source.header[keyword]
    else:
        data.PatientName, data.PatientID = "SYNTHETIC^RESEARCH", "SYNTHETIC"
    if not data.get("BodyPartExamined"):  # only of a part that may be one of a pair
        data.setdefault("Laterality", "")


def _write_slice(
    path: Path, common: Dataset, image: sitk.Image, plane: np.ndarray, k: int, source: DicomSource | None, slope: float
) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = MRImageStorage
    meta.MediaStorageSOPInstanceUID = _uid("slice", common.SeriesInstanceUID, str(k))
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = _uid("DiffMaCore")
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    data.update(common)
    data.SOPInstanceUID, data.InstanceNumber = meta.MediaStorageSOPInstanceUID, k + 1
    data.ImagePositionPatient = [_decimal(x) for x in image.TransformIndexToPhysicalPoint((0, 0, k))]
    if source is not None:
        data.SourceImageSequence = [_reference(*instance) for instance in _instances_at(image, k, source)]
    data.PixelData = np.clip(np.rint(plane / slope), -_LARGEST, _LARGEST).astype("<i2").tobytes()
    data.save_as(path, enforce_file_format=True)


def _instances_at(image: sitk.Image, k: int, source: DicomSource) -> list[tuple[str, str]]:
    """The source slice at slice ``k``, or the two it was interpolated from."""
    normal = np.array(image.GetDirection()).reshape(3, 3)[:, 2]
    distance = (source.positions - image.TransformIndexToPhysicalPoint((0, 0, k))) @ normal
    below, above = np.flatnonzero(distance <= _SAME_PLACE_MM), np.flatnonzero(distance >= -_SAME_PLACE_MM)
    nearest = [below[np.argmax(distance[below])]] if len(below) else []
    nearest += [above[np.argmin(distance[above])]] if len(above) else []
    return [source.instances[i] for i in sorted({int(i) for i in nearest})]


def _reference(sop_class: str, sop_instance: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, sop_instance
    item.PurposeOfReferenceCodeSequence = [_coded(codes.DCM.SourceImageForImageProcessingOperation)]
    item.SpatialLocationsPreserved = "YES"
    return item


def _decimal(value: float) -> str:
    """``value`` in the 16 characters of a DICOM decimal string, as precise as they allow."""
    value = float(value) + 0.0
    for digits in range(17, 0, -1):
        text = f"{value:.{digits}g}"
        if len(text) <= 16:
            return text
    raise ValueError(f"{value} does not fit a DICOM decimal string")
