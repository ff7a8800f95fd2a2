"""One experiment as data: everything that decides what is prepared, trained and evaluated, in one YAML file.

An experiment lives in one folder, ``runs/<name>`` unless ``--out`` says otherwise:

    data/                 what `diffma prepare` wrote: cache, split, parts, report; volumes rendered ahead
    autoencoder/          the image autoencoder, where the experiment trains its own
    image_encoder/        the image encoder, likewise
    embedder/             the pre-trained Vision Embedder and its pictures
    systems/<backbone>/   one trained system: run.json, metrics, samples, checkpoints, bundle/ (a folder a contrast)
    guided_decoder/       the decoder that sees the CT as well
    joint/                denoiser and guided decoder, trained on together
    small_decoder/        the small decoder
    evaluation/           tables of `diffma evaluate`
    report/               the report of `python -m Training.reproduce`
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from DiffMaCore.errors import OutputError

TEMPLATE = Path(__file__).parents[1] / "data" / "experiment"

Backbone = Literal["diffma", "dit", "vim", "vmamba", "efficient_vmamba", "zigma", "unet", "regression"]
"""The models of Table 2, and the deterministic 2.5D regression."""
SYSTEMS: tuple[Backbone, ...] = ("unet", "dit", "efficient_vmamba", "zigma", "vim", "vmamba", "diffma", "regression")
CT = "ct"  # the modality that is in HU
TRAINED = "trained"  # in place of a folder: the network that this experiment trains itself


@dataclass(frozen=True)
class SplitConfig:
    """Who trains and who tests: shares of each centre's patients, or named cases."""

    validation: float = 0.1  # share of each centre's patients
    test: float = 0.1  # share of each centre's patients
    validation_cases: tuple[str, ...] = ()  # named cases, in place of the share
    test_cases: tuple[str, ...] = ()  # named cases, in place of the share

    def __post_init__(self) -> None:
        if not (0 <= self.validation < 1 and 0 <= self.test < 1 and self.validation + self.test < 1):
            raise ValueError("validation and test are shares of the patients; together they must be below 1")


@dataclass(frozen=True)
class HeadsConfig:
    """Heads of real anatomy that are rendered (:mod:`DiffMaCore.imaging.phantom`) in place of a data set: those in
    ``folder`` train, every time in a fresh rendering; the package's own validate, in renderings that stay the same."""

    folder: str  # of label maps, relative to the working directory
    draws: int = 2  # fixed renderings of a head: of those that validate, with every contrast; of those that train, one
    slice_spacing: float = 3.0  # mm
    slice_shows: float = 4.0  # how often a slice is trained on before its volume is replaced, over all contrasts
    pool: int = 40  # newest volumes that a batch is drawn from

    def __post_init__(self) -> None:
        if self.draws < 1 or self.pool < 1 or self.slice_spacing <= 0 or self.slice_shows <= 0:
            raise ValueError("draws, slice_spacing, slice_shows and pool must be above 0")


@dataclass(frozen=True)
class DataConfig:
    """What a slice is: modalities, grid and intensities. ``source`` and ``target`` name modalities ("ct", "mr",
    "t1", "t2"); "ct" is in HU, every other modality is normalised by percentiles inside the body."""

    anatomy: str  # "brain", "pelvis" or another body part
    image_size: int = 224  # pixels
    pixel_spacing: float = 1.0  # mm, in plane
    source: str = "ct"  # modality that goes in
    target: str = "mr"  # modality that comes out
    hu_windows: tuple[tuple[float, float], ...] = ((-1000.0, 1000.0),)  # of a CT that is the source
    target_window: tuple[float, float] = (-1000.0, 2000.0)  # HU, of a CT that is the target
    mr_percentiles: tuple[float, float] = (0.5, 99.5)  # inside the body, become -1 and 1
    eight_bit_window: tuple[float, float] = (-1000.0, 1000.0)  # HU that 0 and 255 of an 8-bit CT stand for
    eight_bit_spacing: float = 1.0  # mm, where slices come without one
    output_range: tuple[float, float] = (0.0, 1000.0)  # of a synthetic MR
    least_body: float = 0.02  # share of a slice that must be body
    slice_step: int = 1  # every n-th slice
    contrasts: tuple[str, ...] = ()  # targets that one network learns, in place of target
    neighbour_distance: float | None = None  # mm to the neighbouring slices that pixels are taken from; None: 1 slice
    heads: HeadsConfig | None = None  # rendered heads, instead of a data set
    split: SplitConfig = field(default_factory=SplitConfig)  # who trains and who tests

    def __post_init__(self) -> None:
        if self.source == self.target:
            raise ValueError(f"source and target are both {self.source!r}; name two modalities")
        if CT in self.contrasts or len(set(self.contrasts)) < len(self.contrasts):
            raise ValueError(f"contrasts are {list(self.contrasts)}; name different MR contrasts")
        if self.image_size < 16 or self.pixel_spacing <= 0 or self.slice_step < 1:
            raise ValueError("image_size must be 16 or more, pixel_spacing above 0 and slice_step 1 or more")
        if self.image_size % 4:
            raise ValueError(f"image_size is {self.image_size}; it must be a multiple of the VAE's factor, 8 or 4")

    @property
    def targets(self) -> tuple[str, ...]:
        """The contrasts, or the one target."""
        return self.contrasts or (self.target,)

    @property
    def judged(self) -> str:
        """The split that models are judged on: "test", or "validation" of rendered heads, which have no other."""
        return "test" if self.heads is None else "validation"


