"""Every command that writes, with tiny inputs: what it is run on, and what its folder then holds."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import SimpleITK as sitk
import torch
from safetensors.torch import load_file

from DiffMaCore.cli.main import main as diffma
from DiffMaCore.files import HIDDEN
from DiffMaCore.imaging import reader
from DiffMaCore.inference import cohort, import_released  # noqa: F401  loaded once, before the forks
from DiffMaCore.training import tasks  # noqa: F401
from DiffMaCore.training.checkpoints import Checkpoints
from DiffMaCore.training.experiment import (
    AutoencoderConfig,
    GuidedDecoderConfig,
    ImageEncoderConfig,
    PartsConfig,
    SmallDecoderConfig,
    SplitConfig,
)
from DiffMaCore.training.run_folder import read_metrics
from Testing.bundles.released_files import denoiser_state, embedder_state, save_checkpoint, save_open_clip, save_vae
from Testing.conftest import make_tiny_bundle
from Testing.faults.forked import Ended, in_child
from Testing.images import head_like_ct
from Testing.imaging.dicom_files import head_hu, write_series
from Testing.training.heads_run import write_config
from Testing.training.tiny_cache import tiny_experiment, tiny_pair

Files = dict[str, str]
"""Paths below the folder, and a checksum of what each file holds."""

_QUICK = ("--model", "bundle", "--steps", "1", "--device", "cpu")
_ON = ("--config", "tiny.yaml", "--out", "run", "--device", "cpu")
_FILE = ("convert", "ct.nii.gz", "mr.nii.gz", "--samples", "2", "--soft-mask", "mask.mha", *_QUICK)
_SERIES = ("convert", "series", "mr", *_QUICK)
_BATCH = ("convert", "table.csv", "out", "--format", "nrrd", *_QUICK)
_PREPARE = ("prepare", "pairs.csv", *_ON)
_RELEASED = ("import-released", "denoiser.pt", "--embedder", "embedder.pt", "--anatomy", "brain", "-o", "imported")
_PARTS = ("--vae", "vae", "--image-encoder", "encoder")
_CHAIN = ("slices", "train autoencoder", "train image-encoder", "prepare", "train embedder", "train denoiser")


@dataclass(frozen=True)
class Command:
    """Words of ``diffma``, and the commands before it that make what it works on."""

    name: str
    words: tuple[str, ...]
    before: tuple[str, ...] = ()


COMMANDS = (
    Command("convert a file", _FILE),
    Command("convert a file again", (*_FILE, "--seed", "5"), ("convert a file",)),
    Command("convert a series", _SERIES),
    Command("convert a series again", (*_SERIES, "--seed", "5"), ("convert a series",)),
    Command("convert a batch", _BATCH),
    Command("volumes by a worker", (*_BATCH, "--workers", "1")),
    Command("slices", _PREPARE),
    Command("train autoencoder", ("train", "autoencoder", *_ON), _CHAIN[:1]),
    Command("train image-encoder", ("train", "image-encoder", *_ON), _CHAIN[:2]),
    Command("prepare", _PREPARE, _CHAIN[:3]),
    Command("cases by a worker", (*_PREPARE, "--workers", "1"), _CHAIN[:3]),
    Command("train embedder", ("train", "embedder", *_ON), _CHAIN[:4]),
    Command("train denoiser", ("train", "denoiser", *_ON), _CHAIN[:5]),
    Command("train guided-decoder", ("train", "guided-decoder", *_ON), _CHAIN),
    Command("train small-decoder", ("train", "small-decoder", *_ON), _CHAIN),
    Command("import-released", (*_RELEASED, *_PARTS)),
)
_WHOLE = ("mr", "out/series", "*/model", "*/bundle", "*/parts/*", "imported")  # folders that appear whole or not at all
_GROWS = ("run.json", "metrics.csv", "figures.csv")


def _make_inputs(place: Path) -> None:
    for number in range(2):
        sitk.WriteImage(head_like_ct() + 10 * number, str(place / f"ct{number or ''}.nii.gz"))
    write_series(place / "series", head_hu())
    (place / "table.csv").write_text("input,output\nct.nii.gz,a.nii.gz\nct1.nii.gz,b.nrrd\nseries,series\n")
    for number in range(3):
        pair = tiny_pair(number)
        sitk.WriteImage(pair.source, str(place / f"source{number}.mha"))
        sitk.WriteImage(pair.target, str(place / f"target{number}.mha"))
    rows = "".join(f"case{n},source{n}.mha,target{n}.mha\n" for n in range(3))
    (place / "pairs.csv").write_text(f"id,ct,mr\n{rows}")
    make_tiny_bundle(place / "bundle")
    tiny = tiny_experiment(place / "networks")
    train = replace(tiny.denoiser.train, steps=5)
    learning = replace(tiny.denoiser, mean_share=0.5, prediction_type="v_prediction", train=train)
    experiment = replace(
        tiny,
        data=replace(tiny.data, neighbour_distance=7.0, split=SplitConfig(validation=0.34, test=0.0)),
        parts=PartsConfig("trained", "trained"),
        autoencoder=AutoencoderConfig(latent_channels=4, channels=8, blocks=1, train=train),
        image_encoder=ImageEncoderConfig(width=32, layers=1, head_width=16, train=train),
        embedder=replace(tiny.embedder, train=train),
        denoiser=replace(learning, ct_conditioning="pixels"),
        guided_decoder=GuidedDecoderConfig(channels=(8, 8, 16), blocks=1, train=train),
        small_decoder=SmallDecoderConfig(channels=8, blocks=(1, 1, 1), train=train),
    )
    write_config(place / "tiny.yaml", experiment)
    save_checkpoint(place / "denoiser.pt", denoiser_state())
    save_checkpoint(place / "embedder.pt", embedder_state())
    save_vae(place / "vae")
    save_open_clip(place / "encoder")


class Stage:
    """The folder in which commands are run, always at the same path, and what it is after each command.

    Args:
        root: empty, and on the disk that is to fill up.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.place = root, root / "place"
        self._states: dict[tuple[str, ...], Path] = {(): root / "inputs"}
        (root / "inputs").mkdir()
        made = in_child(lambda: _make_inputs(root / "inputs"))
        assert made.status == 0, made.said

    def set(self, before: tuple[str, ...]) -> None:
        """Make the folder what it is after these commands."""
        shutil.rmtree(self.place, ignore_errors=True)
        if before not in self._states:
            self.set(before[:-1])
            done = self.run(next(command for command in COMMANDS if command.name == before[-1]))
            assert done.status == 0, done.said
            self._states[before] = self.root / f"state{len(self._states)}"
            self.place.rename(self._states[before])
        shutil.copytree(self._states[before], self.place)

    def run(self, command: Command, begin: Callable[[], object] = lambda: None, **fault: Any) -> Ended:
        """Run a command in the folder; ``begin`` is called before it, ``fault`` is what ``in_child`` takes."""

        def task() -> int:
            os.chdir(self.place)
            temporary = self.place / "tmp"
            temporary.mkdir(exist_ok=True)
            tempfile.tempdir = os.environ["TMPDIR"] = str(temporary)
            torch.set_num_threads(1)
            begin()
            status = diffma(list(command.words))
            reader.end()
            return status

        return in_child(task, **fault)

    def files(self) -> Files:
        """What every file holds, as far as it is the same in every run: no times, paces, or locks of Dask's own."""
        passed = {"tensorboard", "dask-scratch-space"}
        found = sorted(path for path in self.place.rglob("*") if path.is_file() and not passed & set(path.parts))
        return {path.relative_to(self.place).as_posix(): _content(path) for path in found}


