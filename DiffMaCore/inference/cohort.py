"""Many volumes with the model loaded once, by one process or by many that share the output folder.

Every process takes the next volume that nobody works on. Results that are there already, made from the same voxels
with the same settings, are kept, so a second start goes on where the first one ended.
"""

from __future__ import annotations

import gzip
import logging
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from DiffMaCore.errors import InputError
from DiffMaCore.failures import explain
from DiffMaCore.imaging.inputs import InputItem
from DiffMaCore.imaging.writing import file_key, output_format
from DiffMaCore.inference.claims import Claims
from DiffMaCore.inference.convert import ConvertOptions, Request, make, read_request, tell_result
from DiffMaCore.progress import Reporter

if TYPE_CHECKING:
    from DiffMaCore.inference.pipeline import DiffMaPipeline

logger = logging.getLogger("DiffMaCore")

CLAIMS_FOLDER = ".diffma-claims"
_LOOK_EVERY = 0.5  # seconds between two looks at what other processes have finished
_HEADER = 1 << 16


@dataclass(frozen=True)
class Failure:
    """A volume of a batch that could not be converted, and why."""

    input: Path
    reason: str

    @property
    def sentence(self) -> str:
        """The reason, with the volume it is about."""
        return self.reason if str(self.input) in self.reason else f"{self.input}: {self.reason}"


@dataclass
class Cohort:
    """What became of the volumes: how many were made here, by other processes, or before, and which failed."""

    made: int = 0
    elsewhere: int = 0
    kept: int = 0
    failures: list[Failure] = field(default_factory=list)

    @property
    def converted(self) -> int:
        """Volumes whose results are there."""
        return self.made + self.elsewhere + self.kept

    def count(self, item: InputItem, facts: dict[str, Any], here: bool) -> None:
        """One more volume is settled, with the facts that its process told."""
        if facts["state"] == "failed":
            self.failures.append(Failure(item.path, facts["reason"]))
        elif facts["state"] == "kept":
            self.kept += 1
        elif here:
            self.made += 1
        else:
            self.elsewhere += 1


def convert_many(
    pipe: DiffMaPipeline,
    items: Sequence[InputItem],
    output_folder: Path,
    extension: str,
    options: ConvertOptions,
    reporter: Reporter,
) -> Cohort:
    """Convert several volumes with the model loaded once; whatever fails one of them is kept, and the others go on.

    Every process of a launch, and any other process with the same output folder, calls it and comes back when all
    volumes are done: the volume of one that is lost is made by another.

    Args:
        extension: of the outputs, such as ".nii.gz"; empty writes a DICOM series a volume.

    Raises:
        InputError: two volumes have the same output.
        OutputError: the output folder cannot be written.
    """
    target = "ct" if pipe.bundle.makes_ct else "mr"
    outputs = [str(item.output or f"{item.output_stem}_synthetic_{target}{extension}") for item in items]
    files = Counter(map(file_key, outputs))
    shared = [name for name in outputs if files[file_key(name)] > 1]
    if shared:
        names = " alias ".join(dict.fromkeys(name for name in shared if file_key(name) == file_key(shared[0])))
        raise InputError(f"two volumes would be written to {names}; give each an output of its own")
    open_ = dict(enumerate(items, start=1))
    cohort = Cohort()
    waiting = False
    with Claims(output_folder / CLAIMS_FOLDER) as claims:
        while open_:
            before = len(open_)
            for number, item in list(open_.items()):
                name = outputs[number - 1]
                facts = claims.settled(name)
                if facts is not None:
                    reporter.note(f"volume {number} of {len(items)}: {item.path}, by another process")
                    cohort.count(item, facts, here=False)
                elif claims.claim(name):
                    reporter.note(f"volume {number} of {len(items)}: {item.path}")
                    reporter.begin(item.path, number, len(items))
                    facts = _one(pipe, item, output_folder / name, options, reporter)
                    claims.settle(name, facts)
                    cohort.count(item, facts, here=True)
                    waiting = False
                else:
                    continue
                del open_[number]
                if facts["state"] == "failed":
                    reporter.error(cohort.failures[-1].sentence, facts["kind"], input=str(item.path))
            if open_ and len(open_) == before:
                if not waiting:
                    reporter.stage(f"waiting for {len(open_)} volumes of other processes")
                waiting = True
                time.sleep(_LOOK_EVERY)
    return cohort


def _one(
    pipe: DiffMaPipeline, item: InputItem, output: Path, options: ConvertOptions, reporter: Reporter
) -> dict[str, Any]:
    """Make one volume or find it made; what became of it, for the other processes."""
    try:
        request = read_request(pipe, item, output, options, reporter)
        if _is_made(request):
            reporter.note(f"{output} was made before with the same settings and is kept; delete it to make it anew")
            tell_result(pipe, request, request.settings, reporter, kept=True)
            return {"state": "kept"}
        make(pipe, request, options, reporter)
        return {"state": "made"}
    except BrokenPipeError:  # whoever was told has gone, which has nothing to do with the volume
        raise
    except Exception as error:  # even a defect of ours that one volume brings to light does not cost the others
        failure = explain(error)
        if failure.traced:
            logger.error("%s", item.path, exc_info=error)
        return {"state": "failed", "reason": failure.message, "kind": failure.kind}


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
