"""Bundles of the same tiny networks that say something else of themselves."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from DiffMaCore.bundles.config import INDEX_FILE
from DiffMaCore.bundles.manifest import write_manifest


def saying(bundle: Path, folder: Path, **settings: Any) -> Path:
    """A copy of ``bundle`` as ``folder``, whose name it takes, with these settings; no torch is imported."""
    shutil.copytree(bundle, folder)
    path = folder / INDEX_FILE
    index = json.loads(path.read_text())
    index["bundle"] |= {"name": folder.name, "title": f"{folder.name} of tiny networks", **settings}
    path.write_text(json.dumps(index))
    write_manifest(folder)
    return folder
