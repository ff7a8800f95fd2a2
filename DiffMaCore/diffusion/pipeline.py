"""A bundle's folder and CT slices in, MR slices out: its networks, loaded, run and saved (diffusers' layout)."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from diffusers import AutoencoderTiny, DiffusionPipeline, SchedulerMixin
from torch import Tensor

from DiffMaCore.baselines.unet import UNetDenoiser
from DiffMaCore.bundles import hub, manifest, writing
from DiffMaCore.bundles.config import DECODERS, MODES, OPTIONAL, BundleConfig, small_decoder_command
from DiffMaCore.devices import choose_batch, choose_device
from DiffMaCore.diffusion import conditions as cond
from DiffMaCore.diffusion.graphs import DenoiserGraphs, Evaluation, Warn
from DiffMaCore.diffusion.loading import load_components
from DiffMaCore.diffusion.precision import DTYPES, choose_precision, in_own_tf32, in_precision
from DiffMaCore.diffusion.schedulers import DEFAULT_STEPS, make_scheduler, model_output, scheduler_name, step_options
from DiffMaCore.diffusion.streams import Pace
from DiffMaCore.errors import BackendError, InputError, ModelError, loading
from DiffMaCore.models.autoencoders import Autoencoder, maps_per_slice
from DiffMaCore.models.diffma import DiffMa
from DiffMaCore.models.embedder import VisionEmbedder
from DiffMaCore.models.guided_decoder import GuidedDecoder
from DiffMaCore.models.image_encoder import ImageEncoder
from DiffMaCore.ops.scan import choose_backend

if TYPE_CHECKING:
    from typing import Self

logger = logging.getLogger("DiffMaCore")

OnStep = Callable[[], None]


class SlicePipeline(DiffusionPipeline):
    """A bundle's networks, on slices: conditions, noise to latents, latents to images.

    Attributes:
        precision: "float32" or "bfloat16", in which the denoiser computes; see :meth:`set_device`.
        overlap: whether a batch is decoded, and its slices are put into the volume, while the next one is denoised.
        capture: whether the denoiser's evaluation is captured as a CUDA graph, where there is CUDA.
        tf32: whether CUDA may compute float32 products in TF32; None, as on other devices, is as the process has it.
    """

    _optional_components = list(OPTIONAL)  # noqa: RUF012  diffusers' own name and type

    denoiser: DiffMa | UNetDenoiser
    embedder: VisionEmbedder
    vae: Autoencoder
    image_encoder: ImageEncoder
    scheduler: SchedulerMixin
    small_decoder: AutoencoderTiny | None
    guided_decoder: GuidedDecoder | None

    def __init__(
        self,
        denoiser: DiffMa | UNetDenoiser,
        embedder: VisionEmbedder,
        vae: Autoencoder,
        image_encoder: ImageEncoder,
        scheduler: SchedulerMixin,
        bundle: dict[str, Any] | None = None,
        small_decoder: AutoencoderTiny | None = None,
        guided_decoder: GuidedDecoder | None = None,
    ) -> None:
        # `bundle` has a default because diffusers takes every argument without one for a network
        super().__init__()
        if bundle is None:
            raise ModelError("a DiffMa pipeline needs its bundle's configuration; pass bundle=BundleConfig.to_dict()")
        self.bundle = BundleConfig.from_dict(bundle)
        self.register_modules(
            denoiser=denoiser, embedder=embedder, vae=vae, image_encoder=image_encoder, scheduler=scheduler
        )
        self.register_modules(small_decoder=small_decoder, guided_decoder=guided_decoder)
        self.register_to_config(bundle=self.bundle.to_dict())
        self.checksum: str | None = None
        self.precision, self.overlap, self.capture = "float32", False, True
        self.tf32: bool | None = None
        self._network: Any = None
        self._graphs: DenoiserGraphs | None = None
        for module in filter(None, (denoiser, embedder, vae, image_encoder, small_decoder, guided_decoder)):
            module.eval().requires_grad_(False)

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path = "demo",
        dtype: torch.dtype | None = None,
        torch_dtype: torch.dtype | None = None,
    ) -> Self:
        """Load a bundle by installed name, folder, or hub id, after its files and configurations have been checked.

        Args:
            name_or_path: of the bundle.
            dtype, torch_dtype: as diffusers has it, float32 or bfloat16, which rounds all networks' weights but what
                decides how fast states decay.

        Raises:
            ModelError: the bundle is unknown, incomplete, truncated, altered or refused; the message names the file.
            OutOfMemory: the memory is not enough for it.
        """
        chosen = dtype or torch_dtype or torch.float32
        if chosen not in DTYPES.values():
            raise ModelError(f"a bundle cannot be loaded as {chosen}; choose torch.float32 or torch.bfloat16")
        folder = hub.find(name_or_path)
        config = manifest.verify(folder)
        config.require_complete(str(name_or_path))
        with loading(f"the bundle {name_or_path}"):
            pipe = cls(**load_components(folder, chosen), bundle=config.to_dict())
        pipe.register_to_config(_name_or_path=str(folder))
        pipe.checksum = manifest.bundle_checksum(folder)
        pipe.precision = next(name for name, known in DTYPES.items() if known == chosen)
        return pipe

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> None:
        """Write a bundle: diffusers' layout in safetensors, a model card and a manifest of checksums."""
        folder = Path(save_directory)
        super().save_pretrained(str(folder), safe_serialization=True, **kwargs)
        self.checksum = writing.seal(folder, self.bundle).bundle_sha256

    def set_device(self, name: str = "auto", scan_backend: str = "auto", precision: str = "auto") -> str:
        """Move all networks to a device, choose how they compute, and return the selective-scan back end's name.

        Precision "bfloat16" rounds the denoiser's weights and activations, in a copy of its own; "auto" does so on
        CUDA devices that compute in it. Latents, scheduler and the other networks stay float32. On CUDA, their
        products and convolutions may then use TF32; with "float32" they may not. Other networks of this process compute
        as they did.

        Raises:
            BackendError: a named device, back end or precision cannot be used here.
        """
        device = choose_device(name)
        rounded = self.denoiser.dtype == torch.bfloat16  # loaded so
        if rounded and precision == "float32":
            raise BackendError("the weights were loaded in bfloat16; load them without torch_dtype for float32")
        chosen = choose_backend(scan_backend, device)
        precision = choose_precision("bfloat16" if rounded else precision, device)
        on_cuda = device.type == "cuda"
        self._network = self._graphs = None
        self.release_memory()
        self.to(device)
        # pixel after pixel suits tensor cores; on a CPU only the small decoder is faster so, by about a quarter
        self.vae.to(memory_format=torch.channels_last if on_cuda else torch.contiguous_format)
        for decoder in filter(None, (self.small_decoder, self.guided_decoder)):
            decoder.to(memory_format=torch.channels_last)
        self.denoiser.set_scan_backend(chosen)
        self.precision, self.overlap = precision, on_cuda
        self.tf32 = precision != "float32" if on_cuda else None
        if precision != "float32" and not rounded:
            self._network = in_precision(self.denoiser, precision)
        if on_cuda:
            self._graphs = DenoiserGraphs(self._network or self.denoiser)
        return chosen

    @property
    def scan_backend(self) -> str:
        """Name of the selective-scan back end that runs, "none" where the denoiser has no scan."""
        if not self.denoiser.uses_scan:
            return "none"
        return choose_backend(self.denoiser.scan_backend, self.device)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(channels, side, side) of one slice's latent."""
        config = self.denoiser.config
        return config["in_channels"], config["latent_size"], config["latent_size"]

    def mode(self, name: str | None = None) -> str:
        """ "mean" or "sample"; None is the bundle's default. Raises InputError where it was not trained for it."""
        if name is None:
            return self.bundle.modes[0]
        if name not in MODES:
            raise InputError(f"no mode is called {name!r}; use {' or '.join(MODES)}")
        if name not in self.bundle.modes:
            raise InputError(
                f"the model {self.bundle.name} was not trained for the mode {name}; use --mode {self.bundle.modes[0]}"
            )
        return name

    def decoder(self, name: str | None = None) -> str:
        """Name of what decodes latents: "guided", "full" (the VAE) or "small"; None is the best there is.

        Raises InputError where there is no such decoder.
        """
        if name is None:
            return "full" if self.guided_decoder is None else "guided"
        if name not in DECODERS:
            raise InputError(f"no decoder is called {name!r}; use {' or '.join(DECODERS)}")
        if name == "guided" and self.guided_decoder is None:
            raise InputError(f"the model {self.bundle.name} has no guided decoder; use the full one")
        if name == "small" and self.small_decoder is None:
            command = small_decoder_command(self.name_or_path or self.bundle.name)
            raise InputError(
                f"the model {self.bundle.name} has no small decoder; use the full one, or add one that was made for its"
                f" VAE's latents with `{command}`"
            )
        return name

    def bytes_per_slice(self, decoder: str | None = None) -> int:
        """About what a batch needs for each of its slices, on the device."""
        decoder = self.decoder(decoder)
        encoding, decoding = maps_per_slice(self.vae)
        if decoder == "small" and self.small_decoder is not None:
            decoding = 7 * self.small_decoder.config["decoder_block_out_channels"][-1]
        if decoder == "guided" and self.guided_decoder is not None:
            config = self.guided_decoder.config
            decoding = 8 * max(config["channels"][0], (config["error_channels"] or (0,))[0])
        # while a batch is decoded the next is encoded, and a captured graph keeps its memory all the time
        maps = encoding + decoding if self.overlap else max(encoding, decoding)
        numbers = DTYPES[self.precision].itemsize * self.denoiser.floats_per_slice
        return 4 * maps * self.bundle.image_size**2 + numbers

    def batch_size(self, wanted: int | None = None, decoder: str | None = None) -> int:
        """Slices that fit the device's free memory at once, ``wanted`` if they do; OutOfMemory where none does."""
        return choose_batch(self.device, self.bytes_per_slice(decoder), wanted)

    def release_memory(self) -> None:
        """Give back what the device keeps for tensors that are gone, and for captured graphs."""
        if self._graphs is not None:
            self._graphs.clear()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    @in_own_tf32
    @torch.inference_mode()
    def conditions(self, source: Tensor) -> cond.Conditions:
        """Conditions of source slices on the model's grid: a CT in HU, an MRI in [-1, 1].

        Args:
            source: with their neighbours (B, 3, S, S: one below, own, one above; ``SliceGrid.neighbours``), or alone
                (B, S, S), which then stand for their neighbours as well.
        """
        bundle = self.bundle
        if source.dim() == 3:
            source = source[:, None].expand(-1, 3, -1, -1)
        # one by one on a CPU, where the sums of small products depend on how many rows there are
        parts = source.split(1 if self.device.type == "cpu" else len(source))
        return cond.together(
            [
                cond.compute_conditions(
                    part.to(self.device, self.vae.dtype),
                    bundle.hu_windows if bundle.takes_ct else None,
                    self.vae,
                    self.image_encoder,
                    self.embedder,
                    bundle.image_encoder_mean,
                    bundle.image_encoder_std,
                    with_pixels=bundle.neighbour_distance is not None,
                )
                for part in parts
            ]
        )

    @in_own_tf32
    @torch.inference_mode()
    def mean(self, conditions: cond.Conditions, warn: Warn = logger.warning) -> Tensor:
        """Latents (B, C, S', S') of the conditional mean: one evaluation at the last timestep, of no noise at all, or
        four where the bundle has a ``grid_shift``.

        There, with v prediction, v = -x_0 / sqrt(1 - alpha_T) up to the signal's share that is left, so that the
        network's own regression is read off. Raises InputError where the bundle has no mean mode, ModelError for
        numbers that are not finite.
        """
        self.mode("mean")
        batch = len(conditions.soft_mask)
        latents = torch.zeros(batch, *self.latent_shape, device=self.device)
        alphas = self.scheduler.alphas_cumprod
        t = torch.full((batch,), len(alphas) - 1, device=self.device)

        def expected(given: cond.Conditions) -> Tensor:
            v = self._evaluation(latents, t, given, warn)(latents, t)[:, : self.latent_shape[0]]
            return -((1 - alphas[-1]) ** 0.5).item() * v

        return _finite(cond.over_four_grids(expected, conditions, self.bundle.grid_shift))

    @in_own_tf32
    @torch.inference_mode()
    def denoise(
        self,
        conditions: cond.Conditions,
        steps: int = DEFAULT_STEPS,
        scheduler: str | None = None,
        noise_seed: int = 0,
        on_step: OnStep | None = None,
        warn: Warn = logger.warning,
    ) -> Tensor:
        """MR latents (B, 4, S', S') of B slices, every slice from the same noise.

        Args:
            conditions: of the B slices.
            steps: sampling steps.
            scheduler: short name; None is the bundle's own.
            noise_seed: decides the initial noise and, with "ddpm", the noise of every step.
            on_step: called after each step, on CUDA when the device has done it.
            warn: gets the reason why the steps cannot be captured as a CUDA graph, if so, once.

        Raises:
            ModelError: the network gave numbers that are not finite.
        """
        solver = self._scheduler(scheduler, steps)
        solver.set_timesteps(steps)  # on the CPU, as the solver's tables: no step waits for the device
        times = solver.timesteps.to(self.device)
        batch = len(conditions.soft_mask)
        # one generator a slice, all alike: results do not depend on how slices are batched
        generators = [torch.Generator().manual_seed(noise_seed) for _ in range(batch)]
        noise = torch.stack([torch.randn(self.latent_shape, generator=g) for g in generators])
        latents = noise.to(self.device) * solver.init_noise_sigma  # float32, whatever the networks compute in
        evaluate = self._evaluation(latents, times[0].expand(batch), conditions, warn)
        pace = Pace(self.device, on_step)
        for t, t_there in zip(solver.timesteps, times, strict=True):
            prediction = evaluate(solver.scale_model_input(latents, t), t_there.expand(batch))
            output = model_output(solver, prediction, self.latent_shape[0])
            latents = _step(solver, output, t, latents, generators)
            pace.step()
        pace.finish()
        return _finite(latents)

    def will_capture(self, batch: int) -> bool:
        """Whether denoising so many slices begins with capturing a CUDA graph; let the device be idle then."""
        return self.capture and self._graphs is not None and self._graphs.will_capture(batch)

    def _evaluation(self, latents: Tensor, t: Tensor, conditions: cond.Conditions, warn: Warn) -> Evaluation:
        """(latents, t) to the denoiser's prediction in the latents' type, in the chosen precision."""
        network = self._network or self.denoiser
        dtype = self.denoiser.dtype if self._network is None else DTYPES[self.precision]
        given = tuple(part.to(dtype) for part in conditions if part is not None)
        if self._graphs is not None and self.capture:
            captured = self._graphs.evaluation(latents.to(dtype), t, given, warn)
            if captured is not None:
                return captured
        return lambda x, t: network(x.to(dtype), t, *given).sample.to(x.dtype)

    def decode(self, latents: Tensor, decoder: str | None = None, ct_pixels: Tensor | None = None) -> Tensor:
        """MR slices (B, S, S) in the bundle's output units, float32 on the CPU.

        Args:
            latents: of the slices.
            decoder: as :meth:`decoder` takes it.
            ct_pixels: of their conditions; the guided decoder needs them.

        Raises InputError where the bundle has no such decoder.
        """
        return self._decode(latents, decoder, ct_pixels, with_error=False)[0]

    def tells_uncertainty(self, mode: str | None = None, decoder: str | None = None) -> bool:
        """Whether a decoder tells the error of one image: the guided one, of the expected image, if it learned to."""
        guided = self.guided_decoder if self.decoder(decoder) == "guided" else None
        return self.mode(mode) == "mean" and guided is not None and guided.error is not None

    def expected(
        self, source: Tensor, conditions: cond.Conditions, warn: Warn = logger.warning
    ) -> list[tuple[Tensor, Tensor | None]]:
        """Mean latents and CT pixels of source slices, as :meth:`conditions` takes them and has made ``conditions`` of
        them; and of their mirror images where the bundle is ``mirrored``."""
        mirrored = [self.conditions(source.flip(-1))] if self.bundle.mirrored else []
        return [(self.mean(each, warn), each.ct_pixels) for each in (conditions, *mirrored)]

    def decode_expected(
        self, expected: list[tuple[Tensor, Tensor | None]], decoder: str | None = None, with_error: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """The expected image of what :meth:`expected` gives, as :meth:`decode` gives images, and the error that is
        expected of it: as a standard deviation in output units, calibrated; None of a decoder that tells none."""
        image, error = self._decode(expected[0][0], decoder, expected[0][1], with_error)
        for latents, ct_pixels in expected[1:]:
            mirrored, its_error = self._decode(latents, decoder, ct_pixels, with_error)
            image = (image + mirrored.flip(-1)) / 2
            error = None if error is None or its_error is None else (error + its_error.flip(-1)) / 2
        return image, error

    @in_own_tf32
    @torch.inference_mode()
    def _decode(
        self, latents: Tensor, decoder: str | None, ct_pixels: Tensor | None, with_error: bool
    ) -> tuple[Tensor, Tensor | None]:
        low, high = self.bundle.output_range
        name, error = self.decoder(decoder), None
        latents = latents.to(self.vae.dtype)
        if name == "guided" and self.guided_decoder is not None:
            if ct_pixels is None:
                raise InputError("the guided decoder needs the CT's pixels; pass conditions.ct_pixels")
            pixels, error = self.guided_decoder(latents, ct_pixels, with_error)
            pixels = pixels.clamp(-1, 1)
        else:
            pixels = cond.decode(self.small_decoder if name == "small" else self.vae, latents)
        slices = (pixels.float().cpu() + 1) / 2 * (high - low) + low
        if error is None:
            return slices, None
        return slices, error.float().cpu() * (high - low) / 2 * self.bundle.error_scale

    def _scheduler(self, name: str | None, steps: int) -> Any:
        own = scheduler_name(self.scheduler)
        if name is not None and name != own:
            learned = self.denoiser.config["learn_sigma"]
            return make_scheduler(name, steps, self.scheduler.config.prediction_type, learned)
        return type(self.scheduler).from_config(self.scheduler.config, **step_options(own, steps))


def _finite(latents: Tensor) -> Tensor:
    if not torch.isfinite(latents).all():
        raise ModelError("the model gave values that are not finite; verify the bundle with `diffma models verify`")
    return latents


def noise_seed(seed: int, sample: int) -> int:
    """Seed of the noise of one sample of a run; no two runs share noise by having neighbouring seeds."""
    return int(np.random.SeedSequence([seed, sample]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _step(solver: Any, output: Tensor, t: Tensor, latents: Tensor, generators: list[torch.Generator]) -> Tensor:
    draws = {"generator": generators} if "generator" in inspect.signature(solver.step).parameters else {}
    return solver.step(output, t, latents, **draws).prev_sample
