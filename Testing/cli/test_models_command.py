"""``diffma models``: what a user sees, and that listing is instant."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from DiffMaCore.bundles.config import RESEARCH_ONLY, BundleConfig, ModelCard
from DiffMaCore.bundles.writing import write_bundle
from DiffMaCore.cli.main import main
from DiffMaCore.diffusion.schedulers import make_scheduler
from DiffMaCore.models.diffma import DiffMa
from DiffMaCore.models.embedder import VisionEmbedder

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small bundle without VAE and image encoder, and an empty user folder."""
    monkeypatch.setenv("DIFFMA_HOME", str(tmp_path / "home"))
    config = BundleConfig(
        name="tiny",
        title="Tiny pelvis model",
        anatomy="pelvis",
        image_size=64,
        pixel_spacing=2.0,
        hu_windows=((-1000.0, 1000.0),),
        mr_normalisation={"method": "percentile"},
        output_units="arbitrary",
        card=ModelCard("phantoms", "MIT", "it is random", "made by a test", "1"),
        missing=("vae", "image_encoder"),
    )
    sizes = {"latent_size": 8, "patch_size": 2, "width": 32}
    parts = {
        "denoiser": DiffMa(depth=2, **sizes),
        "embedder": VisionEmbedder(**sizes),
        "scheduler": make_scheduler(),
    }
    write_bundle(tmp_path / "given", config, parts)
    return tmp_path / "given"


@pytest.fixture
def diffma(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*words: object) -> tuple[int, str, str]:
        status = main([str(word) for word in words])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def test_a_model_is_added_listed_shown_verified_and_removed(diffma: Run, bundle: Path) -> None:
    status, out, _ = diffma("models", "add", bundle)
    assert status == 0 and "Installed tiny" in out and "diffma models complete tiny --vae FOLDER" in out
    status, out, _ = diffma("models", "list")
    assert status == 0 and "Tiny pelvis model (incomplete, lacks vae and image_encoder)" in out
    assert RESEARCH_ONLY in out
    status, out, _ = diffma("models", "show", "tiny")
    assert status == 0 and "it is random" in out and RESEARCH_ONLY in out
    assert "custom 32x2/2, latent 8, scan order spiral" in out
    status, out, _ = diffma("models", "verify")
    assert status == 0 and "tiny: sound" in out
    status, out, _ = diffma("models", "remove", "tiny")
    assert status == 0 and "Removed tiny" in out
    assert diffma("models", "show", "tiny")[0] == 2


def test_json_holds_every_fact_of_the_list(diffma: Run, bundle: Path) -> None:
    diffma("models", "add", bundle, "--name", "renamed")
    content = json.loads(diffma("models", "list", "--json")[1])
    entry = next(entry for entry in content["models"] if entry["name"] == "renamed")
    assert entry["anatomy"] == "pelvis" and entry["missing"] == ["vae", "image_encoder"] and entry["bytes"] > 0
    shown = json.loads(diffma("models", "show", bundle, "--json")[1])
    assert shown["bundle"]["card"]["licence"] == "MIT" and shown["research_only"] == RESEARCH_ONLY


def test_damage_is_told_in_one_sentence_without_a_traceback(diffma: Run, bundle: Path) -> None:
    weights = next(bundle.rglob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:100])
    status, out, err = diffma("models", "add", bundle)
    assert (status, out) == (2, "") and err.count("\n") == 1
    assert f"{weights} is truncated" in err and "Traceback" not in err


def test_verify_goes_on_after_a_damaged_model_and_fails(diffma: Run, bundle: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        diffma("models", "add", bundle, "--name", name)
    (tmp_path / "home" / "models" / "a" / "README.md").unlink()
    status, out, err = diffma("models", "verify")
    assert status == 2 and "b: sound" in out and "README.md is missing" in err


def test_unknown_models_and_failed_downloads_name_the_remedy(
    diffma: Run, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, _, err = diffma("models", "remove", "tinny")
    assert status == 2 and "There is no model 'tinny'" in err
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    status, _, err = diffma("models", "download", "someone/brain")
    assert status == 2 and "diffma models add ZIP" in err


def test_the_path_of_the_store_is_printed(diffma: Run, bundle: Path, tmp_path: Path) -> None:
    assert diffma("models", "path")[1].strip() == str(tmp_path / "home" / "models")


def test_listing_and_showing_import_no_torch(bundle: Path) -> None:
    for words in (["list"], ["list", "--json"], ["show", str(bundle)], ["verify", str(bundle)]):
        code = f"import sys; from DiffMaCore.cli.main import main; main(['models', *{words!r}])"
        code += "; sys.exit('torch' in sys.modules)"
        subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
