"""Bundle configuration: survives JSON, refuses what cannot be meant."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from DiffMaCore.bundles.config import BundleConfig, read_config
from DiffMaCore.errors import ModelError


def test_a_configuration_survives_json(config: BundleConfig) -> None:
    other = replace(config, image_encoder_mean=(0.1, 0.2, 0.3), image_encoder_std=(1.0, 1.0, 2.0), missing=("vae",))
    for one in (config, other):
        assert BundleConfig.from_dict(json.loads(json.dumps(one.to_dict()))) == one


def test_the_field_of_view_is_pixels_times_spacing(config: BundleConfig) -> None:
    assert config.field_of_view == 64 * 3.5


def test_a_misspelled_key_is_named_with_the_nearest_right_one(config: BundleConfig) -> None:
    values = config.to_dict()
    values["pixel_spacin"] = values.pop("pixel_spacing")
    with pytest.raises(ModelError, match=r"'pixel_spacin'.*did you mean 'pixel_spacing'"):
        BundleConfig.from_dict(values)


def test_a_missing_key_is_named(config: BundleConfig) -> None:
    values = config.to_dict()
    del values["hu_windows"]
    with pytest.raises(ModelError, match="lacks the key 'hu_windows'"):
        BundleConfig.from_dict(values)
    values = config.to_dict()
    del values["card"]["licence"]
    with pytest.raises(ModelError, match="card lacks the key 'licence'"):
        BundleConfig.from_dict(values)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("image_size", 0),
        ("image_size", 22.4),
        ("pixel_spacing", float("nan")),
        ("pixel_spacing", -1.0),
        ("hu_windows", []),
        ("hu_windows", [[300, -100]]),
        ("hu_windows", [[0, 1], [0, 1]]),
        ("hu_windows", [["a", "b"]]),
        ("output_range", [0, 0]),
        ("mr_normalisation", {"low": 1}),
        ("image_encoder_mean", [0.5, 0.5, 0.5]),
        ("missing", ["brain"]),
        ("anatomy", " "),
        ("card", "MIT"),
        ("demo", "yes"),
        ("training_range", [{"feature": "brain", "range": [40, 20]}]),
        ("training_range", [{"feature": "brain", "range": [0, float("inf")]}]),
        ("training_range", [{"feature": "<b>brain", "range": [20, 40]}]),
        ("training_range", {"brain": [20, 40]}),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused_by_name(config: BundleConfig, key: str, value: object) -> None:
    with pytest.raises(ModelError, match=r"image_encoder_std|card" if "mean" in key else key):
        BundleConfig.from_dict({**config.to_dict(), key: value})


def test_an_incomplete_bundle_tells_the_command_that_completes_it(config: BundleConfig) -> None:
    config.require_complete("tiny")
    with pytest.raises(ModelError, match=r"no vae and image encoder .*models complete tiny --vae FOLDER --image-enc"):
        replace(config, missing=("vae", "image_encoder")).require_complete("tiny")


def test_a_bundle_is_not_allowed_to_choose_what_is_imported(bundle: Path) -> None:
    index = json.loads((bundle / "model_index.json").read_text())
    for entry in (["subprocess", "Popen"], ["DiffMaCorex.evil", "Thing"], ["os", "system"]):
        (bundle / "model_index.json").write_text(json.dumps({**index, "vae": entry}))
        with pytest.raises(ModelError, match=r"vae must be .* or diffusers's AutoencoderKL"):
            read_config(bundle)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"_class_name": "StableDiffusionPipeline"}'])
def test_a_folder_that_is_no_bundle_is_told_so(tmp_path: Path, text: str) -> None:
    (tmp_path / "model_index.json").write_text(text)
    with pytest.raises(ModelError, match=r"is not a|cannot be read|lacks the key 'bundle'"):
        read_config(tmp_path)


def test_configuration_store_and_download_do_not_import_torch() -> None:
    names = "config, manifest, store, hub, archive, home, writing"
    code = f"import sys; from DiffMaCore.bundles import {names}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
