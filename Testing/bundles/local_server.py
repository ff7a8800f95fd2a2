"""What huggingface_hub asks of a hub, answered on 127.0.0.1 by a server that can break off and lie."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "c0ffee" * 6 + "cafe"


class LocalHub(ThreadingHTTPServer):
    """``files`` by URL path, and what was asked for.

    The next ``breaks`` bodies longer than 10 kB end half-way; ``refusal`` is the status, and the hub's name for
    it, that every request gets.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.breaks = 0
        self.refusal: tuple[int, str] | None = None
        self.fetched: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def offer(self, repo: str, folder: Path, lies: dict[str, str] | None = None) -> None:
        """Serve a folder as the model ``repo``; ``lies`` are false checksums by path."""
        siblings = []
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            name, data = path.relative_to(folder).as_posix(), path.read_bytes()
            facts: dict[str, object] = {"size": len(data)}
            if name.endswith("safetensors"):
                sha256 = (lies or {}).get(name) or hashlib.sha256(data).hexdigest()
                facts["lfs"] = {"sha256": sha256, "oid": sha256, "size": len(data), "pointerSize": 130}
            siblings.append({"rfilename": name, "blobId": "0", **facts})
            self.files[f"/{repo}/resolve/{COMMIT}/{name}"] = data
        info = json.dumps({"id": repo, "sha": COMMIT, "siblings": siblings}).encode()
        for revision in ("main", COMMIT):
            self.files[f"/api/models/{repo}/revision/{revision}"] = info

    def path_of(self, name: str) -> str:
        """The URL path of a file in the one model on offer."""
        return next(path for path in self.files if path.endswith(f"/resolve/{COMMIT}/{name}"))


class _Handler(BaseHTTPRequestHandler):
    server: LocalHub

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        path = self.path.split("?")[0]
        data = self.server.files.get(path)
        if self.server.refusal or data is None:
            status, name = self.server.refusal or _absent(path, list(self.server.files))
            self.send_response(status)
            self.send_header("X-Error-Code", name)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("X-Linked-Size", str(len(data)))
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.end_headers()
        if not body:
            return
        self.server.fetched.append(path.rpartition(COMMIT + "/")[2])
        if self.server.breaks and len(data) > 10_000:
            self.server.breaks -= 1
            data = data[: len(data) // 2]
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


def _absent(path: str, files: list[str]) -> tuple[int, str]:
    """Hubs tell an unknown repository from an unknown revision and an unknown file."""
    repo = "/".join(path.removeprefix("/api/models").split("/")[1:3])
    if not any(f"/{repo}/" in known for known in files):
        return 404, "RepoNotFound"
    return 404, "RevisionNotFound" if path.startswith("/api") else "EntryNotFound"


@contextmanager
def serving() -> Iterator[LocalHub]:
    server = LocalHub()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
