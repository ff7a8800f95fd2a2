"""The prepared data of an experiment: slices, latents and embeddings, read row by row from memory-mapped files.

A folder written by :mod:`DiffMaCore.training.prepare`:

    manifest.json            configuration, parts, cases, what was left out; written last: without it nothing is read
    split.json               whose slices train, validate and test
    report.md                the same for people
    parts/                   the VAE and the image encoder that made the latents and embeddings
    cases/<id>.safetensors   one patient: source and target int16, body uint8 (N, S, S); slice_index int64 (N); and,
                             where VAE and image encoder are there already, source_latent and target_latent float16
                             (N, 4, s, s) and clip_embedding float16 (N, D)
"""

from __future__ import annotations

import bisect
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor
from torch.utils.data import Dataset

from DiffMaCore.configuring import build
from DiffMaCore.diffusion import conditions
from DiffMaCore.errors import InputError
from DiffMaCore.models.autoencoders import Autoencoder, load_autoencoder
from DiffMaCore.models.embedder import VisionEmbedder
from DiffMaCore.models.image_encoder import ImageEncoder
from DiffMaCore.training.batches import Batch, to_device
from DiffMaCore.training.experiment import CT, DataConfig
from DiffMaCore.training.files import first_change
from DiffMaCore.training.split import PARTS, read_split

FORMAT = 2
_REMEDY = "run `diffma prepare` with the experiment's configuration"
_STORED = ("target_latent", "source_latent", "clip_embedding")

Rows = slice | Sequence[int]


def value_scale(modality: str) -> float:
    """What one step of a stored int16 means: 1 HU of a CT, 1/32767 of the range [-1, 1] of every other modality."""
    return 1.0 if modality == CT else 1 / 32767


class TensorFile:
    """Tensors of one safetensors file, mapped into memory and read where they are looked at."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._tensors: dict[str, Tensor] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return TensorFile, (self.path,)  # to another process, without what is open

    def whole(self, key: str) -> Tensor:
        """A whole tensor: a view of the file, not to be written to. Raises InputError where it cannot be read."""
        if key not in self._tensors:
            self._tensors[key] = self._open.get_tensor(key)
        return self._tensors[key]

    @cached_property
    def _open(self) -> Any:
        try:
            return safe_open(self.path, framework="pt")
        except Exception as problem:  # safetensors' own error has no stable name
            raise InputError(f"{self.path} cannot be read ({problem}); {_REMEDY}, which makes it again") from None

    def header(self) -> dict[str, str] | None:
        """The texts in the file's header; None where there is no file that can be read."""
        try:
            return dict(self._open.metadata() or {}) if self.path.is_file() else None
        except InputError:
            return None


class Case:
    """One patient's slices, inferior to superior or as the volume's own axis runs; ``names`` are those of tensors that
    are called otherwise in the file."""

    def __init__(
        self, entry: Mapping[str, Any], file: TensorFile, data: DataConfig, names: Mapping[str, str] | None = None
    ) -> None:
        self.id, self.file = entry["id"], file
        self.contrast = entry["contrast"]  # which of DataConfig.targets the target is
        self.spacing = entry["spacing"]  # mm from one plane to the next, negative where they follow downwards
        self._slices, self._data, self._names = entry["slices"], data, names or {}

    def __len__(self) -> int:
        return self._slices

    def source(self, rows: Rows = slice(None)) -> Tensor:
        """Float32 (N, S, S): HU of a CT, [-1, 1] of every other modality."""
        return self._stored("source")[rows].float() * value_scale(self._data.source)

    def neighbours(self, row: int, distance: float | None) -> Tensor:
        """One source slice between its neighbours (3, S, S), as :func:`with_neighbours` gives it."""
        planes = self.slice_index().numpy()
        three = with_neighbours(self._stored("source"), row, planes, self.spacing, distance)
        return three * value_scale(self._data.source)

    def target(self, rows: Rows = slice(None)) -> Tensor:
        """Float32 (N, S, S) in [-1, 1]; a CT's ``target_window`` is mapped to it."""
        return target_pixels(self._stored("target")[rows].float() * value_scale(self._data.target), self._data)

    def body(self, rows: Rows = slice(None)) -> Tensor:
        """Bool (N, S, S): where metrics are taken, the data set's mask or else the source's body."""
        return self._stored("body")[rows].bool()

    def slice_index(self) -> Tensor:
        """Int64 (N): index of every slice along the volume's slice axis."""
        return self.file.whole("slice_index")

    def value(self, key: str, index: int) -> Tensor:
        """What a row of :class:`SliceDataset` holds of a slice; what is stored is a view of the file."""
        if key in _STORED:
            return self._stored(key)[index]
        if key == "contrast":
            return torch.tensor(self.contrast)
        if key == "ct_pixels":
            return ct_pixels(self.neighbours(index, self._data.neighbour_distance)[None], self._data)[0]
        value: Tensor = getattr(self, key)(slice(index, index + 1))[0]
        return value.float()

    def _stored(self, key: str) -> Tensor:
        return self.file.whole(self._names.get(key, key))


