"""What the configuration file of each component of a bundle may hold: one dataclass a class that a bundle may use.

Keys and defaults are those of the class's constructor; bounds are wide enough for every model that can be trained here,
and narrow enough that nothing is built for hours. Nothing here imports torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

from DiffMaCore.configuring import Bounds, Length, Pattern

Size: TypeAlias = Annotated[int, Bounds(1, 256)]
Width: TypeAlias = Annotated[int, Bounds(4, 8192)]
Blocks: TypeAlias = Annotated[int, Bounds(0, 128)]
Channels: TypeAlias = Annotated[int, Bounds(1, 4096)]
Levels: TypeAlias = Annotated[tuple[Channels, ...], Length(1, 8)]
Scale: TypeAlias = Annotated[float, Bounds(1e-4, 1e4)]
Share: TypeAlias = Annotated[float, Bounds(0, 1)]
Activation: TypeAlias = Literal["silu", "swish", "mish", "gelu", "relu"]
_TimmName: TypeAlias = Annotated[
    str, Pattern(r"vit_(tiny|small|base|large)_patch\d{1,2}_\d{3}", "such as vit_base_patch16_224")
]
Off: TypeAlias = Literal[False]
Pixels: TypeAlias = Literal[3, 9]
MOST_TOKENS = 128  # along one side of the grid


def _divides(key: str, value: int, by: str, divisor: int) -> None:
    if value % divisor:
        raise ValueError(f"{key} must be a multiple of {by}, which is {divisor}, not {value}")


def _grid(latent_size: int, patch_size: int) -> None:
    _divides("latent_size", latent_size, "patch_size", patch_size)
    if latent_size // patch_size > MOST_TOKENS:
        raise ValueError(f"patch_size must be larger than {patch_size}: at most {MOST_TOKENS} tokens a side")


@dataclass(frozen=True)
class DiffMaConfig:
    """Of :class:`DiffMaCore.DiffMa`; one contrast, since a bundle makes one."""

    latent_size: Size = 28
    patch_size: Size = 2
    width: Width = 512
    depth: Annotated[int, Bounds(1, 128)] = 8
    in_channels: Size = 4
    state_size: Size = 16
    conv_size: Annotated[int, Bounds(2, 16)] = 4
    expand: Annotated[int, Bounds(1, 8)] = 2
    scan_order: Literal["spiral", "released"] = "spiral"
    learn_sigma: bool = True
    ct_conditioning: Literal["pooled", "tokens", "pixels"] = "pooled"
    backbone: Literal["diffma", "dit", "vim", "vmamba", "efficient_vmamba", "zigma"] = "diffma"
    inner: Annotated[int, Bounds(1, 65536)] | None = None
    pixel_channels: Pixels = 9
    pixel_factor: Size = 4
    contrasts: Annotated[int, Bounds(1, 1)] = 1

    def __post_init__(self) -> None:
        _grid(self.latent_size, self.patch_size)
        _divides("width", self.width, "what positions need", 4)
        if self.inner is not None and self.backbone == "diffma":
            raise ValueError(f"inner must be null, since DiffMa's follows from expand, not {self.inner}")

    @property
    def sees_pixels(self) -> bool:
        """Whether it is given the CT's own pixels."""
        return self.ct_conditioning == "pixels"


@dataclass(frozen=True)
class UNetDenoiserConfig:
    """Of :class:`~DiffMaCore.baselines.unet.UNetDenoiser`."""

    latent_size: Size = 28
    width: Width = 512
    channels: Channels = 128
    time_width: Annotated[int, Bounds(1, 65536)] | None = None
    layers: Annotated[int, Bounds(1, 8)] = 2
    in_channels: Size = 4
    learn_sigma: bool = True
    pixel_channels: Literal[0, 3, 9] = 0
    pixel_factor: Size = 4
    contrasts: Annotated[int, Bounds(1, 1)] = 1

    def __post_init__(self) -> None:
        _divides("channels", self.channels, "what its groups need", 4)

    @property
    def sees_pixels(self) -> bool:
        """Whether it is given the CT's own pixels."""
        return self.pixel_channels > 0


