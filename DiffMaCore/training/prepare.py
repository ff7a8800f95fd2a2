"""From a data set on disk to the cache that everything else reads: one file a case, made one after the other, so that
what is done stays done."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from DiffMaCore.bundles.manifest import sha256_of
from DiffMaCore.cluster import Cluster, outcomes
from DiffMaCore.devices import choose_device
from DiffMaCore.errors import DiffMaError, Failure, InputError
from DiffMaCore.progress import Reporter
from DiffMaCore.reports import report
from DiffMaCore.training.cache import FORMAT, PairedCache, TensorFile, value_scale
from DiffMaCore.training.experiment import DataConfig, Experiment, Folders
from DiffMaCore.training.files import alone_in, first_change, replacing, require_room, rows_of, write_json, write_text
from DiffMaCore.training.parts import Encoder, load_parts, stored_slices
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
        encoder = load_parts(experiment, folders, reporter, device)
        if encoder is None:
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
        files = _case_files(cases, contents, experiment.data, folders.data, encoder)
        left_out: dict[str, str] = {}
        if to_do := _to_do(files, reporter):
            (folders.data / "manifest.json").unlink(missing_ok=True)  # until it is whole again
            left_out = _make(to_do, len(cases), cluster, reporter)
        kept = [file for file in files if file.case.id not in left_out]
        reasons = {case.id: left_out[case.id] for case in cases if case.id in left_out}  # in the order of the cases
        if not kept:
            id, reason = next(iter(reasons.items()))
            raise InputError(f"no case can be used; the first, {id}, is left out because: {reason}")
        drawn, asked = split, experiment.data.split
        if not reasons or given is not None or asked.test_cases or asked.validation_cases:
            split = {name: [id for id in ids if id not in reasons] for name, ids in split.items()}
        else:
            split = make_split([file.case for file in kept], asked, experiment.seed)
        if not split["train"]:
            raise InputError(f"every case to train on was left out; the first reason: {next(iter(reasons.values()))}")
        for name in PARTS:
            if drawn[name] and not split[name]:
                reporter.warning(f"every {name} case was left out; correct them, or name others in data.split")
        manifest = _manifest(kept, experiment.data, encoder, split, reasons)
        write_split(folders.data / "split.json", split, experiment.seed)
        facts = {**manifest, "data": experiment.data, "counts": _counts(manifest["cases"], split)}
        write_text(folders.data / "report.md", report("prepared.md.jinja", title=experiment.title, **facts))
        write_json(folders.data / "manifest.json", manifest)
        return PairedCache.open(folders.data)


@dataclass(frozen=True, repr=False)
class _CaseFile:
    """The file of a case, and how it is made, by this process or by a worker."""

    case: RawCase
    data: DataConfig
    path: Path
    content: str  # hash of what the case is read from
    header: dict[str, str]  # the "settings" that decide what is in the file, and the "key", a hash of them and content
    encoder: Encoder | None  # None where slices are all there is yet

    def stored(self) -> dict[str, str] | None:
        """The header of what is there; None where there is no file that can be read."""
        return TensorFile(self.path).header()

    def make(self, like: int) -> int | list[str]:
        """How many slices were written, whole or not at all; or why the case is left out. Raises OutputError where
        there is no room for ``like`` cases like it."""
        sliced = read_case(self.case, self.data)
        if not isinstance(sliced, CaseSlices):
            return sliced
        tensors = stored_slices(sliced, self.data)
        tensors |= self.encoder.tensors(sliced) if self.encoder is not None else {}
        slices, needed = len(sliced.index), like * sum(tensor.nbytes for tensor in tensors.values())
        require_room(self.path.parent.parent, needed, f"{like} cases like {self.case.id}")
        texts = {"slices": str(slices), "spacing": repr(float(sliced.spacing)), "notes": json.dumps(sliced.notes)}
        with replacing(self.path) as part:
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, part, self.header | texts)
        return slices


def _case_files(
    cases: Sequence[RawCase], contents: Mapping[str, str], data: DataConfig, folder: Path, encoder: Encoder | None
) -> list[_CaseFile]:
    sliced = {key: value for key, value in asdict(data).items() if key != "split"}  # no slice depends on it
    records = {} if encoder is None else encoder.records
    hashes = {name: [record["sha256"], record["mean"], record["std"]] for name, record in records.items()}
    settings = json.loads(json.dumps({"format": FORMAT, "data": sliced, "parts": hashes}))
    files = []
    for case in cases:
        key = _sha256({**settings, "content": contents[case.id]})
        path, header = folder / "cases" / f"{case.id}.safetensors", {"key": key, "settings": json.dumps(settings)}
        files.append(_CaseFile(case, data, path, contents[case.id], header, encoder))
    return files


def _to_do(files: Sequence[_CaseFile], reporter: Reporter) -> list[_CaseFile]:
    """Those that are not there, or were made otherwise; the reporter gets what has changed."""
    wanted: list[_CaseFile] = []
    changes: dict[str, list[str]] = {}
    for file in files:
        stored = file.stored()
        if stored is not None and stored.get("key") == file.header["key"]:
            continue
        wanted.append(file)
        if stored is None:
            continue
        what = "its files have changed"
        if differs := first_change(json.loads(stored.get("settings", "{}")), json.loads(file.header["settings"])):
            name, before, now = differs
            what = f"{name} is another network" if name.startswith("parts.") else f"{name} was {before} and is {now}"
        changes.setdefault(what, []).append(file.case.id)
    for change, ids in changes.items():
        reporter.note(f"{len(ids)} cases are made again, since {change} (the first is {ids[0]})")
    if len(wanted) < len(files):
        reporter.note(f"{len(files) - len(wanted)} of {len(files)} cases are there already")
    return wanted


def _make(files: Sequence[_CaseFile], of: int, cluster: Cluster | None, reporter: Reporter) -> dict[str, str]:
    """Make these files, the last ``of`` so many; returns why some cases are left out, by id.

    Raises DiffMaError where workers failed at any.
    """
    jobs = [partial(file.make, left) for left, file in zip(range(len(files), 0, -1), files, strict=True)]
    made: Iterable[tuple[int, int | list[str] | Failure]]
    made = enumerate(job() for job in jobs) if cluster is None else outcomes(jobs, cluster, reporter)
    reporter.stage("preparing cases", total=of, done=of - len(files))
    slices, left_out, failures = 0, dict[str, str](), []
    for number, done in made:
        id = files[number].case.id
        if isinstance(done, Failure):
            failures.append(f"{id}: {done.message}")
        elif isinstance(done, int):
            slices += done
        else:
            left_out[id] = "; ".join(done)
            reporter.warning(f"{id} is left out: {left_out[id]}")
        reporter.advance()
        reporter.metrics(slices=slices)
    if failures:
        raise DiffMaError(f"{len(failures)} of {len(files)} cases failed, the first is {failures[0]}")
    return left_out


def _manifest(
    files: Sequence[_CaseFile], data: DataConfig, encoder: Encoder | None, split: Split, reasons: Mapping[str, str]
) -> dict[str, Any]:
    entries, notes = [], []
    for file in files:
        case, stored = file.case, file.stored() or {}
        notes += [f"{case.id}: {note}" for note in json.loads(stored["notes"])]
        entry = {"id": case.id, "centre": case.centre, "slices": int(stored["slices"])}
        entry |= {"contrast": case.contrast, "spacing": float(stored["spacing"])}
        entries.append({**entry, "content": file.content, "key": stored["key"]})
    plain = json.loads(json.dumps(asdict(data)))
    return {
        "format": FORMAT,
        "data": plain,
        "parts": {} if encoder is None else encoder.records,
        "fingerprint": _sha256({"data": plain, "keys": {e["id"]: e["key"] for e in entries}, "split": split}),
        **({} if encoder is None else encoder.sizes()),
        "source_scale": value_scale(data.source),
        "target_scale": value_scale(data.target),
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
