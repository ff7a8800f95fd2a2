"""Files and folders that take the place of others."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from DiffMaCore.training.files import replacing_folder


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_folder_is_never_half_of_what_it_was_while_another_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, seen, remove = tmp_path / "bundle", [], shutil.rmtree

    def watched(path: Path, **options: object) -> None:
        seen.append(_names(folder))
        remove(path, **options)
        seen.append(_names(folder))

    folder.mkdir()
    for name in ("a", "b"):
        (folder / name).touch()
    monkeypatch.setattr(shutil, "rmtree", watched)
    with replacing_folder(folder) as part:
        for name in ("c", "d"):
            (part / name).touch()
    assert seen and all(names in ({"a", "b"}, {"c", "d"}) for names in seen)
    assert _names(tmp_path) == {"bundle"} and _names(folder) == {"c", "d"}


def test_a_folder_stays_as_it_was_where_its_successor_fails(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "a").touch()
    with pytest.raises(OSError), replacing_folder(folder) as part:
        (part / "b").touch()
        raise OSError
    assert _names(tmp_path) == {"bundle"} and _names(folder) == {"a"}
