"""A trained denoiser and its guided decoder in, both out, trained on together by the image that they make."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from operator import itemgetter
from pathlib import Path

import torch
from torch import Tensor, nn

from DiffMaCore.diffusion.conditions import Conditions
from DiffMaCore.diffusion.objective import add_noise, mean_of, spread_timesteps, target
from DiffMaCore.models.diffma import DiffMa
from DiffMaCore.models.embedder import VisionEmbedder
from DiffMaCore.models.guided_decoder import Decoded, GuidedDecoder
from DiffMaCore.training.batches import Batch, ShardedRNG
from DiffMaCore.training.bundling import DENOISER, GUIDED_DECODER, begun_from, write_bundles
from DiffMaCore.training.cache import PairedCache
from DiffMaCore.training.experiment import Experiment, Folders
from DiffMaCore.training.run_folder import Sample, write_trained
from DiffMaCore.training.task import settings_of
from DiffMaCore.training.tasks.denoiser import conditions_of
from DiffMaCore.training.tasks.images import GuidedDecoderTask, noised


class JointTask(GuidedDecoderTask):
    """The denoiser learns what the decoder can use: the guided decoder's loss goes through the mean latents to it. It
    keeps what it was trained for, the true latent as its mean, and v on the other rows of a batch."""

    name = "joint"

    def __init__(
        self,
        experiment: Experiment,
        folders: Folders,
        cache: PairedCache,
        denoiser: DiffMa,
        decoder: GuidedDecoder,
        embedder: VisionEmbedder,
    ) -> None:
        super().__init__(experiment, folders, cache, denoiser, embedder)
        shift = experiment.grid_shift
        mean = partial(mean_of, alphas=self._alphas, latent_shape=cache.latent_shape, grid_shift=shift)
        decoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.model = _Joint(denoiser, decoder, mean).requires_grad_(True)
        self.settings = {**self.settings, **settings_of(experiment.joint, begun_from=begun_from(folders))}

    def loss(self, model: nn.Module, batch: Batch, rng: ShardedRNG) -> tuple[Tensor, dict[str, Tensor]]:
        """The guided decoder's, and the squared errors of the mean latents and of v."""
        x0, alphas = batch["target_latent"], self._alphas.to(batch["target_latent"].device)
        chosen = self.expected_rows(rng)
        t, noise = spread_timesteps(rng.uniform("timestep")), rng.normal("of v", *x0.shape[1:])
        xt = add_noise(x0, noise, t, alphas)
        given = conditions_of(batch, self.embedder)
        made, mean, v = model(noised(x0, rng, self.config.noise), xt, t, chosen, *given)
        loss, metrics = self.loss_of(made, batch, chosen, rng)
        asked = target(x0, noise, t, alphas, "v_prediction")[~chosen]
        count = self.expected_count(rng)
        latent, sampled = (
            rng.mean_over(((given - true) ** 2).mean(dim=(1, 2, 3)), rows)
            for given, true, rows in ((mean, x0[chosen], count), (v, asked, rng.total - count))
        )
        config = self.experiment.joint
        told = {"image": loss.detach(), "mean_mse": latent.detach(), "mse": sampled.detach()}
        return loss + config.latent_weight * latent + config.sample_weight * sampled, metrics | told

    def sample(self, model: nn.Module) -> Sample:
        """As of the guided decoder, by the denoiser that is trained."""
        assert isinstance(model, _Joint)
        self.denoiser = model.denoiser
        return super().sample(model.decoder)

    def finish(self, model: nn.Module, folder: Path) -> None:
        """Write both networks below ``model/``, ``summary.json``, and the model's bundles anew, with both."""
        write_trained(folder, model, "joint", "Denoiser and guided decoder", begun_from=self.settings["begun_from"])
        write_bundles(self.experiment, self.folders, self.cache)


class _Joint(nn.Module):
    """Both networks, so that one loss reaches both. ``mean``: see :func:`mean_of`."""

    def __init__(self, denoiser: DiffMa, decoder: GuidedDecoder, mean: Callable[..., Tensor]) -> None:
        super().__init__()
        self.denoiser, self.decoder, self.mean = denoiser, decoder, mean

    def forward(
        self, latents: Tensor, xt: Tensor, t: Tensor, chosen: Tensor, conditions: Conditions, contrast: Tensor | None
    ) -> tuple[Decoded, Tensor, Tensor]:
        """Slices of ``latents`` (B, C, S, S), of mean latents in the ``chosen`` rows; the mean latents of these, and v
        of ``xt`` after ``t`` steps in the others."""

        def of(rows: Tensor) -> tuple[Conditions, Tensor | None]:
            return conditions.map(itemgetter(rows)), None if contrast is None else contrast[rows]

        rest, mean, v = ~chosen, latents[:0], latents[:0]
        if chosen.any():
            mean = self.mean(self.denoiser, *of(chosen))
            latents = latents.index_put((chosen,), mean)
        if rest.any():
            given, word = of(rest)
            v = self.denoiser(xt[rest], t[rest], *given, contrast=word).sample
        return self.decoder(latents, conditions.ct_pixels), mean, v

    def save_pretrained(self, folder: Path) -> None:
        """Both, each in its own folder below."""
        self.denoiser.save_pretrained(folder / DENOISER)
        self.decoder.save_pretrained(folder / GUIDED_DECODER)
