"""Predictions in, files out, and back: a stopped or repeated evaluation makes only what is missing."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from DiffMaCore.errors import ModelError
from DiffMaCore.progress import Reporter
from DiffMaCore.training.cache import Case, PairedCache
from DiffMaCore.training.evaluation.predictors import Prediction, Predictor, Sampling
from DiffMaCore.training.evaluation.scores import SCORING
from DiffMaCore.training.files import read_facts, replacing, require_room, write_json

_FORMAT = 1
_VOLUMES = ("mean", "first", "deviation")


class PredictionStore:
    """``<folder>/<model>/<case>.npz``: volumes (N, S, S) in [0, 1] as float16, 0 outside the body; ``<case>.json``:
    their metrics.

    Each file carries the key of what it was made with: the model's checksum and precision, the data's fingerprint and,
    where the system samples, how it was asked. A file of another key counts as missing. What is scored is what was
    stored, so that metrics do not depend on when a volume was made.
    """

    def __init__(self, folder: Path, cache: PairedCache, sampling: Sampling) -> None:
        self.folder, self._cache, self._sampling = folder, cache, sampling

    def _path(self, predictor: Predictor, case: str, suffix: str = ".npz") -> Path:
        return self.folder / predictor.key / f"{case}{suffix}"

    def _key(self, predictor: Predictor) -> str:
        """Of everything that decides the model's predictions."""
        words = {"format": _FORMAT, "system": predictor.identity, "precision": predictor.precision}
        words |= {"data": self._cache.fingerprint, "asked": vars(self._sampling) if predictor.stochastic else None}
        return hashlib.sha256(json.dumps(words, sort_keys=True).encode()).hexdigest()

    def _has(self, predictor: Predictor, case: str) -> bool:
        """Whether the volume is there and was made with the same key."""
        try:
            with np.load(self._path(predictor, case)) as stored:
                return str(stored["key"]) == self._key(predictor)
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            return False

    def fill(self, predictor: Predictor, cases: Sequence[Case], reporter: Reporter, place: str) -> None:
        """Make the volumes that are missing. Raises OutputError when the disk cannot hold them, ModelError where a
        model gives values that are not finite."""
        missing = [case for case in cases if not self._has(predictor, case.id)]
        if not missing:
            return
        reporter.stage(f"loading {place}")
        volumes = len(_VOLUMES) if predictor.stochastic and self._sampling.samples > 1 else 1
        pixels = sum(map(len, missing)) * self._cache.data.image_size**2
        require_room(self.folder, 2 * volumes * pixels, f"the volumes of {predictor.title}")
        total = sum(predictor.ticks(len(case), self._sampling) for case in missing)
        reporter.stage(f"predicting with {place}", total=total)
        for case in missing:
            made = predictor.predict(case, self._sampling, reporter)
            if not np.isfinite(made.mean).all():
                raise ModelError(f"{predictor.title} gave values that are not finite for {case.id}; train it again")
            self._write(predictor, case, made)

    def _write(self, predictor: Predictor, case: Case, prediction: Prediction) -> None:
        """Keep a volume, and the model's number of parameters with it."""
        body = case.body().numpy()
        volumes = {name: volume for name in _VOLUMES if (volume := getattr(prediction, name)) is not None}
        stored: dict[str, Any] = {
            name: np.where(body, volume, 0).astype(np.float16) for name, volume in volumes.items()
        }
        write_json(self._facts(predictor), {"identity": predictor.identity, "parameters": predictor.parameters})
        with replacing(self._path(predictor, case.id)) as part, part.open("wb") as stream:
            np.savez_compressed(stream, key=self._key(predictor), seconds=prediction.seconds, **stored)

    def read(self, predictor: Predictor, case: str) -> Prediction:
        """A volume that is there."""
        with np.load(self._path(predictor, case)) as stored:
            volumes: dict[str, NDArray[np.float32]] = {
                name: stored[name].astype(np.float32) for name in _VOLUMES if name in stored
            }
            return Prediction(**volumes, seconds=float(stored["seconds"]))

    def scores(self, predictor: Predictor, case: str) -> dict[str, Any] | None:
        """The metrics that were taken of a volume of this key, or None: SSIM takes long."""
        stored = read_facts(self._path(predictor, case, ".json"))
        return stored.get("scores") if stored.get("key") == f"{self._key(predictor)}-{SCORING}" else None

    def write_scores(self, predictor: Predictor, case: str, scores: dict[str, Any]) -> None:
        """Keep the metrics of a volume."""
        facts = {"key": f"{self._key(predictor)}-{SCORING}", "scores": scores}
        write_json(self._path(predictor, case, ".json"), facts)

    def parameters(self, predictor: Predictor) -> int:
        """As the model says, without loading it where that is known already."""
        facts = read_facts(self._facts(predictor))
        return int(facts["parameters"]) if facts.get("identity") == predictor.identity else predictor.parameters

    def _facts(self, predictor: Predictor) -> Path:
        return self.folder / predictor.key / "system" / "facts.json"
