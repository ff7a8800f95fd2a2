"""Many CTs with the model loaded once: loaded volumes, files, or a folder of them, into a folder."""

from __future__ import annotations

import csv
import re
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from DiffMaSlicerLib.child import failures
from DiffMaSlicerLib.child.events import Event
from DiffMaSlicerLib.child.interpreter import Interpreter
from DiffMaSlicerLib.jobs.child_job import ChildJob
from DiffMaSlicerLib.jobs.conversion import SamplingOptions
from DiffMaSlicerLib.jobs.job import JobError
from DiffMaSlicerLib.mrml.geometry import to_world
from DiffMaSlicerLib.mrml.hierarchy import place_beside
from DiffMaSlicerLib.mrml.nodes import in_scene
from DiffMaSlicerLib.mrml.provenance import write_provenance
from DiffMaSlicerLib.mrml.volume_files import VolumeFiles

FORMATS = {"nii.gz": ".nii.gz", "nrrd": ".nrrd", "mha": ".mha", "dicom": ""}


@dataclass
class BatchItem:
    """One volume of a batch.

    Attributes:
        name: for people; may hold a patient's name, so it is never logged.
        state: "waiting", "running", "done" or "failed".
        output: path of the result, "" before it is there.
        reason: why it failed.
        node: the CT, for loaded volumes.
        outputNode: the loaded result, if asked for.
    """

    name: str
    state: str = "waiting"
    output: str = ""
    reason: str = ""
    node: Any = None
    outputNode: Any = None