@dataclass(frozen=True)
class VisionEmbedderConfig:
    """Of :class:`~DiffMaCore.models.embedder.VisionEmbedder`."""

    latent_size: Size = 28
    patch_size: Size = 2
    width: Width = 512
    in_channels: Size = 4
    mask_hidden: Channels | None = None

    def __post_init__(self) -> None:
        _grid(self.latent_size, self.patch_size)


@dataclass(frozen=True)
class PatchAutoencoderConfig:
    """Of :class:`~DiffMaCore.models.patch_autoencoder.PatchAutoencoder`."""

    factor: Annotated[int, Bounds(1, 32)] = 4
    latent_channels: Size = 8
    channels: Channels = 64
    blocks: Blocks = 4
    scaling_factor: Scale = 1.0

    def __post_init__(self) -> None:
        if self.latent_channels > self.factor**2:
            most = self.factor**2
            raise ValueError(f"latent_channels must be at most factor squared, {most}, not {self.latent_channels}")


@dataclass(frozen=True)
class AutoencoderKLConfig:
    """Of diffusers' ``AutoencoderKL``; latents are scaled and not shifted."""

    in_channels: Literal[3] = 3
    out_channels: Literal[3] = 3
    down_block_types: tuple[Literal["DownEncoderBlock2D"], ...] = ("DownEncoderBlock2D",)
    up_block_types: tuple[Literal["UpDecoderBlock2D"], ...] = ("UpDecoderBlock2D",)
    block_out_channels: Levels = (64,)
    layers_per_block: Annotated[int, Bounds(1, 16)] = 1
    act_fn: Activation = "silu"
    latent_channels: Size = 4
    norm_num_groups: Channels = 32
    sample_size: Annotated[int, Bounds(1, 8192)] = 32
    scaling_factor: Scale = 0.18215
    shift_factor: Annotated[float, Bounds(0, 0)] | None = None
    latents_mean: Literal[None] = None
    latents_std: Literal[None] = None
    force_upcast: bool = True
    use_quant_conv: bool = True
    use_post_quant_conv: bool = True
    mid_block_add_attention: bool = True

    def __post_init__(self) -> None:
        for channels in self.block_out_channels:
            _divides("block_out_channels", channels, "norm_num_groups", self.norm_num_groups)
        for key in ("down_block_types", "up_block_types"):
            if len(getattr(self, key)) != len(self.block_out_channels):
                raise ValueError(f"{key} must hold one type for each of block_out_channels")

    @property
    def factor(self) -> int:
        """Pixels along one side of a latent's pixel."""
        return 2 ** (len(self.block_out_channels) - 1)


@dataclass(frozen=True)
class AutoencoderTinyConfig:
    """Of diffusers' ``AutoencoderTiny``; it takes latents as they are, neither scaled nor shifted."""

    in_channels: Literal[3] = 3
    out_channels: Literal[3] = 3
    encoder_block_out_channels: Levels = (64, 64, 64, 64)
    decoder_block_out_channels: Levels = (64, 64, 64, 64)
    act_fn: Activation = "relu"
    upsample_fn: Literal["nearest", "bilinear", "bicubic", "area", "nearest-exact"] = "nearest"
    latent_channels: Size = 4
    upsampling_scaling_factor: Annotated[int, Bounds(1, 8)] = 2
    num_encoder_blocks: Annotated[tuple[Blocks, ...], Length(1, 8)] = (1, 3, 3, 3)
    num_decoder_blocks: Annotated[tuple[Blocks, ...], Length(1, 8)] = (3, 3, 3, 1)
    latent_magnitude: Annotated[float, Bounds(1e-3, 1e3)] = 3
    latent_shift: Annotated[float, Bounds(-1e3, 1e3)] = 0.5
    force_upcast: bool = False
    scaling_factor: Annotated[float, Bounds(1, 1)] = 1.0
    shift_factor: Annotated[float, Bounds(0, 0)] = 0.0
    block_out_channels: Levels | None = None  # the decoder's once more, for diffusers itself

    def __post_init__(self) -> None:
        for key, levels in (
            ("num_encoder_blocks", self.encoder_block_out_channels),
            ("num_decoder_blocks", self.decoder_block_out_channels),
        ):
            if len(getattr(self, key)) != len(levels):
                raise ValueError(f"{key} must hold {len(levels)} values, one for each level of channels")

    @property
    def factor(self) -> int:
        """Pixels along one side of a latent's pixel."""
        return self.upsampling_scaling_factor ** (len(self.num_decoder_blocks) - 1)


