"""Loading says what was wrong: the memory, the file, the disk, or the program itself."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import safetensors.torch
from safetensors.torch import save_file

from DiffMaCore.bundles.store import resolve
from DiffMaCore.errors import ModelError, OutOfMemory, OutputError, explain
from DiffMaCore.inference.import_released import import_released
from DiffMaCore.inference.pipeline import DiffMaPipeline
from DiffMaCore.models.components import IMAGE_ENCODER, VAE, obtain
from DiffMaCore.progress import Reporter
from DiffMaCore.training.experiment import Folders
from DiffMaCore.training.parts import load_parts
from Testing.training.tiny_cache import tiny_experiment

from .released_files import denoiser_state, embedder_state, save_open_clip, save_vae


@pytest.fixture(
    params=[
        MemoryError("Cannot allocate memory (os error 12)"),
        RuntimeError("unable to mmap 165585612 bytes from file <weights>: Cannot allocate memory (12)"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: not enough memory: you tried to"),
        OSError(None, "The paging file is too small for this operation to complete. (os error 1455)"),
    ],
    ids=["read", "map", "allocate", "Windows"],
)
def no_memory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From its call on, weights find no memory; the errors are those that loaders were seen to raise."""

    def fail(*args: Any, **options: Any) -> Any:
        raise request.param

    return lambda: monkeypatch.setattr(safetensors.torch, "safe_open", fail)


def _load_bundle(folder: Path, tiny_bundle: Path) -> Callable[[], object]:
    return lambda: DiffMaPipeline.from_pretrained(tiny_bundle)


def _load_vae(folder: Path, tiny_bundle: Path) -> Callable[[], object]:
    vae = save_vae(folder / "vae")
    return lambda: obtain(VAE, str(vae))


def _load_image_encoder(folder: Path, tiny_bundle: Path) -> Callable[[], object]:
    encoder = save_open_clip(folder / "clip")
    return lambda: obtain(IMAGE_ENCODER, str(encoder))


def _load_checkpoint(folder: Path, tiny_bundle: Path) -> Callable[[], object]:
    save_file(denoiser_state(), folder / "denoiser.safetensors")
    save_file(embedder_state(), folder / "embedder.safetensors")
    names = (folder / "denoiser.safetensors", folder / "embedder.safetensors")
    return lambda: import_released(*names, folder / "bundle", "brain")


def _load_parts(folder: Path, tiny_bundle: Path) -> Callable[[], object]:
    experiment = tiny_experiment(folder)
    return lambda: load_parts(experiment, Folders(folder / "run"), Reporter())


@pytest.mark.parametrize("what", [_load_bundle, _load_vae, _load_image_encoder, _load_checkpoint, _load_parts])
def test_a_lack_of_memory_while_loading_is_told_as_one(
    what: Callable[[Path, Path], Callable[[], object]],
    no_memory: Callable[[], None],
    tiny_bundle: Path,
    tmp_path: Path,
) -> None:
    load = what(tmp_path, tiny_bundle)
    no_memory()
    with pytest.raises(OutOfMemory, match=r"the memory was not enough to load .*; close other programs") as caught:
        load()
    assert explain(caught.value).kind == "OutOfMemory"


def test_a_defect_or_a_missing_package_is_not_told_as_a_damaged_file(tmp_path: Path) -> None:
    vae = str(save_vae(tmp_path / "vae"))

    def failing(error: Exception) -> Callable[[Path], Any]:
        def load(folder: Path) -> Any:
            raise error

        return load

    for error in (AttributeError("a defect"), ModuleNotFoundError("No module named 'timm'", name="timm")):
        with pytest.raises(type(error)):
            obtain(replace(VAE, load=failing(error)), vae)
    with pytest.raises(ModelError, match=r"cannot be loaded as vae \(shapes differ\): fetch it again") as caught:
        obtain(replace(VAE, load=failing(RuntimeError("shapes differ"))), vae)
    assert isinstance(caught.value.__cause__, RuntimeError)


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        ("config.json", b"{"),
        ("config.json", b"\xff\xfe"),
        ("config.json", b"[1]"),
        ("config.json", b'{"norm_num_groups": 3}'),
    ]
    + [
        ("diffusion_pytorch_model.safetensors", content) for content in (b"", b"half", b"\x08" + bytes(7) + b"{}  abcd")
    ],
)
def test_whatever_is_damaged_is_told_as_damaged(damage: str, what: bytes, tmp_path: Path) -> None:
    vae = save_vae(tmp_path / "vae")
    (vae / damage).write_bytes(what)
    with pytest.raises(ModelError, match=r"fetch (it|the bundle) again"):
        obtain(VAE, str(vae))


def test_a_full_disk_and_a_defect_are_not_told_as_a_hub_that_is_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    errors: list[Exception] = []

    def broken(*args: Any, **options: Any) -> str:
        raise errors[0]

    monkeypatch.setattr(huggingface_hub, "snapshot_download", broken)
    errors[:] = [OSError(errno.ENOSPC, "No space left on device")]
    with pytest.raises(OutputError, match=r"no room to keep stabilityai/.* \(No space left on device\)"):
        obtain(VAE, None)
    errors[:] = [AttributeError("a defect")]
    with pytest.raises(AttributeError):
        obtain(VAE, None)
    errors[:] = [ConnectionError("offline")]
    assert obtain(VAE, None) is None


def test_a_written_bundle_does_not_tell_where_its_parts_were_loaded_from(tiny_bundle: Path, tmp_path: Path) -> None:
    DiffMaPipeline.from_pretrained(tiny_bundle).save_pretrained(tmp_path / "again")
    configs = [tmp_path / "again" / "model_index.json", *(tmp_path / "again").glob("*/config.json")]
    assert len(configs) >= 5
    assert not [path for path in configs if str(tiny_bundle) in path.read_text() or "_name_or_path" in path.read_text()]


@pytest.mark.parametrize("name", ["demo", "demo-t2", "demo-flair"])
def test_a_bundled_model_does_not_tell_where_it_was_made(name: str) -> None:
    texts = [path.read_text() for path in resolve(name).rglob("*") if path.suffix in (".json", ".md")]
    assert len(texts) >= 7
    assert not [text for text in texts if re.search(r"_name_or_path|(?<![.\w])/(home|work|tmp|root|Users)/", text)]
