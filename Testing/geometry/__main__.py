"""Convert many random volumes and tell how far off their landmarks are: ``python -m Testing.geometry --cases 1000``."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings

from DiffMaCore import DiffMaPipeline
from DiffMaCore.errors import DiffMaError
from Testing.conftest import make_tiny_bundle
from Testing.geometry.cases import Case, cases
from Testing.geometry.converting import displacement, echoing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    found: list[tuple[float, Case]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_tiny_bundle(folder / "bundle")
        pipe = echoing(DiffMaPipeline.from_pretrained(folder / "bundle"), setattr)

        @seed(args.seed)
        @settings(
            max_examples=args.cases,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(cases)
        def run(case: Case) -> None:
            with tempfile.TemporaryDirectory(dir=folder) as place:
                try:
                    error = displacement(pipe, case, Path(place))
                except DiffMaError as refused:
                    print(f"refused: {refused}", flush=True)
                    error = float("inf")
            found.append((error, case))

        run()
    found.sort(key=lambda pair: -pair[0])
    errors = np.array([error for error, _ in found])
    print(f"{len(errors)} volumes: median {np.median(errors):.3f} voxel, worst {errors[0]:.3f};", end=" ")
    print(f"{(errors >= 0.5).sum()} off by half a voxel or more, {np.isinf(errors).sum()} of these refused or swapped")
    for error, case in found[:5]:
        print(f"{error:.3f} {case}")


if __name__ == "__main__":
    main()
