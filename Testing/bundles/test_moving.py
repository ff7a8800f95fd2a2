"""Moving the store: all of it, or nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from DiffMaCore.bundles import moving, store
from DiffMaCore.bundles.moving import move_models
from DiffMaCore.errors import OutputError


@pytest.fixture
def home(tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DIFFMA_HOME", str(tmp_path / "old"))
    store.add(tiny_bundle)
    (tmp_path / "old" / "catalogue.json").write_text('{"models": []}')
    (tmp_path / "old" / "models" / ".partial").mkdir()
    (tmp_path / "old" / "models" / ".partial" / "half").write_text("half of a download")
    return tmp_path / "old"


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_models_are_found_in_the_new_place_and_gone_from_the_old(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {name: data for name, data in _contents(home).items() if "/.partial/" not in name}
    told: list[tuple[int, int, str]] = []
    new = move_models(tmp_path / "new", lambda *args: told.append(args))
    assert new == tmp_path / "new" and _contents(new) == before
    assert _contents(home) == {}
    assert {what.split()[0] for _, _, what in told} == {"copying", "checking"}
    assert told[-1][0] == told[-1][1] == sum(map(len, before.values()))
    monkeypatch.setenv("DIFFMA_HOME", str(new))
    store.verify_installed("tiny")
    assert store.describe("tiny", store.resolve("tiny")).source == "folder tiny"


def test_a_place_that_cannot_take_them_is_refused(home: Path, tmp_path: Path) -> None:
    (tmp_path / "full" / "models" / "other").mkdir(parents=True)
    (tmp_path / "full" / "models" / "other" / "README.md").write_text("another model")
    (tmp_path / "file").write_text("a file")
    before = _contents(home)
    for place in (home, home / "models" / "inside", tmp_path / "full", tmp_path / "file"):
        with pytest.raises(OutputError):
            move_models(place)
    assert _contents(home) == before


def test_a_copy_that_differs_leaves_the_models_where_they_were(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = _contents(home)
    (tmp_path / "there" / "models").mkdir(parents=True)
    monkeypatch.setattr(moving, "first_difference", lambda *_: "models/tiny/README.md")
    for name in ("new", "there"):
        with pytest.raises(OutputError, match="not what was copied"):
            move_models(tmp_path / name)
    assert _contents(home) == before
    assert not (tmp_path / "new").exists()
    assert not list((tmp_path / "there" / "models").iterdir())
