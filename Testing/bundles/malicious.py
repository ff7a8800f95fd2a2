"""Pickles and zips made to run code, to write elsewhere or to fill the memory, with the door that each is given to.

Whatever would run writes a file, ``CANARY``, whose absence shows that nothing did.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import stat
import struct
import tarfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

CANARY = "code-was-run"
Door = str  # "checkpoint": --denoiser of import-released; "vae", "small", "clip": a part's folder; "zip": models add


@dataclass(frozen=True)
class Attack:
    """``make(folder, canary, bundle)`` writes the file or folder that is given to a door and returns it."""

    name: str
    door: Door
    make: Callable[[Path, Path, Path], Path]


class _Call:
    """Pickles to a call."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.call


def _global(module: str, name: str, argument: bytes, proto: int = 2) -> bytes:
    """A pickle that calls ``module.name(argument)``, by a name that need not exist here."""
    if proto == 0:
        return f"c{module}\n{name}\n(V".encode() + argument + b"\ntR."
    text = b"X" + struct.pack("<I", len(argument)) + argument
    if proto == 2:
        return b"\x80\x02c" + f"{module}\n{name}\n".encode() + b"(" + text + b"tR."
    parts = b"".join(b"\x8c" + bytes([len(part)]) + part.encode() for part in (module, name))
    return b"\x80\x04" + parts + b"\x93(" + text + b"tR."


def attacks(seed: int = 0) -> list[Attack]:
    """All of a seed: over a hundred."""
    found = [*_pickles(), *_zips(random.Random(seed))]
    assert len({attack.name for attack in found}) == len(found)
    return found


# ---- pickles ----

_CALLS = (
    ("os", "system"), ("posix", "system"), ("subprocess", "getoutput"), ("builtins", "eval"), ("builtins", "exec"),
    ("builtins", "__import__"), ("builtins", "open"), ("builtins", "getattr"), ("runpy", "run_path"), ("shutil",
    "rmtree"),
    ("importlib", "import_module"), ("webbrowser", "open"), ("pty", "spawn"), ("code", "interact"), ("pickle", "loads"),
    ("torch", "load"), ("torch.hub", "load"), ("torch.jit", "load"), ("torch.utils.cpp_extension", "load"), ("numpy",
    "load"),
    ("numpy.f2py", "compile"), ("timeit", "timeit"), ("bdb", "Bdb"), ("operator", "attrgetter"), ("functools",
    "partial"),
    ("argparse", "FileType"), ("argparse", "ArgumentParser"), ("collections", "namedtuple"),
    ("DiffMaCore.bundles.store", "remove"),
    ("torch.serialization", "add_safe_globals"), ("ctypes", "CDLL"), ("marshal", "loads"), ("evil_module", "evil"),
    ("torch._utils", "_rebuild_device_tensor_from_numpy"), ("pathlib", "Path"), ("urllib.request", "urlopen"),
)  # fmt: skip


