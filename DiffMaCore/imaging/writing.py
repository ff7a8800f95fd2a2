"""Write a result: the CT's geometry to the last digit, whole or not at all, the same bytes every time."""

from __future__ import annotations

import errno
import gzip
import json
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
import SimpleITK as sitk

from DiffMaCore.errors import OutputError
from DiffMaCore.files import Together, require_room
from DiffMaCore.imaging import nifti, text_headers
from DiffMaCore.imaging.files import image_information

SYNTHETIC = "SYNTHETIC image, research only"
"""Sentence written into every file this package makes."""

_FORMATS = {".nii.gz": "nifti", ".nii": "nifti", ".nrrd": "nrrd", ".mha": "meta"}
_HEADER_BYTES = 65536
# JSON in a NIfTI's extension, `key:=value` in NRRD, `key = value` in MetaImage
_MODALITY = re.compile(rb'target_modality(?:"\s*:\s*"|:=|\s*=\s*)([^"\r\n]+)')
_GZIP_LEVEL = 1  # float voxels: higher levels take longer for one percent


def split_extension(path: Path) -> tuple[str, str]:
    """``("scan", ".nii.gz")`` for ``scan.nii.gz``: the name and its lower-case extension."""
    name = path.name
    if name.lower().endswith(".nii.gz"):
        return name[:-7], ".nii.gz"
    return path.stem, path.suffix.lower()


def file_key(path: str | Path) -> str:
    """Equal for two paths that are one file on some system: macOS and Windows do not tell upper from lower case."""
    return unicodedata.normalize("NFC", os.path.normpath(path)).casefold()


