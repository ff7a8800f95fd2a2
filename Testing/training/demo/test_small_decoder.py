"""The demo's small decoder: what it is taught with, and that it learns."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL

from DiffMaCore.bundles.config import has_small_decoder, read_config
from DiffMaCore.bundles.manifest import read_manifest, verify
from DiffMaCore.conditions import decode, encode, mr_to_pixels
from DiffMaCore.pipeline import DiffMaPipeline
from DiffMaCore.training.configuring import load_config
from DiffMaCore.training.demo import chain
from DiffMaCore.training.demo.config import DemoConfig
from DiffMaCore.training.demo.data import Slices, make_phantoms
from DiffMaCore.training.demo.small_decoder import build_small_decoder, make_pairs, train_small_decoder
from DiffMaCore.training.demo.vae import build_vae

CONFIG = load_config(Path(__file__).resolve().parents[3] / "Training" / "tiny.yaml", DemoConfig)


@pytest.fixture(scope="module")
def slices(tmp_path_factory: pytest.TempPathFactory) -> Slices:
    return make_phantoms(CONFIG.data, tmp_path_factory.mktemp("phantoms"))


@pytest.fixture(scope="module")
def vae() -> AutoencoderKL:
    torch.manual_seed(0)
    return build_vae(CONFIG.vae, CONFIG.data.image_size).eval().requires_grad_(False)


def test_pairs_are_latents_and_what_the_full_decoder_makes_of_them(vae: AutoencoderKL, slices: Slices) -> None:
    pairs = make_pairs(vae, slices, CONFIG.small_decoder, seed=0)
    assert pairs.latents.shape == (6, 4, 8, 8) and pairs.decoded.shape == pairs.mr.shape == (6, 32, 32)
    assert torch.allclose(decode(vae, pairs.latents.float()), pairs.decoded.float(), atol=5e-3)
    noise = (pairs.latents.float() - encode(vae, mr_to_pixels(pairs.mr.float()))).flatten(1).std(dim=1)
    assert (noise < 0.2).all() and noise.max() > 0.03


def test_a_short_lesson_brings_it_nearer_to_the_full_decoder(vae: AutoencoderKL, slices: Slices) -> None:
    longer = replace(CONFIG.small_decoder, loop=replace(CONFIG.small_decoder.loop, steps=60, learning_rate=5e-3))
    pairs = make_pairs(vae, slices, longer, seed=1)

    def error(small: torch.nn.Module) -> float:
        with torch.no_grad():
            return float((decode(small, pairs.latents.float()) - pairs.decoded.float()).abs().mean())

    taught = train_small_decoder(vae, slices, longer, seed=0)
    torch.manual_seed(0)
    assert error(taught) < 0.5 * error(build_small_decoder(longer, 4))


def test_a_finished_bundle_is_given_one_and_keeps_every_other_file(tiny_bundle: Path, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    given = Path(shutil.copytree(tiny_bundle, tmp_path / "given"))
    chain.add_small_decoder(CONFIG, tmp_path / "run", given)
    torch.set_num_threads(threads)
    made = tmp_path / "run" / "bundle"
    verify(made)
    before, after = ({entry.path: entry.sha256 for entry in read_manifest(folder).files} for folder in (given, made))
    assert {path for path in before if before[path] != after[path]} == {"model_index.json", "README.md"}
    assert has_small_decoder(made) and not has_small_decoder(given)
    assert read_config(made).card.source == CONFIG.card["source"]
    assert json.loads((made / "small_decoder" / "config.json").read_text())["scaling_factor"] == 1.0
    pipe = DiffMaPipeline.from_pretrained(made)
    assert pipe.decode(torch.zeros(1, *pipe.latent_shape), "small").shape == (1, 32, 32)
