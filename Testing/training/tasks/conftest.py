"""One prepared tiny experiment for all tests of the tasks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from DiffMaCore.progress import Reporter
from DiffMaCore.training.experiment import Experiment, Folders
from DiffMaCore.training.tasks import train_part
from Testing.training.tiny_cache import make_tiny_cache


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Experiment, Folders]:
    """Data, an embedder and DiffMa, of four steps each."""
    root: Path = tmp_path_factory.mktemp("tasks")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    experiment, folders = make_tiny_cache(root)
    calibrated = replace(experiment, embedder=replace(experiment.embedder, calibrate_mask=True))
    train_part(calibrated, folders, "embedder", Reporter(), "cpu")
    train_part(calibrated, folders, "denoiser", Reporter(), "cpu")
    torch.set_num_threads(threads)
    return calibrated, folders