@contextmanager
def _usable_name(path: Path) -> Iterator[None]:
    """Whatever the file system or its encoding finds wrong with a name becomes one sentence."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:  # too long, a loop of links, bytes that are no text, a NUL
        reason = "its name is no text" if isinstance(error, UnicodeError) else getattr(error, "strerror", None) or error
        text = str(path).encode("utf-8", "backslashreplace").decode()
        shown = text if len(text) < 200 else f"{text[:100]}...{text[-60:]}"
        raise OutputError(f"cannot write {shown} ({reason}); choose another name for the output") from None


def output_format(path: str | Path) -> str:
    """``nifti``, ``nrrd``, ``meta``, or ``dicom`` for a folder (a name without extension).

    Raises:
        OutputError: the extension is none that can be written, or the path names no file.
    """
    path = Path(path)
    if path.name in ("", ".."):
        raise OutputError(f"{str(path)!r} names no file; give the output a name of its own")
    extension = split_extension(path)[1]
    with _usable_name(path):
        str(path).encode()
        with suppress(FileNotFoundError, NotADirectoryError):  # what remains is wrong with the name itself
            path.stat()
        is_folder = path.is_dir()
    if extension in _FORMATS and not is_folder:
        return _FORMATS[extension]
    if is_folder or not extension[1:2].isalpha():
        return "dicom"
    raise OutputError(f"cannot write {path}; end the name in .nii.gz, .nii, .nrrd or .mha, or name a folder for DICOM")


def check_output(path: str | Path, *, like: sitk.Image, n_volumes: int = 1, inputs: Iterable[str | Path] = ()) -> None:
    """Find out before any long work whether ``n_volumes`` float32 volumes can be written at ``path``.

    Args:
        path: file (by extension) or folder for a DICOM series.
        like: image whose size the output will have.
        n_volumes: how many volumes of that size will be written into the same folder.
        inputs: files and folders that must not be overwritten.

    Raises:
        OutputError: unknown extension, no such drive, no permission, too little room, a name that the file system does
            not take, or a place that belongs to an input.
    """
    path = Path(path)
    kind = output_format(path)
    with _usable_name(path):
        _check_apart_from(path, kind, inputs)
        if kind == "dicom":
            check_series_folder(path)
        _check_room(path, path if kind == "dicom" else path.parent, like, n_volumes)


def _check_apart_from(path: Path, kind: str, inputs: Iterable[str | Path]) -> None:
    target = path.resolve()
    for source in inputs:
        given = Path(source).resolve()
        same = target == given or (target.exists() and given.exists() and target.samefile(given))
        if same or (kind == "dicom" and target in given.parents):
            raise OutputError(f"the output {path} is the input itself; choose another name for the output")
        if given.is_dir() and given in target.parents:
            raise OutputError(
                f"the output {path} would lie in the folder of the input series, which readers would then take"
                " for another one; choose another folder for the output"
            )


def _check_room(path: Path, folder: Path, like: sitk.Image, n_volumes: int) -> None:
    existing = next((f for f in (folder, *folder.absolute().parents) if f.exists()), None)
    if existing is None or not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise OutputError(f"cannot write into {folder}; choose a folder that you may write to")
    if path.exists() and path.is_file() and not os.access(path, os.W_OK):
        raise OutputError(f"cannot replace {path}, it is write-protected; choose another name for the output")
    require_room(folder, int(np.prod(like.GetSize(), dtype=np.int64)) * 4 * n_volumes, "the results")


def check_series_folder(folder: Path) -> None:
    """Raise OutputError unless ``folder`` is new, empty, or holds nothing but an earlier derived series."""
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file; name a folder for the DICOM series")
    if folder.is_dir() and any(not _is_ours(file) for file in folder.iterdir()):
        raise OutputError(f"{folder} holds other files; name a new or empty folder for the DICOM series")


def _is_ours(file: Path) -> bool:
    return file.is_file() and file.suffix == ".dcm" and file.stem[:2] == "MR" and file.stem[2:].isdigit()


def write_volume(
    volume: sitk.Image | np.ndarray,
    path: str | Path,
    *,
    like: sitk.Image,
    metadata: Mapping[str, object] | None = None,
    together: Together | None = None,
) -> None:
    """Write ``volume`` as float32 with the geometry of ``like``; the format follows from the extension.

    The file appears whole or not at all, and two calls with the same arguments write the same bytes.

    Args:
        volume: image, or array in z, y, x order, of the size of ``like``.
        path: ends in .nii, .nii.gz, .nrrd or .mha; missing folders are made.
        like: the CT; read by this package from NIfTI or NRRD it hands on its exact geometry fields.
        metadata: what made the image (model, steps, seed, ...); goes into the header as text. A ``notice``
            in it replaces the sentence that the image is synthetic.
        together: with which others it appears.

    Raises:
        OutputError: the extension, the folder or the size does not allow it.
    """
    path = Path(path)
    kind = output_format(path)
    if kind == "dicom":
        raise OutputError(f"{path} has no file extension; end the name in .nii.gz, .nii, .nrrd or .mha")
    array = sitk.GetArrayViewFromImage(volume) if isinstance(volume, sitk.Image) else volume
    if array.shape != like.GetSize()[::-1]:
        raise OutputError(f"the result has {array.shape} voxels (z, y, x) but the CT {like.GetSize()[::-1]}")
    texts = {"notice": SYNTHETIC, **{key: str(value) for key, value in (metadata or {}).items()}}
    write = {"nifti": _write_nifti, "nrrd": _write_nrrd, "meta": _write_meta}[kind]
    with (
        Together() if together is None else nullcontext(together) as files,
        files.writing(path, split_extension(path)[1]) as part,
    ):
        write(np.ascontiguousarray(array, "<f4"), part, like, texts)


def written_modality(path: Path) -> str | None:
    """The target modality ("MR T1") in the header that ``write_volume`` wrote; None where there is none."""
    if not path.is_file():
        return None
    try:
        with nifti.open_maybe_gzip(path) as stream:
            found = _MODALITY.search(stream.read(_HEADER_BYTES))
    except (OSError, EOFError):
        return None
    return found[1].decode("utf-8", "replace").strip() if found else None


def same_geometry(a: sitk.Image | sitk.ImageFileReader, b: sitk.Image) -> bool:
    """Whether size, origin, spacing and direction are equal digit for digit."""
    asked = ("GetSize", "GetOrigin", "GetSpacing", "GetDirection")
    return all(getattr(a, name)() == getattr(b, name)() for name in asked)


def _write_compressed(stream: IO[bytes], header: bytes, array: np.ndarray) -> None:
    data = _bytes(array)
    with gzip.GzipFile(filename="", fileobj=stream, mode="wb", compresslevel=_GZIP_LEVEL, mtime=0) as packed:
        packed.write(header)
        for start in range(0, len(data), 1 << 24):
            packed.write(data[start : start + (1 << 24)])


def _bytes(array: np.ndarray) -> memoryview:
    return memoryview(array.reshape(-1).view(np.uint8))  # type: ignore[arg-type]


def _write_nifti(array: np.ndarray, path: Path, like: sitk.Image, texts: dict[str, str]) -> None:
    template = _itk_nifti_header(like, path.with_name(path.name.removesuffix(".gz")))
    made_by = ", ".join(f"{key} {texts[key]}" for key in ("model", "seed", "steps") if key in texts)
    description = texts["notice"] + (f": {made_by}" if made_by else "")
    header = nifti.build_header(like, template, description, json.dumps(texts), _carried_nifti(like, template, path))
    with path.open("wb") as stream:
        if path.name.lower().endswith(".gz"):
            _write_compressed(stream, header, array)
        else:
            stream.write(header)
            stream.write(_bytes(array))


def _itk_nifti_header(like: sitk.Image, path: Path) -> bytes:
    """The header ITK writes for the geometry of ``like`` (one voxel of data)."""
    probe = sitk.Image([1, 1, 1], sitk.sitkFloat32)
    probe.SetSpacing(like.GetSpacing())
    probe.SetOrigin(like.GetOrigin())
    probe.SetDirection(like.GetDirection())
    try:
        _write_by_itk(probe, path)
        header = path.read_bytes()[:348]
        if len(header) < 348:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # which ITK does not notice
        return header
    finally:
        path.unlink(missing_ok=True)


def _carried_nifti(like: sitk.Image, template: bytes, path: Path) -> bytes | None:
    """Geometry fields of the NIfTI ``like`` was read from, if they still describe it digit for digit."""
    if not like.HasMetaDataKey(nifti.GEOMETRY_KEY):
        return None
    geometry = bytes.fromhex(like.GetMetaData(nifti.GEOMETRY_KEY))
    probe = path.with_name(f"{path.name}.probe.nii")
    try:
        probe.write_bytes(nifti.build_header(like, template, SYNTHETIC, "", geometry))
        return geometry if same_geometry(image_information(probe, "NiftiImageIO"), like) else None
    finally:
        probe.unlink(missing_ok=True)


def _write_nrrd(array: np.ndarray, path: Path, like: sitk.Image, texts: dict[str, str]) -> None:
    lines = text_headers.geometry_lines(like)
    if like.HasMetaDataKey(text_headers.GEOMETRY_KEY):
        carried = like.GetMetaData(text_headers.GEOMETRY_KEY)
        path.write_bytes(text_headers.build_header(like.GetSize(), carried, texts))
        if same_geometry(image_information(path, "NrrdImageIO"), like):
            lines = carried
    with path.open("wb") as stream:
        stream.write(text_headers.build_header(like.GetSize(), lines, texts))
        _write_compressed(stream, b"", array)


def _write_meta(array: np.ndarray, path: Path, like: sitk.Image, texts: dict[str, str]) -> None:
    image = sitk.GetImageFromArray(array)
    image.CopyInformation(like)
    for key, value in texts.items():
        image.SetMetaData(key, value.replace("\n", " "))
    _write_by_itk(image, path, useCompression=True, compressionLevel=_GZIP_LEVEL, imageIO="MetaImageIO")


def _write_by_itk(image: sitk.Image, path: Path, **options: Any) -> None:
    try:
        sitk.WriteImage(image, str(path), **options)
    except RuntimeError as error:
        raise OSError((str(error).strip() or repr(error)).splitlines()[-1]) from error
