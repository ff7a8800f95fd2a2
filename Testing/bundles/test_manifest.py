"""Damaged files are named and not loaded."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from DiffMaCore.bundles.manifest import bundle_checksum, verify, write_manifest
from DiffMaCore.errors import ModelError

WEIGHTS = "denoiser/diffusion_pytorch_model.safetensors"


def test_the_manifest_lists_every_file_sorted_with_size_and_checksum(bundle: Path) -> None:
    content = json.loads((bundle / "manifest.json").read_text())
    paths = [entry["path"] for entry in content["files"]]
    assert paths == sorted(paths) and paths[:3] == ["README.md", "denoiser/config.json", WEIGHTS]
    assert set(paths) == {str(p.relative_to(bundle)) for p in bundle.rglob("*") if p.is_file()} - {"manifest.json"}
    for entry in content["files"]:
        data = (bundle / entry["path"]).read_bytes()
        assert (entry["size"], entry["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    assert content["bundle_sha256"] == bundle_checksum(bundle)


def test_a_sound_bundle_verifies_with_progress_to_the_last_byte(bundle: Path) -> None:
    seen: list[tuple[int, int, str]] = []
    verify(bundle, lambda done, total, name: seen.append((done, total, name)))
    assert seen[-1][0] == seen[-1][1] and [s[0] for s in seen] == sorted(s[0] for s in seen)


def test_the_checksum_does_not_depend_on_where_the_folder_lies(bundle: Path, tmp_path: Path) -> None:
    before = bundle_checksum(bundle)
    assert write_manifest(bundle.rename(tmp_path / "moved")).bundle_sha256 == before


def test_a_truncated_file_is_named(bundle: Path) -> None:
    (bundle / WEIGHTS).write_bytes(b"short")
    with pytest.raises(ModelError, match=r"diffusion_pytorch_model.safetensors is truncated \(5 of 2560\d\d bytes\)"):
        verify(bundle)


def test_one_altered_byte_is_found_and_the_file_named(bundle: Path) -> None:
    data = bytearray((bundle / WEIGHTS).read_bytes())
    data[1234] ^= 1
    (bundle / WEIGHTS).write_bytes(data)
    with pytest.raises(ModelError, match="safetensors was altered"):
        verify(bundle)


def test_a_longer_a_missing_and_an_unlisted_file_are_named(bundle: Path) -> None:
    extra = bundle / "denoiser" / "extra.json"
    extra.write_text("{}")
    with pytest.raises(ModelError, match=r"extra.json does not belong"):
        verify(bundle)
    extra.unlink()
    (bundle / WEIGHTS).write_bytes(bytes(257000))
    with pytest.raises(ModelError, match="altered"):
        verify(bundle)
    (bundle / WEIGHTS).unlink()
    with pytest.raises(ModelError, match="is missing"):
        verify(bundle)


def test_what_desktops_drop_into_folders_is_ignored(bundle: Path) -> None:
    (bundle / ".DS_Store").write_bytes(b"x")
    (bundle / "denoiser" / "Thumbs.db").write_bytes(b"x")
    verify(bundle)


def test_a_bundle_without_a_manifest_is_refused_with_the_remedy(bundle: Path) -> None:
    (bundle / "manifest.json").unlink()
    with pytest.raises(ModelError, match=r"has no manifest.json.*save_pretrained"):
        verify(bundle)


def test_an_altered_manifest_is_noticed(bundle: Path) -> None:
    content = json.loads((bundle / "manifest.json").read_text())
    content["files"][0]["size"] += 1
    (bundle / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(ModelError, match=r"altered manifest.json"):
        verify(bundle)


@pytest.mark.parametrize("path", ["../evil.json", "/etc/passwd", "a/../../b", "C:/x", "a\\b", "", "a//b"])
def test_a_listed_path_that_leaves_the_folder_is_refused(bundle: Path, path: str) -> None:
    content = json.loads((bundle / "manifest.json").read_text())
    content["files"][0]["path"] = path
    (bundle / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(ModelError, match="outside of the bundle"):
        verify(bundle)


def test_symlinks_are_refused(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s")
    (bundle / "link.json").symlink_to(tmp_path / "secret")
    for check in (verify, write_manifest):
        with pytest.raises(ModelError, match=r"link.json is a symlink"):
            check(bundle)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "weights.pt", "code.py"])
def test_files_that_could_run_code_are_not_listed(bundle: Path, name: str) -> None:
    (bundle / "denoiser" / name).write_bytes(b"x")
    with pytest.raises(ModelError, match="could run code"):
        write_manifest(bundle)
