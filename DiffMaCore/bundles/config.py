"""What a bundle says about itself: everything that decides the result but the weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from DiffMaCore.bundles.component_configs import CLASSES
from DiffMaCore.configuring import Bounds, Length, Pattern, Rising, Words, build, check_fields, shown
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
AGAIN = "; fetch the bundle again, or tell its publisher"
"""The remedy that ends every refusal of a file of a bundle."""
_MOST_JSON = 1 << 20

Line: TypeAlias = Annotated[str, Words(200)]
NameOrPath: TypeAlias = Annotated[str, Words(4096, empty=True)]
_Lines: TypeAlias = Annotated[str, Words(20_000, lines=True)]
_Name: TypeAlias = Annotated[str, Words(100), Pattern(r"[\w .,()+-]+", "a name of letters, digits, dots and dashes")]
Positive: TypeAlias = Annotated[float, Bounds(1e-6, 100)]
_Component: TypeAlias = Annotated[str, Pattern("|".join(COMPONENTS), f"one of {', '.join(COMPONENTS)}")]
_Entry: TypeAlias = tuple[str | None, str | None]
_Window: TypeAlias = Annotated[tuple[float, float], Rising(1e5)]


@dataclass(frozen=True)
class ModelCard:
    """Where a bundle's weights come from, what is known to be wrong with them, and what was measured (Markdown)."""

    training_data: _Lines
    licence: _Lines
    limits: _Lines
    source: _Lines
    version: Line
    measured: Annotated[str, Words(20_000, lines=True, empty=True)] = ""

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True)
class Normalisation:
    """How intensities became [-1, 1]: by percentiles, a window or otherwise; ``mask`` is where they were counted."""

    method: Line
    low: Annotated[float, Bounds(-1e6, 1e6)] | None = None
    high: Annotated[float, Bounds(-1e6, 1e6)] | None = None
    mask: Line | None = None
    assumed: Line | None = None


@dataclass(frozen=True)
class FeatureRange:
    """From where to where a feature of the CTs lay that a model was trained on; see ``imaging.training_range``."""

    feature: Annotated[str, Pattern("[a-z_]{1,40}", "a name of small letters")]
    range: Annotated[tuple[float, float], Rising(1e7)]


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
    samples are multiplied by ``uncertainty_scale``, and the absolute errors that the guided decoder expects by
    ``error_scale``, so that 90 % intervals cover 90 % of held-out errors. The mean is averaged over four grids of
    tokens, ``grid_shift`` latent pixels apart; 0: one grid. Its image is averaged with that of the mirrored slices,
    mirrored back, where the bundle is ``mirrored``, and smoothed across slices, by ``slice_smoothing`` mm (standard
    deviation): what a CT hides is guessed anew in every slice.
    ``training_range`` tells what CTs the bundle was trained on; empty where that is not known.
    Bundles of one ``family`` differ in their target contrast alone.
    ``missing`` names the components that are still to be added (an imported checkpoint without its VAE, say).

    Raises ModelError when a value cannot be meant.
    """

    name: _Name
    title: Line
    anatomy: Line
    image_size: Annotated[int, Bounds(8, 2048)]
    pixel_spacing: Annotated[float, Bounds(0.01, 100)]
    hu_windows: Annotated[tuple[_Window, ...], Length(1, 3)]
    mr_normalisation: dict[str, Any]
    output_units: Line
    card: ModelCard
    source_modality: Line = "CT"
    target_modality: Line = "MR T1"
    output_range: Annotated[tuple[float, float], Rising(1e6)] = (0.0, 1000.0)
    source_normalisation: dict[str, Any] | None = None
    image_encoder_mean: tuple[float, float, float] | None = None
    image_encoder_std: tuple[Positive, Positive, Positive] | None = None
    demo: bool = False
    modes: Annotated[tuple[Literal["mean", "sample"], ...], Length(1, 2, different=True)] = ("sample",)
    neighbour_distance: Positive | None = None
    uncertainty_scale: Positive = 1.0
    error_scale: Positive = 1.25
    grid_shift: Annotated[int, Bounds(0, 16)] = 0
    mirrored: bool = False
    slice_smoothing: Annotated[float, Bounds(0, 10)] = 0.0
    training_range: Annotated[tuple[FeatureRange, ...], Length(0, 100)] = ()
    family: Annotated[str, Words(100, empty=True)] = ""
    missing: Annotated[tuple[_Component, ...], Length(0, len(COMPONENTS), different=True)] = ()

    def __post_init__(self) -> None:
        _check(self)
        if len(self.hu_windows) == 2:
            raise ModelError("hu_windows must hold one window or three, not 2")
        if (self.image_encoder_mean is None) != (self.image_encoder_std is None):
            raise ModelError("image_encoder_mean and image_encoder_std must both be set or both be null")
        for key in ("mr_normalisation", "source_normalisation"):
            if (value := getattr(self, key)) is not None:
                build(Normalisation, value, key, ModelError)
        way = self.source_normalisation
        if way is not None and not (way["method"] == "percentile" and way.get("mask") == "body" and _is_rising(way)):
            wanted = 'null or {"method": "percentile", "low": ..., "high": ..., "mask": "body"}'
            raise ModelError(f"source_normalisation must be {wanted}, not {shown(way)}")

    @property
    def trained_on(self) -> dict[str, tuple[float, float]]:
        """The training's range of each feature, by its name."""
        return {each.feature: each.range for each in self.training_range}

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
        return build(cls, values, "the bundle's configuration", ModelError)

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


