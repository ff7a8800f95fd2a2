"""One experiment as data: everything that decides what is prepared, trained and evaluated, in one YAML file.

An experiment lives in one folder, ``runs/<name>`` unless ``--out`` says otherwise:

    data/                 what `diffma prepare` wrote: cache, split, parts, report
    embedder/             the pre-trained Vision Embedder and its pictures
    systems/<backbone>/   one trained system: run.json, metrics, samples, checkpoints, bundle/
    evaluation/           tables of `diffma evaluate`
    report/               the report of `diffma reproduce`
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Backbone = Literal["diffma", "dit", "vim", "vmamba", "efficient_vmamba", "zigma", "unet", "regression"]
"""The systems of Table 2, and the deterministic 2.5D regression; the order is the default one of every table."""


CT = "ct"
"""The modality that is in HU."""


@dataclass(frozen=True)
class SplitConfig:
    """Who trains and who tests: shares of each centre's patients, or named cases."""

    validation: float = 0.1
    test: float = 0.1
    validation_cases: tuple[str, ...] = ()
    test_cases: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not (0 <= self.validation < 1 and 0 <= self.test < 1 and self.validation + self.test < 1):
            raise ValueError("validation and test are shares of the patients; together they must be below 1")
        both = set(self.validation_cases) & set(self.test_cases)
        if both:
            raise ValueError(f"{sorted(both)[0]} is named for validation and for test; a patient can be in one only")


@dataclass(frozen=True)
class DataConfig:
    """What a slice is: modalities, grid and intensities. ``source`` and ``target`` name modalities ("ct", "mr",
    "t1", "t2"); "ct" is in HU, every other modality is normalised by percentiles inside the body."""

    anatomy: str
    image_size: int = 224  # pixels
    pixel_spacing: float = 1.0  # mm, in plane
    source: str = "ct"
    target: str = "mr"
    hu_windows: tuple[tuple[float, float], ...] = ((-1000.0, 1000.0),)  # of a CT that is the source
    target_window: tuple[float, float] = (-1000.0, 2000.0)  # HU, of a CT that is the target
    mr_percentiles: tuple[float, float] = (0.5, 99.5)  # inside the body, become -1 and 1
    eight_bit_window: tuple[float, float] = (-1000.0, 1000.0)  # HU that 0 and 255 of an 8-bit CT stand for
    eight_bit_spacing: float = 1.0  # mm, where slices come without one
    output_range: tuple[float, float] = (0.0, 1000.0)  # of a synthetic MR
    least_body: float = 0.02  # share of a slice that must be body
    slice_step: int = 1  # every n-th slice
    phantoms: int = 0  # procedural heads, instead of a data set
    split: SplitConfig = field(default_factory=SplitConfig)

    def __post_init__(self) -> None:
        if self.source == self.target:
            raise ValueError(f"source and target are both {self.source!r}; name two modalities")
        if self.image_size < 16 or self.pixel_spacing <= 0 or self.slice_step < 1:
            raise ValueError("image_size must be 16 or more, pixel_spacing above 0 and slice_step 1 or more")
        if self.image_size % 4:
            raise ValueError(f"image_size is {self.image_size}; it must be a multiple of the VAE's factor, 8 or 4")


@dataclass(frozen=True)
class PartsConfig:
    """The networks that are not trained here: a folder, a hub id, or ``bundle:NAME`` for an installed bundle's."""

    vae: str = "stabilityai/sd-vae-ft-ema"
    image_encoder: str = "microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224"


