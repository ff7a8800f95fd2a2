"""What a bundle says about itself: everything beside the weights that decides the result."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from DiffMaCore.errors import ModelError

RESEARCH_ONLY = "Research only: the images are synthetic and must not be used for diagnosis or treatment planning."

COMPONENTS = ("denoiser", "embedder", "vae", "image_encoder", "scheduler")
SMALL_DECODER, GUIDED_DECODER = "small_decoder", "guided_decoder"
OPTIONAL = (SMALL_DECODER, GUIDED_DECODER)
"""The components that a bundle may do without."""

DECODERS = {"full": "full", "small": "small (approximate)", "guided": "guided by the CT"}
"""What turns latents into images: the VAE's own decoder, the small one, or the one that sees the CT as well; and what
a result says of it."""

MODES = {"mean": "the expected image (one step)", "sample": "sampled"}
"""How a network may be asked, and what a result says of it: for the conditional mean, in one evaluation without noise,
or for a sample of the distribution (the paper's way)."""

INDEX_FILE = "model_index.json"


@dataclass(frozen=True)
class ModelCard:
    """Where a bundle's weights come from, what is known to be wrong with them, and what was measured (Markdown)."""

    training_data: str
    licence: str
    limits: str
    source: str
    version: str
    measured: str = ""

    def __post_init__(self) -> None:
        for key, value in asdict(self).items():
            good = isinstance(value, str) and (bool(value.strip()) or key == "measured")
            _require(good, f"card.{key}", value, "some text")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelCard:
        """Inverse of :func:`dataclasses.asdict`; raises ModelError on unknown or missing keys."""
        _check_keys(cls, values, "model card")
        return cls(**values)


@dataclass(frozen=True)
class BundleConfig:
    """Settings of one bundle, stored under ``bundle`` in its ``model_index.json``.

    ``pixel_spacing`` is in mm (in plane), ``hu_windows`` in HU: one (low, high) pair is copied to the three
    input channels, three pairs go to one channel each; every window is clipped and mapped to [-1, 1].
    ``mr_normalisation`` tells how training MRs were mapped to [-1, 1]; on writing, [-1, 1] is mapped to
    ``output_range`` in ``output_units``. ``image_encoder_mean`` and ``_std`` (on [0, 1] pixels) are None
    where the encoder is fed the [-1, 1] image itself, as the released code does. ``source_normalisation``
    is None for a CT, whose HU go through ``hu_windows``; a bundle whose source is an MRI says there how it is
    mapped to [-1, 1] ({"method": "percentile", "low", "high", "mask": "body"}), and its windows are not used.
    ``modes`` are those (:data:`MODES`) that the network was trained for, the default first. ``neighbour_distance`` is
    how far in mm the neighbouring slices lie that its pixels are taken from; None: no neighbours. Deviations over
    samples are multiplied by ``uncertainty_scale``, so that 90 % intervals cover 90 % of held-out errors. The mean is
    averaged over two grids of tokens, ``grid_shift`` latent pixels apart; 0: one grid.
    Bundles of one ``family`` differ in their target contrast alone.
    ``missing`` names the components that are still to be added (an imported checkpoint without its VAE, say).

    Raises ModelError when a value cannot be meant.
    """

    name: str
    title: str
    anatomy: str
    image_size: int
    pixel_spacing: float
    hu_windows: tuple[tuple[float, float], ...]
    mr_normalisation: dict[str, Any]
    output_units: str
    card: ModelCard
    source_modality: str = "CT"
    target_modality: str = "MR T1"
    output_range: tuple[float, float] = (0.0, 1000.0)
    source_normalisation: dict[str, Any] | None = None
    image_encoder_mean: tuple[float, float, float] | None = None
    image_encoder_std: tuple[float, float, float] | None = None
    demo: bool = False
    modes: tuple[str, ...] = ("sample",)
    neighbour_distance: float | None = None
    uncertainty_scale: float = 1.0
    grid_shift: int = 0
    family: str = ""
    missing: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        texts = ("name", "title", "anatomy", "source_modality", "target_modality", "output_units")
        for key in texts:
            value = getattr(self, key)
            _require(isinstance(value, str) and bool(value.strip()), key, value, "some text")
        size = self.image_size
        _require(type(size) is int and size > 0, "image_size", size, "a positive whole number of pixels")
        _require(_number(self.pixel_spacing) and self.pixel_spacing > 0, "pixel_spacing", self.pixel_spacing, "mm")
        windows = _tuples(self.hu_windows)
        _require(
            isinstance(windows, tuple) and len(windows) in (1, 3) and all(_rising(w) for w in windows),
            "hu_windows",
            self.hu_windows,
            "one or three (low, high) pairs in HU with low below high",
        )
        object.__setattr__(self, "hu_windows", windows)
        object.__setattr__(self, "output_range", _tuples(self.output_range))
        _require(_rising(self.output_range), "output_range", self.output_range, "(low, high) with low below high")
        for key in ("image_encoder_mean", "image_encoder_std"):
            value = _tuples(getattr(self, key))
            good = value is None or (isinstance(value, tuple) and len(value) == 3 and all(map(_number, value)))
            _require(good, key, value, "three numbers or nothing")
            object.__setattr__(self, key, value)
        pair = (self.image_encoder_mean is None, self.image_encoder_std is None)
        _require(
            pair[0] == pair[1],
            "image_encoder_std",
            self.image_encoder_std,
            "set exactly when the mean is set",
        )
        normalisation = self.mr_normalisation
        good = isinstance(normalisation, Mapping) and isinstance(normalisation.get("method"), str)
        _require(good, "mr_normalisation", normalisation, "a mapping with a method")
        object.__setattr__(self, "mr_normalisation", dict(normalisation))
        if self.source_normalisation is not None:
            _check_source_normalisation(self.source_normalisation)
            object.__setattr__(self, "source_normalisation", dict(self.source_normalisation))
        _require(isinstance(self.demo, bool), "demo", self.demo, "true or false")
        object.__setattr__(self, "modes", _tuples(self.modes))
        known = isinstance(self.modes, tuple) and bool(self.modes) and set(self.modes) <= set(MODES)
        _require(known and len(set(self.modes)) == len(self.modes), "modes", self.modes, f"some of {', '.join(MODES)}")
        distance, scale = self.neighbour_distance, self.uncertainty_scale
        good = distance is None or (_number(distance) and 0 < distance <= 100)
        _require(good, "neighbour_distance", distance, "nothing or up to 100 mm")
        _require(_number(scale) and 0 < scale <= 100, "uncertainty_scale", scale, "a factor up to 100")
        shift = self.grid_shift
        _require(type(shift) is int and 0 <= shift <= 16, "grid_shift", shift, "latent pixels, 0 to 16")
        _require(isinstance(self.family, str), "family", self.family, "a name or nothing")
        object.__setattr__(self, "missing", _tuples(self.missing))
        known = isinstance(self.missing, tuple) and set(self.missing) <= set(COMPONENTS)
        _require(known, "missing", self.missing, f"names out of {', '.join(COMPONENTS)}")
        _require(isinstance(self.card, ModelCard), "card", self.card, "a model card")

    @property
    def takes_ct(self) -> bool:
        """Whether the source is a CT in HU; otherwise it is an MRI."""
        return self.source_normalisation is None

    @property
    def makes_ct(self) -> bool:
        """Whether the result is a CT in HU; otherwise it is an MRI."""
        return self.target_modality.strip().upper() == "CT"

    @property
    def field_of_view(self) -> float:
        """Side of the square model slice in mm."""
        return self.image_size * self.pixel_spacing

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, dicts, numbers and strings, as JSON holds them."""
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> BundleConfig:
        """Inverse of :meth:`to_dict`; raises ModelError with the nearest key on an unknown or missing one."""
        _check_keys(cls, values, "bundle configuration")
        plain = dict(values)
        _require(isinstance(plain["card"], Mapping), "card", plain["card"], "a model card")
        plain["card"] = ModelCard.from_dict(plain["card"])
        return cls(**plain)

    def require_complete(self, where: str) -> None:
        """Raise ModelError when components are still to be added; ``where`` is the user's name for it."""
        if self.missing:
            parts = " and ".join(name.replace("_", " ") for name in self.missing)
            raise ModelError(
                f"The bundle {where!r} has no {parts} yet: complete it with `{self.completing_command(where)}`."
            )

    def completing_command(self, where: str) -> str:
        """The command line that adds what is missing to the bundle ``where``."""
        return _complete(where, "".join(f" --{name.replace('_', '-')} FOLDER" for name in self.missing))


def read_config(folder: Path) -> BundleConfig:
    """Configuration out of ``folder/model_index.json``, without importing torch.

    Raises ModelError when the file is absent or damaged, names an unknown key, or asks for a component class
    of anything but diffusers and this package (a bundle must never choose which code is imported).
    """
    return BundleConfig.from_dict(read_index(folder)["bundle"])


def read_index(folder: Path) -> dict[str, Any]:
    """The whole ``model_index.json`` of a bundle, checked as :func:`read_config` tells."""
    index = read_json(folder / INDEX_FILE, f"{folder} is not a model bundle")
    if not isinstance(index.get("bundle"), Mapping):
        raise ModelError(f"{folder} is not a DiffMa bundle: its {INDEX_FILE} holds no `bundle` entry.")
    for key, value in index.items():
        if not isinstance(value, list):
            continue
        library = str(value[0]) if value and value[0] is not None else "diffusers"
        if key not in (*COMPONENTS, *OPTIONAL) or library.split(".")[0] not in ("diffusers", "DiffMaCore"):
            raise ModelError(
                f"{folder} is refused: its {INDEX_FILE} asks for {key} from {library}, and a bundle may hold"
                f" only {', '.join((*COMPONENTS, *OPTIONAL))} made of diffusers' and DiffMaCore's classes."
            )
    return index


def has_component(folder: Path, name: str) -> bool:
    """Whether a bundle has one of :data:`OPTIONAL`; ModelError as :func:`read_config` tells."""
    return (read_index(folder).get(name) or [None])[0] is not None


def small_decoder_command(where: str) -> str:
    """The command line that adds a small decoder to the bundle ``where``."""
    return _complete(where, " --small-decoder FOLDER")


def read_json(path: Path, blame: str) -> dict[str, Any]:
    """The JSON object in ``path``; ``blame`` opens the ModelError raised when there is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{blame}: it has no {path.name}; give a bundle's folder or an installed name.") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{blame}: {path.name} cannot be read ({error}); fetch the bundle again.") from None
    if not isinstance(value, dict):
        raise ModelError(f"{blame}: {path.name} is not a JSON object; fetch the bundle again.")
    return value


def nearest(word: str, choices: list[str]) -> str | None:
    """The choice most like ``word``, if any is alike at all."""
    found = difflib.get_close_matches(word.lower(), [choice.lower() for choice in choices], n=1, cutoff=0.5)
    return next((choice for choice in choices if choice.lower() == found[0]), None) if found else None


def _complete(where: str, options: str) -> str:
    quoted = f'"{where}"' if " " in where else where
    return f"diffma models complete {quoted}{options}"


def _check_keys(cls: type, values: Mapping[str, Any], what: str) -> None:
    known = {item.name: item for item in fields(cls)}
    required = [n for n, f in known.items() if f.default is MISSING and f.default_factory is MISSING]
    absent = [name for name in required if name not in values]
    unknown = [str(name) for name in values if name not in known]
    if unknown:
        close = nearest(unknown[0], absent or list(known))
        hint = f"did you mean {close!r}?" if close else f"known keys are {', '.join(known)}."
        raise ModelError(f"The {what} has an unknown key {unknown[0]!r}: {hint}")
    if absent:
        raise ModelError(f"The {what} lacks the key {absent[0]!r}: add it, or fetch the bundle again.")


def _check_source_normalisation(value: Any) -> None:
    good = (
        isinstance(value, Mapping)
        and value.get("method") == "percentile"
        and value.get("mask") == "body"
        and _rising((value.get("low"), value.get("high")))
    )
    wanted = 'nothing or {"method": "percentile", "low": ..., "high": ..., "mask": "body"}'
    _require(good, "source_normalisation", value, wanted)


def _require(good: bool, key: str, value: object, wanted: str) -> None:
    if not good:
        raise ModelError(f"The bundle configuration's {key} is {value!r} where {wanted} is needed.")


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list | tuple) else value


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _rising(pair: Any) -> bool:
    return isinstance(pair, tuple) and len(pair) == 2 and all(map(_number, pair)) and pair[0] < pair[1]
