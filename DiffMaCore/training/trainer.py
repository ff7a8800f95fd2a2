"""The one training loop: any task, on one processor or on many nodes, stopped and gone on at any step."""

from __future__ import annotations

from DiffMaCore.training.task import Rows, Sample, Task

__all__ = ["Rows", "Sample", "Task"]
