"""Installing, finding and removing bundles."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from DiffMaCore import files
from DiffMaCore.bundles import store
from DiffMaCore.bundles.home import home as user_folder
from DiffMaCore.errors import ModelError, OutputError

Make = Callable[..., Path]


def test_the_user_folder_follows_the_platform_and_can_be_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DIFFMA_HOME", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    monkeypatch.setenv("HOME", str(tmp_path))
    for platform, expected in {
        "linux": tmp_path / "xdg" / "diffma",
        "win32": tmp_path / "local" / "DiffMa",
        "darwin": tmp_path / "Library" / "Application Support" / "DiffMa",
    }.items():
        monkeypatch.setattr(sys, "platform", platform)
        assert user_folder() == expected
    monkeypatch.setenv("DIFFMA_HOME", str(tmp_path / "mine"))
    assert user_folder() == tmp_path / "mine"


def test_an_added_folder_is_listed_resolved_and_untouched(home: Path, bundle: Path) -> None:
    before = {path: path.read_bytes() for path in bundle.rglob("*") if path.is_file()}
    target = store.add(bundle)
    assert target == home / "models" / "tiny" == store.resolve("tiny")
    entry = next(entry for entry in store.list_models() if entry.name == "tiny")
    assert (entry.anatomy, entry.demo, entry.source) == ("brain", False, "folder tiny")
    assert entry.size == "B/2, latent 8" and entry.bytes == sum(map(len, before.values()))
    assert {path: path.read_bytes() for path in bundle.rglob("*") if path.is_file()} == before
    assert store.verify_installed("tiny") == target


@pytest.mark.parametrize("prefix", ["", "tiny-1.0/"])
def test_an_added_zip_equals_the_folder_it_was_made_of(
    home: Path, bundle: Path, tmp_path: Path, prefix: str, zip_of: Make
) -> None:
    archive = zip_of(bundle, tmp_path / "bundle.zip", prefix)
    target = store.add(archive, name="zipped")
    assert target.name == "zipped"
    for path in (path for path in bundle.rglob("*") if path.is_file()):
        assert (target / path.relative_to(bundle)).read_bytes() == path.read_bytes()
    assert sorted(p.name for p in (home / "models").iterdir()) == ["zipped", "zipped.source.json"]


def test_the_store_works_after_being_moved(
    home: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add(bundle)
    text = "".join(p.read_text("latin-1") for p in home.rglob("*") if p.is_file())
    assert str(tmp_path) not in text
    home.rename(tmp_path / "elsewhere")
    monkeypatch.setenv("DIFFMA_HOME", str(tmp_path / "elsewhere"))
    assert store.verify_installed("tiny") == tmp_path / "elsewhere" / "models" / "tiny"


def test_an_unknown_name_lists_what_there_is_and_the_nearest(home: Path, bundle: Path) -> None:
    store.add(bundle, name="brain-t1")
    with pytest.raises(ModelError, match=r"'brian-t1'.*did you mean 'brain-t1'.*Installed are .*brain-t1"):
        store.resolve("brian-t1")


def test_a_folder_and_a_hub_id_resolve_too(home: Path, bundle: Path) -> None:
    assert store.resolve(bundle) == bundle
    target = store.add(bundle)
    store.record(target, "hub someone/tiny@0123456789ab")
    assert store.resolve("someone/tiny") == target
    with pytest.raises(ModelError):
        store.resolve("someone/tin")


def test_a_zip_or_another_folder_given_as_a_model_is_explained(
    home: Path, bundle: Path, tmp_path: Path, zip_of: Make
) -> None:
    archive = zip_of(bundle, tmp_path / "b.zip")
    with pytest.raises(ModelError, match=r"models add"):
        store.resolve(archive)
    with pytest.raises(ModelError, match=r"not a model bundle.*model_index.json"):
        store.resolve(tmp_path)


def test_a_taken_reserved_or_impossible_name_is_refused_before_copying(home: Path, bundle: Path) -> None:
    store.add(bundle)
    with pytest.raises(ModelError, match=r"'tiny' is installed already.*--name"):
        store.add(bundle)
    for name in ("demo", "NUL", "com1.txt"):
        with pytest.raises(ModelError, match="reserved"):
            store.add(bundle, name)
    for name in ("../up", "a/b", ".hidden", "end.", "x" * 65, "a b"):
        with pytest.raises(ModelError, match="cannot be called"):
            store.add(bundle, name)
    assert [entry.name for entry in store.list_models() if entry.name not in store.bundled_names()] == ["tiny"]


def test_a_damaged_or_unlisted_bundle_leaves_no_trace(home: Path, bundle: Path) -> None:
    (bundle / "denoiser" / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"config.json is truncated"):
        store.add(bundle)
    (bundle / "manifest.json").unlink()
    with pytest.raises(ModelError, match=r"no manifest.json"):
        store.add(bundle)
    with pytest.raises(ModelError, match="does not exist"):
        store.add(bundle / "nothing")
    assert not list(home.rglob("*"))


def test_a_bundle_damaged_after_installing_is_named_by_verify_and_still_listed(home: Path, bundle: Path) -> None:
    target = store.add(bundle)
    weights = target / "denoiser" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(ModelError, match="safetensors is truncated"):
        store.verify_installed("tiny")
    (target / "model_index.json").write_text("{")
    entry = next(entry for entry in store.list_models() if entry.name == "tiny")
    assert entry.problem and "model_index.json" in entry.problem
    store.remove("tiny")
    assert store.installed_names() == store.bundled_names()


def test_a_bundle_exchanged_together_with_its_manifest_is_noticed(home: Path, bundle: Path, make_bundle: Make) -> None:
    target = store.add(bundle)
    other = make_bundle("other", anatomy="pelvis")
    shutil.rmtree(target)
    shutil.copytree(other, target)
    with pytest.raises(ModelError, match="not the bundle that was installed"):
        store.verify_installed("tiny")


def test_remove_frees_the_bundle_and_nothing_outside_of_the_store(home: Path, bundle: Path) -> None:
    target = store.add(bundle)
    size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    for name in (str(bundle), "../models/tiny", "tinny"):
        with pytest.raises(ModelError):
            store.remove(name)
    assert bundle.is_dir()
    assert store.remove("tiny") == size
    assert list((home / "models").iterdir()) == []


def test_the_demo_cannot_be_removed(home: Path) -> None:
    with pytest.raises(ModelError, match="ships inside of the package"):
        store.remove("demo")


def test_a_full_disk_is_told_before_anything_is_copied(
    home: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_RESERVE", 1 << 62)
    with pytest.raises(OutputError, match="MB free"):
        store.add(bundle)


def test_a_store_that_cannot_be_made_names_the_variable(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DIFFMA_HOME", str(tmp_path / "file"))
    with pytest.raises(OutputError, match="DIFFMA_HOME"):
        store.add(bundle)


def test_the_source_record_tells_no_absolute_path(home: Path, bundle: Path, tmp_path: Path, zip_of: Make) -> None:
    store.add(zip_of(bundle, tmp_path / "given.zip"))
    assert json.loads((home / "models" / "tiny.source.json").read_text())["source"] == "zip given.zip"
