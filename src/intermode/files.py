"""Files that appear whole or not at all.

Everything is written beside its place and renamed into it, so that a killed process never leaves half a file.
Tensors travel as safetensors: nothing is ever unpickled.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from intermode.errors import InputError

__all__ = ["load_tensors", "read_json", "replacing", "save_tensors", "whole_folder", "write_json", "write_text"]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` to write to; renamed to it on success, removed on failure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)  # mkstemp makes files private to their owner
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A folder beside ``folder``, which is empty or not there, to write to; renamed to it on success, else removed."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield temporary
        temporary.chmod(0o755)  # mkdtemp makes folders private to their owner
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON; refuses NaN and infinities, which JSON does not know."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """The value of a JSON file.

    Raises:
        InputError: missing or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError):
        raise InputError(f"{path}: not found") from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise InputError(f"{path}: is not valid JSON; it may be truncated") from None


def save_tensors(path: Path, tensors: Mapping[str, Any], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors as safetensors.

    Raises:
        OSError: the disk is full or cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    with replacing(path) as temporary:
        try:
            save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, temporary, dict(metadata or {}))
        except SafetensorError as error:  # it wraps what the system said, a full disk say
            found = re.search(r"os error (\d+)", str(error))
            number = int(found[1]) if found else errno.EIO
            raise OSError(number, os.strerror(number), str(path)) from None


def load_tensors(path: Path, wanted: Callable[[str], bool] | None = None) -> tuple[dict[str, Any], dict[str, str]]:
    """Tensors, all or those of wanted names, and metadata of a safetensors file.

    Raises:
        InputError: missing, truncated, or not safetensors (a pickle, say).
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise InputError(f"{path}: not found")
    try:
        with safe_open(path, framework="pt") as file:
            names = [name for name in file.keys() if wanted is None or wanted(name)]  # noqa: SIM118 (no dict)
            # a copy: the file's own memory map would keep it open and change with it
            return {name: file.get_tensor(name).clone() for name in names}, file.metadata() or {}
    except SafetensorError:
        raise InputError(f"{path}: is truncated or no safetensors file (pickles are not loaded)") from None
