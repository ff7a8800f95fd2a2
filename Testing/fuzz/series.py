"""Spoil DICOM series in the ways of ``wrong_series`` and see what becomes of each: ``Testing/fuzz/series.py``."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from judging import Outcome, Worker, captured, check
from seed_files import HU, SEEDS
from wrong_series import CODINGS, KINDS, REFUSED, REPAIRED, SAME


class Spoiler:
    """Case ``number`` of ``seed``: one series, spoiled and checked in a worker process."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._seed, self.place = seed, folder / "series"
        self._worker = Worker(self._run)

    def __call__(self, number: int) -> tuple[str, str]:
        """ "" and the sentence where it was handled, else what was wrong with the handling and the sentence."""
        outcome = self._worker(number)
        assert isinstance(outcome, Outcome)
        may = KINDS[self.name(number)].may
        same = outcome.voxels is not None and np.array_equal(outcome.voxels, HU)
        handled = (
            (outcome.kind == "refused" and REFUSED in may)
            or (outcome.kind == "noted" and REPAIRED in may)
            or (outcome.kind in ("accepted", "noted") and same and (SAME in may or REPAIRED in may))
        )
        return "" if handled else outcome.kind, outcome.said

    @staticmethod
    def name(number: int) -> str:
        """The fault of a case."""
        return list(KINDS)[number % len(KINDS)]

    def end(self) -> None:
        self._worker.end()

    def _run(self, number: object) -> Outcome:
        assert isinstance(number, int)
        shutil.rmtree(self.place, ignore_errors=True)
        rng = np.random.default_rng([self._seed, number])
        SEEDS[CODINGS[int(rng.integers(len(CODINGS)))]](self.place)
        captured(lambda: KINDS[self.name(number)].make(self.place, rng))  # pydicom's warnings of what is written
        return check(self.place)


def main() -> int:
    """Returns 1 where any series was mishandled."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=6, help="series of every kind")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", help="kinds whose name holds this")
    parser.add_argument("--verbose", action="store_true", help="also what is said of those that were handled")
    args = parser.parse_args()
    bad, began = 0, time.monotonic()
    numbers = [n for n in range(args.rounds * len(KINDS)) if not args.only or args.only in Spoiler.name(n)]
    with tempfile.TemporaryDirectory() as folder:
        spoiler = Spoiler(Path(folder), args.seed)
        for number in numbers:
            wrong, said = spoiler(number)
            bad += bool(wrong)
            if wrong or args.verbose:
                tail = said.strip().splitlines()[-2:]
                print(f"{number} {Spoiler.name(number)}: {wrong or 'handled'}: {' | '.join(tail)[:300]}", flush=True)
        spoiler.end()
    print(f"{len(numbers)} series in {time.monotonic() - began:.0f} s, {bad} mishandled")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