def target_pixels(values: Tensor, data: DataConfig) -> Tensor:
    """Target slices in [-1, 1]: HU through ``target_window``, everything else is there already."""
    if data.target != CT:
        return values
    low, high = data.target_window
    return ((values - low) / (high - low) * 2 - 1).clamp(-1, 1)


def source_pixels(source: Tensor, data: DataConfig) -> Tensor:
    """Source slices (N, S, S), HU or [-1, 1], to the VAE's input (N, 3, S, S) in [-1, 1], as inference makes it."""
    return conditions.source_pixels(source, data.hu_windows if data.source == CT else None)


def pixel_channels(data: DataConfig) -> int:
    """Channels of ``ct_pixels``: three slices of one window each, or of three."""
    return 9 if data.source == CT and len(data.hu_windows) == 3 else 3


def ct_pixels(source: Tensor, data: DataConfig) -> Tensor:
    """Source slices with their neighbours (N, 3, S, S) to pixels (N, C, S, S) in [-1, 1], as inference makes them."""
    return conditions.neighbour_pixels(source, data.hu_windows if data.source == CT else None)


def with_neighbours(
    source: Tensor, row: int, index: NDArray[np.int64], spacing: float, distance: float | None
) -> Tensor:
    """One slice (3, S, S) between its neighbours ``distance`` mm below and above, interpolated between stored slices.

    Args:
        source: all stored slices (N, S, S), float32 or int16.
        row: of the slice.
        index: planes (N,) of the stored slices, rising.
        spacing: as :class:`Case` has it.
        distance: mm; None takes the neighbouring plane. Beyond the first and last stored slice these are repeated.
    """
    step = np.sign(spacing) * (1.0 if distance is None else distance / abs(spacing))
    at = np.interp(index[row] + step * np.arange(-1, 2), index, np.arange(len(index))).tolist()
    return torch.stack([torch.lerp(source[int(a)].float(), source[math.ceil(a)].float(), a % 1) for a in at])


