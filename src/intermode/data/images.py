"""A folder of image files, with folders in it or without, as a data set of `datasets`' *imagefolder* layout.

Samples are the images below the folder, in the order of their names; their ids are their paths relative to it. Hidden
files and files of other kinds are no samples. A subset keeps every image's path, copied byte for byte, and of each
``metadata.csv`` or ``metadata.jsonl`` the rows of its images (by ``file_name``, relative to the metadata's own folder),
letter for letter.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch

from intermode.data.pixels import Unreadable, check_image_model, decode, image_size, unit_range
from intermode.data.source import Block, digest_of
from intermode.errors import InputError
from intermode.progress import Progress, Silent

__all__ = ["ImageFolder"]

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm")
METADATA = ("metadata.csv", "metadata.jsonl")


class ImageFolder:
    """An image folder as a :class:`intermode.data.source.Source`.

    Args:
        path: of the folder.
        shape: (C, H, W) of a model's samples, if the images are to be read: then their headers are looked at first.
        progress: told while that is done.

    Raises:
        InputError: no images, images that are not all of the model's size, or a model of something else.
    """

    form = "image folder"
    has_pictures = True

    def __init__(self, path: Path, shape: tuple[int, ...] | None = None, *, progress: Progress | None = None) -> None:
        self.path, self.shape = path, shape
        self._names, self._metadata = _listed(path)
        if not self._names:
            raise InputError(
                f"data: {path} holds no images ({', '.join(SUFFIXES)}) and was not written by datasets' save_to_disk"
            )
        if shape is not None:
            check_image_model(shape, path)
            self._check_sizes(shape[1:], progress or Silent())

    def _check_sizes(self, size: tuple[int, ...], progress: Progress) -> None:
        found: Counter[tuple[int, int]] = Counter()
        odd = ""
        with progress.task("looking at sizes", len(self._names), 0, "images") as task:
            for name in self._names:
                try:
                    own = image_size(self.path / name)
                except Unreadable:
                    pass  # read, skipped and counted later
                else:
                    found[own] += 1
                    odd = odd or (name if own != size else "")
                task.advance(1)
        if odd:
            sizes = ", ".join(f"{count:,} of {h}×{w}" for (h, w), count in found.most_common(3))
            more = f" and {len(found) - 3} other sizes" if len(found) > 3 else ""
            raise InputError(
                f"data: {self.path} holds images of height × width: {sizes}{more} ({odd} say); the model takes "
                f"{size[0]}×{size[1]} alone, and no image is resized"
            )

    def __len__(self) -> int:
        return len(self._names)

    def ids(self, first: int, stop: int) -> list[str]:
        return self._names[first:stop]

    def digest(self) -> str:
        return digest_of([(name, self.path / name) for name in self._names])

    def blocks(self, size: int, first: int = 0) -> Iterator[Block]:
        assert self.shape is not None, "opened without a model's shape"
        for start in range(first, len(self), size):
            names = self._names[start : start + size]
            values = np.zeros((len(names), *self.shape), np.float32)
            unread = {}
            for k, name in enumerate(names):
                try:
                    pixels = decode(self.path / name, self.shape[0])
                except Unreadable as error:
                    unread[start + k] = str(error)
                    continue
                if pixels.shape != self.shape:
                    raise InputError(f"data: {name} has changed its size to {pixels.shape[1]}×{pixels.shape[2]}")
                values[k] = unit_range(pixels)
            yield Block(start, torch.from_numpy(values), unread)

    def pictures(self, indices: Sequence[int]) -> list[np.ndarray | None]:
        found: list[np.ndarray | None] = []
        for index in indices:
            try:
                found.append(unit_range(decode(self.path / self._names[index])))
            except Unreadable:
                found.append(None)
        return found

    def column(self, name: str) -> np.ndarray:
        """Of the metadata; or, for ``label``, the folder of each image, as `datasets` has it."""
        found = {
            image: str(row[name])
            for metadata in self._metadata
            for _, image, row in self._records(metadata)
            if image is not None and name in row
        }
        if not found and name == "label":
            return np.array([PurePosixPath(image).parent.as_posix() for image in self._names])
        if lacking := [image for image in self._names if image not in found]:
            raise InputError(
                f"within: the metadata of {self.path} has no {name!r} for {len(lacking)} images ({lacking[0]} say), "
                "and no file is so named"
            )
        return np.array([found[image] for image in self._names])

    def write(self, rows: np.ndarray, stem: Path) -> Path:
        names = [self._names[row] for row in rows]
        stem.mkdir(parents=True)
        for name in names:
            (stem / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.path / name, stem / name)
        kept = set(names)
        for name in self._metadata:
            if any(PurePosixPath(each).is_relative_to(PurePosixPath(name).parent) for each in names):
                with (stem / name).open("w", encoding="utf-8", newline="") as copy:
                    copy.writelines(raw for raw, image, _ in self._records(name) if image is None or image in kept)
        return stem

    def _records(self, metadata: str) -> Iterator[tuple[str, str | None, dict[str, Any]]]:
        """Each row of a file of metadata: its text, its image and its fields; a header is of no image."""
        place = PurePosixPath(metadata).parent
        with (self.path / metadata).open(encoding="utf-8-sig", newline="") as file:
            try:
                for raw, row in _csv_records(file) if metadata.endswith(".csv") else _json_records(file):
                    yield raw, None if row is None else _within(place, str(row["file_name"])), row or {}
            except (csv.Error, ValueError, TypeError, KeyError):
                raise InputError(f"data: {self.path / metadata} is no metadata with a file_name in each row") from None


def _listed(folder: Path) -> tuple[list[str], list[str]]:
    """Relative paths of the images and of their metadata, in order."""
    images, metadata = [], []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        relative = PurePosixPath(Path(place).relative_to(folder).as_posix())
        for name in files:
            own = str(relative / name)
            if name in METADATA:
                metadata.append(own)
            elif not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES:
                images.append(own)
    for name in (*images, *metadata):
        try:
            name.encode()
        except UnicodeEncodeError:
            raise InputError(f"data: the name {name!r} in {folder} is not UTF-8") from None
    return sorted(images), sorted(metadata)


def _within(place: PurePosixPath, name: str) -> str:
    return os.path.normpath(place / name.replace("\\", "/"))


def _csv_records(lines: Iterable[str]) -> Iterator[tuple[str, dict[str, Any] | None]]:
    """Each row's text and fields; the header has none. A quoted field may hold line breaks."""
    raw: list[str] = []

    def remembered() -> Iterator[str]:
        for line in lines:
            raw.append(line)
            yield line

    names: list[str] | None = None
    for row in csv.reader(remembered()):
        text = "".join(raw)
        raw.clear()
        if names is None:
            names = row
            yield text, None
        elif row:
            yield text, dict(zip(names, row, strict=False))


def _json_records(lines: Iterable[str]) -> Iterator[tuple[str, dict[str, Any] | None]]:
    for line in lines:
        if line.strip():
            yield line, json.loads(line)
