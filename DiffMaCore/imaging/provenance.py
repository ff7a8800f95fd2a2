"""A synthetic image's file in, what it says of how it was made out."""

from __future__ import annotations

import re
from pathlib import Path

from DiffMaCore.imaging.nifti import open_maybe_gzip

_HEADER_BYTES = 65536
# JSON in a NIfTI's extension, `key:=value` in NRRD, `key = value` in MetaImage
_MODALITY = re.compile(rb'target_modality(?:"\s*:\s*"|:=|\s*=\s*)([^"\r\n]+)')


def written_modality(path: Path) -> str | None:
    """The target modality ("MR T1") in the header that ``write_volume`` wrote; None where there is none."""
    if not path.is_file():
        return None
    try:
        with open_maybe_gzip(path) as stream:
            found = _MODALITY.search(stream.read(_HEADER_BYTES))
    except (OSError, EOFError):
        return None
    return found[1].decode("utf-8", "replace").strip() if found else None