@dataclass(frozen=True)
class TrainConfig:
    """A training run; the defaults are the paper's where it states them (AdamW 1e-4, no decay, EMA 0.9999)."""

    steps: int = 100_000
    batch_size: int = 64  # of one optimiser step, over all processes
    micro_batch: int | None = None  # of one process at once; None: batch_size / processes
    learning_rate: float = 1e-4
    warmup: int = 0  # steps
    weight_decay: float = 0.0
    ema: float = 0.9999
    clip: float = 1.0  # largest norm of the gradient
    precision: Literal["bf16", "fp32"] = "bf16"
    log_every: int = 10  # steps
    sample_every: int = 5_000
    checkpoint_every: int = 1_000
    workers: int | None = None  # threads that read the cache ahead; None: 2 beside a GPU, else 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "log_every", "sample_every", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema is {self.ema}; it must be from 0 to below 1")


@dataclass(frozen=True)
class EmbedderConfig:
    """Pre-training of the Vision Embedder: "paper" contrasts a batch with itself (Eqs. 7 and 8), "two_views"
    contrasts two disturbed views of every slice."""

    views: Literal["paper", "two_views"] = "two_views"
    temperature: float = 0.07
    mask_hidden: int | None = None  # None: tokens / 14
    noise: float = 0.35  # of the views, in the latents' unit variance
    gain: float = 0.15
    dropped: float = 0.3  # share of the slice covered by blanked patches
    calibrate_mask: bool = False  # afterwards, so that its weights wipe no token out; not in the paper
    train: TrainConfig = field(default_factory=lambda: TrainConfig(steps=5_000, batch_size=64))


@dataclass(frozen=True)
class DenoiserConfig:
    """The systems' common size and training. Sizes are DiffMa's; the other backbones get the depth that Table 2
    gives them in proportion (13 of 8, DiT 7 of 8) and are matched to DiffMa's true parameters."""

    backbone: Backbone = "diffma"
    width: int = 512
    depth: int = 8
    patch_size: int = 2
    state_size: int = 16
    ct_conditioning: Literal["pooled", "tokens"] = "pooled"
    prediction_type: Literal["epsilon", "v_prediction"] = "epsilon"
    learn_sigma: bool = False
    vlb_weight: float = 1e-3
    train: TrainConfig = field(default_factory=TrainConfig)


@dataclass(frozen=True)
class EvaluationConfig:
    """How systems are judged: sampling, and the bootstrap over patients."""

    steps: int = 15
    scheduler: str = "dpm++"
    samples: int = 4
    seed: int = 0
    bootstrap: int = 2_000


@dataclass(frozen=True)
class CardConfig:
    """What the bundle's model card says of the data; the rest is filled in from the run."""

    training_data: str
    licence: str
    limits: str


@dataclass(frozen=True)
class Experiment:
    """The whole file."""

    name: str
    title: str
    data: DataConfig
    card: CardConfig
    seed: int = 0
    demo: bool = False  # the result is called DEMO wherever it is used
    parts: PartsConfig = field(default_factory=PartsConfig)
    embedder: EmbedderConfig = field(default_factory=EmbedderConfig)
    denoiser: DenoiserConfig = field(default_factory=DenoiserConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    systems: tuple[Backbone, ...] = (
        "unet",
        "dit",
        "efficient_vmamba",
        "zigma",
        "vim",
        "vmamba",
        "diffma",
        "regression",
    )


@dataclass(frozen=True)
class Folders:
    """Where an experiment keeps what."""

    root: Path

    @property
    def data(self) -> Path:
        """The cache."""
        return self.root / "data"

    @property
    def embedder(self) -> Path:
        """The run of the Vision Embedder; its model is in ``model/`` below."""
        return self.root / "embedder"

    def system(self, backbone: str) -> Path:
        """The run of one system; its bundle is in ``bundle/`` below (regression: ``model/``)."""
        return self.root / "systems" / backbone

    @property
    def evaluation(self) -> Path:
        """Tables."""
        return self.root / "evaluation"

    @property
    def report(self) -> Path:
        """The report."""
        return self.root / "report"


def experiment_folders(experiment: Experiment, out: Path | None = None) -> Folders:
    """``out``, or ``runs/<name>`` below the working directory."""
    return Folders(out if out is not None else Path("runs") / experiment.name)
