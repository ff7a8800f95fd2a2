"""Zips made to harm, or damaged on the way, are refused by name and leave nothing behind."""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from DiffMaCore.bundles import store
from DiffMaCore.errors import ModelError


@pytest.fixture
def archive(bundle: Path, tmp_path: Path, zip_of: Callable[[Path, Path], Path]) -> Path:
    return zip_of(bundle, tmp_path / "bundle.zip")


def refused(archive: Path, home: Path, match: str) -> None:
    outside = sorted(path for path in home.parent.rglob("*") if home not in path.parents)
    with pytest.raises(ModelError, match=match):
        store.add(archive)
    assert list((home / "models").iterdir()) == []
    assert sorted(p for p in home.parent.rglob("*") if home not in p.parents and p != home) == [
        path for path in outside if path != home
    ]


@pytest.mark.parametrize("name", ["../evil.json", "/tmp/evil.json", "a/../../evil.json", "C:evil.json"])
def test_a_path_that_leaves_the_folder_is_refused(archive: Path, home: Path, name: str) -> None:
    with zipfile.ZipFile(archive, "a") as made:
        made.writestr(name, "{}")
    refused(archive, home, "outside of the bundle")


def test_a_symlink_is_refused(archive: Path, home: Path) -> None:
    link = zipfile.ZipInfo("link.json")
    link.create_system = 3
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(archive, "a") as made:
        made.writestr(link, "/etc/passwd")
    refused(archive, home, "link.json is a symlink")


def test_a_zip_bomb_is_refused_without_unpacking(archive: Path, home: Path) -> None:
    with zipfile.ZipFile(archive, "a", zipfile.ZIP_DEFLATED) as made:
        made.writestr("big.safetensors", bytes(64 << 20))
    refused(archive, home, "implausible size")


def test_a_file_that_the_manifest_does_not_list_is_refused(archive: Path, home: Path) -> None:
    with zipfile.ZipFile(archive, "a") as made:
        made.writestr("denoiser/pytorch_model.bin", b"x")
    refused(archive, home, r"pytorch_model.bin is not in its manifest.json")


def test_a_truncated_zip_is_refused(archive: Path, home: Path) -> None:
    data = archive.read_bytes()
    for keep in (0, 10, len(data) // 2, len(data) - 1):
        archive.write_bytes(data[:keep])
        refused(archive, home, "not a readable zip or is truncated")


def test_flipped_bytes_never_get_installed(archive: Path, home: Path) -> None:
    data = archive.read_bytes()
    for position in range(40, 600, 80):
        damaged = bytearray(data)
        damaged[position] ^= 0xFF
        archive.write_bytes(damaged)
        refused(archive, home, ".")


def test_a_zip_without_manifest_or_without_a_bundle_says_which(bundle: Path, tmp_path: Path, home: Path) -> None:
    path = tmp_path / "some.zip"
    with zipfile.ZipFile(path, "w") as made:
        made.write(bundle / "model_index.json", "model_index.json")
    refused(path, home, r"no usable manifest.json")
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("holiday.txt", "sun")
    refused(path, home, r"holds no model_index.json")


def test_what_a_mac_adds_to_a_zip_is_ignored(archive: Path, home: Path) -> None:
    with zipfile.ZipFile(archive, "a") as made:
        made.writestr("__MACOSX/._model_index.json", b"x")
        made.writestr(".DS_Store", b"x")
    assert store.verify_installed(store.add(archive).name)