def _content(path: Path) -> str:
    data = path.read_bytes()
    if path.name in ("run.json", "summary.json"):
        told = json.loads(data)
        data = json.dumps({key: told[key] for key in told if key not in ("sessions", "seconds_per_step")}).encode()
    elif path.name in ("metrics.csv", "figures.csv"):
        rows = [{key: row[key] for key in row if key != "samples_per_second"} for row in read_metrics(path)]
        data = repr(rows).encode()
    elif path.parent.name == "checkpoints" and path.suffix == ".safetensors":
        tensors = Checkpoints(path.parent).load(path).tensors  # raises where it is not whole
        data = b"".join(tensors[name].numpy().tobytes() for name in sorted(tensors))
    elif path.parent.name == "cases":
        data = repr([_rounded(tensor) for _, tensor in sorted(load_file(path).items())]).encode()
    return hashlib.sha256(data).hexdigest()


def _rounded(tensor: torch.Tensor) -> object:
    """Slices are the same to the bit. What networks made of them is not: MKL sums in another order where weights lie
    otherwise in memory, as those probably do that a killed start had written and the next one loads."""
    if tensor.is_floating_point():
        return tensor.shape, bool(tensor.isfinite().all()), round(float(tensor.float().std()), 1)
    return tensor.shape, hashlib.sha256(tensor.numpy().tobytes()).hexdigest()


def half_made(now: Files, before: Files, after: Files) -> Iterator[str]:
    """What stands under a final name and is neither as it was nor as it will be; and what was there and is not."""
    for name, content in now.items():
        grows = Path(name).name in _GROWS or Path(name).parent.name in ("checkpoints", "tmp")
        if _is_final(name) and not grows and content not in (before.get(name), after.get(name)):
            yield f"{name} is half-made"
    aside = any(HIDDEN in name and ".old." in name for name in now)  # an earlier folder, until the new one is there
    kept = (name for name in before if name in after and not name.endswith("manifest.json"))  # written last, anew
    yield from (f"{name} is lost" for name in kept if name not in now and not aside)
    folders = {parent.as_posix() for name in now for parent in Path(name).parents}
    for folder in sorted(folders):
        if _is_final(folder) and any(Path("/", folder).match(pattern) for pattern in _WHOLE):
            inside = [{n: c for n, c in files.items() if n.startswith(f"{folder}/")} for files in (now, before, after)]
            if inside[0] not in inside[1:]:
                yield f"the folder {folder} is half-made"


def _is_final(name: str) -> bool:
    return not any(part.startswith(".") for part in Path(name).parts)
