"""The authors' files become bundles that give the released results."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from DiffMaCore.bundles import store
from DiffMaCore.bundles.config import BundleConfig, read_config
from DiffMaCore.bundles.manifest import verify
from DiffMaCore.errors import ModelError, OutputError
from DiffMaCore.files import HIDDEN
from DiffMaCore.inference.import_released import complete_bundle, import_released
from DiffMaCore.inference.pipeline import DiffMaPipeline
from Testing.conftest import GOLDEN

from .released_files import denoiser_state, embedder_state, save_checkpoint, save_open_clip, save_vae


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No hub and no cache, so that a test never depends on what this machine has downloaded."""
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    denoiser = save_checkpoint(tmp_path / "denoiser.pt", denoiser_state())
    return denoiser, save_checkpoint(tmp_path / "embedder.pt", embedder_state())


def import_complete(files: tuple[Path, Path], folder: Path) -> BundleConfig:
    vae, encoder = save_vae(folder / "vae"), save_open_clip(folder / "clip")
    return import_released(*files, folder / "bundle", "brain", vae=str(vae), image_encoder=str(encoder))


@pytest.mark.parametrize("golden", ["spiral_grid4", "spiral_grid7"])
def test_an_imported_bundle_gives_the_golden_vectors(
    golden: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    path = GOLDEN / f"{golden}.npz"  # the larger ones are kept beside the repository
    vectors = dict(np.load(path if path.is_file() else request.getfixturevalue("shared") / "golden" / path.name))
    tensors = {key: torch.from_numpy(value) for key, value in vectors.items()}
    for part in ("denoiser", "embedder"):
        state = {k.removeprefix(f"{part}."): v for k, v in tensors.items() if k.startswith(f"{part}.")}
        save_checkpoint(tmp_path / f"{part}.pt", state)
    latent_size, patch_size, width, depth = (int(value) for value in vectors["meta"])
    vae, encoder = save_vae(tmp_path / "vae"), save_open_clip(tmp_path / "clip", width)
    files = tmp_path / "denoiser.pt", tmp_path / "embedder.pt"
    config = import_released(*files, tmp_path / "bundle", "brain", vae=str(vae), image_encoder=str(encoder))
    assert config.image_size == 8 * latent_size and not config.missing
    pipe = DiffMaPipeline.from_pretrained(tmp_path / "bundle")
    sizes = (pipe.denoiser.config["patch_size"], pipe.denoiser.config["depth"])
    assert sizes == (patch_size, depth) and pipe.denoiser.config["scan_order"] == "released"
    with torch.no_grad():
        soft_mask, ct_embedding = pipe.embedder(tensors["ct_latent"])
        out = pipe.denoiser(tensors["x"], tensors["t"], tensors["clip"], ct_embedding, soft_mask).sample
    assert torch.allclose(soft_mask, tensors["soft_mask"], atol=1e-4)
    assert torch.allclose(ct_embedding, tensors["ct_embedding"], atol=1e-4)
    assert torch.allclose(out, tensors["out"], atol=1e-4)


@pytest.mark.parametrize("anatomy", ["brain", "pelvis"])
def test_the_real_embedder_files_import(shared: Path, tmp_path: Path, anatomy: str) -> None:
    denoiser = save_checkpoint(tmp_path / "denoiser.pt", denoiser_state(width=512, grid=14, depth=1))
    embedder = shared / "data" / "released_embedder" / f"{anatomy}_patch_size_2.pt"
    config = import_released(denoiser, embedder, tmp_path / "bundle", anatomy)
    assert (config.anatomy, config.image_size, config.field_of_view) == (anatomy, 224, 224.0)
    saved = load_file(tmp_path / "bundle" / "embedder" / "diffusion_pytorch_model.safetensors")
    with torch.serialization.safe_globals([argparse.Namespace]):
        released = torch.load(embedder, map_location="cpu", weights_only=True)["ema"]["vision_embedding.proj.weight"]
    assert any(value.shape == released.shape and torch.equal(value, released) for value in saved.values())


def test_the_card_states_licence_and_what_was_not_published(files: tuple[Path, Path], tmp_path: Path) -> None:
    config = import_complete(files, tmp_path)
    text = (tmp_path / "bundle" / "README.md").read_text()
    assert config.card.licence == "MIT" and "license: mit" in text
    assert "published neither the HU window" in text and "Research only" in text


def test_the_weights_asked_for_are_imported(files: tuple[Path, Path], tmp_path: Path) -> None:
    weights = Path("denoiser") / "diffusion_pytorch_model.safetensors"
    for kind in ("ema", "model"):
        import_released(*files, tmp_path / kind, "brain", weights=kind)
    ema, model = (load_file(tmp_path / kind / weights) for kind in ("ema", "model"))
    assert all(torch.equal(2 * ema[key], model[key]) for key in ema)


def test_without_vae_and_encoder_the_bundle_is_incomplete_and_completed_later(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "bundle"
    config = import_released(*files, folder, "brain")
    assert config.missing == ("vae", "image_encoder")
    verify(folder)
    with pytest.raises(ModelError, match=r"models complete .* --vae FOLDER --image-encoder FOLDER"):
        DiffMaPipeline.from_pretrained(folder)
    with pytest.raises(ModelError, match="has no vae and image encoder yet"):
        complete_bundle(folder)
    assert complete_bundle(folder, vae=str(save_vae(tmp_path / "vae"))).missing == ("image_encoder",)
    encoder = str(save_open_clip(tmp_path / "clip"))
    with pytest.raises(ModelError, match="leave --vae out"):
        complete_bundle(folder, vae=str(tmp_path / "vae"), image_encoder=encoder)
    assert complete_bundle(folder, image_encoder=encoder).missing == ()
    assert DiffMaPipeline.from_pretrained(folder).vae.config["latent_channels"] == 4
    with pytest.raises(ModelError, match="is complete"):
        complete_bundle(folder)
    assert "Incomplete" not in (folder / "README.md").read_text()
    import_complete(files, tmp_path / "other")
    assert sorted(p.name for p in (tmp_path / "other" / "bundle").iterdir()) == sorted(p.name for p in folder.iterdir())


def test_a_bundle_saved_again_by_the_pipeline_is_the_same_bundle(
    files: tuple[Path, Path], tmp_path: Path, home: Path
) -> None:
    import_complete(files, tmp_path)
    DiffMaPipeline.from_pretrained(tmp_path / "bundle").save_pretrained(tmp_path / "again")
    assert read_config(tmp_path / "again") == read_config(tmp_path / "bundle")
    target = store.add(tmp_path / "again", name="again")
    assert store.verify_installed("again") == target
    weights = Path("denoiser") / "diffusion_pytorch_model.safetensors"
    assert (target / weights).read_bytes() == (tmp_path / "bundle" / weights).read_bytes()


def test_an_installed_bundle_still_verifies_after_being_completed(
    files: tuple[Path, Path], tmp_path: Path, home: Path
) -> None:
    import_released(*files, tmp_path / "bundle", "brain", name="imported")
    target = store.add(tmp_path / "bundle")
    complete_bundle(target, str(save_vae(tmp_path / "vae")), str(save_open_clip(tmp_path / "clip")))
    assert store.verify_installed("imported") == target
    assert read_config(tmp_path / "bundle").missing == ("vae", "image_encoder")


def test_a_failed_completion_leaves_the_bundle_as_it_was(files: tuple[Path, Path], tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    import_released(*files, folder, "brain")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    vae = save_vae(tmp_path / "vae")
    weights = vae / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    for given in (str(vae), str(tmp_path), "no-such-folder"):
        with pytest.raises(ModelError, match="vae"):
            complete_bundle(folder, vae=given)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert not list(tmp_path.glob(f"{HIDDEN}*"))


def test_a_vae_pickle_is_read_with_weights_only(files: tuple[Path, Path], tmp_path: Path) -> None:
    vae = save_vae(tmp_path / "vae")
    safe = vae / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(safe), vae / "diffusion_pytorch_model.bin")
    safe.unlink()
    config = import_released(*files, tmp_path / "bundle", "brain", vae=str(vae))
    assert config.missing == ("image_encoder",)
    assert not list((tmp_path / "bundle").rglob("*.bin"))


def test_parts_that_do_not_fit_name_both_sizes(files: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"embed_dim must be 32 .*, not 48"):
        encoder = str(save_open_clip(tmp_path / "clip", width=48))
        import_released(*files, tmp_path / "bundle", "brain", image_encoder=encoder)
    with pytest.raises(ModelError, match=r"image_size must be 32, .* factor 4, not 64"):
        import_released(*files, tmp_path / "bundle", "brain", vae=str(save_vae(tmp_path / "vae", levels=3)))
    other = save_checkpoint(tmp_path / "other.pt", embedder_state(width=48, tokens=16))
    with pytest.raises(ModelError, match=r"\(32, 4, 2, 2\) and 16 tokens against \(48, 4, 2, 2\)"):
        import_released(files[0], other, tmp_path / "bundle", "brain")
    assert not (tmp_path / "bundle").exists()


def test_exchanged_files_and_an_existing_folder_are_told(files: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="first file holds no released DiffMa denoiser"):
        import_released(files[1], files[0], tmp_path / "bundle", "brain")
    with pytest.raises(ModelError, match="--embedder file holds no released Vision Embedder"):
        import_released(files[0], files[0], tmp_path / "bundle", "brain")
    with pytest.raises(OutputError, match="exists already"):
        import_released(*files, tmp_path, "brain")


def test_a_second_import_of_the_same_weights_ends_well_and_of_others_leaves_the_bundle_as_it_was(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path("bundle")
    first = import_released(*files, folder, "brain")
    before = {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert import_released(*files, folder, "brain") == first
    weights = {key: value + 1 for key, value in embedder_state().items()}
    other = (files[0], save_checkpoint(tmp_path / "other.pt", weights))
    for given, spacing in ((files, 2.0), (other, 1.0)):
        with pytest.raises(OutputError, match="exists already"):
            import_released(*given, folder, "brain", pixel_spacing=spacing)
    assert {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    (folder / "denoiser" / "config.json").unlink()
    with pytest.raises(ModelError, match=r"config.json is missing"):
        import_released(*files, folder, "brain")
    assert not list(tmp_path.glob(f"{HIDDEN}*"))
