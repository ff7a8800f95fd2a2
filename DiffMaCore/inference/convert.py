"""A file in, files out: the job behind ``diffma convert`` for one volume."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from DiffMaCore import __version__
from DiffMaCore.devices import peak_memory
from DiffMaCore.errors import InputError, OutputError
from DiffMaCore.files import Together, clear_left
from DiffMaCore.imaging import reader
from DiffMaCore.imaging.agreement import agreement, agreement_words
from DiffMaCore.imaging.dicom_writing import write_dicom_series
from DiffMaCore.imaging.grid import anatomical_axes
from DiffMaCore.imaging.inputs import InputItem
from DiffMaCore.imaging.reading import Volume, read_volume
from DiffMaCore.imaging.selection import parse_slices, read_mask
from DiffMaCore.imaging.writing import check_output, file_key, output_format, split_extension, write_volume
from DiffMaCore.inference.options import ConvertOptions
from DiffMaCore.inference.pipeline import DiffMaOutput, DiffMaPipeline, provenance
from DiffMaCore.progress import Reporter

RESAMPLED = {"notice": "source volume resampled once to the regular grid that its synthetic image shares"}


@dataclass(frozen=True)
class Request:
    """One volume that was read, and what is to become of it.

    Attributes:
        item, options, output: as :func:`convert` was given them.
        volume, mask, slices: the source, and which part of it is converted.
        extras: files written with the result, by what they hold.
        settings: what decides the result but the voxels, as it stands in the result.
        settings_sha256: over the settings and all voxels that went in; None for a model that has no checksum.
    """

    item: InputItem
    options: ConvertOptions
    output: Path
    volume: Volume
    mask: sitk.Image | None
    slices: tuple[int, int] | None
    extras: dict[str, Path]
    settings: dict[str, Any]
    settings_sha256: str | None


def convert(
    pipe: DiffMaPipeline, item: InputItem, output: Path, options: ConvertOptions, reporter: Reporter
) -> DiffMaOutput:
    """Convert one file or DICOM series and write the result; nothing is written if anything fails.

    The uncertainty is written with it where it is asked for or there are several samples. A source that had to be
    resampled to a regular grid is written as well, since the result shares that grid.

    Raises:
        DiffMaError: of the kind that says what is wrong, with cause and remedy.
    """
    return make(pipe, read_request(pipe, item, output, options, reporter), reporter)


def read_request(
    pipe: DiffMaPipeline, item: InputItem, output: Path, options: ConvertOptions, reporter: Reporter
) -> Request:
    """Read what is to be converted; a DiffMaError tells what is wrong with it."""
    if not reporter.item:
        reporter.begin(item.path, 1, 1)
    reporter.stage("reading")
    if pipe.bundle.makes_ct and output_format(output) == "dicom":
        raise OutputError(f"{output} would be a DICOM series of MR images, and this model makes CTs; write .nii.gz")
    volume = read_volume(item.path, item.series or options.series, modality="CT" if pipe.bundle.takes_ct else "MR")
    for note in volume.notes:
        reporter.note(note)
    region = item.mask or options.mask
    mask, notes = (None, []) if region is None else read_mask(region, like=volume.image)
    for note in notes:
        reporter.note(note)
    length = volume.image.GetSize()[anatomical_axes(volume.image)[0]]
    slices = parse_slices(options.slices, length) if options.slices else None
    machine = ("batch_size", "device", "scan_backend", "software")  # decides nothing
    made = provenance(pipe, pipe.resolved(options), batch=0)
    settings = {key: value for key, value in made.items() if key not in machine}
    extras = _extra_outputs(output, volume, options, "ct" if pipe.bundle.takes_ct else "mr")
    for path in (output, *extras.values()):
        clear_left(path.parent)
    sha256 = None if pipe.checksum is None else _sha256(settings, slices, volume.image, mask)
    return Request(item, options, output, volume, mask, slices, extras, settings, sha256)


def make(pipe: DiffMaPipeline, request: Request, reporter: Reporter) -> DiffMaOutput:
    """Convert what was read and write the result, as :func:`convert` does."""
    reader.end()
    image, output, extras, options = request.volume.image, request.output, request.extras, request.options
    inputs = [path for path in (request.item.path, request.item.mask, options.mask) if path]
    check_output(output, like=image, n_volumes=1 + len(extras), inputs=inputs)
    for path in extras.values():
        check_output(path, like=image, inputs=inputs)
        if output_format(path) == "dicom":
            raise OutputError(f"{path} has no file extension; end the name in .nii.gz, .nii, .nrrd or .mha")
    _check_apart(output, extras)

    result = pipe.synthesise(image, options, request.mask, request.slices, reporter)
    # in front: DICOM keeps 1024 characters
    metadata = {} if request.settings_sha256 is None else {"settings_sha256": request.settings_sha256}
    metadata.update(result.metadata)
    words = _agreement(pipe, image, result, reporter)
    if words is not None:
        metadata["agreement_words"] = words
    result = replace(result, metadata=metadata)
    reporter.stage("writing")
    _write_all(request, result)
    tell_result(pipe, request, metadata, reporter, slices=len(result.slices))
    return result


def _agreement(pipe: DiffMaPipeline, image: sitk.Image, result: DiffMaOutput, reporter: Reporter) -> str | None:
    """Whether the MRI of a head follows its CT, in one line; None where that is not known."""
    bundle = pipe.bundle
    if not (bundle.takes_ct and bundle.anatomy == "brain") or bundle.makes_ct:
        return None
    reporter.stage("comparing with the CT")
    try:
        words = agreement_words(agreement(image, result.mr, bundle.target_modality))
    except InputError:  # no skull in these slices, or a contrast that it does not know
        return None
    reporter.note(words)
    return words


def tell_result(
    pipe: DiffMaPipeline, request: Request, metadata: dict[str, Any], reporter: Reporter, **facts: Any
) -> None:
    """The event that says where the result is, and how it was made."""
    reporter.result(
        input=str(request.item.path),
        output=str(request.output),
        **{name: str(path) for name, path in request.extras.items()},
        **metadata,
        **facts,
        shape=list(request.volume.image.GetSize()[::-1]),
        output_range=list(pipe.bundle.output_range),
        seconds=_seconds(reporter.lap()),
        **peak_memory(pipe.device),
    )


def _sha256(
    settings: dict[str, Any], slices: tuple[int, int] | None, image: sitk.Image, mask: sitk.Image | None
) -> str:
    geometry = image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection()
    place = (*geometry, image.GetPixelIDTypeAsString())
    text = json.dumps([__version__, settings, slices, place], sort_keys=True)
    digest = hashlib.sha256(text.encode())
    digest.update(_voxels(image))
    if mask is not None:
        digest.update(np.packbits(sitk.GetArrayViewFromImage(mask) > 0).data)
    return digest.hexdigest()


def _voxels(image: sitk.Image) -> memoryview:
    return np.ascontiguousarray(sitk.GetArrayViewFromImage(image)).data


def _seconds(laps: dict[str, float]) -> dict[str, float]:
    """Seconds a volume took, by what they were spent on; the model is loaded for the first one only."""
    parts = {
        "loading": laps.get("loading model", 0.0),
        "preparing": laps.get("reading", 0.0) + laps.get("preparing", 0.0),
        "synthesising": laps.get("synthesising", 0.0),
        "comparing": laps.get("comparing with the CT", 0.0),
        "writing": laps.get("writing", 0.0),
    }
    return {name: round(value, 3) for name, value in {**parts, "total": sum(parts.values())}.items()}


def _extra_outputs(output: Path, volume: Volume, options: ConvertOptions, source: str) -> dict[str, Path]:
    """Files written with the result, by what they hold; ``source`` is "ct" or "mr"."""
    file = output if output_format(output) != "dicom" else output.with_name(output.name + ".nrrd")
    stem, extension = split_extension(file)
    extras = {}
    if options.uncertainty_of:
        extras["uncertainty"] = file.with_name(f"{stem}_uncertainty{extension}")
    if options.soft_mask:
        extras["soft_mask"] = options.soft_mask
    if volume.resampled:
        extras[f"resampled_{source}"] = file.with_name(f"{stem}_{source}{extension}")
    return extras


def _check_apart(output: Path, extras: dict[str, Path]) -> None:
    """Raise OutputError where two of the files would be one, or one would lie inside the result's DICOM folder."""
    taken = {file_key(output.resolve()): "result"}
    for name, path in extras.items():
        what = name.replace("_", " ")
        other = taken.setdefault(file_key(path.resolve()), what)
        if other != what:
            raise OutputError(f"{path} would hold both the {other} and the {what}; choose another name for one of them")
        if output_format(output) == "dicom" and output.resolve() in path.resolve().parents:
            raise OutputError(f"{path} is inside {output}, which is for the DICOM series; write the {what} elsewhere")


def _write_all(request: Request, result: DiffMaOutput) -> None:
    """Write all; what goes with the result appears first, so that where the result is, they are."""
    output, volume, made = request.output, request.volume, result.metadata
    images = {"uncertainty": result.uncertainty, "soft_mask": result.soft_mask}
    with Together() as together:
        for name, path in request.extras.items():
            resampled = name.startswith("resampled_")
            image = volume.image if resampled else images[name]
            if image is None:
                raise OutputError(f"there is no {name} to write to {path}; ask for more than one sample")
            metadata = RESAMPLED if resampled else {**made, "content": name}
            write_volume(image, path, like=volume.image, metadata=metadata, together=together)
        if output_format(output) == "dicom":
            of = hashlib.sha256(_voxels(volume.image)).hexdigest()
            source = volume.dicom
            write_dicom_series(result.mr, output, source=source, metadata=made, made_from=of, together=together)
        else:
            write_volume(result.mr, output, like=volume.image, metadata=made, together=together)