@dataclass(frozen=True)
class GuidedDecoderConfig:
    """Of :class:`~DiffMaCore.models.guided_decoder.GuidedDecoder`."""

    latent_channels: Size = 8
    pixel_channels: Pixels = 9
    channels: Levels = (16, 32, 64)
    blocks: Blocks = 3
    expects_error: bool = False

    @property
    def factor(self) -> int:
        """Pixels along one side of a latent's pixel."""
        return 2 ** (len(self.channels) - 1)


@dataclass(frozen=True)
class VisionConfig:
    """open_clip's description of a visual tower, its own or one of timm's plain vision transformers by name."""

    layers: Annotated[int, Bounds(1, 128)] = 12
    width: Width = 768
    head_width: Width = 64
    mlp_ratio: Annotated[float, Bounds(0.25, 16)] = 4.0
    patch_size: Size = 16
    image_size: Annotated[int, Bounds(1, 2048)] = 224
    ls_init_value: Annotated[float, Bounds(0, 10)] | None = None
    patch_dropout: Annotated[float, Bounds(0, 0.99)] = 0.0
    no_ln_pre: bool = False
    pos_embed_type: Literal["learnable", "sin_cos_2d"] = "learnable"
    final_ln_after_pool: bool = False
    pool_type: Literal["tok", "avg"] = "tok"
    timm_model_name: _TimmName | None = None
    timm_model_pretrained: Off = False  # the weights are the bundle's
    timm_pool: Literal["", "avg", "token", "map"] = "avg"
    timm_proj: Literal["", "linear", "mlp"] = "linear"
    timm_proj_bias: bool = False
    timm_drop: Share = 0.0
    timm_drop_path: Share | None = None

    def __post_init__(self) -> None:
        if self.timm_model_name is None:
            _divides("width", self.width, "head_width", self.head_width)
            _divides("image_size", self.image_size, "patch_size", self.patch_size)


@dataclass(frozen=True)
class ImageEncoderConfig:
    """Of :class:`~DiffMaCore.models.image_encoder.ImageEncoder`."""

    embed_dim: Width
    vision_cfg: VisionConfig


@dataclass(frozen=True)
class _SchedulerConfig:
    """What diffusers' schedulers have in common; the noise follows from ``beta_*``."""

    num_train_timesteps: Annotated[int, Bounds(10, 10_000)] = 1000
    beta_start: Annotated[float, Bounds(1e-8, 0.999)] = 1e-4
    beta_end: Annotated[float, Bounds(1e-8, 0.999)] = 0.02
    beta_schedule: Literal["linear", "scaled_linear", "squaredcos_cap_v2"] = "linear"
    trained_betas: Literal[None] = None
    prediction_type: Literal["epsilon", "v_prediction"] = "epsilon"
    thresholding: Off = False  # is for pixels
    dynamic_thresholding_ratio: Share = 0.995
    sample_max_value: Annotated[float, Bounds(1e-3, 1e3)] = 1.0
    steps_offset: Annotated[int, Bounds(0, 10)] = 0
    rescale_betas_zero_snr: Off = False  # mean mode divides by what is left of the signal

    def __post_init__(self) -> None:
        if self.beta_start > self.beta_end:
            raise ValueError(f"beta_start must be at most beta_end, {self.beta_end:g}, not {self.beta_start:g}")


