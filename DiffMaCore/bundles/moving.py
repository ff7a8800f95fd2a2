"""Move the user's folder of models to another place, such as a larger disk."""

from __future__ import annotations

import shutil
from pathlib import Path

from DiffMaCore.bundles.home import CATALOGUE, home, models_folder
from DiffMaCore.bundles.manifest import Progress, first_difference, hashed
from DiffMaCore.errors import OutputError
from DiffMaCore.files import HIDDEN, refused, require_room, temporary_folder


def move_models(folder: Path, progress: Progress | None = None) -> Path:
    """Copy all models to ``folder``, compare every file with its original, and only then delete the originals.

    Whatever goes wrong, the models stay where they were; after a process was killed, the same call goes on or begins
    anew. Downloads that were broken off are left behind. From then on ``DIFFMA_HOME`` must be the folder that is
    returned.

    Raises:
        OutputError: the folder holds other models already, lies inside of the old one, or cannot be written.
    """
    new, old = Path(folder).expanduser().absolute(), home()
    if new.resolve() == old.resolve():
        raise OutputError(f"{new} is where the models are already; choose another folder.")
    if models_folder().resolve() in (new.resolve(), *new.resolve().parents):
        raise OutputError(f"{new} lies inside of the folder of models; choose one outside of it.")
    if new.exists() and not new.is_dir():
        raise OutputError(f"{new} is a file; choose a folder.")
    paths, present = _files(old), _files(new)
    both = sorted({*paths} & {*present})
    begun = len(both) in (len(paths), len(present)) and first_difference(new, dict(hashed(old, both))) is None
    if present and not begun:
        raise OutputError(f"{new} holds models or a catalogue already; choose a new folder.")
    was_there = new.exists()
    try:
        with refused(new):
            _copy_all(old, new, [path for path in paths if path not in present], progress)
    except BaseException:
        if not was_there:
            shutil.rmtree(new, ignore_errors=True)
        raise
    with temporary_folder(old / "models") as bin_, refused(old):
        for path in (old / "models").iterdir():
            if not path.name.startswith(HIDDEN):
                path.rename(bin_ / path.name)
        (old / CATALOGUE).unlink(missing_ok=True)
    return new


def _copy_all(old: Path, new: Path, paths: list[str], progress: Progress | None) -> None:
    """Copy files into a folder next to their place, compare them, and put each model into its place in one step."""
    with temporary_folder(new / "models") as incoming:
        require_room(new, sum((old / path).stat().st_size for path in paths), "the models")
        checksums = dict(hashed(old, paths, progress, copy_to=incoming))
        if different := first_difference(incoming, checksums, progress):
            raise OutputError(f"{new / different} is not what was copied; check that disk, the models stay in {old}.")
        for path in sorted((incoming / "models").glob("*")):
            path.rename(new / "models" / path.name)
        if CATALOGUE in paths:
            (incoming / CATALOGUE).rename(new / CATALOGUE)


def _files(old: Path) -> list[str]:
    """What belongs to the store, as POSIX paths below the old home; nothing that is hidden or still coming."""
    models = old / "models"
    found = [path for path in models.rglob("*") if path.is_file()] if models.is_dir() else []
    shown = [path for path in found if not path.relative_to(models).parts[0].startswith(".")]
    if (old / CATALOGUE).is_file():
        shown.append(old / CATALOGUE)
    return sorted(path.relative_to(old).as_posix() for path in shown)
