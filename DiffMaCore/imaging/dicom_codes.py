"""Code of losslessly compressed pixels and these pixels in, the bytes that it has more than they need out.

A whole code has none, or as many as its coder always adds. The decoder of a damaged one goes astray and reads some
bytes not at all or beyond their end, which shows however little the pixels are off. DICOM has no checksums of pixels.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image
from pydicom import Dataset
from pydicom.encaps import generate_frames
from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1

_PROGRESSIONS = ("LRCP", "RLCP", "RPCL", "PCRL", "CPRL")


def lossless_codes(file: Path, head: Dataset) -> list[bytes]:
    """The code of every frame of a file whose pixels could be read; empty for codings that are not counted.

    ``head`` is the file's header as ``read_header`` gives it: files of other codings are not opened again.
    """
    if head.file_meta.get("TransferSyntaxUID") not in (JPEG2000Lossless, JPEGLosslessSV1):
        return []
    data = pydicom.dcmread(file, force=True, specific_tags=["PixelData"])
    return list(generate_frames(data.PixelData, number_of_frames=int(head.get("NumberOfFrames") or 1)))


def count_surplus(code: bytes, stored: np.ndarray) -> int:
    """Bytes; all of them where it can be no code of these pixels, 0 where that cannot be told.

    Args:
        code: JPEG lossless (ISO/IEC 10918-1, H) or JPEG 2000 (ISO/IEC 15444-1, A).
        stored: whole numbers (rows, columns), as the decoder gave them.
    """
    try:
        return _jpeg(code, stored) if code.startswith(b"\xff\xd8") else _jpeg2000(code, stored)
    except Exception:  # whatever becomes of a damaged header
        return len(code)


def _jpeg(code: bytes, stored: np.ndarray) -> int:
    """By the lengths of the Huffman codes of all differences from the pixel on the left, in the first column above."""
    at, lengths, precision = 2, np.zeros(17, int), 16
    while True:
        marker, size = code[at + 1], int.from_bytes(code[at + 2 : at + 4], "big")
        part, at = code[at + 4 : at + 2 + size], at + 2 + size
        if marker == 0xC4:
            lengths[list(part[17 : 17 + sum(part[1:17])])] = np.repeat(range(1, 17), list(part[1:17]))
        elif marker == 0xC3:
            precision = part[0]
        elif marker == 0xDD:
            return 0  # fills up bytes wherever it may be begun anew
        elif marker == 0xDA:
            break
    before = np.roll(stored, 1, axis=1)
    before[1:, 0], before[0, 0] = stored[:-1, 0], 1 << precision - 1
    size_of = np.frexp(np.abs((stored - before).astype(np.int16).astype(np.int32)))[1]  # bits of a number
    bits = int((lengths[size_of] + size_of % 16).sum())
    data = code[at:].rstrip(b"\0").removesuffix(b"\xff\xd9").replace(b"\xff\0", b"\xff")
    left = 8 * len(data) - bits  # of the last byte, filled up with ones
    return 0 if 0 <= left < 8 and (data[-1] + 1) % (1 << left) == 0 else len(code)


def _jpeg2000(code: bytes, stored: np.ndarray) -> int:
    """By coding them anew in the same way."""
    sizes, style = code.index(b"\xff\x51"), code.index(b"\xff\x52") + 4
    signed, depth = code[sizes + 40] >> 7, (code[sizes + 40] & 127) + 1
    again = io.BytesIO()
    Image.fromarray((stored + (1 << 15) - (0 if signed else 1 << depth - 1)).astype(np.uint16)).save(
        again,
        "JPEG2000",
        no_jp2=True,
        progression=_PROGRESSIONS[code[style + 1]],
        num_resolutions=code[style + 5] + 1,
        codeblock_size=(4 << code[style + 6], 4 << code[style + 7]),
    )
    coded, anew = (data[data.index(b"\xff\x93") :].rstrip(b"\0") for data in (code, again.getvalue()))
    return len(coded) - len(anew)
