"""What could be had beside what is installed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from DiffMaCore.bundles import store
from DiffMaCore.bundles.hub import list_catalogue
from DiffMaCore.errors import ModelError


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DIFFMA_HOME", str(tmp_path))
    return tmp_path


def _write(home: Path, *models: dict[str, str]) -> None:
    (home / "catalogue.json").write_text(json.dumps({"models": models}))


ENTRY = {"name": "brain-ours", "title": "Our brain model", "anatomy": "brain", "size": "L/2"}


def test_the_authors_weights_can_be_imported_and_no_hub_is_claimed_to_have_them(home: Path) -> None:
    entries = list_catalogue()
    assert {entry["size"] for entry in entries} == {"B/2", "L/2"}, "what is known to be published"
    assert {entry["anatomy"] for entry in entries} == {"brain", "pelvis"}
    for entry in entries:
        assert (entry["state"], entry["hub"]) == ("importable", None)
        assert "two files" in entry["how"] and entry["link"].startswith("https://")
    assert len({entry["name"] for entry in entries}) == len(entries)


def test_an_institution_lists_its_own_first(home: Path) -> None:
    _write(home, {**ENTRY, "hub": "clinic/brain"})
    first = list_catalogue()[0]
    assert (first["name"], first["state"], first["hub"]) == ("brain-ours", "downloadable", "clinic/brain")
    assert "diffma models download clinic/brain" in first["how"]


def test_what_is_installed_is_not_offered(home: Path, tiny_bundle: Path) -> None:
    _write(home, {**ENTRY, "name": "tiny"}, {**ENTRY, "hub": "clinic/brain"})
    installed = store.add(tiny_bundle)
    assert "tiny" not in {entry["name"] for entry in list_catalogue()}
    store.record(installed, "hub clinic/brain@0123456789ab")
    assert "clinic/brain" not in {entry["hub"] for entry in list_catalogue()}


@pytest.mark.parametrize("content", ["{}", '{"models": [{"name": "x"}]}', "not json"])
def test_a_damaged_catalogue_is_named(home: Path, content: str) -> None:
    (home / "catalogue.json").write_text(content)
    with pytest.raises(ModelError, match=r"catalogue\.json"):
        list_catalogue()


def test_a_hub_id_that_is_none_is_refused(home: Path) -> None:
    _write(home, {**ENTRY, "hub": "https://example.org/model"})
    with pytest.raises(ModelError, match="hub id"):
        list_catalogue()
