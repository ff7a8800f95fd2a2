"""``diffma import-released``: the command line around the import."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from DiffMaCore.bundles.config import RESEARCH_ONLY, read_config
from DiffMaCore.cli.main import main

Words = Callable[..., list[str]]


@pytest.fixture
def words(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Words:
    """The command for released files made of the golden vectors' state dicts, with no hub and no cache."""
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    vectors = np.load(shared / "golden" / "spiral_grid4.npz")
    for part in ("denoiser", "embedder"):
        names = [name for name in vectors if name.startswith(f"{part}.")]
        state = {name.removeprefix(f"{part}."): torch.from_numpy(vectors[name]) for name in names}
        content = {"model": state, "ema": state, "opt": {}, "args": argparse.Namespace(epochs=1)}
        torch.save(content, tmp_path / f"{part}.pt")
    files = [str(tmp_path / "denoiser.pt"), "--embedder", str(tmp_path / "embedder.pt")]
    fixed = ["import-released", *files, "--anatomy", "brain", "-o", str(tmp_path / "bundle")]
    return lambda *more: [*fixed, *more]


def test_assumptions_and_what_is_missing_are_said_aloud(
    words: Words, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words()) == 0
    out = capsys.readouterr().out
    assert "HU window -1024 to 2000, pixels of 1 mm" in out and RESEARCH_ONLY in out
    assert f"diffma models complete {tmp_path / 'bundle'} --vae FOLDER --image-encoder FOLDER" in out


def test_the_options_reach_the_bundle(words: Words, tmp_path: Path) -> None:
    assert main(words("--hu-window=-200:300", "--pixel-spacing", "1.5", "--name", "mine", "--weights", "model")) == 0
    config = read_config(tmp_path / "bundle")
    assert (config.name, config.hu_windows, config.pixel_spacing) == ("mine", ((-200.0, 300.0),), 1.5)
    assert "model weights" in config.card.source


@pytest.mark.parametrize("option", ["--hu-window=300:-200", "--hu-window=wide", "--pixel-spacing=0", "--weights=best"])
def test_an_impossible_option_is_refused(
    words: Words, capsys: pytest.CaptureFixture[str], tmp_path: Path, option: str
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(words(option))
    assert stop.value.code == 2 and option.split("=")[0] in capsys.readouterr().err
    assert not (tmp_path / "bundle").exists()


def test_a_damaged_file_is_one_sentence_and_leaves_nothing(
    words: Words, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = tmp_path / "embedder.pt"
    damaged.write_bytes(damaged.read_bytes()[:500])
    assert main(words()) == 2
    err = capsys.readouterr().err
    assert f"{damaged} is truncated" in err.splitlines()[-1] and "Traceback" not in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["denoiser.pt", "embedder.pt"]