@dataclass(frozen=True)
class PartsConfig:
    """The networks around the denoiser: a folder, a hub id, ``bundle:NAME`` for an installed bundle's, or ``trained``
    for the one that `diffma train autoencoder` or `image-encoder` made in this experiment."""

    vae: str = "stabilityai/sd-vae-ft-ema"  # 8 pixels to one of a latent, 4 channels
    image_encoder: str = "microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224"  # of the pooled CT embedding


@dataclass(frozen=True)
class TrainConfig:
    """A training run; the defaults are the paper's where it states them (AdamW 1e-4, no decay, EMA 0.9999)."""

    steps: int = 100_000  # of the optimiser
    batch_size: int = 64  # of one optimiser step, over all processes
    micro_batch: int | None = None  # of one process at once; None: batch_size / processes
    learning_rate: float = 1e-4  # of AdamW
    warmup: int = 0  # steps
    cooldown: float = 0.0  # share of the steps, the last ones, over which the learning rate goes down to 0
    weight_decay: float = 0.0  # of AdamW
    ema: float = 0.9999  # decay of the averaged weights
    clip: float = 1.0  # largest norm of the gradient
    precision: Literal["bf16", "fp32"] = "bf16"  # of the networks; the weights are float32
    log_every: int = 10  # steps
    sample_every: int = 5_000  # steps
    checkpoint_every: int = 1_000  # steps
    workers: int | None = None  # threads that read the cache ahead; None: 2 with a GPU, else 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "log_every", "sample_every", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        if not 0 <= self.cooldown <= 1:
            raise ValueError(f"cooldown is {self.cooldown}; it is a share of the steps, from 0 to 1")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema is {self.ema}; it must be from 0 to below 1")


@dataclass(frozen=True)
class AutoencoderConfig:
    """An image autoencoder for the targets (:class:`~DiffMaCore.models.patch_autoencoder.PatchAutoencoder`), where
    ``parts.vae`` is ``trained``."""

    factor: int = 4  # pixels to one of a latent, along a side
    latent_channels: int = 8  # of a latent
    channels: int = 64  # of the decoder
    blocks: int = 4  # of the decoder
    gradient_weight: float = 0.5  # of the differences between neighbouring pixels
    train: TrainConfig = field(default_factory=lambda: TrainConfig(steps=3_000, batch_size=8, learning_rate=1e-3))


@dataclass(frozen=True)
class ImageEncoderConfig:
    """A vision transformer trained as CLIP is, source slice against target slice, where ``parts.image_encoder`` is
    ``trained``. Its embeddings are as wide as the denoiser."""

    width: int = 128  # of a token
    layers: int = 3  # of attention
    head_width: int = 32  # of an attention head
    patch_size: int = 16  # pixels
    mlp_ratio: float = 4.0  # inner width over width
    train: TrainConfig = field(default_factory=lambda: TrainConfig(steps=1_000, batch_size=48, learning_rate=5e-4))