class BatchConversion(ChildJob):
    """Converts several CTs; one that fails does not end the run.

    The result is the list of items. If all of them fail, so does the job.

    Attributes:
        items: one entry a volume, in order; those of a folder appear as they are begun.
    """

    def __init__(
        self,
        interpreter: Interpreter,
        files: VolumeFiles,
        inputs: Sequence[Any],
        folder: str,
        format: str = "nii.gz",
        options: SamplingOptions | None = None,
        load: bool = False,
    ) -> None:
        super().__init__(_("Convert several CTs (research only)"), interpreter)
        self.items: list[BatchItem] = []
        self.options = options or SamplingOptions()
        self._files, self._inputs, self._format, self._load = files, list(inputs), format, load
        self._target = Path(folder)
        self._by_input: dict[str, BatchItem] = {}
        self._nodes = [entry for entry in self._inputs if hasattr(entry, "GetImageData")]
        self._total = 0
        self._metadata: dict[str, dict[str, Any]] = {}

    def node_removed(self, node: Any) -> None:
        """A CT of this batch is about to leave the scene: fine once its voxels are written, else the run ends."""
        if node in self._nodes and self.process is None:
            self.cancel()

    def work(self) -> Generator[object, None, Any]:
        if self._format not in FORMATS:
            cause = _("the format {name} is unknown").format(name=self._format)
            raise JobError(cause, "InputError", _("Choose {names}.").format(names=", ".join(FORMATS)))
        if not self._inputs:
            raise JobError(_("there is nothing to convert"), "InputError", _("Choose volumes or a folder."))
        if not str(self._target).strip(". "):
            raise JobError(_("no folder for the results is chosen"), "OutputError", _("Choose one."))
        leases: list[Path] = []
        try:
            paths = yield from self._as_paths(leases)
            previews = ["--previews", str(self.folder / "slices")]
            arguments = ["convert", *paths, str(self._target), "--format", self._format, *previews]
            self._by_input.update({path: item for path, item in zip(paths, self.items, strict=False)})
            yield from self.run_process(self.interpreter.command([*arguments, *self.options.arguments()]))
            self._judge()
            if self._load:
                yield from self._load_results()
            return self.items
        finally:
            for path in leases:
                self._files.release(path)

    def on_error(self, event: Event) -> None:
        item = self._item_of(event)
        if item is None:
            super().on_error(event)
            return
        item.state, item.reason = "failed", event.text("message")

    def on_event(self, event: Event) -> Generator[object, None, Any] | None:
        if event.name == "volume":
            self._total = event.count("of") or self._total
            item = self._item_of(event)
            if item is not None:
                item.state = "running"
        elif event.name == "result":
            item = self._item_of(event)
            if item is not None:
                item.state, item.output = "done", event.text("output")
                self._metadata[item.output] = dict(event.facts)
        elif event.name == "slice":
            for path in (Path(event.text(key)) for key in ("values", "preview")):
                if path.parent == self.folder / "slices":  # no other file is the child's to name
                    path.unlink(missing_ok=True)
            position = 1 + sum(item.state in ("done", "failed") for item in self.items)
            counts = {"volume": position, "volumes": self._total, "slice": event.count("done") or 0}
            counts["slices"] = event.count("total") or 0
            text = _("volume {volume} of {volumes}, slice {slice} of {slices}")
            self.detail = (text if self._total else _("volume {volume}, slice {slice} of {slices}")).format(**counts)
        return None

    def say(self, line: str) -> None:
        """As ``Job.say``, without names and paths of inputs, which may be patients' names."""
        line = re.sub(r"^(volume \d+ of \d+):.*", r"\1", line)
        for number, path in enumerate(sorted(self._by_input, key=len, reverse=True), start=1):
            line = line.replace(path, f"(input {number})")
        super().say(line.replace(str(self._target), "(output folder)"))

    def _as_paths(self, leases: list[Path]) -> Generator[object, None, Any]:
        """What the command line gets: paths as they are, loaded volumes as one table of files."""
        paths = [str(entry) for entry in self._inputs if entry not in self._nodes]
        self.items = [BatchItem(Path(path).name) for path in paths if not Path(path).is_dir()]
        if not self._nodes:
            return paths
        rows = []
        self.items = []
        taken: set[str] = set()
        for node in self._nodes:
            if not in_scene(node):
                cause = _("a CT is no longer part of the scene")
                raise JobError(cause, "InputError", _("Choose the volumes again."))
            to_world(node)
            self.stage = _("reading the CTs")
            path = yield from self._files.acquire(node)
            leases.append(path)
            item = BatchItem(node.GetName(), node=node)
            self.items.append(item)
            self._by_input[str(path)] = item
            rows.append((str(path), _file_name(node.GetName(), taken) + FORMATS[self._format]))
        for path in paths:
            item = BatchItem(Path(path).name)
            self.items.append(item)
            self._by_input[path] = item
            rows.append((path, _file_name(Path(path).name.split(".")[0], taken) + FORMATS[self._format]))
        table = self.folder / "inputs.csv"
        with table.open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([("input", "output"), *rows])
        return [str(table)]

    def _item_of(self, event: Event) -> BatchItem | None:
        """The item that an event is about; one of a folder is met here for the first time."""
        path = event.text("input")
        if not path:
            return None
        if path not in self._by_input:
            self._by_input[path] = BatchItem(Path(path).name)
            self.items.append(self._by_input[path])
        return self._by_input[path]

    def _judge(self) -> None:
        """After the child has ended: is there anything to show?"""
        done = [item for item in self.items if item.state == "done"]
        if self._failure is not None:
            raise JobError(self._failure.message, self._failure.kind, self._failure.remedy)
        if self._exit_code() not in (0, 1):
            failure = self._unexplained()
            raise JobError(failure.message, failure.kind, failure.remedy)
        if not done:
            failed = next((item.reason for item in self.items if item.reason), _("no volume could be converted"))
            raise JobError(failures.reported(failed, "InputError").message, "InputError")
        self.detail = _("{done} of {all} volumes converted").format(done=len(done), all=len(self.items))
        self.say(self.detail)

    def _load_results(self) -> Generator[object, None, Any]:
        """Load the finished files by Slicer's own readers, one at a time (each blocks while it is read)."""
        self.stage = _("loading the results")
        for item in self.items:
            yield None
            if item.state != "done" or self._format == "dicom":
                continue
            item.outputNode = slicer.util.loadVolume(item.output)
            ct = item.node if in_scene(item.node) else None
            write_provenance(item.outputNode, self._metadata[item.output], ct=ct)
            if ct is not None:
                place_beside(item.outputNode, ct)


def _file_name(name: str, taken: set[str]) -> str:
    """``name`` as a file name that every operating system takes, unlike those in ``taken``."""
    safe = re.sub(r"[^\w\-]+", "_", name).strip("_")[:80] or "volume"
    candidate, number = f"{safe}_synthetic_mr", 1
    while candidate.lower() in taken:
        number += 1
        candidate = f"{safe}_{number}_synthetic_mr"
    taken.add(candidate.lower())
    return candidate
