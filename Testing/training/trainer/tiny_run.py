"""A tiny real training run: in this process for a test, or as a process that a test starts, kills and starts again."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import default_collate

from DiffMaCore.progress import Reporter
from DiffMaCore.training.batches import ShardedRNG, stream
from DiffMaCore.training.experiment import TrainConfig
from DiffMaCore.training.run_folder import RunFolder, Sample, read_metrics
from DiffMaCore.training.task import Task
from DiffMaCore.training.trainer import make_accelerator, train
from Testing.warm import become_a_program

SLICES = 40


class Slices:
    """40 rows of numbers, ten to a case; ``spoilt`` is a row that holds a NaN, ``slow`` the seconds a row takes."""

    def __init__(self, spoilt: int | None = None, slow: float = 0.0) -> None:
        self.values = torch.randn(SLICES, 8, generator=stream("slices"))
        self.slow = slow
        if spoilt is not None:
            self.values[spoilt, 3] = torch.nan

    def __len__(self) -> int:
        return SLICES

    def __getitem__(self, row: int) -> dict[str, Tensor | int]:
        time.sleep(self.slow)
        return {"target_latent": self.values[row], "row": row}

    def batch(self, rows: Sequence[int]) -> dict[str, Tensor]:
        return default_collate([self[row] for row in rows])

    def where(self, row: int) -> str:
        return f"case head_{row // 10}, slice {row % 10}"


class Denoise(Task):
    """A small network learns to clean noisy rows."""

    name = "denoiser tiny"
    whole_batch = False
    dataset: Slices

    def __init__(self, dataset: Slices, width: int = 16) -> None:
        torch.manual_seed(0)
        self.dataset = dataset
        self.model = nn.Sequential(nn.Linear(8, width), nn.SiLU(), nn.Linear(width, 8))
        self.settings = {"denoiser": {"width": width}, "data": "abc"}

    def loss(self, model: nn.Module, batch: dict[str, Tensor], rng: ShardedRNG) -> tuple[Tensor, dict[str, Tensor]]:
        noise, share = rng.normal("noise", 8), rng.uniform("t", 1)
        error = (model(batch["target_latent"] * (1 - share) + noise * share) - noise) ** 2
        return error.mean(), {"mse": error.detach().mean()}

    def sample(self, model: nn.Module) -> Sample | None:
        assert not model.training
        values = model(self.dataset.values[:4])
        grey = (values.clamp(-1, 1) * 127 + 128).to(torch.uint8).numpy()
        return Sample(Image.fromarray(grey), {"generated": values.numpy()}, {"validation": float(values.var())})

    def finish(self, model: nn.Module, folder: Path) -> None:
        (folder / "model").mkdir(exist_ok=True)
        torch.save(model.state_dict(), folder / "model" / "weights.pt")


class Contrast(Denoise):
    """A small network learns to tell each row of the whole batch from the others (InfoNCE)."""

    name = "embedder tiny"
    whole_batch = True

    def loss(self, model: nn.Module, batch: dict[str, Tensor], rng: ShardedRNG) -> tuple[Tensor, dict[str, Tensor]]:
        rows = batch["target_latent"]
        views = model(torch.cat([rows + 0.3 * rng.normal("one", 8), rows + 0.3 * rng.normal("two", 8)]))
        one, two = (rng.gather(nn.functional.normalize(view, dim=1)) for view in views.chunk(2))
        loss = nn.functional.cross_entropy(one @ two.T / 0.1, torch.arange(len(one)))
        return loss, {"similarity": (one * two).detach().sum(1).mean()}


def losses(folder: Path) -> dict[int, float]:
    """Loss by step."""
    return {row["step"]: row["loss"] for row in read_metrics(folder / "metrics.csv")}


def tiny_config(**changes: object) -> TrainConfig:
    """Every step is logged; checkpoints are rare enough that a kill loses steps."""
    values = {"steps": 12, "batch_size": 8, "learning_rate": 1e-2, "precision": "fp32", "ema": 0.9, "log_every": 1}
    values |= {"sample_every": 1000, "checkpoint_every": 5, "warmup": 4}
    return TrainConfig(**{**values, **changes})  # type: ignore[arg-type]


def run_alone(
    folder: Path, variables: dict[str, str], both: bool = False, slow: float = 0.0, **changes: object
) -> None:
    """As the whole of a process, with these variables; what it says and complains of are files beside the folder.

    ``both``: the contrast as well, in ``folder / "contrast"``.
    """
    become_a_program(folder.with_suffix(".out"))
    os.environ.update(variables)
    torch.set_num_threads(1)
    slices, accelerator = Slices(slow=slow), make_accelerator("cpu")
    try:
        train(Denoise(slices), tiny_config(**changes), RunFolder(folder), 0, Reporter(), accelerator)
        if both:
            train(Contrast(slices), tiny_config(), RunFolder(folder / "contrast"), 0, Reporter(), accelerator)
    except KeyboardInterrupt as stopped:
        print(stopped, flush=True)
        sys.exit(130)