@dataclass(frozen=True)
class GuidedDecoderConfig:
    """The decoder that sees the CT (:class:`~DiffMaCore.models.guided_decoder.GuidedDecoder`), trained on what the
    denoiser gives. ``mean_share`` of a batch are mean latents, the rest true ones with up to ``noise`` on them."""

    channels: tuple[int, ...] = (16, 32, 64)  # at every level
    blocks: int = 3  # of each level
    mean_share: float = 0.75  # of a batch that are mean latents
    noise: float = 0.3  # on true latents, at most
    gradient_weight: float = 0.5  # of the differences between neighbouring pixels
    ssim_weight: float = 0.0  # of 1 - SSIM
    error_channels: tuple[int, ...] | None = None  # of the network that tells its absolute error; null: none does
    begin_from: str = ""  # a bundle, by name or folder, whose weights training goes on from; "": random ones
    train: TrainConfig = field(default_factory=lambda: TrainConfig(steps=5_000, batch_size=8, learning_rate=1e-3))


@dataclass(frozen=True)
class JointConfig:
    """Denoiser and guided decoder, each trained already, trained on together by the guided decoder's loss. Two weights
    keep the denoiser at what it was trained for: the true latent as its mean, and v."""

    latent_weight: float = 0.3  # of the mean latents' squared error
    sample_weight: float = 0.3  # of v's squared error, on the rows that are no mean latents
    train: TrainConfig = field(default_factory=lambda: TrainConfig(steps=3_000, batch_size=8, learning_rate=5e-4))


@dataclass(frozen=True)
class SmallDecoderConfig:
    """A small decoder (diffusers' ``AutoencoderTiny``) that gives what the VAE's gives. ``channels`` are the same at
    every level, ``blocks`` those of each level from the latent's size on; latents get up to ``noise``. The loss is L1
    to the full decoder's output and its differences, and ``target_weight`` times L1 to the target itself."""

    channels: int = 32  # of every level
    blocks: tuple[int, ...] = (3, 2, 1)  # of each level, from the latent's size on
    noise: float = 0.15  # on latents, at most
    gradient_weight: float = 0.5  # of the differences between neighbouring pixels
    target_weight: float = 0.2  # of L1 to the target itself
    train: TrainConfig = field(default_factory=lambda: TrainConfig(steps=2_000, batch_size=4, learning_rate=1.5e-3))


@dataclass(frozen=True)
class EmbedderConfig:
    """Pre-training of the Vision Embedder: "paper" contrasts a batch with itself (Eqs. 7 and 8), "two_views"
    contrasts two disturbed views of every slice."""

    views: Literal["paper", "two_views"] = "two_views"  # a batch with itself, or two disturbed views a slice
    temperature: float = 0.07  # tau of Eq. 7
    mask_hidden: int | None = None  # None: tokens / 14
    noise: float = 0.35  # of the views, in the latents' unit variance
    gain: float = 0.15  # of the views, largest change of scale
    dropped: float = 0.3  # share of the slice covered by blanked patches
    calibrate_mask: bool = False  # afterwards, so that its weights wipe no token out; not in the paper
    begin_from: str = ""  # a bundle, by name or folder, whose weights training goes on from; "": random ones
    train: TrainConfig = field(default_factory=lambda: TrainConfig(steps=5_000, batch_size=64))


@dataclass(frozen=True)
class DenoiserConfig:
    """The models' common size and training. Sizes are DiffMa's; the other backbones get the depth that Table 2
    gives them in proportion (13 of 8, DiT 7 of 8) and are matched to DiffMa's true parameters."""

    backbone: Backbone = "diffma"  # the model that is trained
    width: int = 512  # of a token, D
    depth: int = 8  # DiffMa's blocks: 4 S, 8 B, 16 L, 28 XL, 56 XXL
    patch_size: int = 2  # latent pixels: 2, 4 or 7
    state_size: int = 16  # N of the scan
    expand: int = 2  # inner width of a Mamba over D
    ct_conditioning: Literal["pooled", "tokens", "pixels"] = "pooled"  # the paper's; the others add the CT in place
    mean_share: float = 0.0  # of a batch that learns the conditional mean; 0: sample mode alone
    prediction_type: Literal["epsilon", "v_prediction"] = "epsilon"  # what the network predicts
    learn_sigma: bool = False  # also the variance, as the released code
    vlb_weight: float = 1e-3  # of the variance's loss
    begin_from: str = ""  # a bundle, by name or folder, whose weights training goes on from; "": random ones
    train: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        if not 0 <= self.mean_share < 1:
            raise ValueError(f"mean_share is {self.mean_share}; it is a share of the batch, from 0 to below 1")
        if self.mean_share and (self.prediction_type != "v_prediction" or self.learn_sigma):
            raise ValueError("the conditional mean is read off v: set prediction_type to v_prediction, no learn_sigma")


