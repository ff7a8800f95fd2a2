"""A synthetic MR as a derived DICOM series that says that it is synthetic."""

from __future__ import annotations

import json
from collections.abc import Generator
from typing import Any

import slicer
from slicer.i18n import tr as _

from DiffMaSlicerLib.child.interpreter import Interpreter
from DiffMaSlicerLib.jobs.child_job import ChildJob
from DiffMaSlicerLib.jobs.compare import is_synthetic, source_ct
from DiffMaSlicerLib.jobs.job import JobError
from DiffMaSlicerLib.mrml.provenance import as_metadata
from DiffMaSlicerLib.mrml.volume_files import VolumeFiles


class DicomExport(ChildJob):
    """Writes a series into a folder; the result is a dict with folder, files and anonymous.

    Patient and study come from the DICOM files that the CT was loaded from, where Slicer's database has them;
    otherwise the series is anonymous, and the job says so.
    """

    def __init__(self, interpreter: Interpreter, files: VolumeFiles, mr: Any, folder: str) -> None:
        super().__init__(_("Export as derived DICOM series"), interpreter)
        self.mr, self._files, self._target = mr, files, str(folder)

    def node_removed(self, node: Any) -> None:
        """A node is about to leave the scene: without the MR there is nothing to export."""
        if node is self.mr:
            self.cancel()

    def work(self) -> Generator[object, None, Any]:
        if not is_synthetic(self.mr):
            cause = _("the volume is not a synthetic MR made by this module")
            raise JobError(cause, "InputError", _("Choose one; other volumes are exported by Slicer's DICOM module."))
        if not self._target.strip():
            raise JobError(_("no folder is chosen"), "OutputError", _("Choose a new or empty folder."))
        self.stage = _("reading the volume")
        path = yield from self._files.acquire(self.mr)
        try:
            metadata = self.folder / "metadata.json"
            metadata.write_text(json.dumps(as_metadata(self.mr)), encoding="utf-8")
            arguments = ["export-dicom", str(path), self._target, "--metadata", str(metadata)]
            sources = source_files(source_ct(self.mr))
            if sources:
                listing = self.folder / "sources.txt"
                listing.write_text("\n".join(sources) + "\n", encoding="utf-8")
                arguments += ["--source", str(listing)]
            else:
                self.warn(_("The CT was not loaded from Slicer's DICOM database: the series is anonymous."))
            return (yield from self.child(arguments))
        finally:
            self._files.release(path)


def source_files(ct: Any) -> list[str]:
    """The DICOM files that ``ct`` was loaded from; [] where Slicer's database does not know them all."""
    uids = (ct.GetAttribute("DICOM.instanceUIDs") or "").split() if ct is not None else []
    database = getattr(slicer, "dicomDatabase", None)
    if not uids or database is None:
        return []
    files = [str(database.fileForInstance(uid) or "") for uid in uids]
    return files if all(files) else []
