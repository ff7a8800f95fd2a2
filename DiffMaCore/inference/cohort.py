"""Many volumes with the model loaded once: by this process, one after the other, or by the workers of a cluster.

Results that are there already, made from the same voxels with the same settings, are kept, so a second start goes on
where the first one ended.
"""

from __future__ import annotations

import gzip
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from operator import methodcaller
from pathlib import Path
from typing import Any

from DiffMaCore.cluster import Cluster, outcome, outcomes
from DiffMaCore.devices import keep_freed_memory
from DiffMaCore.errors import Failure, InputError
from DiffMaCore.imaging.inputs import InputItem
from DiffMaCore.imaging.writing import file_key, output_format
from DiffMaCore.inference.convert import ConvertOptions, Request, make, read_request, tell_result
from DiffMaCore.inference.pipeline import DiffMaPipeline
from DiffMaCore.progress import Reporter

logger = logging.getLogger("DiffMaCore")

_HEADER = 1 << 16


@dataclass(frozen=True)
class FailedVolume:
    """A volume of a batch that could not be converted, and why."""

    input: Path
    reason: str

    @property
    def sentence(self) -> str:
        return self.reason if str(self.input) in self.reason else f"{self.input}: {self.reason}"


@dataclass
class Cohort:
    """What became of the volumes: how many were made, or kept from before, and which failed."""

    made: int = 0
    kept: int = 0
    failures: list[FailedVolume] = field(default_factory=list)


@dataclass(frozen=True)
class Placement:
    """Where every worker of a cluster loads the model: as ``DiffMaPipeline.set_device`` takes it."""

    cluster: Cluster
    device: str
    scan_backend: str
    precision: str


def convert_many(
    pipe: DiffMaPipeline,
    items: Sequence[InputItem],
    output_folder: Path,
    extension: str,
    options: ConvertOptions,
    reporter: Reporter,
    placement: Placement | None = None,
) -> Cohort:
    """Convert several volumes; whatever fails one of them is kept, and the others go on.

    Args:
        extension: of the outputs, such as ".nii.gz"; empty writes a DICOM series a volume.
        placement: of workers that see inputs, outputs and the model's folder; None: ``pipe`` converts in this process.

    Raises:
        InputError: two volumes have the same output, or no cluster can be had.
    """
    target = "ct" if pipe.bundle.makes_ct else "mr"
    outputs = [str(item.output or f"{item.output_stem}_synthetic_{target}{extension}") for item in items]
    files = Counter(map(file_key, outputs))
    shared = [name for name in outputs if files[file_key(name)] > 1]
    if shared:
        names = " alias ".join(dict.fromkeys(name for name in shared if file_key(name) == file_key(shared[0])))
        raise InputError(f"two volumes would be written to {names}; give each an output of its own")
    volumes = [_Volume(item, output_folder / name, options) for item, name in zip(items, outputs, strict=True)]
    results = _here(pipe, volumes, reporter) if placement is None else _by_workers(pipe, volumes, placement, reporter)
    cohort = Cohort()
    for path, kept in results:
        if isinstance(kept, Failure):
            if kept.trace:
                logger.error("%s\n%s", path, kept.trace)
            cohort.failures.append(FailedVolume(path, kept.message))
            reporter.error(cohort.failures[-1].sentence, kept.kind, input=str(path))
        else:
            cohort.kept += kept
            cohort.made += not kept
    return cohort


@dataclass(frozen=True, repr=False)
class _Volume:
    item: InputItem
    output: Path
    options: ConvertOptions

    def convert(self, pipe: DiffMaPipeline, reporter: Reporter) -> bool:
        """Make the result, or find it made before; whether it was."""
        request = read_request(pipe, self.item, self.output, self.options, reporter)
        kept = _is_made(request)
        if kept:
            reporter.note(
                f"{self.output} was made before with the same settings and is kept; delete it to make it anew"
            )
            tell_result(pipe, request, request.settings, reporter, kept=True)
        else:
            make(pipe, request, reporter)
        return kept


@dataclass(frozen=True, repr=False)
class _Job:
    """A volume on a worker: whether it was kept, and the messages of it."""

    volume: _Volume
    model: tuple[str, ...]

    def __call__(self) -> tuple[bool, list[Callable[[Reporter], None]]]:
        reporter = _Recorder()
        reporter.stage("loading model")
        return self.volume.convert(_load(*self.model), reporter), reporter.messages


class _Recorder(Reporter):
    def __init__(self) -> None:
        super().__init__()
        self.messages: list[Callable[[Reporter], None]] = []

    def note(self, message: str) -> None:
        self.messages.append(methodcaller("note", message))

    def warning(self, message: str) -> None:
        self.messages.append(methodcaller("warning", message))

    def result(self, **facts: Any) -> None:
        self.messages.append(methodcaller("result", **facts))


def _here(
    pipe: DiffMaPipeline, volumes: Sequence[_Volume], reporter: Reporter
) -> Iterator[tuple[Path, bool | Failure]]:
    for number, volume in enumerate(volumes, start=1):
        reporter.note(f"volume {number} of {len(volumes)}: {volume.item.path}")
        reporter.begin(volume.item.path, number, len(volumes))
        yield volume.item.path, outcome(partial(volume.convert, pipe, reporter))


def _by_workers(
    pipe: DiffMaPipeline, volumes: Sequence[_Volume], placement: Placement, reporter: Reporter
) -> Iterator[tuple[Path, bool | Failure]]:
    folder = str(Path(pipe.name_or_path).absolute())
    model = (folder, str(pipe.checksum), placement.device, placement.scan_backend, placement.precision)
    jobs = [_Job(volume, model) for volume in volumes]
    reporter.stage("converting", total=len(jobs))
    for number, result in outcomes(jobs, placement.cluster, reporter):
        path = volumes[number].item.path
        reporter.note(f"volume {number + 1} of {len(volumes)}: {path}")
        for say in [] if isinstance(result, Failure) else result[1]:
            say(reporter)
        reporter.advance()
        yield path, result if isinstance(result, Failure) else result[0]


@lru_cache(maxsize=1)
def _load(folder: str, checksum: str, device: str, scan_backend: str, precision: str) -> DiffMaPipeline:
    """The model of a worker, which keeps it; a folder with another checksum is another model."""
    keep_freed_memory()
    pipe = DiffMaPipeline.from_pretrained(folder)
    pipe.set_device(device, scan_backend, precision)
    return pipe


def _is_made(request: Request) -> bool:
    """Whether the result and all that goes beside it are there, made from the same voxels with the same settings.

    Files of ours appear whole or not at all, the result last, so its header tells.
    """
    path = request.output / "MR00001.dcm" if output_format(request.output) == "dicom" else request.output
    if request.settings_sha256 is None or not all(extra.is_file() for extra in request.extras.values()):
        return False
    try:
        with path.open("rb") as stream:
            packed = stream.read(2) == b"\x1f\x8b"
        with gzip.open(path) if packed else path.open("rb") as stream:
            header = stream.read(_HEADER)
    except (OSError, EOFError):
        return False
    return request.settings_sha256.encode() in header
