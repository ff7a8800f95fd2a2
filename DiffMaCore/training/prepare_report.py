"""What was prepared, for people: ``report.md`` beside the cache."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from DiffMaCore.training.experiment import Experiment
from DiffMaCore.training.files import replacing
from DiffMaCore.training.split import Split


@dataclass(frozen=True)
class LeftOut:
    """A case that is not used, and why."""

    id: str
    centre: str
    reason: str


def write_report(
    path: Path, experiment: Experiment, manifest: Mapping[str, Any], split: Split, left_out: Iterable[LeftOut]
) -> None:
    """Counts by centre and split, what was left out and why, and what was noted of single cases."""
    data, cases = experiment.data, manifest["cases"]
    out = list(left_out)
    slices = sum(case["slices"] for case in cases)
    lines = [
        f"# Prepared data: {experiment.title}",
        "",
        f"{data.source.upper()} to {data.target.upper()}, {len(cases)} cases with {slices} slices of"
        f" {data.image_size} x {data.image_size} pixels of {data.pixel_spacing:g} mm. Left out: {len(out)}.",
        "",
        *_table(cases, split),
        "",
        "## Left out",
        "",
        *([f"- {item.id}: {item.reason}" for item in out] or ["Nothing."]),
        "",
        "## Notes",
        "",
        *([f"- {note}" for note in manifest["notes"]] or ["None."]),
        "",
        "## How it was made",
        "",
        *(
            f"- {name.replace('_', ' ')}: {record['asked']}, sha256 {record['sha256']}"
            for name, record in manifest["parts"].items()
        ),
        f"- intensities: {_intensities(experiment)}",
        f"- fingerprint: {manifest['fingerprint']}",
        f"- versions: {', '.join(f'{name} {version}' for name, version in manifest['versions'].items())}",
        "",
    ]
    with replacing(path) as part:
        part.write_text("\n".join(lines), encoding="utf-8")


def _table(cases: list[dict[str, Any]], split: Split) -> list[str]:
    """Patients and slices, a line a centre and a column a split."""
    lines = ["| centre | train | validation | test |", "|---|---|---|---|"]
    centres = sorted({case["centre"] for case in cases})
    for centre in [*centres, None] if len(centres) > 1 else centres:
        cells = []
        for ids in split.values():
            own = [case for case in cases if case["id"] in ids and centre in (None, case["centre"])]
            cells.append(f"{len(own)} cases, {sum(case['slices'] for case in own)} slices")
        name = "all" if centre is None else centre or "unknown"
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _intensities(experiment: Experiment) -> str:
    data = experiment.data
    low, high = data.mr_percentiles
    parts = [f"percentiles {low:g} and {high:g} inside the body become -1 and 1"]
    if data.source == "ct":
        parts.append(f"CT through the HU windows {', '.join(f'{a:g} to {b:g}' for a, b in data.hu_windows)}")
    if data.target == "ct":
        parts.append(f"CT target from {data.target_window[0]:g} to {data.target_window[1]:g} HU")
    return "; ".join(parts)
