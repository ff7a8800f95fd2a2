"""Move the user's folder of models to another place, such as a larger disk."""

from __future__ import annotations

import shutil
from pathlib import Path

from DiffMaCore.bundles.catalogue import FILE as CATALOGUE
from DiffMaCore.bundles.copying import copy_files, first_difference
from DiffMaCore.bundles.home import home, models_folder, require_room
from DiffMaCore.bundles.manifest import Progress
from DiffMaCore.errors import OutputError


def move_models(folder: Path, progress: Progress | None = None) -> Path:
    """Copy all models to ``folder``, compare every file with its original, and only then delete the originals.

    Whatever goes wrong, the models stay where they were. Downloads that were broken off are left behind. From then
    on ``DIFFMA_HOME`` must be the folder that is returned.

    Raises:
        OutputError: the folder holds models already, lies inside of the old one, or cannot be written.
    """
    new, old = Path(folder).expanduser().absolute(), home()
    if new.resolve() == old.resolve():
        raise OutputError(f"{new} is where the models are already; choose another folder.")
    if models_folder().resolve() in (new.resolve(), *new.resolve().parents):
        raise OutputError(f"{new} lies inside of the folder of models; choose one outside of it.")
    if new.exists() and not new.is_dir():
        raise OutputError(f"{new} is a file; choose a folder.")
    if (new / CATALOGUE).exists() or ((new / "models").exists() and any((new / "models").iterdir())):
        raise OutputError(f"{new} holds models or a catalogue already; choose a new folder.")
    paths = _files(old)
    kept = new.exists(), (new / "models").exists()
    try:
        new.mkdir(parents=True, exist_ok=True)
        require_room(sum((old / path).stat().st_size for path in paths), new)
        checksums = copy_files(old, new, paths, progress)
        different = first_difference(new, checksums, progress)
        if different:
            raise OutputError(f"{new / different} is not what was copied; check that disk, the models stay in {old}.")
        (new / "models").mkdir(exist_ok=True)
    except BaseException as error:
        _discard(new, kept)
        if isinstance(error, OSError):
            raise OutputError(f"{new} cannot be written ({error.strerror}); choose another folder.") from None
        raise
    shutil.rmtree(old / "models", ignore_errors=True)
    (old / CATALOGUE).unlink(missing_ok=True)
    return new


def _files(old: Path) -> list[str]:
    """What belongs to the store, as POSIX paths below the old home; nothing that is hidden or still coming."""
    models = old / "models"
    found = [path for path in models.rglob("*") if path.is_file()] if models.is_dir() else []
    shown = [path for path in found if not path.relative_to(models).parts[0].startswith(".")]
    if (old / CATALOGUE).is_file():
        shown.append(old / CATALOGUE)
    return sorted(path.relative_to(old).as_posix() for path in shown)


def _discard(new: Path, kept: tuple[bool, bool]) -> None:
    """Take away what was copied; folders that were there before stay."""
    if not kept[0]:
        shutil.rmtree(new, ignore_errors=True)
        return
    (new / CATALOGUE).unlink(missing_ok=True)
    shutil.rmtree(new / "models", ignore_errors=True)
    if kept[1]:
        (new / "models").mkdir()
