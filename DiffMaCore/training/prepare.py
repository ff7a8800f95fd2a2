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
from DiffMaCore.devices import choose_device
from DiffMaCore.errors import DiffMaError, InputError
from DiffMaCore.failures import Failure
from DiffMaCore.progress import Reporter
from DiffMaCore.training.cache import FORMAT, PairedCache, TensorFile, value_scale
from DiffMaCore.training.encoding import Encoder, stored_slices
from DiffMaCore.training.experiment import DataConfig, Experiment, Folders
from DiffMaCore.training.files import replacing, require_room, write_json
from DiffMaCore.training.parts import Parts, kept_parts, load_parts
from DiffMaCore.training.prepare_report import LeftOut, write_report
from DiffMaCore.training.run_folder import versions
from DiffMaCore.training.slicing import read_case
from DiffMaCore.training.sources import CaseSlices, RawCase, find_cases
from DiffMaCore.training.sources.heads import heads_split
from DiffMaCore.training.split import PARTS, Split, check_split, make_split, read_split, write_split

_NOT_SLICES = ("split",)  # keys of DataConfig that no slice depends on


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

    Args:
        experiment: its data, parts and sizes.
        folders: where to.
        datasets: what ``find_cases`` takes; none for rendered heads.
        reporter: told about stages, cases and what is left out.
        device: where VAE and image encoder run.
        split_file: a ``split.json`` to use in place of a seeded one.
        cluster: whose workers prepare cases, each with networks of its own; None: this process does.

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
        cases = _of_split(cases, given, reporter)
    split = given or make_split(cases, experiment.data.split, experiment.seed)
    parts = load_parts(experiment, folders, reporter)
    if parts is None:
        reporter.note("slices only: train the autoencoder and the image encoder, and prepare again for the latents")
    reporter.stage("reading checksums", total=len(cases))
    contents = {}
    for case in cases:
        contents[case.id] = content_of(case)
        reporter.advance()
    check_split(split, cases, contents)
    files = CaseFiles(experiment, folders.data, parts, contents)
    to_do = files.to_do(cases, reporter)
    left_out: dict[int, LeftOut] = {}
    if to_do:
        (folders.data / "manifest.json").unlink(missing_ok=True)  # until it is whole again
        jobs = files.jobs(to_do, experiment.data, device)
        prepared: Iterator[tuple[int, int | list[str] | Failure]]
        if cluster is None:
            encoder = None if parts is None else Encoder(parts, experiment.data, choose_device(device))
            prepared = ((number, job.make(encoder)) for number, job in enumerate(jobs))
        else:
            prepared = outcomes(jobs, cluster, reporter)
        slices = 0
        reporter.stage("preparing cases", total=len(cases), done=len(cases) - len(to_do))
        failures = []
        for number, done in prepared:
            case = to_do[number]
            if isinstance(done, Failure):
                failures.append(f"{case.id}: {done.message}")
            elif isinstance(done, int):
                slices += done
            else:
                left_out[number] = LeftOut(case.id, case.centre, "; ".join(done))
                reporter.warning(f"{case.id} is left out: {left_out[number].reason}")
            reporter.advance()
            reporter.figures(slices=slices)
        if failures:
            raise DiffMaError(f"{len(failures)} of {len(to_do)} cases failed, the first is {failures[0]}")
    left = [left_out[number] for number in sorted(left_out)]
    return _finish(experiment, folders.data, cases, split, given, files, left, reporter)


def _of_split(cases: Sequence[RawCase], split: Split, reporter: Reporter) -> list[RawCase]:
    """The cases that a given split names."""
    named = {id for ids in split.values() for id in ids}
    kept = [case for case in cases if case.id in named]
    if len(kept) < len(cases):
        reporter.note(f"{len(cases) - len(kept)} cases are in no part of the given split and are not prepared")
    return kept