@dataclass(frozen=True)
class EvaluationConfig:
    """How models are judged: sampling, and the bootstrap over patients."""

    steps: int = 15  # of sampling
    scheduler: str = "dpm++"  # of sampling
    samples: int = 4  # noises to draw
    seed: int = 0  # of the noise
    bootstrap: int = 2_000  # draws of patients for intervals


@dataclass(frozen=True)
class CardConfig:
    """What the bundle's model card says of the data; the rest is filled in from the run."""

    training_data: str  # whose images
    licence: str  # of the model
    limits: str  # what it has not seen
    measured: str = ""  # metrics, in words
    version: str = "1"  # of the model
    reliability: str = ""  # reliability.png of `diffma evaluate`, shown in the card


@dataclass(frozen=True)
class Experiment:
    """The whole file."""

    name: str  # of its folder and bundle
    title: str  # as people read it
    data: DataConfig  # what a slice is
    card: CardConfig  # what the model card says
    seed: int = 0  # of the split, the weights and every draw
    demo: bool = False  # the result is called DEMO wherever it is used
    bundle_precision: Literal["float32", "float16"] = "float32"  # of the weights in the bundle
    uncertainty_scale: float = 1.0  # of the deviation over samples, measured on validation cases
    error_scale: float = 1.25  # of the error that the guided decoder expects, measured on the same
    grid_shift: int = 0  # latent pixels between the four grids of tokens that the mean is averaged over; 0: one grid
    mirrored: bool = False  # the expected image is averaged with that of the mirrored slices
    slice_smoothing: float = 0.0  # mm, standard deviation across slices by which the expected image is smoothed
    parts: PartsConfig = field(default_factory=PartsConfig)  # networks around the denoiser
    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)  # where parts.vae is trained
    image_encoder: ImageEncoderConfig = field(default_factory=ImageEncoderConfig)  # a trained one
    embedder: EmbedderConfig = field(default_factory=EmbedderConfig)  # the Vision Embedder
    denoiser: DenoiserConfig = field(default_factory=DenoiserConfig)  # size and training of the models
    guided_decoder: GuidedDecoderConfig = field(default_factory=GuidedDecoderConfig)  # a decoder that sees the CT
    joint: JointConfig = field(default_factory=JointConfig)  # denoiser and guided decoder, trained on together
    small_decoder: SmallDecoderConfig = field(default_factory=SmallDecoderConfig)  # a faster decoder
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)  # how models are judged
    systems: tuple[Backbone, ...] = SYSTEMS  # that the report compares

    def __post_init__(self) -> None:
        if self.denoiser.ct_conditioning == "pixels" and self.data.neighbour_distance is None:
            raise ValueError(
                "ct_conditioning: pixels needs data.neighbour_distance, the mm between a slice and the neighbours it is"
                " seen with"
            )


class Folders:
    """Where an experiment keeps what, below ``root``."""

    def __init__(self, root: Path) -> None:
        self.root, self.data = root, root / "data"
        self.embedder, self.evaluation, self.report = root / "embedder", root / "evaluation", root / "report"

    def part(self, name: str) -> Path:
        """The run of a network around the denoiser: "autoencoder", "image_encoder", "embedder", "guided_decoder",
        "joint" or "small_decoder"; the network is in ``model/`` below."""
        return self.root / name

    def system(self, backbone: str) -> Path:
        """The run of one model; its bundle is in ``bundle/`` below (regression: ``model/``)."""
        return self.root / "systems" / backbone


def experiment_folders(experiment: Experiment, out: Path | None = None) -> Folders:
    """``out``, or ``runs/<name>`` below the working directory."""
    return Folders(out if out is not None else Path("runs") / experiment.name)


def write_template(folder: Path) -> list[Path]:
    """``experiment.yaml``, a commented one to begin with, and an example ``pairs.csv`` in a folder. Raises OutputError
    where one is there already."""
    paths = [folder / name for name in ("experiment.yaml", "pairs.csv")]
    for path in paths:
        if path.exists():
            raise OutputError(f"{path} is there already; name another folder")
    folder.mkdir(parents=True, exist_ok=True)
    for path in paths:
        shutil.copyfile(TEMPLATE / path.name, path)
    return paths
