"""Trained models and a split in, metrics out: with intervals over patients, consistency, calibration, tables."""

from DiffMaCore.training.evaluation.run import Evaluation, evaluate

__all__ = ["Evaluation", "evaluate"]
