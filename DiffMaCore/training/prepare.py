"""From a data set on disk to the cache that everything else reads: one file a case, made one after the other, so that
what is done stays done."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from DiffMaCore.bundles.manifest import sha256_of
from DiffMaCore.cluster import Cluster, outcomes
from DiffMaCore.configuring import first_change
from DiffMaCore.devices import choose_device
from DiffMaCore.errors import DiffMaError, Failure, InputError
from DiffMaCore.files import alone_in, replacing, require_room, write_json, write_text
from DiffMaCore.progress import Reporter
from DiffMaCore.reports import report, rows_of
from DiffMaCore.training.cache import FORMAT, PairedCache, TensorFile, value_scale
from DiffMaCore.training.experiment import DataConfig, Experiment, Folders
from DiffMaCore.training.parts import Encoder, Parts, kept_parts, load_parts, stored_slices
from DiffMaCore.training.run_folder import versions
from DiffMaCore.training.slicing import read_case
from DiffMaCore.training.sources import CaseSlices, RawCase, find_cases
from DiffMaCore.training.sources.heads import heads_split
from DiffMaCore.training.split import PARTS, Split, check_split, make_split, read_split, write_split


def prepare(
    experiment: Experiment,
    folders: Folders,
    datasets: Sequence[Path] = (),
    reporter: Reporter | None = None,
    *,
    device: str = "auto",
    split_file: Path | None = None,
    cluster: Cluster | None = None,
) -> PairedCache:
    """Make or complete the cache of an experiment; cases that are there already are not made again.

    ``datasets`` are as ``find_cases`` takes them; ``split_file`` is a ``split.json`` in place of a seeded one. VAE and
    image encoder run on ``device`` of this process, or of each of the ``cluster``'s workers.

    Raises:
        InputError: before any case is read: nothing found, networks that do not fit, a split that leaks; later: no
            case that can be used, or none left to train on.
        OutputError: not enough room.
        DiffMaError: a worker failed for another reason than its case; the other cases were prepared.
    """
    reporter = reporter or Reporter()
    reporter.stage("finding cases")
    cases = find_cases(datasets, experiment.data, experiment.seed)
    given = read_split(split_file) if split_file is not None else None
    if given is None and experiment.data.heads is not None:
        given = heads_split(cases)
    if given is not None:
        check_split(given, cases)
    return prepare_cases(experiment, folders, cases, given, reporter, device=device, cluster=cluster)


def prepare_cases(
    experiment: Experiment,
    folders: Folders,
    cases: Sequence[RawCase],
    given: Split | None = None,
    reporter: Reporter | None = None,
    *,
    device: str = "auto",
    cluster: Cluster | None = None,
) -> PairedCache:
    """:func:`prepare` of cases that were found, split as ``given`` or by seed."""
    reporter = reporter or Reporter()
    if cluster is None:
        choose_device(device)  # before long work
    if given is not None:
        named = {id for ids in given.values() for id in ids}
        found, cases = len(cases), [case for case in cases if case.id in named]
        if len(cases) < found:
            reporter.note(f"{found - len(cases)} cases are in no part of the given split and are not prepared")
    split = given or make_split(cases, experiment.data.split, experiment.seed)
    with alone_in(folders.data, reporter):
        parts = load_parts(experiment, folders, reporter)
        if parts is None:
            reporter.note("slices only: train the autoencoder and the image encoder, and prepare again for the latents")
        reporter.stage("reading checksums", total=len(cases))
        contents = {}
        for case in cases:
            digest = hashlib.sha256(b"" if case.files else case.id.encode())
            for file in case.files:
                try:
                    digest.update(sha256_of(file).encode())
                except OSError as problem:
                    raise InputError(f"{file} cannot be read ({problem.strerror}); check the data set") from None
            contents[case.id] = digest.hexdigest()
            reporter.advance()
        check_split(split, cases, contents)
        files = _CaseFiles(experiment, folders.data, parts, contents, reporter)
        to_do = files.to_do(cases)
        left_out = files.make(to_do, len(cases), device, cluster) if to_do else {}
        kept = [case for case in cases if case.id not in left_out]
        reasons = {case.id: left_out[case.id] for case in cases if case.id in left_out}  # in the order of the cases
        if not kept:
            id, reason = next(iter(reasons.items()))
            raise InputError(f"no case can be used; the first, {id}, is left out because: {reason}")
        drawn, asked = split, experiment.data.split
        if not reasons or given is not None or asked.test_cases or asked.validation_cases:
            split = {name: [id for id in ids if id not in reasons] for name, ids in split.items()}
        else:
            split = make_split(kept, asked, experiment.seed)
        if not split["train"]:
            raise InputError(f"every case to train on was left out; the first reason: {next(iter(reasons.values()))}")
        for name in PARTS:
            if drawn[name] and not split[name]:
                reporter.warning(f"every {name} case was left out; correct them, or name others in data.split")
        manifest = files.manifest(kept, split, reasons)
        write_split(folders.data / "split.json", split, experiment.seed)
        facts = {**manifest, "data": experiment.data, "counts": _counts(manifest["cases"], split)}
        write_text(folders.data / "report.md", report("prepared.md.jinja", title=experiment.title, **facts))
        write_json(folders.data / "manifest.json", manifest)
        return PairedCache.open(folders.data)


@dataclass(frozen=True, repr=False)
class _CaseJob:
    """One case to its file, by this process or by a worker."""

    case: RawCase
    data: DataConfig
    path: Path
    header: dict[str, str]
    embedded: int  # bytes that a slice's CT embeddings will need beside the file
    cases: int  # how many are still to be written
    networks: tuple[Path, str, str] | None  # what _encoder loads on a worker, None where slices are all there is yet

    def __call__(self) -> int | list[str]:
        return self.make(None if self.networks is None else _encoder(*self.networks, self.data))

    def make(self, encoder: Encoder | None) -> int | list[str]:
        """How many slices were written, whole or not at all; or why the case is left out."""
        sliced = read_case(self.case, self.data)
        if not isinstance(sliced, CaseSlices):
            return sliced
        tensors = stored_slices(sliced, self.data) | (encoder.tensors(sliced) if encoder is not None else {})
        slices = len(sliced.index)
        needed = self.cases * (sum(tensor.nbytes for tensor in tensors.values()) + slices * self.embedded)
        require_room(self.path.parent.parent, needed, f"{self.cases} cases like {self.case.id}", " with --out")
        texts = {"slices": str(slices), "spacing": repr(float(sliced.spacing)), "notes": json.dumps(sliced.notes)}
        with replacing(self.path) as part:
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, part, self.header | texts)
        return slices


@lru_cache(maxsize=1)
def _encoder(parts: Path, settings: str, device: str, data: DataConfig) -> Encoder:
    """The networks of a worker, which keeps them; other ``settings`` are of other networks."""
    return Encoder(kept_parts(parts), data, choose_device(device))


class _CaseFiles:
    """Knows the files of cases, and which of them are up to date."""

    def __init__(
        self, experiment: Experiment, folder: Path, parts: Parts | None, contents: dict[str, str], reporter: Reporter
    ) -> None:
        self.folder, self.contents, self.parts, self.reporter = folder, contents, parts, reporter
        self.data = experiment.data
        data = {key: value for key, value in asdict(self.data).items() if key != "split"}  # no slice depends on it
        records = {} if parts is None else parts.records
        hashes = {name: [record["sha256"], record["mean"], record["std"]] for name, record in records.items()}
        self.settings: dict[str, Any] = json.loads(json.dumps({"format": FORMAT, "data": data, "parts": hashes}))
        side = 0 if parts is None else self.data.image_size // parts.factor
        tokens = (side // experiment.denoiser.patch_size) ** 2
        self._embedded = 2 * tokens * (experiment.denoiser.width + 1)

    def make(self, cases: Sequence[RawCase], of: int, device: str, cluster: Cluster | None) -> dict[str, str]:
        """Prepare these cases, the last ``of`` so many; returns why some are left out, by id.

        Raises DiffMaError where workers failed at any.
        """
        (self.folder / "manifest.json").unlink(missing_ok=True)  # until it is whole again
        settings = json.dumps(self.settings)
        networks = None if self.parts is None else (self.folder / "parts", settings, device)
        jobs = []
        for left, case in zip(range(len(cases), 0, -1), cases, strict=True):
            header = {"key": self._key(case.id), "settings": settings}
            jobs.append(_CaseJob(case, self.data, self._file(case.id).path, header, self._embedded, left, networks))
        prepared: Iterator[tuple[int, int | list[str] | Failure]]
        if cluster is None:
            encoder = None if self.parts is None else Encoder(self.parts, self.data, choose_device(device))
            prepared = ((number, job.make(encoder)) for number, job in enumerate(jobs))
        else:
            prepared = outcomes(jobs, cluster, self.reporter)
        self.reporter.stage("preparing cases", total=of, done=of - len(cases))
        slices, left_out, failures = 0, dict[str, str](), []
        for number, done in prepared:
            id = cases[number].id
            if isinstance(done, Failure):
                failures.append(f"{id}: {done.message}")
            elif isinstance(done, int):
                slices += done
            else:
                left_out[id] = "; ".join(done)
                self.reporter.warning(f"{id} is left out: {left_out[id]}")
            self.reporter.advance()
            self.reporter.metrics(slices=slices)
        if failures:
            raise DiffMaError(f"{len(failures)} of {len(cases)} cases failed, the first is {failures[0]}")
        return left_out

    def _file(self, id: str) -> TensorFile:
        return TensorFile(self.folder / "cases" / f"{id}.safetensors")

    def _key(self, id: str) -> str:
        return _sha256({**self.settings, "content": self.contents[id]})

    def to_do(self, cases: Sequence[RawCase]) -> list[RawCase]:
        """Cases whose file is not there, or was made otherwise; the reporter gets what has changed."""
        wanted: list[RawCase] = []
        changes: dict[str, list[str]] = {}
        for case in cases:
            header = self._file(case.id).header()
            if header is not None and header.get("key") == self._key(case.id):
                continue
            wanted.append(case)
            if header is None:
                continue
            differs = first_change(json.loads(header.get("settings", "{}")), self.settings)
            name, before, now = differs or ("", None, None)
            what = f"{name} is another network" if name.startswith("parts.") else f"{name} was {before} and is {now}"
            changes.setdefault(what if differs else "its files have changed", []).append(case.id)
        for change, ids in changes.items():
            self.reporter.note(f"{len(ids)} cases are made again, since {change} (the first is {ids[0]})")
        if len(wanted) < len(cases):
            self.reporter.note(f"{len(cases) - len(wanted)} of {len(cases)} cases are there already")
        return wanted

    def manifest(self, cases: Sequence[RawCase], split: Split, reasons: Mapping[str, str]) -> dict[str, Any]:
        entries, notes = [], []
        for case in cases:
            header = self._file(case.id).header() or {}
            notes += [f"{case.id}: {note}" for note in json.loads(header["notes"])]
            entry = {"id": case.id, "centre": case.centre, "slices": int(header["slices"])}
            entry |= {"contrast": case.contrast, "spacing": float(header["spacing"])}
            entries.append({**entry, "content": self.contents[case.id], "key": header["key"]})
        data = json.loads(json.dumps(asdict(self.data)))
        return {
            "format": FORMAT,
            "data": data,
            "parts": {} if self.parts is None else self.parts.records,
            "fingerprint": _sha256({"data": data, "keys": {e["id"]: e["key"] for e in entries}, "split": split}),
            **({} if self.parts is None else self.parts.sizes(self.data.image_size)),
            "source_scale": value_scale(self.data.source),
            "target_scale": value_scale(self.data.target),
            "cases": entries,
            "left_out": [{"id": id, "reason": reason} for id, reason in reasons.items()],
            "notes": notes,
            "versions": versions(),
        }


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _counts(cases: list[dict[str, Any]], split: Split) -> str:
    centres = sorted({case["centre"] for case in cases})
    rows = []
    for centre in [*centres, None] if len(centres) > 1 else centres:
        row = ["all" if centre is None else centre or "unknown"]
        for ids in split.values():
            own = [case["slices"] for case in cases if case["id"] in ids and centre in (None, case["centre"])]
            row.append(f"{len(own)} cases, {sum(own)} slices")
        rows.append(row)
    return rows_of(["centre", *PARTS], rows)
