"""The idx format of MNIST: unsigned bytes in an array of any shape.

Two zero bytes, the type (8: unsigned byte), the number of dimensions, each dimension as a big-endian 32-bit
number, then the bytes, the last index fastest (LeCun, Cortes & Burges, "The MNIST database"). A file may be
compressed with gzip, whatever it is called.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from intermode.errors import InputError

__all__ = ["find", "parse", "unpacked"]

GZIP = b"\x1f\x8b"
UNSIGNED_BYTE = 8


def find(folder: Path, name: str) -> Path | None:
    """The file ``name`` of a folder, plain or with ``.gz`` after its name; None if there is neither."""
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def unpacked(path: Path) -> bytes:
    """The bytes of a file, decompressed if they are gzip's.

    Raises:
        InputError: gzip that is truncated or damaged.
    """
    content = path.read_bytes()
    if not content.startswith(GZIP):
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error):
        raise InputError(f"data: {path} is truncated or damaged gzip") from None


def parse(content: bytes, path: Path, dimensions: int) -> np.ndarray:
    """The uint8 array of an idx file with that many dimensions.

    Args:
        content: of the file, decompressed.
        path: where it is from, for errors.

    Raises:
        InputError: another format, type or number of dimensions, or another length than the header says.
    """
    header = 4 + 4 * dimensions
    magic = bytes([0, 0, UNSIGNED_BYTE, dimensions])
    if content[:4] != magic or len(content) < header:
        raise InputError(
            f"data: {path} is no idx file of bytes with {dimensions} dimension{'s' if dimensions > 1 else ''} "
            f"(begins with {content[:4].hex() or 'nothing'}; must be {magic.hex()})"
        )
    shape = struct.unpack(f">{dimensions}I", content[4:header])
    if len(content) != header + math.prod(shape):
        raise InputError(
            f"data: {path} holds {len(content):,} bytes; its header asks for {header + math.prod(shape):,}, "
            "it may be truncated"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape).copy()  # a view cannot be written to
