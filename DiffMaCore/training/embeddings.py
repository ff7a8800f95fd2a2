"""Soft masks and CT embeddings of all prepared slices, computed once for each Vision Embedder."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from DiffMaCore.devices import choose_device
from DiffMaCore.errors import InputError
from DiffMaCore.models.embedder import VisionEmbedder
from DiffMaCore.progress import Reporter
from DiffMaCore.training.cache import PairedCache, TensorFile
from DiffMaCore.training.files import replacing, require_room

_BATCH = 64


def embedder_hash(embedder: VisionEmbedder) -> str:
    """SHA-256 over an embedder's configuration and weights."""
    plain = {key: value for key, value in embedder.config.items() if not key.startswith("_")}
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode())
    for name, weight in sorted(embedder.state_dict().items()):
        digest.update(name.encode())
        digest.update(weight.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


@torch.inference_mode()
def ensure_embeddings(
    cache: PairedCache, embedder: VisionEmbedder, reporter: Reporter | None = None, device: str = "auto"
) -> Path:
    """The folder with ``<id>.safetensors`` of every case: ct_embedding float16 (N, L, D), soft_mask float16 (N, L, 1).

    Cases that are there for these weights and latents are not computed again. The embedder comes back where it was.
    Raises InputError where its grid is not that of the cache's latents, OutputError where there is no room.
    """
    reporter = reporter or Reporter()
    config = embedder.config
    if (config["in_channels"], config["latent_size"]) != cache.latent_shape[:2]:
        raise InputError(
            f"the embedder was made for latents of {config['latent_size']} pixels and the cache holds"
            f" {cache.latent_shape[1]}; train it again with `diffma train embedder`"
        )
    folder = cache.folder / "embeddings" / embedder_hash(embedder)[:12]
    keys = {entry["id"]: entry["key"] for entry in cache.manifest["cases"]}
    missing = [id for id in keys if _key_of(folder / f"{id}.safetensors") != keys[id]]
    if not missing:
        return folder
    tokens = (config["latent_size"] // config["patch_size"]) ** 2
    slices = sum(len(cache.case(id)) for id in missing)
    require_room(folder, 2 * slices * tokens * (config["width"] + 1), "the CT embeddings")
    home, training = next(embedder.parameters()).device, embedder.training
    chosen = choose_device(device)
    embedder.to(chosen).eval()
    reporter.stage("embedding", total=len(missing))
    for id in missing:
        latents = cache.case(id).file.whole("source_latent").float()
        parts = [embedder(part.to(chosen)) for part in latents.split(_BATCH)]
        tensors = {
            "ct_embedding": torch.cat([part.ct_embedding.half().cpu() for part in parts]),
            "soft_mask": torch.cat([part.soft_mask.half().cpu() for part in parts]),
        }
        with replacing(folder / f"{id}.safetensors") as part_file:
            save_file(tensors, part_file, {"key": keys[id]})
        reporter.advance()
    embedder.to(home).train(training)
    return folder


def _key_of(file: Path) -> str | None:
    """Which latents a file was made of; None where there is none that can be read."""
    try:
        return TensorFile(file).metadata().get("key") if file.is_file() else None
    except InputError:
        return None
