"""Configurations of a training run."""

from __future__ import annotations

from pathlib import Path

import pytest

from DiffMaCore.errors import InputError
from DiffMaCore.training.configuring import load_config
from DiffMaCore.training.demo.config import DemoConfig

FOLDER = Path(__file__).resolve().parents[3] / "Training"


@pytest.mark.parametrize("name", ["demo.yaml", "tiny.yaml"])
def test_the_shipped_configurations_read(name):
    config = load_config(FOLDER / name, DemoConfig)
    assert isinstance(config, DemoConfig)
    assert len(config.hu_windows) in (1, 3)
    assert not set(config.data.held_out) & set(config.data.seeds)


def _changed(tmp_path: Path, old: str, new: str) -> Path:
    text = (FOLDER / "tiny.yaml").read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / "changed.yaml"
    path.write_text(text.replace(old, new), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("kl_weight", "kl_wait", "vae has the unknown key 'kl_wait'"),
        ("  width: 16\n", "", "denoiser lacks the key 'width'"),
        ("seed: 0", "seed: many", "seed must be of type int"),
        ("crop: 16", "crop: [16]", "crop must be of type int"),
        ("mr_low: 0.5", "mr_low: low", "mr_low must be a number"),
        ("[-1000, 1200]", "[-1000]", "must hold 2 values"),
    ],
)
def test_a_wrong_key_or_value_is_named(tmp_path, old, new, message):
    with pytest.raises(InputError, match=message):
        load_config(_changed(tmp_path, old, new), DemoConfig)


def test_a_missing_or_broken_file_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match="there is no configuration"):
        load_config(tmp_path / "none.yaml", DemoConfig)
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [1,\nb: 2", encoding="utf-8")
    with pytest.raises(InputError, match="is not YAML"):
        load_config(broken, DemoConfig)


def test_held_out_seeds_cannot_be_trained_on(tmp_path):
    with pytest.raises(InputError, match="held_out"):
        load_config(_changed(tmp_path, "held_out: [1]", "held_out: [1000]"), DemoConfig)