def _pickles() -> Iterator[Attack]:
    for module, name in _CALLS:
        for proto in (0, 2, 4) if (module, name) in (("os", "system"), ("builtins", "eval")) else (2,):

            def make(
                folder: Path, canary: Path, _: Path, call: tuple[str, str] = (module, name), p: int = proto
            ) -> Path:
                code = f"open({str(canary)!r}, 'w')" if call[1] in ("eval", "exec", "timeit") else f"touch {canary}"
                path = folder / "weights.pt"
                path.write_bytes(_zipped(_global(*call, code.encode(), p)))
                return path

            yield Attack(f"pickle: {module}.{name}, protocol {proto}", "checkpoint", make)

    def call(canary: Path) -> dict[str, object]:
        return {"model": {"weight": torch.zeros(2)}, "args": _Call(os.system, f"touch {canary}")}

    def legacy(folder: Path, canary: Path, _: Path) -> Path:
        torch.save(call(canary), folder / "weights.pt", _use_new_zipfile_serialization=False)
        return folder / "weights.pt"

    def modern(folder: Path, canary: Path, _: Path) -> Path:
        torch.save(call(canary), folder / "weights.pt")
        return folder / "weights.pt"

    def plain(folder: Path, canary: Path, _: Path) -> Path:
        (folder / "weights.pt").write_bytes(pickle.dumps(call(canary)))
        return folder / "weights.pt"

    def named_safetensors(folder: Path, canary: Path, _: Path) -> Path:
        (folder / "weights.safetensors").write_bytes(pickle.dumps(_Call(os.system, f"touch {canary}")))
        return folder / "weights.safetensors"

    def tar(folder: Path, canary: Path, _: Path) -> Path:
        with tarfile.open(folder / "weights.pt", "w") as made:
            for name in ("pickle", "storages", "tensors", "sys_info"):
                data = pickle.dumps(_Call(os.system, f"touch {canary}"))
                info = tarfile.TarInfo(name)
                info.size = len(data)
                made.addfile(info, io.BytesIO(data))
        return folder / "weights.pt"

    def script(folder: Path, canary: Path, _: Path) -> Path:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), folder / "weights.pt")
        return folder / "weights.pt"

    makers: dict[str, Callable[[Path, Path, Path], Path]]
    makers = {"legacy": legacy, "modern": modern, "plain": plain, "tar": tar, "TorchScript": script}
    for name, build in makers.items():
        yield Attack(f"pickle: {name} file", "checkpoint", build)
    yield Attack("pickle: called safetensors", "checkpoint", named_safetensors)
    for name, content in (
        ("nothing", b""), ("an endless depth", b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b"."),
        ("a text of 2**40 bytes", b"\x80\x04\x8d" + struct.pack("<Q", 1 << 40) + b"x."),
        ("bytes of 2**40", b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"x."),
        ("a number of 2**31 bytes", b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"x."),
        ("a memo of 2**32", b"\x80\x02]r" + struct.pack("<I", 2**32 - 1) + b"."),
        ("a persistent id", b"\x80\x02X\x04\x00\x00\x00evilQ."), ("an extension code", b"\x80\x02\x82\x01."),
        ("an old instance", b"(V1\nios\nsystem\n."), ("a buffer from elsewhere", b"\x80\x05\x97."),
        ("a dict of itself", b"\x80\x02}q\x00(h\x00h\x00u."), ("no end", b"\x80\x02]q\x00"),
    ):  # fmt: skip

        def raw(folder: Path, _: Path, __: Path, content: bytes = content) -> Path:
            (folder / "weights.pt").write_bytes(_zipped(content))
            return folder / "weights.pt"

        yield Attack(f"pickle: {name}", "checkpoint", raw)
    for door, config, weights in (
        ("vae", {"_class_name": "AutoencoderKL"}, "diffusion_pytorch_model.bin"),
        ("small", {"_class_name": "AutoencoderTiny"}, "diffusion_pytorch_model.bin"),
        ("clip", {"model_cfg": {"embed_dim": 32, "vision_cfg": {"width": 64}}}, "open_clip_pytorch_model.bin"),
    ):
        for proto in (2, 4):

            def part(
                folder: Path, canary: Path, _: Path, config: object = config, weights: str = weights, p: int = proto
            ) -> Path:
                name = "open_clip_config.json" if weights.startswith("open") else "config.json"
                (folder / name).write_text(json.dumps(config))
                (folder / weights).write_bytes(_zipped(_global("os", "system", f"touch {canary}".encode(), p)))
                return folder

            yield Attack(f"pickle: of a {door}, protocol {proto}", door, part)


