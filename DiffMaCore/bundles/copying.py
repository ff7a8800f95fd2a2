"""Copy the files of a bundle, or of the whole store, with progress."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

from DiffMaCore.bundles.manifest import Progress, sha256_of

_BLOCK = 4 << 20


def copy_files(source: Path, target: Path, paths: Sequence[str], progress: Progress | None = None) -> dict[str, str]:
    """Copy ``paths`` (POSIX, relative) from one folder to another; returns the SHA-256 of what was read of each.

    Raises OSError when a file cannot be read or written.
    """
    total = sum((source / path).stat().st_size for path in paths)
    done = 0
    checksums = {}
    for path in paths:
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        with (source / path).open("rb") as read, (target / path).open("wb") as written:
            while block := read.read(_BLOCK):
                written.write(block)
                digest.update(block)
                done += len(block)
                if progress:
                    progress(done, total, f"copying {path}")
        shutil.copystat(source / path, target / path)
        checksums[path] = digest.hexdigest()
    return checksums


def first_difference(folder: Path, checksums: dict[str, str], progress: Progress | None = None) -> str | None:
    """The first file of ``folder`` that is not what ``checksums`` say; None when all are."""
    total = sum((folder / path).stat().st_size for path in checksums)
    done = 0
    for path, expected in checksums.items():
        base = done
        report = (lambda n, p=path, b=base: progress(b + n, total, f"checking {p}")) if progress else None
        if sha256_of(folder / path, report) != expected:
            return path
        done += (folder / path).stat().st_size
    return None
