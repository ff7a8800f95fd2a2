"""Random damage to files, drawn from a seed: bits, bytes, numbers, tokens, lines, cuts, insertions, deletions."""

from __future__ import annotations

import gzip
import re
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np

_NUMBERS = (0, 1, -1, 2, 7, 127, 128, 255, 32767, -32768, 65535, 2**31 - 1, -(2**31), 1 << 40)
_FLOATS = (0.0, -1.0, 1e-30, 1e30, -1e30, 1e38, float("nan"), float("inf"), float("-inf"), 0.5, 1e-45)
_WORDS = (
    b"0", b"-1", b"1", b"nan", b"inf", b"-inf", b"1e308", b"1e-308", b"1e30", b"99999999999", b"abc", b"", b"0x10",
    b"true", b"False", b"(1,0,0)", b"none", b"gzip", b"raw", b"LOCAL", b"LIST", b"float", b"MET_FLOAT", b"MONOCHROME1",
    b"1\\2", b"\xff\xfe", b"%s%n", b"9" * 400, b"1 1", b"3", b"4", b"-0.0",
)  # fmt: skip
_TOKEN = re.compile(rb"[A-Za-z0-9_.+-]+")


def damaged(raw: bytes, header: int, rng: np.random.Generator) -> bytes:
    """``raw`` with one to three damages, three in four of them within its first ``header`` bytes."""
    for _ in range(int(rng.integers(1, 4))):
        limit = min(header, len(raw)) if rng.random() < 0.75 else len(raw)
        if limit < 1:
            return raw
        raw = _KINDS[int(rng.integers(len(_KINDS)))](raw, int(rng.integers(limit)), limit, rng)
    return raw


def _bits(raw: bytes, at: int, limit: int, rng: np.random.Generator) -> bytes:
    out = bytearray(raw)
    for _ in range(int(rng.integers(1, 5))):
        out[int(rng.integers(limit))] ^= 1 << int(rng.integers(8))
    return bytes(out)


def _bytes(raw: bytes, at: int, limit: int, rng: np.random.Generator) -> bytes:
    out = bytearray(raw)
    for _ in range(int(rng.integers(1, 5))):
        out[int(rng.integers(limit))] = int(rng.choice([0, 255, 127, 128, 32, int(rng.integers(256))]))
    return bytes(out)


def _number(raw: bytes, at: int, limit: int, rng: np.random.Generator) -> bytes:
    """A binary number of any width, at an even place."""
    form = str(rng.choice(["<h", "<i", "<q", "<f", "<d", ">i", ">f"]))
    pool = _FLOATS if form[1] in "fd" else _NUMBERS
    value = pool[int(rng.integers(len(pool)))]
    bits = 8 * struct.calcsize(form)
    if form[1] in "hiq":
        value = (int(value) + (1 << (bits - 1))) % (1 << bits) - (1 << (bits - 1))
    data = struct.pack(form, value)
    at -= at % 2
    return raw[:at] + data + raw[at + len(data) :]


def _token(raw: bytes, at: int, limit: int, rng: np.random.Generator) -> bytes:
    """Another word where one stands; half of them padded or cut to its length, so that nothing behind it moves."""
    found = _TOKEN.search(raw, at, limit)
    if found is None:
        return raw
    word = _WORDS[int(rng.integers(len(_WORDS)))]
    if rng.random() < 0.5:
        word = word.ljust(len(found[0]))[: len(found[0])]
    return raw[: found.start()] + word + raw[found.end() :]


def _line(raw: bytes, at: int, limit: int, rng: np.random.Generator) -> bytes:
    """A line taken away, written twice, or put elsewhere."""
    lines = raw[:limit].split(b"\n")
    k = int(rng.integers(len(lines)))
    line = lines[k]
    if rng.random() < 0.6:
        lines.pop(k)
    if rng.random() < 0.6:
        lines.insert(int(rng.integers(len(lines) + 1)), line)
    return b"\n".join(lines) + raw[limit:]


def _truncate(raw: bytes, at: int, limit: int, rng: np.random.Generator) -> bytes:
    return raw[:at]


def _insert(raw: bytes, at: int, limit: int, rng: np.random.Generator) -> bytes:
    count = int(rng.integers(1, 17))
    piece = rng.bytes(count) if rng.random() < 0.5 else raw[at : at + count * 4]
    return raw[:at] + piece + raw[at:]


def _delete(raw: bytes, at: int, limit: int, rng: np.random.Generator) -> bytes:
    return raw[:at] + raw[at + int(rng.integers(1, 17)) :]


_KINDS: tuple[Callable[[bytes, int, int, np.random.Generator], bytes], ...] = (
    _bits, _bytes, _number, _number, _token, _token, _line, _truncate, _insert, _delete,
)  # fmt: skip


def damage_case(target: Path, rng: np.random.Generator) -> bool:
    """Damage the volume file or DICOM folder ``target`` in place.

    Returns whether anything was changed and only voxels behind a checksum were: such a file may not give other voxels.
    """
    if target.is_dir():
        files = sorted(target.iterdir())
        seed = int(rng.integers(1 << 32))
        every = rng.random() < 0.2  # the same damage in every slice
        for file in files if every else [files[int(rng.integers(len(files)))]]:
            raw = file.read_bytes()
            header = raw.find(b"\xe0\x7f\x10\x00")
            file.write_bytes(damaged(raw, header + 12 if header > 0 else 1400, np.random.default_rng(seed)))
        return False
    raw = target.read_bytes()
    header = 352 if ".nii" in target.name else raw.find(b"\n\n") + 2 if ".nrrd" in target.name else 0
    if ".mha" in target.name:
        header = raw.find(b"\n", raw.find(b"ElementDataFile")) + 1
    if target.name.endswith(".nii.gz"):
        if rng.random() < 0.7:
            target.write_bytes(gzip.compress(damaged(gzip.decompress(raw), header, rng), 1))
            return False
        broken = damaged(raw, len(raw), rng)
        target.write_bytes(broken)
        return broken != raw
    if (raw[header : header + 2] in (b"\x1f\x8b", b"\x78\x9c", b"\x78\x01", b"\x78\x5e")) and rng.random() < 0.3:
        broken = damaged(raw[header:], len(raw), rng)
        target.write_bytes(raw[:header] + broken)
        return broken != raw[header:]
    target.write_bytes(damaged(raw, header or len(raw), rng))
    return False