def content_of(case: RawCase) -> str:
    """SHA-256 of a case's files, or of the id of one that has none."""
    digest = hashlib.sha256(b"" if case.files else case.id.encode())
    for file in case.files:
        try:
            digest.update(sha256_of(file).encode())
        except OSError as problem:
            raise InputError(f"{file} cannot be read ({problem.strerror}); check the data set") from None
    return digest.hexdigest()


@dataclass(frozen=True, repr=False)
class _CaseJob:
    """One case to its file, by this process or by a worker.

    Attributes:
        path, header: of the file.
        embedded: bytes that a slice's CT embeddings will need beside it.
        cases: how many are still to be written.
        networks: what :func:`_encoder` loads on a worker, None where slices are all there is yet.
    """

    case: RawCase
    data: DataConfig
    path: Path
    header: dict[str, str]
    embedded: int
    cases: int
    networks: tuple[Path, str, str] | None

    def __call__(self) -> int | list[str]:
        return self.make(None if self.networks is None else _encoder(*self.networks, self.data))

    def make(self, encoder: Encoder | None) -> int | list[str]:
        """How many slices were written, whole or not at all; or why the case is left out."""
        sliced = read_case(self.case, self.data)
        if not isinstance(sliced, CaseSlices):
            return sliced
        tensors = stored_slices(sliced, self.data) | (encoder.tensors(sliced) if encoder is not None else {})
        slices = len(sliced.index)
        stored = sum(tensor.nbytes for tensor in tensors.values())
        needed = self.cases * (stored + slices * self.embedded)
        require_room(self.path.parent.parent, needed, f"{self.cases} cases like {self.case.id}")
        texts = {"slices": str(slices), "spacing": repr(float(sliced.spacing)), "notes": json.dumps(sliced.notes)}
        with replacing(self.path) as part:
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, part, self.header | texts)
        return slices


@lru_cache(maxsize=1)
def _encoder(parts: Path, settings: str, device: str, data: DataConfig) -> Encoder:
    """The networks of a worker, which keeps them; other ``settings`` are of other networks."""
    return Encoder(kept_parts(parts), data, choose_device(device))