@dataclass(frozen=True)
class _Index:
    """``model_index.json``: the bundle's configuration, and library and class of every component."""

    bundle: BundleConfig
    _class_name: Literal["DiffMaPipeline"]
    denoiser: _Entry
    embedder: _Entry
    vae: _Entry
    image_encoder: _Entry
    scheduler: _Entry
    small_decoder: _Entry = (None, None)
    guided_decoder: _Entry = (None, None)
    _diffusers_version: Line = "?"
    _name_or_path: NameOrPath = ""

    def __post_init__(self) -> None:
        for name, allowed in CLASSES.items():
            library, chosen = getattr(self, name)
            if library is chosen is None:
                if name not in (*OPTIONAL, *self.bundle.missing):
                    raise ValueError(f"{name} must be there, since bundle.missing does not hold it")
            elif name in self.bundle.missing:
                raise ValueError(f"{name} must be absent, since bundle.missing holds it")
            elif chosen not in allowed or str(library).split(".")[0] != allowed[chosen][0]:
                known = " or ".join(f"{package}'s {cls}" for cls, (package, _) in allowed.items())
                raise ValueError(f"{name} must be {known}, not {shown([library, chosen])}")


def read_config(folder: Path) -> BundleConfig:
    """Configuration out of ``folder/model_index.json``, without importing torch; see :func:`read_index`."""
    return read_index(folder)[0]


def read_index(folder: Path) -> tuple[BundleConfig, dict[str, str]]:
    """The bundle's configuration, and the class of each component that it has.

    Raises ModelError when ``model_index.json`` is absent or damaged, holds an unknown key or a value that cannot be
    meant, or asks for a component class that is not on the list of those allowed (a bundle must never choose which
    code is imported).
    """
    content = read_json(folder / INDEX_FILE, f"{folder} is not a model bundle")
    index = build(_Index, content, str(folder / INDEX_FILE), ModelError, AGAIN)
    return index.bundle, {name: chosen for name in CLASSES if (chosen := getattr(index, name)[1])}


def has_component(folder: Path, name: str) -> bool:
    """Whether a bundle has one of :data:`OPTIONAL`; ModelError as :func:`read_config` tells."""
    return name in read_index(folder)[1]


def small_decoder_command(where: str) -> str:
    """The command line that adds a small decoder to the bundle ``where``."""
    return _complete(where, " --small-decoder FOLDER")


def read_json(path: Path, blame: str, most: int = _MOST_JSON) -> dict[str, Any]:
    """The JSON object in ``path``, of at most ``most`` bytes; ``blame`` opens the ModelError where it is absent."""
    again = "fetch the bundle again"
    try:
        if not path.exists():
            raise ModelError(f"{blame}: it has no {path.name}; give a bundle's folder or an installed name.")
        if not path.is_file():
            raise ModelError(f"{path} is a pipe, a device or a folder, not a file; {again}.")
        if path.stat().st_size > most:
            raise ModelError(f"{path} is over {most >> 20} MB long, far more than it can need; {again}.")
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read ({error}); {again}.") from None
    except RecursionError:
        raise ModelError(f"{path} is nested without end; {again}.") from None
    if not isinstance(value, dict):
        raise ModelError(f"{path} is not a JSON object; {again}.")
    return value


def _complete(where: str, options: str) -> str:
    quoted = f'"{where}"' if " " in where else where
    return f"diffma models complete {quoted}{options}"


def _check(config: Any) -> None:
    try:
        check_fields(config)
    except ValueError as problem:
        raise ModelError(str(problem)) from None


def _is_rising(way: Mapping[str, Any]) -> bool:
    return way.get("low") is not None and way.get("high") is not None and way["low"] < way["high"]
