"""The child process of ``reader``: reads what it is asked for, under limits, and answers JSON lines and voxels."""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from DiffMaCore.errors import DiffMaError, is_out_of_memory
from DiffMaCore.imaging import nifti, text_headers

_KEPT_METADATA = (nifti.GEOMETRY_KEY, text_headers.GEOMETRY_KEY)


def serve() -> None:
    """Answer requests from standard input until it ends. Whatever else writes to standard output writes nowhere."""
    answers = os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    with suppress(ValueError, OSError):
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to end
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)  # reading gains nothing by threads, and they reserve memory
    for line in sys.stdin.buffer:
        request = json.loads(line)
        if folder := request.pop("folder"):
            os.chdir(folder)
        _limit(request.pop("seconds"), request.pop("memory"))
        answer, image = _answer(request)
        voxels = None
        if image is not None:
            voxels = sitk.GetArrayViewFromImage(image)
            kept = {key: image.GetMetaData(key) for key in _KEPT_METADATA if image.HasMetaDataKey(key)}
            answer["image"] = {
                "size": image.GetSize(),
                "type": voxels.dtype.str,
                "spacing": image.GetSpacing(),
                "origin": image.GetOrigin(),
                "direction": image.GetDirection(),
                "metadata": kept,
            }
        answers.write(json.dumps(answer).encode() + b"\n")
        if voxels is not None:
            answers.write(voxels.data)
        answers.flush()


def _answer(request: dict[str, Any]) -> tuple[dict[str, Any], sitk.Image | None]:
    what, path = request.pop("what"), Path(request.pop("path"))
    try:
        return _WAYS[what](path, **request)
    except DiffMaError as error:
        return {"error": type(error).__name__, "message": str(error)}, None
    except Exception as error:  # the file is at fault: no header may end a command in a traceback
        if is_out_of_memory(error):
            return {"error": "OutOfMemory"}, None
        message = f"{path} cannot be read ({type(error).__name__} in its header or voxels); copy or export it again"
        return {"error": "InputError", "message": message, "trace": traceback.format_exc()}, None


def _volume(path: Path, series: str | None, modality: str | None) -> tuple[dict[str, Any], sitk.Image | None]:
    from DiffMaCore.imaging.dicom import pack_source, read_dicom_series

    image, notes, resampled, source = read_dicom_series(path, series, modality=modality)
    return {"notes": notes, "resampled": resampled, "dicom": pack_source(source)}, image


def _file(path: Path) -> tuple[dict[str, Any], sitk.Image | None]:
    from DiffMaCore.imaging.files import read_image_file

    image, notes = read_image_file(path)
    return {"notes": notes}, image


def _source(path: Path, series: str | None) -> tuple[dict[str, Any], sitk.Image | None]:
    from DiffMaCore.imaging.dicom import find_source, pack_source

    return {"dicom": pack_source(find_source(path, series))}, None


_WAYS: dict[str, Callable[..., tuple[dict[str, Any], sitk.Image | None]]] = {
    "file": _file,
    "series": _volume,
    "source": _source,
}


def _limit(seconds: float, memory: int) -> None:
    """Processor time from now on, and memory beyond what is held; where the system knows such limits."""
    try:
        import resource
    except ImportError:  # Windows
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    wanted = {
        resource.RLIMIT_CPU: int(used.ru_utime + used.ru_stime + seconds) + 1,
        resource.RLIMIT_DATA: memory + used.ru_maxrss * 1024,
        resource.RLIMIT_CORE: 0,
    }
    for kind, value in wanted.items():
        with suppress(ValueError, OSError):
            hard = resource.getrlimit(kind)[1]
            resource.setrlimit(kind, (value if hard < 0 else min(value, hard), hard))
