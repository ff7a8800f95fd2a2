"""A bundle may carry a small decoder beside its VAE: added, told, saved, and refused where it does not fit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderTiny
from safetensors.torch import load_file, save_file

from DiffMaCore.bundles import store
from DiffMaCore.bundles.config import has_component, read_config
from DiffMaCore.bundles.manifest import read_manifest, verify
from DiffMaCore.bundles.writing import seal, write_index
from DiffMaCore.cli.main import main
from DiffMaCore.errors import ModelError
from DiffMaCore.inference.import_released import complete_bundle, import_released
from DiffMaCore.inference.pipeline import DiffMaPipeline
from Testing.conftest import save_small_decoder

from .released_files import denoiser_state, embedder_state, save_checkpoint, save_vae

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A complete bundle without a small decoder."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return save_small_decoder(tmp_path / "small")


def test_a_small_decoder_is_added_to_a_complete_bundle_and_only_that(bundle: Path, small: Path) -> None:
    before = {entry.path: entry.sha256 for entry in read_manifest(bundle).files}
    complete_bundle(bundle, small_decoder=str(small))
    verify(bundle)
    after = {entry.path: entry.sha256 for entry in read_manifest(bundle).files}
    assert set(after) - set(before) == {"small_decoder/config.json", f"small_decoder/{WEIGHTS}"}
    assert {path for path in before if before[path] != after[path]} == {"model_index.json", "README.md"}
    assert "--decoder small" in (bundle / "README.md").read_text()
    loaded = DiffMaPipeline.from_pretrained(bundle).small_decoder
    assert isinstance(loaded, AutoencoderTiny)
    given = load_file(small / WEIGHTS)
    assert all(torch.equal(value, given[key]) for key, value in loaded.state_dict().items())


def test_a_bundle_without_one_loads_as_ever_and_none_is_taken_unasked(bundle: Path) -> None:
    index = json.loads((bundle / "model_index.json").read_text())
    index.pop("small_decoder", None)  # as bundles were written before there was a choice
    write_index(bundle, index)
    seal(bundle, read_config(bundle))
    assert not has_component(bundle, "small_decoder")
    assert DiffMaPipeline.from_pretrained(bundle).small_decoder is None
    with pytest.raises(ModelError, match="is complete"):
        complete_bundle(bundle)


def test_a_second_one_is_refused(bundle: Path, small: Path) -> None:
    complete_bundle(bundle, small_decoder=str(small))
    with pytest.raises(ModelError, match="has its small decoder already: leave --small-decoder out"):
        complete_bundle(bundle, small_decoder=str(small))


def test_saving_and_loading_again_keeps_it(bundle: Path, small: Path, tmp_path: Path) -> None:
    complete_bundle(bundle, small_decoder=str(small))
    DiffMaPipeline.from_pretrained(bundle).save_pretrained(tmp_path / "again")
    verify(tmp_path / "again")
    assert has_component(tmp_path / "again", "small_decoder")
    assert (tmp_path / "again" / "small_decoder" / WEIGHTS).read_bytes() == (
        bundle / "small_decoder" / WEIGHTS
    ).read_bytes()
    assert read_config(tmp_path / "again") == read_config(bundle)
    assert "--decoder small" in (tmp_path / "again" / "README.md").read_text()


def test_one_that_does_not_fit_names_both_sizes_and_changes_nothing(bundle: Path, tmp_path: Path) -> None:
    before = read_manifest(bundle)
    with pytest.raises(ModelError, match=r"factor must be 4 .*, not 8"):
        complete_bundle(bundle, small_decoder=str(save_small_decoder(tmp_path / "large", levels=4)))
    with pytest.raises(ModelError, match=r"latent_channels must be 4 .*, not 16"):
        complete_bundle(bundle, small_decoder=str(save_small_decoder(tmp_path / "wide", channels=16)))
    shifted = save_small_decoder(tmp_path / "shifted")
    config = json.loads((shifted / "config.json").read_text())
    (shifted / "config.json").write_text(json.dumps({**config, "shift_factor": 0.5}))
    with pytest.raises(ModelError, match=r"shift_factor must be 0, not 0\.5"):
        complete_bundle(bundle, small_decoder=str(shifted))
    assert read_manifest(bundle) == before


def test_a_folder_that_holds_none_is_named(bundle: Path, small: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="_class_name must be AutoencoderTiny"):
        complete_bundle(bundle, small_decoder=str(save_vae(tmp_path / "vae", levels=3)))
    state = load_file(small / WEIGHTS)
    del state["decoder.layers.0.weight"]
    save_file(state, small / WEIGHTS)
    with pytest.raises(ModelError, match=r"lack decoder\.layers\.0\.weight"):
        complete_bundle(bundle, small_decoder=str(small))
    (small / WEIGHTS).unlink()
    with pytest.raises(ModelError, match="is no small decoder: it lacks diffusion_pytorch_model"):
        complete_bundle(bundle, small_decoder=str(small))
    with pytest.raises(ModelError, match="neither a folder nor a hub id such as madebyollin/taesd"):
        complete_bundle(bundle, small_decoder=str(tmp_path / "absent"))
    with pytest.raises(ModelError, match="madebyollin/taesd cannot be had from the hub"):
        complete_bundle(bundle, small_decoder="madebyollin/taesd")


def test_a_pickle_is_read_with_weights_only(bundle: Path, small: Path) -> None:
    torch.save(load_file(small / WEIGHTS), small / "diffusion_pytorch_model.bin")
    (small / WEIGHTS).unlink()
    complete_bundle(bundle, small_decoder=str(small))
    assert (bundle / "small_decoder" / WEIGHTS).is_file() and not list(bundle.rglob("*.bin"))


def test_released_weights_are_imported_with_one(tmp_path: Path) -> None:
    denoiser = save_checkpoint(tmp_path / "denoiser.pt", denoiser_state())
    embedder = save_checkpoint(tmp_path / "embedder.pt", embedder_state())
    small = save_small_decoder(tmp_path / "small", levels=4)
    config = import_released(denoiser, embedder, tmp_path / "bundle", "brain", small_decoder=str(small))
    verify(tmp_path / "bundle")
    assert config.missing == ("vae", "image_encoder") and has_component(tmp_path / "bundle", "small_decoder")
    with pytest.raises(ModelError, match="cannot be had from the hub"):
        import_released(denoiser, embedder, tmp_path / "other", "brain", small_decoder="madebyollin/taesd")
    assert not (tmp_path / "other").exists()


def test_the_demo_is_never_changed(small: Path) -> None:
    with pytest.raises(ModelError, match="ships inside of the package"):
        complete_bundle(store.resolve("demo"), small_decoder=str(small))


def test_the_commands_add_it_and_tell_of_it(
    bundle: Path, small: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def diffma(*words: object) -> str:
        assert main([str(word) for word in words]) == 0
        return capsys.readouterr().out

    diffma("models", "add", bundle)
    assert "Small decoder: none (add one with `diffma models complete tiny --small-decoder FOLDER`)" in diffma(
        "models", "show", "tiny"
    )
    diffma("models", "complete", "tiny", "--small-decoder", small)
    assert "Small decoder: yes" in diffma("models", "show", "tiny")
    (entry,) = (one for one in json.loads(diffma("models", "list", "--json"))["models"] if one["name"] == "tiny")
    assert entry["small_decoder"] is True
    assert "with a small decoder" in diffma("info")
    diffma("models", "verify", "tiny")
