"""One file over HTTP: resumed where it stopped, checked, and never seen half-written under its own name."""

from __future__ import annotations

import errno
import functools
import http.client
import importlib
import importlib.util
import json
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from DiffMaCore.bundles.manifest import sha256_of
from DiffMaCore.errors import ModelError, OutputError

_BLOCK = 1 << 20
_TIMEOUT = 30.0
_ATTEMPTS = 3
ELSEWHERE = "download the bundle's zip on another machine and install it with `diffma models add ZIP`"


@dataclass(frozen=True)
class DownloadProgress:
    """How far a download is: the file in work, bytes done and in all, seconds left (None while unknown)."""

    file: str
    done: int
    total: int
    eta: float | None


Report = Callable[[DownloadProgress], None]


class Meter:
    """Counts bytes of a download that may have begun in an earlier run, and reports them."""

    def __init__(self, total: int, report: Report | None) -> None:
        self.total, self._report = total, report
        self._done = self._fetched = 0
        self._began = time.monotonic()

    def expect(self, total: int) -> None:
        """The size of a single file whose length only the server knows."""
        self.total = self.total or total

    def advance(self, file: str, count: int, fetched: bool = True) -> None:
        """``count`` more bytes are there; ``fetched`` is False for those an earlier run left."""
        self._done += count
        self._fetched += count if fetched else 0
        if self._report:
            pace = self._fetched / max(time.monotonic() - self._began, 1e-6)
            eta = (self.total - self._done) / pace if self._fetched and self.total else None
            self._report(DownloadProgress(file, self._done, self.total, eta))


def fetch(url: str, target: Path, sha256: str, meter: Meter, token: str | None = None) -> None:
    """Download ``url`` to ``target`` with this SHA-256; what an interrupted run left is kept and continued.

    Raises ModelError when the server cannot be reached or refuses, when the transfer stays incomplete (the
    part is kept for the next try) and when the checksum differs (the part is deleted).
    """
    part = target.with_name(target.name + ".part")
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_file():
        if sha256_of(target) == sha256:
            meter.advance(target.name, target.stat().st_size, fetched=False)
            return
        target.unlink()
    if part.is_file():
        meter.advance(target.name, part.stat().st_size, fetched=False)
    for attempt in range(_ATTEMPTS):
        before = part.stat().st_size if part.is_file() else 0
        if _continue(url, part, meter, target.name, token):
            break
        got = part.stat().st_size
        if attempt == _ATTEMPTS - 1 or got <= before:
            raise ModelError(
                f"The transfer of {target.name} broke off after {got} bytes: run the same command again to"
                f" continue it, or {ELSEWHERE}."
            )
    if sha256_of(part) != sha256:
        part.unlink()
        raise ModelError(
            f"{target.name} arrived with another checksum than {sha256[:12]}... and was deleted: run the"
            " same command again, and if it stays so do not use this source."
        )
    part.replace(target)


def get_json(url: str, token: str | None = None) -> dict[str, Any]:
    """A small JSON object; raises ModelError as :func:`fetch` does."""
    try:
        with _open(_request(url, token)) as response:
            value = json.loads(response.read(64 << 20))
    except ValueError:
        value = None
    except (OSError, http.client.HTTPException) as error:
        raise unreachable(url, error) from None
    if not isinstance(value, dict):
        raise ModelError(
            f"{_host(url)} answered with something that is not a model's description: {ELSEWHERE}."
        )
    return value


def unreachable(url: str, error: Exception) -> ModelError:
    """The sentence for a server that refuses or does not answer."""
    if isinstance(error, urllib.error.HTTPError):
        if error.code in (401, 403):
            why = f"refuses access (HTTP {error.code}; a private or gated model needs `hf auth login`)"
        elif error.code == 404:
            why = "does not have it (HTTP 404; check the spelling, or `hf auth login` if it is private)"
        else:
            why = f"answered HTTP {error.code}"
    else:
        reason = getattr(error, "reason", None) or error
        why = f"cannot be reached ({getattr(reason, 'strerror', None) or reason})"
    return ModelError(f"Nothing was downloaded: {_host(url)} {why}; or {ELSEWHERE}.")


def _continue(url: str, part: Path, meter: Meter, name: str, token: str | None) -> bool:
    """Add to ``part`` what the server sends from its end on; whether the file is complete."""
    offset = part.stat().st_size if part.is_file() else 0
    request = _request(url, token)
    if offset:
        request.add_header("Range", f"bytes={offset}-")
    try:
        with _open(request) as response:
            resumed = response.status == 206 and _starts_at(response.headers.get("Content-Range"), offset)
            if offset and not resumed:
                meter.advance(name, -offset, fetched=False)
            length = response.headers.get("Content-Length")
            wanted = int(length) if length and length.isdigit() else None
            meter.expect((offset if resumed else 0) + (wanted or 0))
            received = 0
            with part.open("ab" if resumed else "wb") as out:
                while block := response.read(_BLOCK):
                    out.write(block)
                    received += len(block)
                    meter.advance(name, len(block))
            return wanted is None or received >= wanted
    except urllib.error.HTTPError as error:
        if error.code == 416 and offset:
            return True
        raise unreachable(url, error) from None
    except (TimeoutError, ConnectionError, http.client.HTTPException) as error:
        if part.is_file() and part.stat().st_size > offset:
            return False
        raise unreachable(url, error) from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
            raise OutputError(
                f"{part} cannot be written ({error.strerror}): free some room or set DIFFMA_HOME."
            ) from None
        raise unreachable(url, error) from None


def _starts_at(content_range: str | None, offset: int) -> bool:
    return bool(content_range) and str(content_range).replace("bytes", "").strip().startswith(f"{offset}-")


def _request(url: str, token: str | None) -> urllib.request.Request:
    request = urllib.request.Request(url, headers={"User-Agent": "DiffMaCore"})
    if token:
        # unredirected: hubs send us on to a file server that must not see the token
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    return request


def _open(request: urllib.request.Request) -> Any:
    return urllib.request.urlopen(request, timeout=_TIMEOUT, context=_certificates())


@functools.cache
def _certificates() -> ssl.SSLContext:
    context = ssl.create_default_context()
    if importlib.util.find_spec("certifi"):
        # Python on macOS comes without certificates of its own
        context.load_verify_locations(importlib.import_module("certifi").where())
    return context


def _host(url: str) -> str:
    return urllib.parse.urlparse(url).netloc or url