class PairedCache:
    """The folder of an experiment's prepared data; opened by :meth:`open`."""

    def __init__(self, folder: Path, manifest: dict[str, Any], split: dict[str, tuple[str, ...]]) -> None:
        self.folder, self.manifest, self.split = folder, manifest, split
        self.data: DataConfig = build(DataConfig, manifest["data"], "manifest.json: data")
        self.fingerprint: str = manifest["fingerprint"]
        self._entries = {entry["id"]: entry for entry in manifest["cases"]}
        self._cases: dict[str, Case] = {}

    @classmethod
    def open(cls, folder: Path) -> PairedCache:
        """Raises InputError where ``diffma prepare`` has not finished, or made something else."""
        if not folder.is_dir():
            raise InputError(f"there is no prepared data in {folder}; {_REMEDY}")
        path = folder / "manifest.json"
        if not path.is_file():
            raise InputError(f"the data in {folder} is not complete; {_REMEDY}, which goes on where it stopped")
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise InputError(f"{path} is damaged; {_REMEDY} again") from None
        if manifest.get("format") != FORMAT:
            raise InputError(
                f"the data in {folder} is of format {manifest.get('format')!r} and this version reads {FORMAT};"
                f" {_REMEDY} and a new --out"
            )
        split = read_split(folder / "split.json")
        cache = cls(folder, manifest, {name: tuple(ids) for name, ids in split.items()})
        lacking = [id for id in cache._entries if not cache.case_file(id).is_file()]
        if lacking:
            raise InputError(f"the data in {folder} lacks case {lacking[0]}; {_REMEDY}, which makes it again")
        unknown = [id for ids in cache.split.values() for id in ids if id not in cache._entries]
        if unknown:
            raise InputError(
                f"{folder / 'split.json'} names case {unknown[0]}, which was not prepared; {_REMEDY} again"
            )
        return cache

    def require(self, data: DataConfig) -> None:
        """Raise InputError, naming the key, where the data was prepared with other settings than the experiment's."""
        if change := first_change(asdict(self.data), asdict(data), "data"):
            name, then, now = change
            raise InputError(
                f"{name} is {now!r} in the configuration and was {then!r} when {self.folder} was prepared; set it back,"
                " or run `diffma prepare` again, perhaps with another --out"
            )

    @property
    def data_fingerprint(self) -> str:
        """Hash of configuration, cases and split, whatever VAE and image encoder there are."""
        contents = {entry["id"]: entry["content"] for entry in self.manifest["cases"]}
        identity = [self.manifest["data"], contents, {name: list(ids) for name, ids in self.split.items()}]
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()

    @property
    def embed_dim(self) -> int:
        """Width of the image encoder's embeddings; InputError where it has not been run."""
        return self._size("embed_dim")

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(channels, side, side) of a latent; InputError where the VAE has not been run."""
        side = self._size("latent_size")
        return self._size("latent_channels"), side, side

    def _size(self, key: str) -> int:
        if not self.manifest["parts"]:
            raise InputError(
                f"the data in {self.folder} holds slices only; run `diffma train autoencoder` and `diffma train"
                " image-encoder`, then `diffma prepare` again, which adds the latents"
            )
        return self.manifest[key]

    def case_file(self, id: str) -> Path:
        """The file of a case."""
        return self.folder / "cases" / f"{id}.safetensors"

    def ids(self, split: str) -> tuple[str, ...]:
        """Cases of "train", "validation" or "test"; InputError for another word or where there are none."""
        if split not in self.split:
            raise InputError(f"there is no split {split!r}; choose one of {', '.join(PARTS)}")
        if not self.split[split]:
            raise InputError(f"the split has no {split} cases; raise its share in data.split and {_REMEDY} again")
        return self.split[split]

    def case(self, id: str) -> Case:
        """A case by id."""
        if id not in self._cases:
            self._cases[id] = Case(self._entries[id], TensorFile(self.case_file(id)), self.data)
        return self._cases[id]

    def load_vae(self) -> Autoencoder:
        """The VAE that made the latents, in eval mode on the CPU."""
        return load_autoencoder(self.folder / "parts" / "vae")

    def load_image_encoder(self) -> ImageEncoder:
        """The image encoder that made the embeddings, in eval mode on the CPU."""
        return ImageEncoder.from_pretrained(self.folder / "parts" / "image_encoder", local_files_only=True).eval()


class SliceDataset(Dataset):
    """Rows over the slices of some cases: dicts of float32 tensors and "row".

    Args:
        cache: prepared data.
        ids: cases, one after the other.
        keys: what a row holds, out of target_latent, source_latent (4, s, s), clip_embedding (D), source (S, S) HU or
            [-1, 1], ct_pixels (C, S, S) (:func:`ct_pixels`), target (S, S) in [-1, 1], body (S, S) 0 or 1, contrast ().
    """

    def __init__(self, cache: PairedCache, ids: Sequence[str], keys: Sequence[str]) -> None:
        self.keys = tuple(keys)
        self._cases = [cache.case(id) for id in ids]
        self._ends = list(accumulate(len(case) for case in self._cases))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def place(self, row: int) -> tuple[Case, int]:
        """Of which case a row is, and which of its slices."""
        if not 0 <= row < len(self):
            raise IndexError(row)
        number = bisect.bisect_right(self._ends, row)
        return self._cases[number], row - (self._ends[number - 1] if number else 0)

    def where(self, row: int) -> str:
        """What a row is called in an error."""
        case, index = self.place(row)
        return f"case {case.id}, slice {int(case.slice_index()[index])}"

    def __getitem__(self, row: int) -> dict[str, Any]:
        item = to_device(self.batch([row]), torch.device("cpu"))
        return {key: row if key == "row" else value[0] for key, value in item.items()}

    def spread(self, count: int, device: torch.device | None = None) -> Batch:
        """``count`` rows spread over all, fewer of a small set, stacked to (B, ...); float32."""
        rows = torch.linspace(0, len(self) - 1, min(count, len(self))).long().tolist()
        return to_device(self.batch(rows), device or torch.device("cpu"))

    def batch(self, rows: Sequence[int]) -> Batch:
        """Rows stacked to (B, ...), copied once out of the files: what is stored as float16 stays so."""
        places = [self.place(row) for row in rows]
        batch = {key: torch.stack([case.value(key, index) for case, index in places]) for key in self.keys}
        return {"row": torch.tensor(rows), **batch}


def embedder_hash(embedder: VisionEmbedder) -> str:
    """SHA-256 over an embedder's configuration and weights."""
    plain = {key: value for key, value in embedder.config.items() if not key.startswith("_")}
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode())
    for name, weight in sorted(embedder.state_dict().items()):
        digest.update(name.encode())
        digest.update(weight.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
