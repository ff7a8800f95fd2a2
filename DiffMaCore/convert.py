"""Files in, files out: the job behind ``diffma convert``, for one volume or many with the model loaded once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import SimpleITK as sitk

from DiffMaCore.devices import peak_memory
from DiffMaCore.errors import DiffMaError, OutOfMemory, OutputError, is_out_of_memory
from DiffMaCore.progress import Reporter
from DiffMaCore.schedulers import DEFAULT_STEPS
from DiffMaCore.synthesis import DiffMaOutput, synthesise
from DiffMaCore.volumes.dicom_writing import write_dicom_series
from DiffMaCore.volumes.grid import anatomical_axes
from DiffMaCore.volumes.inputs import InputItem
from DiffMaCore.volumes.reading import Volume, read_volume
from DiffMaCore.volumes.selection import parse_slices, read_mask
from DiffMaCore.volumes.writing import check_output, output_format, split_extension, write_volume

if TYPE_CHECKING:
    from DiffMaCore.pipeline import DiffMaPipeline


RESAMPLED = {"notice": "source volume resampled once to the regular grid that its synthetic image shares"}


@dataclass(frozen=True)
class ConvertOptions:
    """What decides the result of a conversion beside the model; see ``diffma convert --help``."""

    steps: int = DEFAULT_STEPS
    scheduler: str | None = None
    seed: int = 0
    samples: int = 1
    series: str | None = None
    mask: Path | None = None
    slices: str | None = None
    soft_mask: Path | None = None
    batch_size: int | None = None
    start_slice: int | None = None


@dataclass(frozen=True)
class Failure:
    """A volume of a batch that could not be converted, and why."""

    input: Path
    reason: str

    @property
    def sentence(self) -> str:
        """The reason, with the volume it is about."""
        return self.reason if str(self.input) in self.reason else f"{self.input}: {self.reason}"


def convert(
    pipe: DiffMaPipeline, item: InputItem, output: Path, options: ConvertOptions, reporter: Reporter
) -> DiffMaOutput:
    """Convert one file or DICOM series and write the result; nothing is written if anything fails.

    With several samples the standard deviation is written beside it, and a source that had to be resampled to a
    regular grid is written beside it too, since the result shares that grid.

    Raises:
        DiffMaError: of the kind that says what is wrong, with cause and remedy.
    """
    if not reporter.item:
        reporter.begin(item.path, 1, 1)
    reporter.stage("reading")
    if pipe.bundle.makes_ct and output_format(output) == "dicom":
        raise OutputError(f"{output} would be a DICOM series of MR images, and this model makes CTs; write .nii.gz")
    volume = read_volume(item.path, item.series or options.series, modality="CT" if pipe.bundle.takes_ct else "MR")
    for note in volume.notes:
        reporter.note(note)
    image = volume.image
    mask, mask_notes = _mask(item.mask or options.mask, image)
    for note in mask_notes:
        reporter.note(note)
    length = image.GetSize()[anatomical_axes(image)[0]]
    slices = parse_slices(options.slices, length) if options.slices else None

    extras = _extra_outputs(output, volume, options, "ct" if pipe.bundle.takes_ct else "mr")
    inputs = [path for path in (item.path, item.mask, options.mask) if path]
    check_output(output, like=image, n_volumes=1 + len(extras), inputs=inputs)
    for path in extras.values():
        check_output(path, like=image, inputs=[*inputs, output])

    result = synthesise(
        pipe,
        image,
        steps=options.steps,
        seed=options.seed,
        scheduler=options.scheduler,
        samples=options.samples,
        mask=mask,
        slices=slices,
        batch_size=options.batch_size,
        start_slice=options.start_slice,
        reporter=reporter,
    )
    reporter.stage("writing")
    images = {"uncertainty": result.uncertainty, "soft_mask": result.soft_mask}
    images.update({name: image for name in extras if name.startswith("resampled_")})
    _write_all(output, volume, result, {name: (path, images[name]) for name, path in extras.items()})
    reporter.result(
        input=str(item.path),
        output=str(output),
        **{name: str(path) for name, path in extras.items()},
        **result.metadata,
        slices=len(result.slices),
        shape=list(image.GetSize()[::-1]),
        output_range=list(pipe.bundle.output_range),
        seconds=_seconds(reporter.lap()),
        **peak_memory(pipe.device),
    )
    return result


def _seconds(laps: dict[str, float]) -> dict[str, float]:
    """Seconds a volume took, by what they were spent on; the model is loaded for the first one only."""
    parts = {
        "loading": laps.get("loading model", 0.0),
        "preparing": laps.get("reading", 0.0) + laps.get("preparing", 0.0),
        "synthesising": laps.get("synthesising", 0.0),
        "writing": laps.get("writing", 0.0),
    }
    return {name: round(value, 3) for name, value in {**parts, "total": sum(parts.values())}.items()}


def convert_many(
    pipe: DiffMaPipeline,
    items: Sequence[InputItem],
    output_folder: Path,
    extension: str,
    options: ConvertOptions,
    reporter: Reporter,
) -> list[Failure]:
    """Convert several volumes with the model loaded once; a failure is kept and the others go on.

    Args:
        extension: of the outputs, such as ".nii.gz"; empty writes a DICOM series a volume.

    Returns:
        The volumes that failed, and why.
    """
    failures = []
    for number, item in enumerate(items, start=1):
        reporter.note(f"volume {number} of {len(items)}: {item.path}")
        reporter.begin(item.path, number, len(items))
        name = item.output or Path(f"{item.output_stem}_synthetic_{'ct' if pipe.bundle.makes_ct else 'mr'}{extension}")
        try:
            convert(pipe, item, output_folder / name, options, reporter)
        except (DiffMaError, MemoryError, RuntimeError) as error:
            known = OutOfMemory() if is_out_of_memory(error) else error
            if not isinstance(known, DiffMaError):
                raise
            failures.append(Failure(item.path, str(known)))
            reporter.error(failures[-1].sentence, type(known).__name__, input=str(item.path))
    return failures


def _mask(path: Path | None, image: sitk.Image) -> tuple[sitk.Image | None, list[str]]:
    return (None, []) if path is None else read_mask(path, like=image)


def _extra_outputs(output: Path, volume: Volume, options: ConvertOptions, source: str) -> dict[str, Path]:
    """Files written beside the result, by what they hold; ``source`` is "ct" or "mr"."""
    beside = output if output_format(output) != "dicom" else output.with_name(output.name + ".nrrd")
    stem, extension = split_extension(beside)
    extras = {}
    if options.samples > 1:
        extras["uncertainty"] = beside.with_name(f"{stem}_uncertainty{extension}")
    if options.soft_mask:
        extras["soft_mask"] = options.soft_mask
    if volume.resampled:
        extras[f"resampled_{source}"] = beside.with_name(f"{stem}_{source}{extension}")
    return extras


def _write_all(
    output: Path, volume: Volume, result: DiffMaOutput, extras: dict[str, tuple[Path, sitk.Image | None]]
) -> None:
    """Write the result and what goes beside it; on any failure or cancel, remove what was already written."""
    written: list[Path] = []
    try:
        for name, (path, image) in extras.items():
            if image is None:
                raise OutputError(f"there is no {name} to write to {path}; ask for more than one sample")
            written.append(path)
            metadata = RESAMPLED if name.startswith("resampled_") else {**result.metadata, "content": name}
            write_volume(image, path, like=volume.image, metadata=metadata)
        if output_format(output) == "dicom":
            write_dicom_series(result.mr, output, source=volume.dicom, metadata=result.metadata)
        else:
            write_volume(result.mr, output, like=volume.image, metadata=result.metadata)
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        raise