class CaseFiles:
    """Knows the files of cases, and which of them are up to date."""

    def __init__(self, experiment: Experiment, folder: Path, parts: Parts | None, contents: Mapping[str, str]) -> None:
        self.folder, self.contents, self.parts = folder, contents, parts
        data = {key: value for key, value in asdict(experiment.data).items() if key not in _NOT_SLICES}
        records = {} if parts is None else parts.records
        hashes = {name: [record.sha256, record.mean, record.std] for name, record in records.items()}
        self.settings: dict[str, Any] = json.loads(json.dumps({"format": FORMAT, "data": data, "parts": hashes}))
        side = 0 if parts is None else experiment.data.image_size // parts.factor
        tokens = (side // experiment.denoiser.patch_size) ** 2
        self._embedded = 2 * tokens * (experiment.denoiser.width + 1)

    def jobs(self, cases: Sequence[RawCase], data: DataConfig, device: str) -> list[_CaseJob]:
        """The cases to be written, in their order."""
        settings = json.dumps(self.settings)
        networks = None if self.parts is None else (self.folder / "parts", settings, device)
        headers = ({"key": self.key(case.id), "settings": settings} for case in cases)
        return [
            _CaseJob(case, data, self.path(case.id), header, self._embedded, len(cases) - k, networks)
            for k, (case, header) in enumerate(zip(cases, headers, strict=True))
        ]

    def path(self, id: str) -> Path:
        """The file of a case."""
        return self.folder / "cases" / f"{id}.safetensors"

    def key(self, id: str) -> str:
        """Hash of everything that decides a case's file."""
        text = json.dumps({**self.settings, "content": self.contents[id]}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def header(self, id: str) -> dict[str, str] | None:
        """What the file of a case says of itself; None where there is none that can be read."""
        try:
            return TensorFile(self.path(id)).metadata() if self.path(id).is_file() else None
        except InputError:
            return None

    def to_do(self, cases: Sequence[RawCase], reporter: Reporter) -> list[RawCase]:
        """Cases whose file is not there, or was made otherwise; the reporter is told what has changed."""
        wanted: list[RawCase] = []
        changes: dict[str, list[str]] = {}
        for case in cases:
            header = self.header(case.id)
            if header is not None and header.get("key") == self.key(case.id):
                continue
            wanted.append(case)
            if header is not None:
                change = _change(json.loads(header.get("settings", "{}")), self.settings) or "its files have changed"
                changes.setdefault(change, []).append(case.id)
        for change, ids in changes.items():
            reporter.note(f"{len(ids)} cases are made again, since {change} (the first is {ids[0]})")
        if len(wanted) < len(cases):
            reporter.note(f"{len(cases) - len(wanted)} of {len(cases)} cases are there already")
        return wanted


def _change(old: Mapping[str, Any], new: Mapping[str, Any], where: str = "") -> str | None:
    """What is different, in words: "data.pixel_spacing was 1.0 and is 2.0"."""
    for key in new:
        name = f"{where}{key}"
        before, now = old.get(key), new[key]
        if before == now:
            continue
        if isinstance(before, Mapping) and isinstance(now, Mapping):
            return _change(before, now, f"{name}.")
        return f"{name} is another network" if where == "parts." else f"{name} was {before} and is {now}"
    return None


def _finish(
    experiment: Experiment,
    folder: Path,
    cases: Sequence[RawCase],
    split: Split,
    given: Split | None,
    files: CaseFiles,
    left_out: list[LeftOut],
    reporter: Reporter,
) -> PairedCache:
    """Split, report and manifest, of the cases that were written."""
    out = {item.id for item in left_out}
    kept = [case for case in cases if case.id not in out]
    if not kept:
        raise InputError(f"no case can be used; the first, {left_out[0].id}, is left out because: {left_out[0].reason}")
    drawn, split = split, _without(out, split, kept, given, experiment)
    if not split["train"]:
        raise InputError(f"every case to train on was left out; the first reason: {left_out[0].reason}")
    for name in PARTS:
        if drawn[name] and not split[name]:
            reporter.warning(f"every {name} case was left out; correct them, or name others in data.split")
    entries, notes = [], []
    for case in kept:
        header = files.header(case.id) or {}
        notes += [f"{case.id}: {note}" for note in json.loads(header["notes"])]
        entry = {"id": case.id, "centre": case.centre, "slices": int(header["slices"])}
        entry |= {"contrast": case.contrast, "spacing": float(header["spacing"])}
        entries.append({**entry, "content": files.contents[case.id], "key": header["key"]})
    data = json.loads(json.dumps(asdict(experiment.data)))
    identity = {"data": data, "keys": {entry["id"]: entry["key"] for entry in entries}, "split": split}
    manifest = {
        "format": FORMAT,
        "data": data,
        "parts": {} if files.parts is None else files.parts.to_dict(),
        "fingerprint": hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest(),
        **({} if files.parts is None else files.parts.sizes(experiment.data.image_size)),
        "source_scale": value_scale(experiment.data.source),
        "target_scale": value_scale(experiment.data.target),
        "cases": entries,
        "left_out": [{"id": item.id, "reason": item.reason} for item in left_out],
        "notes": notes,
        "versions": versions(),
    }
    write_split(folder / "split.json", split, experiment.seed)
    write_report(folder / "report.md", experiment, manifest, split, left_out)
    write_json(folder / "manifest.json", manifest)
    return PairedCache.open(folder)


def _without(
    out: set[str], split: Split, kept: Sequence[RawCase], given: Split | None, experiment: Experiment
) -> Split:
    """The split of the cases that are left: drawn anew, or without the others where cases were named."""
    config = experiment.data.split
    if not out or given is not None or config.test_cases or config.validation_cases:
        return {name: [id for id in ids if id not in out] for name, ids in split.items()}
    return make_split(kept, config, experiment.seed)