def _zipped(data: bytes) -> bytes:
    """A checkpoint in torch's zip format around a pickle."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as made:
        made.writestr("archive/data.pkl", data)
        made.writestr("archive/version", "3\n")
        made.writestr("archive/byteorder", "little")
    return stream.getvalue()


# ---- zips ----


def _zips(random_: random.Random) -> Iterator[Attack]:
    def adding(
        info: zipfile.ZipInfo | str, data: bytes = b"evil", **options: int
    ) -> Callable[[Path, Path, Path], Path]:
        def make(folder: Path, canary: Path, bundle: Path) -> Path:
            path = _zip_of(bundle, folder / "bundle.zip")
            with warnings.catch_warnings(), zipfile.ZipFile(path, "a") as made:
                warnings.simplefilter("ignore")  # a name that is there already
                made.writestr(info, data, **options)
            return path

        return make

    def of_kind(kind: int, name: str, data: bytes) -> zipfile.ZipInfo:
        info = zipfile.ZipInfo(name)
        info.create_system, info.external_attr = 3, (kind | 0o777) << 16
        return info

    def patched(change: Callable[[bytearray], bytes | bytearray | None]) -> Callable[[Path, Path, Path], Path]:
        def make(folder: Path, canary: Path, bundle: Path) -> Path:
            path = _zip_of(bundle, folder / "bundle.zip")
            data = bytearray(path.read_bytes())
            changed = change(data)
            path.write_bytes(data if changed is None else changed)
            return path

        return make

    for name in ("../evil", "../../evil", "a/../../evil", "/etc/evil", "//host/evil", "C:evil", "C:/evil", "..\\evil",
    "\\evil",
                 "a\\..\\..\\evil", "./../evil", "denoiser/../../evil", "a/./b", "a//b", "evil\n.json", "evil:stream",
                 "~/evil",
                 "con", "aux.json", "vae/nul.json", ".hidden", "evil.py", "denoiser/evil.so", "\u202egnp.exe",
                 "x" * 5000,
                 "/".join("d" * 500), "evil.json ", "model_index.json/evil", "DENOISER/config.json"):  # fmt: skip
        shown = name if len(name) < 30 else f"{name[:10]}... ({len(name)})"
        yield Attack(f"zip: holds {shown!r}", "zip", adding(name))
    for kind, word in (
        (stat.S_IFLNK, "link"),
        (stat.S_IFCHR, "device"),
        (stat.S_IFIFO, "pipe"),
        (stat.S_IFSOCK, "socket"),
    ):
        yield Attack(f"zip: holds a {word}", "zip", adding(of_kind(kind, "link.json", b""), b"/etc/passwd"))
    yield Attack("zip: holds a folder that is a link", "zip", adding(of_kind(stat.S_IFLNK, "vae/", b""), b"/etc"))
    yield Attack("zip: a bomb", "zip", adding("bomb.json", b"\0" * 200_000_000, compress_type=zipfile.ZIP_DEFLATED))
    yield Attack("zip: a file twice", "zip", adding("model_index.json"))
    yield Attack("zip: another manifest", "zip", adding("manifest.json", b"{}"))
    yield Attack("zip: a manifest that is deep", "zip", _with_manifest(b"[" * 200_000))
    yield Attack(
        "zip: a manifest of infinite sizes", "zip", _with_manifest(b'{"format": 1, "files": [{"size": 1e999}]}')
    )
    yield Attack("zip: a manifest of 50 MB", "zip", _with_manifest(b" " * 50_000_000))
    yield Attack("zip: no manifest", "zip", _with_manifest(None))
    yield Attack("zip: 2000 files", "zip", _many)
    yield Attack("zip: empty", "zip", patched(lambda data: b""))
    yield Attack("zip: only an end", "zip", patched(lambda data: b"PK\x05\x06" + bytes(18)))
    yield Attack("zip: no zip", "zip", patched(lambda data: b"\x7fELF" + bytes(1000)))
    yield Attack("zip: encrypted", "zip", patched(_encrypted))
    for number in range(8):
        cut = random_.random()
        flips = [random_.random() for _ in range(20)]
        yield Attack(f"zip: cut, {number}", "zip", patched(partial(_cut, share=cut)))
        yield Attack(f"zip: bytes changed, {number}", "zip", patched(partial(_flipped, places=flips)))


def _zip_of(bundle: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for file in sorted(path for path in bundle.rglob("*") if path.is_file()):
            made.write(file, file.relative_to(bundle).as_posix())
    return path


def _with_manifest(content: bytes | None) -> Callable[[Path, Path, Path], Path]:
    def make(folder: Path, canary: Path, bundle: Path) -> Path:
        with zipfile.ZipFile(folder / "bundle.zip", "w") as made:
            for file in sorted(path for path in bundle.rglob("*") if path.is_file() and path.name != "manifest.json"):
                made.write(file, file.relative_to(bundle).as_posix())
            if content is not None:
                made.writestr("manifest.json", content)
        return folder / "bundle.zip"

    return make


def _many(folder: Path, canary: Path, bundle: Path) -> Path:
    path = _zip_of(bundle, folder / "bundle.zip")
    with zipfile.ZipFile(path, "a") as made:
        for number in range(2000):
            made.writestr(f"{number}.json", b"{}")
    return path


def _encrypted(data: bytearray) -> None:
    """Every entry says that it is encrypted."""
    at = data.find(b"PK\x01\x02")
    while at >= 0:
        data[at + 8] |= 1
        at = data.find(b"PK\x01\x02", at + 4)


def _cut(data: bytearray, share: float) -> bytearray:
    return data[: int(share * len(data))]


def _flipped(data: bytearray, places: list[float]) -> None:
    for place in places:
        data[int(place * len(data))] ^= 0x55