@dataclass(frozen=True)
class DDPMSchedulerConfig(_SchedulerConfig):
    """Of ``DDPMScheduler``."""

    variance_type: Literal[
        "fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log", "learned", "learned_range"
    ] = "fixed_small"
    clip_sample: bool = True
    clip_sample_range: Annotated[float, Bounds(1e-3, 1e3)] = 1.0
    timestep_spacing: Literal["linspace", "leading", "trailing"] = "leading"


@dataclass(frozen=True)
class DDIMSchedulerConfig(_SchedulerConfig):
    """Of ``DDIMScheduler``."""

    clip_sample: bool = True
    clip_sample_range: Annotated[float, Bounds(1e-3, 1e3)] = 1.0
    set_alpha_to_one: bool = True
    timestep_spacing: Literal["linspace", "leading", "trailing"] = "leading"


@dataclass(frozen=True)
class _SolverConfig(_SchedulerConfig):
    """What the two fast solvers have in common; noise levels are those of the timesteps or evenly spaced in log-SNR."""

    solver_order: Annotated[int, Bounds(1, 3)] = 2
    lower_order_final: bool = True
    use_karras_sigmas: Off = False
    use_exponential_sigmas: Off = False
    use_beta_sigmas: Off = False
    use_flow_sigmas: Off = False
    flow_shift: Annotated[float, Bounds(1, 1)] = 1.0
    final_sigmas_type: Literal["zero", "sigma_min"] = "zero"
    timestep_spacing: Literal["linspace", "leading", "trailing"] = "linspace"
    use_dynamic_shifting: Off = False
    time_shift_type: Literal["exponential"] = "exponential"


@dataclass(frozen=True)
class DPMSolverMultistepSchedulerConfig(_SolverConfig):
    """Of ``DPMSolverMultistepScheduler``."""

    algorithm_type: Literal["dpmsolver++", "sde-dpmsolver++"] = "dpmsolver++"
    solver_type: Literal["midpoint", "heun"] = "midpoint"
    euler_at_final: bool = False
    use_lu_lambdas: bool = False
    lambda_min_clipped: Annotated[float, Bounds(-math.inf, 0)] = -math.inf
    variance_type: Literal[None] = None


@dataclass(frozen=True)
class UniPCMultistepSchedulerConfig(_SolverConfig):
    """Of ``UniPCMultistepScheduler``."""

    predict_x0: bool = True
    solver_type: Literal["bh1", "bh2"] = "bh2"
    disable_corrector: Annotated[tuple[Annotated[int, Bounds(0, 1000)], ...], Length(0, 1000)] = ()
    solver_p: Literal[None] = None
    sigma_min: Literal[None] = None
    sigma_max: Literal[None] = None
    shift_terminal: Literal[None] = None


CLASSES: dict[str, dict[str, tuple[str, type[Any]]]] = {
    "denoiser": {"DiffMa": ("DiffMaCore", DiffMaConfig), "UNetDenoiser": ("DiffMaCore", UNetDenoiserConfig)},
    "embedder": {"VisionEmbedder": ("DiffMaCore", VisionEmbedderConfig)},
    "vae": {
        "PatchAutoencoder": ("DiffMaCore", PatchAutoencoderConfig),
        "AutoencoderKL": ("diffusers", AutoencoderKLConfig),
    },
    "image_encoder": {"ImageEncoder": ("DiffMaCore", ImageEncoderConfig)},
    "scheduler": {
        "DDPMScheduler": ("diffusers", DDPMSchedulerConfig),
        "DDIMScheduler": ("diffusers", DDIMSchedulerConfig),
        "DPMSolverMultistepScheduler": ("diffusers", DPMSolverMultistepSchedulerConfig),
        "UniPCMultistepScheduler": ("diffusers", UniPCMultistepSchedulerConfig),
    },
    "small_decoder": {"AutoencoderTiny": ("diffusers", AutoencoderTinyConfig)},
    "guided_decoder": {"GuidedDecoder": ("DiffMaCore", GuidedDecoderConfig)},
}
"""The classes that each component of a bundle may be of, the package they come from, and their configurations."""
