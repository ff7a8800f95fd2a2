"""The authors' pickles are read without running anything they may hold."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from DiffMaCore.bundles.unpickle import load_released_checkpoint
from DiffMaCore.errors import ModelError

from .released_files import embedder_state, save_checkpoint


@pytest.mark.parametrize("name", ["brain_patch_size_2.pt", "pelvis_patch_size_2.pt"])
def test_both_real_embedder_files_are_read(shared: Path, name: str) -> None:
    state = load_released_checkpoint(shared / "data" / "released_embedder" / name)
    assert state["vision_embedding.proj.weight"].shape == (512, 4, 2, 2)
    assert state["fc.0.weight"].shape == (14, 196)


def test_ema_and_model_weights_are_told_apart_and_prefixes_taken_off(tmp_path: Path) -> None:
    state = embedder_state()
    path = save_checkpoint(tmp_path / "released.pt", state)
    ema, model = load_released_checkpoint(path), load_released_checkpoint(path, "model")
    assert ema.keys() == model.keys() == state.keys()
    for key, value in state.items():
        assert torch.equal(ema[key], value) and torch.equal(model[key], 2 * value)


def test_plain_state_dicts_and_safetensors_are_read_too(tmp_path: Path) -> None:
    state = embedder_state()
    torch.save(state, tmp_path / "plain.pt")
    torch.save(state, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    save_file(state, tmp_path / "safe.safetensors")
    for name in ("plain.pt", "old.pt", "safe.safetensors"):
        loaded = load_released_checkpoint(tmp_path / name)
        assert all(torch.equal(loaded[key], value) for key, value in state.items())


class Harmful:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.trace),)


class Unknown:
    """Harmless, and not on the list all the same."""


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_runs_code_is_refused_by_the_name_it_asks_for(tmp_path: Path, zipped: bool) -> None:
    content = {"ema": embedder_state(), "args": Harmful(tmp_path / "trace")}
    torch.save(content, tmp_path / "bad.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ModelError, match=r"refused: its pickle asks for (posix|nt)\.mkdir"):
        load_released_checkpoint(tmp_path / "bad.pt")
    assert not (tmp_path / "trace").exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol 4")
def test_anything_beyond_the_allow_list_is_refused_by_name(tmp_path: Path) -> None:
    torch.save({"ema": {}, "args": Unknown()}, tmp_path / "class.pt")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pt")
    (tmp_path / "raw.pt").write_bytes(pickle.dumps(Path("x")))
    for name, asked in (("class", "Unknown"), ("module", r"torch\.nn\.modules\.linear"), ("raw", "pathlib")):
        with pytest.raises(ModelError, match=rf"refused: its pickle asks for [\w.]*{asked}"):
            load_released_checkpoint(tmp_path / f"{name}.pt")


def test_a_truncated_or_foreign_file_is_named(tmp_path: Path) -> None:
    whole = save_checkpoint(tmp_path / "whole.pt", embedder_state()).read_bytes()
    for keep in (0, 4, 200, len(whole) // 2, len(whole) - 10):
        (tmp_path / "cut.pt").write_bytes(whole[:keep])
        with pytest.raises(ModelError, match=r"cut.pt is truncated or not a torch checkpoint"):
            load_released_checkpoint(tmp_path / "cut.pt")
    (tmp_path / "cut.safetensors").write_bytes(whole[:100])
    with pytest.raises(ModelError, match=r"cut.safetensors is truncated"):
        load_released_checkpoint(tmp_path / "cut.safetensors")
    with pytest.raises(ModelError, match="does not exist"):
        load_released_checkpoint(tmp_path / "absent.pt")


def test_weights_that_are_not_there_name_the_option(tmp_path: Path) -> None:
    torch.save({"model": embedder_state(), "opt": {}}, tmp_path / "no_ema.pt")
    with pytest.raises(ModelError, match="use `--weights model`"):
        load_released_checkpoint(tmp_path / "no_ema.pt")
    for content in ({}, {"ema": {"w": 3}}, [1], {"w": torch.zeros(1), "step": 3}):
        torch.save(content, tmp_path / "odd.pt")
        with pytest.raises(ModelError, match=r"odd.pt holds"):
            load_released_checkpoint(tmp_path / "odd.pt")


def test_a_nan_names_its_tensor(tmp_path: Path) -> None:
    state = embedder_state()
    state["fc.0.bias"][1] = float("nan")
    with pytest.raises(ModelError, match=r"NaN or infinite values in fc.0.bias"):
        load_released_checkpoint(save_checkpoint(tmp_path / "nan.pt", state))
